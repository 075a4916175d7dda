package fs

import (
	"fmt"
	"slices"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/cow"
	"github.com/unionfs-go/unionfs/internal/stack"
	"github.com/unionfs-go/unionfs/internal/sys"
	"github.com/unionfs-go/unionfs/whiteout"
)

// chown gives an upper object the ids that a user of the mount means; -1 leaves
// one as it is.
//
// Preconditions: n.mu is held for writing; p is n's place.
func (f *FS) chown(n *node, p place, uid, gid int) error {
	w := f.own
	if w == nil {
		return sys.Chownat(p.fd, p.name, uid, gid)
	}
	for _, id := range [...]struct {
		value  *int
		ranges []IDRange
		squash *uint32
	}{{&uid, w.UIDs, w.SquashUID}, {&gid, w.GIDs, w.SquashGID}} {
		if id.squash != nil {
			*id.value = -1
		}
		if *id.value < 0 {
			continue
		}
		stored, err := storeID(id.ranges, uint32(*id.value))
		if err != nil {
			return err
		}
		*id.value = int(stored)
	}
	switch {
	case uid < 0 && gid < 0:
		return nil
	case w.Remember == RememberNone:
		return sys.Chownat(p.fd, p.name, uid, gid)
	case n.typ == unix.S_IFLNK:
		return f.chownLink(p, uid, gid)
	}
	return f.rewrite(n, p, func(o *whiteout.Override) {
		if uid >= 0 {
			o.UID = uint32(uid)
		}
		if gid >= 0 {
			o.GID = uint32(gid)
		}
	})
}

// chownLink changes the owner of a symlink, of which nothing can be remembered.
func (f *FS) chownLink(p place, uid, gid int) error {
	err := sys.Chownat(p.fd, p.name, uid, gid)
	if err == nil || uid <= 0 && gid <= 0 || f.own.Remember != RememberNeeded {
		return nil // it is shown as root's anyway, or fuse-overlayfs forgets it too
	}
	return err
}

// chmod sets the mode of an upper object that is no symlink.
//
// Preconditions: as chown.
func (f *FS) chmod(n *node, p place, mode uint32) error {
	if !f.own.remembers() {
		return sys.Chmodat(p.fd, p.name, mode)
	}
	return f.rewrite(n, p, func(o *whiteout.Override) { o.Mode = mode & 0o7777 })
}

// shownAt is the owner and mode of an upper object as the mount shows them.
//
// Preconditions: n.mu is held; p is n's place.
func (f *FS) shownAt(n *node, p place) (stack.Attr, error) {
	var st unix.Statx_t
	if err := sys.Statx(p.fd, p.name, &st); err != nil {
		return stack.Attr{}, err
	}
	a := stack.AttrOf(&st)
	f.own.show(n.over.Load(), &a)
	return a, nil
}

// rewrite changes what is remembered of an upper object.
//
// Preconditions: as chown; f.own remembers.
func (f *FS) rewrite(n *node, p place, change func(*whiteout.Override)) error {
	w := f.own
	var st unix.Statx_t
	if err := sys.Statx(p.fd, p.name, &st); err != nil {
		return err
	}
	next := whiteout.Override{UID: st.Uid, GID: st.Gid, Mode: uint32(st.Mode) & 0o7777}
	old := n.over.Load()
	if old != nil {
		next = *old
	}
	change(&next)
	if w.Remember == RememberNeeded && next.Type == 0 && w.mayOwn(next.UID, next.GID) {
		return f.makeReal(n, p, &st, &next)
	}
	if err := f.store(p.fd, p.name, &st, &next); err != nil {
		return err
	}
	n.over.Store(&next)
	return nil
}

// store writes what is to be remembered of an object. Its mode on disk comes
// first, for only who may write a file can set such an attribute.
func (f *FS) store(dirfd int, name string, st *unix.Statx_t, o *whiteout.Override) error {
	mode := diskMode(o.Mode, uint32(st.Mode)&unix.S_IFMT)
	if uint32(st.Mode)&0o7777 != mode {
		if err := sys.Chmodat(dirfd, name, mode); err != nil {
			return err
		}
	}
	return sys.Setxattrat(dirfd, name, f.own.attr, []byte(o.String()), 0)
}

