package fs

import (
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/stack"
	"github.com/unionfs-go/unionfs/internal/sys"
	"github.com/unionfs-go/unionfs/whiteout"
)

// newObject is what create, mkdir, mknod and symlink make.
type newObject struct {
	mode   uint32 // type and permission bits as the caller asked
	umask  uint32
	rdev   uint64
	target string // of a symlink
	owner  fuse.Owner
	over   *whiteout.Override // what is to be remembered of it, see claim
}

// create makes a new object under a name that the union does not show, and
// counts one reference of the kernel to it. Every create-like operation goes
// through it (fs/overlayfs/dir.c:ovl_create_or_link).
func (f *FS) create(dir *node, name string, o *newObject) (*node, stack.Attr, error) {
	var none stack.Attr
	if err := f.checkNewName(name); err != nil {
		return nil, none, err
	}
	if o.mode&unix.S_IFMT == unix.S_IFCHR && o.rdev == 0 {
		return nil, none, unix.EPERM // it would be a whiteout (ovl_create_object)
	}
	if err := f.enterChange(); err != nil {
		return nil, none, err
	}
	defer f.leaveChange()
	if err := f.copyUp(dir, wantMeta); err != nil {
		return nil, none, err
	}
	f.treeMu.RLock()
	defer f.treeMu.RUnlock()
	dir.mu.Lock()
	defer dir.mu.Unlock()
	free, err := f.nameFree(dir, name)
	if err != nil {
		return nil, none, err
	}
	p, err := f.enter(dir)
	if err != nil {
		return nil, none, err
	}
	defer f.leave(p)
	acl, err := f.defaultACL(dir, p)
	if err == nil {
		err = f.claim(dir, o)
	}
	if err != nil {
		return nil, none, err
	}
	if free == nameUnused {
		err = f.createInPlace(p, name, o, acl != nil)
		if isExist(err) {
			free, err = f.whiteoutAt(dir, name) // the listing does not show it
		}
	}
	opaque := false
	if err == nil && free == nameWhiteout {
		opaque = o.mode&unix.S_IFMT == unix.S_IFDIR
		err = f.createOver(p, name, o, acl)
	}
	if err != nil {
		return nil, none, err
	}
	if o.mode&unix.S_IFMT == unix.S_IFDIR && !opaque && len(dir.lower) > 0 && f.ownsLayers() {
		// Nothing is below; the mark saves looking there after a remount
		// (ovl_create_upper), and may fail.
		opaque = f.cfg.Namespace.SetOpaque(p.fd, name) == nil
	}
	return f.newUpper(dir, p, name, o, acl != nil, opaque)
}

// ownsLayers tells whether the options say that layers are never changed by
// others, not even while unmounted (fs/overlayfs/ovl_entry.h:
// ovl_allow_offline_changes).
func (f *FS) ownsLayers() bool { return f.cfg.RedirectDir || f.cfg.Index || f.cfg.Metacopy }

// nameState is what stands in the upper under a name that the union does not
// show.
type nameState int

const (
	nameUnused nameState = iota
	nameWhiteout
)

// nameFree tells in which way a name can be taken. EEXIST: the union shows it.
//
// Preconditions: f.treeMu is held; dir.mu is held for writing.
func (f *FS) nameFree(dir *node, name string) (nameState, error) {
	if dir.dir.children[name] != nil {
		return 0, unix.EEXIST
	}
	return f.nameAbove(dir, name)
}

// nameAbove is nameFree for a name that no node has.
//
// Preconditions: as nameFree.
func (f *FS) nameAbove(dir *node, name string) (nameState, error) {
	ix, err := f.indexSoon(dir)
	if err != nil {
		return 0, err
	}
	if ix != nil && !ix.has(name) && !f.holdsXWhiteouts(dir) {
		return nameUnused, nil // a whiteout is found by EEXIST
	}
	r, err := f.resolve(dir, name)
	switch {
	case err != nil:
		return 0, err
	case !r.visible():
		dir.missed()
	}
	switch {
	case r.visible():
		return 0, unix.EEXIST
	case r.whiteout:
		return nameWhiteout, nil
	}
	return nameUnused, nil
}

