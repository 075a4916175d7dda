package tarlayer

import (
	"fmt"
	"slices"
	"strings"
)

// addXattrs stores a set of attributes, once for all files that have it.
func (b *builder) addXattrs(set []xattr, n *inode) (uint32, error) {
	slices.SortFunc(set, func(x, y xattr) int { return strings.Compare(x.name, y.name) })
	for _, x := range set {
		switch x.name {
		case "security.capability":
			n.flags |= flagCaps
		case "system.posix_acl_access", "system.posix_acl_default":
			n.flags |= flagACL
		}
		n.flags |= flagOther
	}
	enc := appendXattrSet(nil, set)
	if at, ok := b.xattrSets[string(enc)]; ok {
		return at, nil
	}
	if int64(len(b.xattrs)+len(enc)) > b.limits.XattrBytes {
		return 0, fmt.Errorf("extended attributes of more than %d bytes: %w", b.limits.XattrBytes, ErrLimit)
	}
	at := uint32(len(b.xattrs)) + 1
	b.xattrs = append(b.xattrs, enc...)
	b.xattrSets[string(enc)] = at
	return at, nil
}
