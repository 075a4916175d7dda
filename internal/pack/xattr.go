package pack

import (
	"encoding/binary"
	"errors"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/stack"
	"github.com/unionfs-go/unionfs/whiteout"
)

const (
	attrCaps       = "security.capability"
	overridePrefix = whiteout.OverridePrefix
)

// dropped are the attributes that belong to the machine, not to the file.
var dropped = map[string]bool{
	"security.selinux": true,
	"system.nfs4_acl":  true,
}

// xattrs reads the attributes of an object as they belong in a layer. override
// is what a rootless tool remembered about the object, where that counts.
func (w *walker) xattrs(path string, o stack.Object) (map[string]string, *whiteout.Override, error) {
	names, err := o.Xattrs()
	if err != nil || len(names) == 0 {
		return nil, nil, err
	}
	var out map[string]string
	var ov *whiteout.Override
	for _, stored := range names {
		name, kind := w.classify(stored)
		if kind == attrDrop {
			continue
		}
		if kind == attrOverride && !w.opt.OverrideStat {
			w.noticeOnce(path, "%s: %s is not applied, since anybody could have set it", path, stored)
			continue
		}
		v, err := o.Xattr(stored)
		if errors.Is(err, unix.ENODATA) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, nil, err
		}
		if kind == attrOverride {
			if ov, err = parseOverride(string(v)); err != nil {
				return nil, nil, err
			}
			continue
		}
		if strings.ContainsRune(name, '=') {
			w.noticeOnce(path, "%s: attribute %q is left out: a tar archive cannot hold a name with '='", path, name)
			continue
		}
		if name == attrCaps {
			v = capsV2(v)
		}
		if out == nil {
			out = make(map[string]string, len(names))
		}
		out[name] = string(v)
	}
	return out, ov, nil
}

// noticeOnce is notice for what both passes and comparisons come across.
func (w *walker) noticeOnce(path, format string, args ...any) {
	if path != "" {
		w.notice(format, args...)
	}
}

type attrKind uint8

const (
	attrKeep attrKind = iota
	attrDrop
	attrOverride
)

// classify tells what becomes of a stored attribute, and its name in a layer.
func (w *walker) classify(stored string) (string, attrKind) {
	switch {
	case whiteout.IsOverride(stored):
		return "", attrOverride
	case dropped[stored], whiteout.IsMark(stored):
		return "", attrDrop
	case w.opt.OverrideStat && strings.HasPrefix(stored, overridePrefix+"security."):
		return stored[len(overridePrefix):], attrKeep
	}
	name, shown := w.opt.Namespace.Unescape(stored)
	if !shown {
		return "", attrDrop
	}
	return name, attrKeep
}

// The versions of security.capability (include/uapi/linux/capability.h).
const (
	capRevisionMask = 0xff000000
	capRevision2    = 0x02000000
	capRevision3    = 0x03000000
	capSize2        = 20
	capSize3        = 24
)

// capsV2 turns a capability bound to the root of one user namespace into an
// ordinary one: whoever unpacks the layer has another namespace.
func capsV2(v []byte) []byte {
	if len(v) != capSize3 {
		return v
	}
	magic := binary.LittleEndian.Uint32(v)
	if magic&capRevisionMask != capRevision3 {
		return v
	}
	out := append([]byte(nil), v[:capSize2]...)
	binary.LittleEndian.PutUint32(out, magic&^capRevisionMask|capRevision2)
	return out
}