// makeReal gives an object on disk the owner and mode that it is to have, so that
// nothing need be remembered.
func (f *FS) makeReal(n *node, p place, st *unix.Statx_t, o *whiteout.Override) error {
	if st.Uid != o.UID || st.Gid != o.GID {
		if err := sys.Chownat(p.fd, p.name, int(o.UID), int(o.GID)); err != nil {
			return err
		}
	}
	if n.over.Load() != nil {
		for _, attr := range f.own.readable() {
			if err := sys.Removexattrat(p.fd, p.name, attr); err != nil && err != unix.ENODATA && err != unix.EPERM {
				return err
			}
		}
		n.over.Store(nil)
	}
	return sys.Chmodat(p.fd, p.name, o.Mode)
}

// diskMode is the mode on disk of an object whose real mode is remembered: this
// process can always read and change it, and nobody gains anything by it.
func diskMode(mode, typ uint32) uint32 {
	mode = mode&0o1777 | 0o600
	if typ == unix.S_IFDIR {
		mode |= 0o700
	}
	return mode
}

// claim decides how a new object is made on disk, before it is made in dir: its
// owner there, and what is to be remembered of it. EOVERFLOW: the caller's ids
// have no place on disk.
//
// Preconditions: f.treeMu is held; dir.mu is held for writing; dir is in the
// upper.
func (f *FS) claim(dir *node, o *newObject) error {
	w := f.own
	if w == nil {
		return nil
	}
	var err error
	if o.owner, err = w.newOwner(o.owner); err != nil || w.Remember == RememberNone {
		return err
	}
	typ := o.mode & unix.S_IFMT
	if typ == unix.S_IFLNK {
		return nil
	}
	owner, sgid, parentOver := o.owner, false, dir.over.Load()
	if parentOver != nil && parentOver.Mode&unix.S_ISGID != 0 {
		owner.Gid, sgid = parentOver.GID, true
	}
	device := (typ == unix.S_IFCHR || typ == unix.S_IFBLK) && !sys.HasCap(unix.CAP_MKNOD)
	if w.Remember == RememberNeeded && !device && !sgid && w.mayOwn(owner.Uid, owner.Gid) {
		return nil
	}
	o.over = &whiteout.Override{UID: owner.Uid, GID: owner.Gid}
	o.owner = fuse.Owner{Uid: w.uid, Gid: w.gid}
	if typ == unix.S_IFDIR {
		if sgid {
			o.over.Mode = unix.S_ISGID
		}
		return nil
	}
	if typ != unix.S_IFREG {
		o.over.Type, o.over.Rdev = typ, o.rdev
		o.mode, o.rdev = o.mode&^unix.S_IFMT|unix.S_IFREG, 0
	}
	return nil
}

// newOwner is the owner on disk of what a caller makes.
func (w *ownership) newOwner(who fuse.Owner) (fuse.Owner, error) {
	var err error
	if w.SquashUID != nil {
		who.Uid = *w.SquashUID
	} else if who.Uid, err = storeID(w.UIDs, who.Uid); err != nil {
		return who, err
	}
	if w.SquashGID != nil {
		who.Gid = *w.SquashGID
	} else if who.Gid, err = storeID(w.GIDs, who.Gid); err != nil {
		return who, err
	}
	return who, nil
}

// rememberNew writes what is to be remembered of an object that was just made
// under name in dirfd ("": dirfd itself) with the mode that it shall show.
func (f *FS) rememberNew(dirfd int, name string, o *newObject) error {
	if o.over == nil {
		return nil
	}
	var st unix.Statx_t
	if err := sys.Statx(dirfd, name, &st); err != nil {
		return err
	}
	o.over.Mode |= uint32(st.Mode) & 0o7777
	return f.store(dirfd, name, &st, o.over)
}

