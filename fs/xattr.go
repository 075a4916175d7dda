package fs

import (
	"strings"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/sys"
	"github.com/unionfs-go/unionfs/whiteout"
)

// getXattr is GETXATTR: it reads an attribute into buf, or only tells its size
// when buf is empty. The mount's own marks are not there for users; those of an
// overlay nested in the mount are stored under an escaped name.
func (f *FS) getXattr(n *node, attr string, buf []byte) (size int, err error) {
	if !n.maybeXat.Load() {
		return 0, unix.ENODATA
	}
	attr, ok := f.storedXattr(attr)
	if !ok {
		return 0, unix.ENODATA
	}
	f.treeMu.RLock()
	defer f.treeMu.RUnlock()
	n.mu.RLock()
	defer n.mu.RUnlock()
	if n.isUpper() {
		err = f.at(n, func(p place) (err error) {
			size, err = sys.Getxattrat(p.fd, p.name, attr, buf)
			return err
		})
		return size, err
	}
	v, err := n.lower[0].Object.Xattr(attr)
	if err != nil {
		return 0, err
	}
	return copyXattr(buf, v)
}

// copyXattr answers with a value: its size for an empty buffer, ERANGE for one
// that is too small.
func copyXattr(buf, v []byte) (int, error) {
	if len(buf) > 0 && len(buf) < len(v) {
		return len(v), unix.ERANGE
	}
	if len(buf) > 0 {
		copy(buf, v)
	}
	return len(v), nil
}

// listXattr is LISTXATTR: the names that a user of the mount sees, each ended
// by a zero byte. Trusted attributes are for the superuser only
// (fs/overlayfs/xattrs.c:ovl_can_list).
func (f *FS) listXattr(n *node, uid uint32, buf []byte) (int, error) {
	if !n.maybeXat.Load() {
		return 0, nil
	}
	names, err := f.xattrNames(n)
	if err != nil {
		return 0, err
	}
	var list []byte
	for _, name := range names {
		shown, ok := f.shownXattr(name)
		if !ok || uid != 0 && strings.HasPrefix(shown, "trusted.") {
			continue
		}
		list = append(append(list, shown...), 0)
	}
	return copyXattr(buf, list)
}

func (f *FS) xattrNames(n *node) (names []string, err error) {
	f.treeMu.RLock()
	defer f.treeMu.RUnlock()
	n.mu.RLock()
	defer n.mu.RUnlock()
	if !n.isUpper() {
		return n.lower[0].Object.Xattrs()
	}
	err = f.at(n, func(p place) (err error) {
		names, err = sys.ListXattrs(p.fd, p.name)
		return err
	})
	return names, err
}

// setXattr is SETXATTR.
func (f *FS) setXattr(n *node, in *fuse.SetXAttrIn, attr string, value []byte) error {
	return f.changeXattr(n, attr, func(p place, stored string) error {
		if err := sys.Setxattrat(p.fd, p.name, stored, value, int(in.Flags)); err != nil {
			return err
		}
		if attr == aclAccessAttr && in.SetXAttrFlags&fuse.SETXATTR_ACL_KILL_SGID != 0 {
			return f.clearSGID(n, p)
		}
		return nil
	})
}

// removeXattr is REMOVEXATTR. One that is not there copies nothing up
// (fs/overlayfs/xattrs.c:ovl_xattr_set).
func (f *FS) removeXattr(n *node, attr string) error {
	if !n.isUpper() && !f.readOnly() {
		if _, err := f.getXattr(n, attr, nil); err != nil {
			return err
		}
	}
	return f.changeXattr(n, attr, func(p place, stored string) error {
		return sys.Removexattrat(p.fd, p.name, stored)
	})
}

// changeXattr copies the object up and calls fn with the name to store under.
// What the layer below would refuse is refused before anything is copied up.
func (f *FS) changeXattr(n *node, attr string, fn func(p place, stored string) error) error {
	if err := f.enterChange(); err != nil {
		return err
	}
	defer f.leaveChange()
	if f.foreign && whiteout.IsMark(attr) {
		return unix.EPERM // it would count as a mark in such an upper
	}
	if n.typ != unix.S_IFREG && n.typ != unix.S_IFDIR && strings.HasPrefix(attr, "user.") {
		return unix.EPERM // xattr(7)
	}
	stored, ok := f.storedXattr(attr)
	if !ok {
		return unix.EPERM // it would change the owner behind everybody's back
	}
	if err := f.copyUp(n, wantMeta); err != nil {
		return err
	}
	f.treeMu.RLock()
	defer f.treeMu.RUnlock()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.maybeXat.Store(true)
	if n.dir != nil && attr == aclDefaultAttr {
		n.dir.defACL = aclUnknown
	}
	return f.at(n, func(p place) error { return fn(p, stored) })
}

// clearSGID drops the set-group-ID bit, as setting an access ACL does for a
// caller outside the group (fs/posix_acl.c:posix_acl_update_mode).
func (f *FS) clearSGID(n *node, p place) error {
	a, err := f.shownAt(n, p)
	if err != nil || a.Mode&unix.S_ISGID == 0 {
		return err
	}
	return f.chmod(n, p, a.Mode&^unix.S_ISGID&0o7777)
}