// whiteoutAt makes sure that what stands in the way of a new name is a whiteout.
// EEXIST: it is not.
//
// Preconditions: f.treeMu is held; dir.mu is held for writing.
func (f *FS) whiteoutAt(dir *node, name string) (nameState, error) {
	r, err := f.resolve(dir, name)
	if err == nil && !r.whiteout {
		err = unix.EEXIST
	}
	return nameWhiteout, err
}

// createInPlace makes the object in its directory, in one step and at once with
// the caller's owner.
func (f *FS) createInPlace(dir place, name string, o *newObject, hasACL bool) error {
	mode := o.mode
	if !hasACL {
		mode &^= o.umask & 0o777 // with a default ACL the filesystem applies that instead
	}
	err := sys.AsCaller(o.owner.Uid, o.owner.Gid, func() error {
		return makeObject(dir.fd, name, mode, o)
	})
	if err != nil || o.over == nil {
		return err
	}
	if err = f.rememberNew(dir.fd, name, o); err != nil {
		flags := 0
		if mode&unix.S_IFMT == unix.S_IFDIR {
			flags = unix.AT_REMOVEDIR
		}
		_ = sys.Unlinkat(dir.fd, name, flags) // the error to report is the first one
	}
	return err
}

func makeObject(dirfd int, name string, mode uint32, o *newObject) error {
	switch mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return sys.Mkdirat(dirfd, name, mode&0o7777)
	case unix.S_IFLNK:
		return sys.Symlinkat(o.target, dirfd, name)
	}
	return sys.Mknodat(dirfd, name, mode, o.rdev)
}

// createOver makes the object in the workdir and puts it in the place of a
// whiteout with one rename, so that what the whiteout hides never shows
// (fs/overlayfs/dir.c:ovl_create_over_whiteout). A directory becomes opaque.
//
// Preconditions: f.treeMu is held; the directory's mu is held for writing.
func (f *FS) createOver(p place, name string, o *newObject, acl []byte) error {
	temp := f.work.TempName()
	wfd := f.work.FD()
	if err := makeObject(wfd, temp, o.mode, o); err != nil {
		return err
	}
	err := f.dressTemp(p, temp, o, acl)
	if err == nil {
		err = f.rememberNew(wfd, temp, o)
	}
	if err == nil {
		if o.mode&unix.S_IFMT == unix.S_IFDIR {
			// A directory cannot replace a file: swap, then drop the whiteout.
			err = sys.Renameat2(wfd, temp, p.fd, name, unix.RENAME_EXCHANGE)
			if err == nil {
				_ = sys.Unlinkat(wfd, temp, 0) // a leftover goes at the next mount
			}
		} else {
			err = sys.Renameat2(wfd, temp, p.fd, name, 0)
		}
	}
	if err != nil {
		_ = f.work.RemoveTemp(temp)
	}
	return err
}

// dressTemp gives an object made in the workdir what it would have got from its
// directory: owner, set-group-ID, mode and ACLs.
func (f *FS) dressTemp(p place, temp string, o *newObject, acl []byte) error {
	wfd := f.work.FD()
	var st unix.Statx_t
	if err := sys.Statx(p.fd, "", &st); err != nil {
		return err
	}
	gid := o.owner.Gid
	mode := o.mode & 0o7777
	isDir := o.mode&unix.S_IFMT == unix.S_IFDIR
	if uint32(st.Mode)&unix.S_ISGID != 0 {
		gid = st.Gid
		if isDir {
			mode |= unix.S_ISGID
		}
	}
	if err := sys.Chownat(wfd, temp, int(o.owner.Uid), int(gid)); err != nil && sys.HasCap(unix.CAP_CHOWN) {
		return err
	}
	if o.mode&unix.S_IFMT == unix.S_IFLNK {
		return nil
	}
	var access []byte
	if acl == nil {
		mode &^= o.umask & 0o777
	} else {
		var err error
		if access, mode, err = inheritACL(acl, mode); err != nil {
			return err
		}
	}
	if err := sys.Chmodat(wfd, temp, mode); err != nil {
		return err
	}
	if access != nil {
		if err := sys.Setxattrat(wfd, temp, aclAccessAttr, access, 0); err != nil {
			return err
		}
	}
	if !isDir {
		return nil
	}
	if acl != nil {
		if err := sys.Setxattrat(wfd, temp, aclDefaultAttr, acl, 0); err != nil {
			return err
		}
	}
	return f.cfg.Namespace.SetOpaque(wfd, temp)
}