// recallRoot loads what is remembered of the root directory. A new upper, which is
// empty, gets the owner and mode of the layers' root where it could not have them
// on disk: else an image committed from it would have a root of this user's.
func (f *FS) recallRoot(lower []stack.Real) error {
	if f.upperFD < 0 {
		f.root.over.Store(f.own.load(unix.S_IFDIR, lower[0].Object.Xattr))
		return nil
	}
	over := f.own.loadAt(unix.S_IFDIR, f.upperFD, "")
	f.root.over.Store(over)
	if over != nil || len(lower) == 0 || f.own.Remember != RememberNeeded {
		return nil
	}
	a := lower[0].Object.Attr()
	f.own.recall(f.own.load(unix.S_IFDIR, lower[0].Object.Xattr), &a)
	if f.own.mayOwn(a.UID, a.GID) {
		return nil
	}
	empty, err := f.upperEmpty()
	if err != nil || !empty {
		return err
	}
	var st unix.Statx_t
	if err := sys.Statx(f.upperFD, "", &st); err != nil {
		return fmt.Errorf("stat upper %s: %w", f.cfg.Upper, err)
	}
	over = &whiteout.Override{UID: a.UID, GID: a.GID, Mode: a.Mode & 0o7777}
	if err := f.store(f.upperFD, "", &st, over); err != nil {
		return fmt.Errorf("remember the owner of upper %s: %w", f.cfg.Upper, err)
	}
	f.root.over.Store(over)
	return nil
}

// copyOver is what is remembered of the copy of a node in the upper. native: as
// the lower object is, the copy can be.
func (f *FS) copyOver(n *node) (over *whiteout.Override, native bool) {
	w := f.own
	a := n.lower[0].Object.Attr()
	over = n.over.Load()
	t := a.Type()
	if t == unix.S_IFLNK {
		return nil, w.mayOwn(a.UID, a.GID)
	}
	device := (t == unix.S_IFCHR || t == unix.S_IFBLK) && !sys.HasCap(unix.CAP_MKNOD)
	if w.Remember == RememberNeeded && !device && w.mayOwn(a.UID, a.GID) {
		return over, true
	}
	if over != nil {
		return over, false
	}
	over = &whiteout.Override{UID: a.UID, GID: a.GID, Mode: a.Mode & 0o7777}
	switch t {
	case unix.S_IFCHR, unix.S_IFBLK, unix.S_IFIFO, unix.S_IFSOCK:
		over.Type, over.Rdev = t, a.Rdev
	}
	return over, false
}

// claimCopy makes the request to copy up n one that this process may carry out.
func (f *FS) claimCopy(n *node, r *cow.Request) {
	w := f.own
	if w == nil {
		return
	}
	m := &r.Meta
	if !w.remembers() {
		// An id without a name in this user namespace can belong to nobody here.
		if w.SquashUID != nil && m.UID == overflowID {
			m.UID = *w.SquashUID
		}
		if w.SquashGID != nil && m.GID == overflowID {
			m.GID = *w.SquashGID
		}
		return
	}
	over, native := f.copyOver(n)
	if native {
		return
	}
	m.UID, m.GID = w.uid, w.gid
	if over == nil {
		return
	}
	typ := m.Mode & unix.S_IFMT
	if over.Type != 0 {
		typ, m.Rdev, m.Size = unix.S_IFREG, 0, 0
	}
	m.Mode = typ | diskMode(over.Mode, typ)
	r.Xattrs, r.Xattr = f.copiedXattrs(r.Xattrs, r.Xattr, over)
}

// copiedXattrs puts what is remembered of a copy among the attributes that are
// copied, and those that this process may not set under names that it may.
func (f *FS) copiedXattrs(list func() ([]string, error), get func(string) ([]byte, error), over *whiteout.Override) (
	func() ([]string, error), func(string) ([]byte, error),
) {
	w := f.own
	const caps = whiteout.OverridePrefix + attrCapability
	keepCaps := w.Remember != RememberSecurity
	names := func() ([]string, error) {
		all, err := list()
		if err != nil {
			return nil, err
		}
		had := slices.Contains(all, caps)
		all = slices.DeleteFunc(all, whiteout.IsOverride)
		if i := slices.Index(all, attrCapability); i >= 0 && keepCaps && !had {
			all[i] = caps
		}
		return append(all, w.attr), nil
	}
	value := func(attr string) ([]byte, error) {
		if attr == w.attr {
			return []byte(over.String()), nil
		}
		v, err := get(attr)
		if err == unix.ENODATA && attr == caps {
			v, err = get(attrCapability)
		}
		return v, err
	}
	return names, value
}