// newUpper makes the node of an object that was just made in the upper.
//
// Preconditions: f.treeMu is held; dir.mu is held for writing.
func (f *FS) newUpper(dir *node, p place, name string, o *newObject, hasACL, opaque bool) (*node, stack.Attr, error) {
	var st unix.Statx_t
	if err := sys.Statx(p.fd, name, &st); err != nil {
		return nil, stack.Attr{}, err
	}
	a := stack.AttrOf(&st)
	f.own.show(o.over, &a)
	n := f.newNode(a.Type(), nil, fullUpper)
	n.over.Store(o.over)
	n.ino.Store(f.inoOf(&a))
	n.maybeXat.Store(hasACL)
	if opaque {
		n.dir.opacity = whiteout.OpaqueDir
	}
	if n.dir != nil {
		n.dir.index = newDirIndex(0)
		if !hasACL {
			n.dir.defACL = aclNone
		}
	}
	n.addLinkLocked(link{parent: dir, name: name})
	dir.noteAdded(name, n)
	f.unionAttr(n, &a)
	f.nodes.ref(n)
	return n, a, nil
}

// link is LINK: one more name for an object.
func (f *FS) link(n, dir *node, name string) (stack.Attr, error) {
	var none stack.Attr
	if n.isDir() {
		return none, unix.EPERM
	}
	if err := f.checkNewName(name); err != nil {
		return none, err
	}
	if err := f.enterChange(); err != nil {
		return none, err
	}
	defer f.leaveChange()
	if err := f.copyUp(dir, wantMeta); err != nil {
		return none, err
	}
	if err := f.copyUp(n, wantMeta); err != nil {
		return none, err
	}
	f.treeMu.RLock()
	defer f.treeMu.RUnlock()
	dir.mu.Lock()
	defer dir.mu.Unlock()
	free, err := f.nameFree(dir, name)
	if err != nil {
		return none, err
	}
	p, err := f.enter(dir)
	if err != nil {
		return none, err
	}
	defer f.leave(p)
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := f.keepRedirect(n); err != nil {
		return none, err
	}
	if err := f.markNlinkUpper(n); err != nil {
		return none, err
	}
	err = f.at(n, func(src place) error { return f.linkTo(src, p, name, free) })
	if isExist(err) && free == nameUnused {
		if free, err = f.whiteoutAt(dir, name); err == nil {
			err = f.at(n, func(src place) error { return f.linkTo(src, p, name, free) })
		}
	}
	if err != nil {
		return none, err
	}
	n.addLinkLocked(link{parent: dir, name: name})
	f.takeFromOrphan(n)
	f.addNlink(n, 1)
	dir.noteAdded(name, n)
	if n.fromBelow() {
		f.markImpureLocked(dir, p)
	}
	a, err := f.attrLocked(n)
	if err != nil {
		return none, err
	}
	f.noteHardLink(n, p, name)
	f.nodes.ref(n)
	return a, nil
}

// keepRedirect makes a metacopy file find its data under any name, before it
// gets a second one (fs/overlayfs/dir.c:ovl_set_link_redirect).
//
// Preconditions: f.treeMu is held; n.mu is held for writing.
func (f *FS) keepRedirect(n *node) error {
	if n.upper.Load() != metaUpper || len(n.links) == 0 {
		return nil
	}
	r, err := f.redirectFor(n, n.links[0].parent, n.links[0].name, false)
	if err != nil || r == "" {
		return err
	}
	return f.at(n, func(p place) error {
		return f.cfg.Namespace.Set(p.fd, p.name, whiteout.Redirect, []byte(r))
	})
}

// linkTo links an upper object to a free name.
func (f *FS) linkTo(src, dir place, name string, free nameState) error {
	mk := func(dirfd int, as string) error {
		if src.name == "" {
			return sys.LinkFD(src.fd, dirfd, as)
		}
		return sys.Linkat(src.fd, src.name, dirfd, as)
	}
	if free == nameUnused {
		return mk(dir.fd, name)
	}
	temp := f.work.TempName()
	if err := mk(f.work.FD(), temp); err != nil {
		return err
	}
	err := sys.Renameat2(f.work.FD(), temp, dir.fd, name, 0)
	if err != nil {
		_ = sys.Unlinkat(f.work.FD(), temp, 0)
	}
	return err
}

// takeFromOrphan lets the descriptor of an unnamed object (O_TMPFILE) go once
// the object has a name.
//
// Preconditions: n.mu is held for writing.
func (f *FS) takeFromOrphan(n *node) {
	if n.orphan != 0 {
		_ = sys.Close(int(n.orphan) - 1)
		n.orphan = 0
	}
}

// noteHardLink makes n the node of every name of its upper inode.
func (f *FS) noteHardLink(n *node, p place, name string) {
	var st unix.Statx_t
	if sys.Statx(p.fd, name, &st) == nil {
		f.nodes.setKeys(n, hardKeys{upper: st.Ino})
	}
}

// markImpureLocked notes in an upper directory that it holds objects from below
// (fs/overlayfs/util.c:ovl_set_impure). It is only a hint; failing is allowed.
//
// Preconditions: dir.mu is held for writing, or f.treeMu exclusively.
func (f *FS) markImpureLocked(dir *node, p place) {
	if dir.dir.impure {
		return
	}
	if err := f.cfg.Namespace.Set(p.fd, "", whiteout.Impure, []byte("y")); err != nil {
		f.log.Debug("cannot mark a directory impure", "dir", f.pathOf(dir), "err", err)
		return
	}
	dir.dir.impure = true
}

// tmpfile is TMPFILE: a regular file without a name, which link can give one.
func (f *FS) tmpfile(dir *node, o *newObject) (*node, stack.Attr, error) {
	var none stack.Attr
	if err := f.enterChange(); err != nil {
		return nil, none, err
	}
	defer f.leaveChange()
	if err := f.copyUp(dir, wantMeta); err != nil {
		return nil, none, err
	}
	f.treeMu.RLock()
	defer f.treeMu.RUnlock()
	dir.mu.Lock()
	defer dir.mu.Unlock()
	p, err := f.enter(dir)
	if err != nil {
		return nil, none, err
	}
	defer f.leave(p)
	acl, err := f.defaultACL(dir, p)
	if err != nil {
		return nil, none, err
	}
	if err := f.claim(dir, o); err != nil {
		return nil, none, err
	}
	mode := o.mode & 0o7777
	if acl == nil {
		mode &^= o.umask & 0o777
	}
	fd := -1
	err = sys.AsCaller(o.owner.Uid, o.owner.Gid, func() (err error) {
		fd, err = sys.Openat(p.fd, ".", unix.O_TMPFILE|unix.O_RDWR, mode)
		return err
	})
	if err != nil {
		return nil, none, err
	}
	var st unix.Statx_t
	if err = f.rememberNew(fd, "", o); err == nil {
		err = sys.Statx(fd, "", &st)
	}
	if err != nil {
		_ = sys.Close(fd)
		return nil, none, err
	}
	a := stack.AttrOf(&st)
	f.own.show(o.over, &a)
	n := f.newNode(unix.S_IFREG, nil, fullUpper)
	n.over.Store(o.over)
	n.ino.Store(f.inoOf(&a))
	n.maybeXat.Store(acl != nil)
	n.orphan = int32(fd) + 1
	f.unionAttr(n, &a)
	f.nodes.ref(n)
	return n, a, nil
}
