package fs

import (
	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/stack"
	"github.com/unionfs-go/unionfs/internal/sys"
	"github.com/unionfs-go/unionfs/whiteout"
)

// maxName is the longest name of one component (NAME_MAX).
const maxName = 255

// resolved is what the layers say about one name of one directory.
type resolved struct {
	inUpper  bool               // the upper holds the object
	whiteout bool               // the upper holds a whiteout; nothing else is set
	attr     stack.Attr         // of the visible object
	marks    whiteout.Marks     // of the upper's object
	over     *whiteout.Override // what is remembered of the visible object
	lower    []stack.Real       // objects below that take part
}

// visible tells whether the union shows anything under the name.
func (r *resolved) visible() bool { return r.inUpper || len(r.lower) > 0 }

// resolve asks the upper and the layers below about a name. A name that is not
// there is no error: the result is then not visible.
//
// Preconditions: f.treeMu and dir.mu are held.
func (f *FS) resolve(dir *node, name string) (resolved, error) {
	var r resolved
	if len(name) > maxName {
		return r, unix.ENAMETOOLONG
	}
	q := stack.Search{Name: name}
	if dir.isUpper() {
		more, err := f.resolveUpper(dir, name, &r, &q)
		if err != nil || !more {
			return r, err
		}
	}
	if len(dir.lower) == 0 && q.Redirect == "" {
		return r, nil
	}
	err := f.resolveBelow(dir, q, &r)
	return r, err
}

// resolveBelow asks the layers below and completes r.
//
// Preconditions: as resolve.
func (f *FS) resolveBelow(dir *node, q stack.Search, r *resolved) (err error) {
	if r.lower, err = f.lowers.Find(dir.lower, q); err != nil {
		return err
	}
	if !r.inUpper && len(r.lower) > 0 {
		r.attr = r.lower[0].Object.Attr()
		if o := r.lower[0].Object; f.own.remembers() && o.Marks().HasOverride {
			r.over = f.own.load(r.attr.Type(), o.Xattr)
		}
	}
	f.own.recall(r.over, &r.attr)
	return nil
}

// resolveUpper asks the upper, and tells whether the layers below have a say.
//
// Preconditions: as resolve; dir is in the upper.
func (f *FS) resolveUpper(dir *node, name string, r *resolved, q *stack.Search) (more bool, err error) {
	p, err := f.enter(dir)
	if err != nil {
		return false, err
	}
	defer f.leave(p)
	var st unix.Statx_t
	switch err := sys.Statx(p.fd, name, &st); err {
	case nil:
	case unix.ENOENT:
		return true, nil
	default:
		return false, err
	}
	a := stack.AttrOf(&st)
	if whiteout.IsDevice(a.Mode, a.Rdev) {
		r.whiteout = true
		return false, nil
	}
	if r.marks, err = f.readMarks(p.fd, name, a.IsDir()); err != nil {
		if err == unix.EINVAL {
			f.log.Warn("a redirect mark in the upper leads nowhere", "dir", f.pathOf(dir), "name", name)
			err = unix.EIO
		}
		return false, err
	}
	if r.marks.XWhiteout && a.Size == 0 && a.Type() == unix.S_IFREG && f.holdsXWhiteouts(dir) {
		r.whiteout = true
		return false, nil
	}
	r.inUpper, r.attr = true, a
	if r.marks.HasOverride && f.own.remembers() {
		r.over = f.own.loadAt(a.Type(), p.fd, name)
	}
	q.Redirect = r.marks.Redirect
	switch {
	case a.IsDir():
		q.DirAbove = true
		return r.marks.Opacity != whiteout.OpaqueDir, nil
	case a.Type() == unix.S_IFREG && r.marks.HasMetacopy:
		q.DataAbove = true
		return true, nil
	}
	return false, nil
}

// readMarks reads the marks of an object of the upper: this mount's own, and in
// an upper that something else wrote all there are.
func (f *FS) readMarks(dirfd int, name string, isDir bool) (whiteout.Marks, error) {
	if f.foreign {
		return whiteout.ReadMarks(dirfd, name, isDir, f.cfg.Namespace)
	}
	return whiteout.ReadOwnMarks(dirfd, name, isDir, f.cfg.Namespace)
}

// holdsXWhiteouts tells whether whiteouts that are attributes count in an upper
// directory.
func (f *FS) holdsXWhiteouts(dir *node) bool {
	return dir.dir.opacity == whiteout.HoldsXWhiteouts ||
		f.style == whiteout.Xattr && dir.dir.opacity != whiteout.OpaqueDir
}

// below tells whether the layers below would show something under a name if the
// upper had nothing there: then a deletion needs a whiteout
// (fs/overlayfs/util.c:ovl_lower_positive).
//
// Preconditions: f.treeMu and dir.mu are held.
func (f *FS) below(dir *node, name string) (bool, error) {
	if len(dir.lower) == 0 {
		return false, nil
	}
	reals, err := f.lowers.Find(dir.lower, stack.Search{Name: name})
	if err == unix.EIO {
		return true, nil // a metacopy file without data is still a name
	}
	return len(reals) > 0, err
}

// childLocked returns the node of a name, made when the kernel does not know it
// yet, and its current attributes. ENOENT: the union does not show the name.
//
// Preconditions: f.treeMu is held; dir.mu is held for writing.
func (f *FS) childLocked(dir *node, name string) (*node, error) {
	if c := dir.dir.children[name]; c != nil {
		return c, nil
	}
	ix, err := f.indexSoon(dir)
	if err != nil {
		return nil, err
	}
	if ix != nil && !ix.has(name) {
		if len(name) > maxName {
			return nil, unix.ENAMETOOLONG
		}
		return nil, unix.ENOENT
	}
	var r resolved
	if ix != nil && ix.isBelow(name) {
		err = f.resolveBelow(dir, stack.Search{Name: name}, &r)
	} else {
		r, err = f.resolve(dir, name)
	}
	if err != nil {
		return nil, err
	}
	if !r.visible() {
		dir.missed()
		return nil, unix.ENOENT
	}
	n, err := f.nodeOf(dir, name, &r)
	if err != nil {
		return nil, err
	}
	dir.dir.children[name] = n
	return n, nil
}

// nodeOf makes the node for what resolve found, or finds the one that another
// name of the same object has.
//
// Preconditions: f.treeMu is held; dir.mu is held for writing.
func (f *FS) nodeOf(dir *node, name string, r *resolved) (*node, error) {
	typ := r.attr.Type()
	if typ != unix.S_IFDIR && (r.attr.Nlink > 1 || r.marks.HasNlink) {
		return f.linkedNode(dir, name, r)
	}
	state := lowerOnly
	switch {
	case r.inUpper && typ == unix.S_IFREG && r.marks.HasMetacopy:
		state = metaUpper
	case r.inUpper:
		state = fullUpper
	}
	n := f.newNode(typ, r.lower, state)
	f.dress(n, dir, name, r)
	n.addLinkLocked(link{parent: dir, name: name, below: !r.inUpper})
	if n.dir != nil {
		return n, f.adopt(n)
	}
	return n, nil
}

// dress gives a new node what was found about it.
func (f *FS) dress(n, dir *node, name string, r *resolved) {
	n.ino.Store(f.findIno(dir, name, r))
	n.over.Store(r.over)
	n.origin = r.inUpper && r.marks.HasOrigin
	n.maybeXat.Store(r.marks.HasOther)
	if !r.inUpper && len(r.lower) > 0 {
		n.maybeXat.Store(r.lower[0].Object.Marks().HasOther)
	}
	if n.dir != nil {
		n.dir.redirect = r.marks.Redirect
		n.dir.opacity = r.marks.Opacity
		n.dir.impure = r.marks.HasImpure
	}
}

// findIno tells st_ino: of the layers below where the object came from there,
// so that it is the same before and after copy-up and after a remount
// (fs/overlayfs/inode.c:ovl_getattr).
func (f *FS) findIno(dir *node, name string, r *resolved) uint64 {
	if len(r.lower) > 0 && (r.attr.IsDir() || !r.inUpper) {
		a := r.lower[0].Object.Attr()
		return f.inoOf(&a)
	}
	if r.inUpper && r.marks.HasOrigin && !r.attr.IsDir() {
		if o, ok := f.readOrigin(dir, name); ok {
			return f.inos.number(o.dev, o.ino)
		}
	}
	return f.inoOf(&r.attr)
}

// readOrigin tells which lower object an upper file was copied up from. An
// empty mark, which a layer without file handles leaves, means the object of
// the same name.
func (f *FS) readOrigin(dir *node, name string) (devIno, bool) {
	p, err := f.enter(dir)
	if err != nil {
		return devIno{}, false
	}
	defer f.leave(p)
	h, err := f.cfg.Namespace.Get(p.fd, name, whiteout.Origin)
	if err != nil {
		return devIno{}, false
	}
	if len(h) > 0 {
		return f.originIno(h)
	}
	reals, err := f.lowers.Find(dir.lower, stack.Search{Name: name})
	if err != nil || len(reals) == 0 {
		return devIno{}, false
	}
	a := reals[0].Object.Attr()
	return devIno{a.Dev, a.Ino}, !a.IsDir()
}

// lookup is LOOKUP: it finds a child and counts one reference of the kernel.
func (f *FS) lookup(dir *node, name string) (*node, stack.Attr, error) {
	if !dir.isDir() {
		return nil, stack.Attr{}, unix.ENOTDIR
	}
	f.treeMu.RLock()
	defer f.treeMu.RUnlock()
	switch name {
	case ".":
		return f.refAttr(dir)
	case "..":
		return f.refAttr(f.parentDir(dir))
	}
	dir.mu.Lock()
	defer dir.mu.Unlock()
	c, err := f.childLocked(dir, name)
	if err != nil {
		return nil, stack.Attr{}, err
	}
	c.prefer(dir, name)
	return f.refAttr(c)
}

// refAttr counts one reference of the kernel to n and returns its attributes.
//
// Preconditions: f.treeMu is held; n.mu is not.
func (f *FS) refAttr(n *node) (*node, stack.Attr, error) {
	a, err := f.attrOf(n)
	if err != nil {
		return nil, a, err
	}
	f.nodes.ref(n)
	return n, a, nil
}

// parentDir is the directory above n; the root is its own parent.
func (f *FS) parentDir(n *node) *node {
	if l := n.dir.loc.Load(); l != nil && l.parent != nil {
		return l.parent
	}
	return f.root
}

// pathOf is the node's path in the mount, for messages.
func (f *FS) pathOf(n *node) string {
	if n == f.root {
		return "/"
	}
	path := ""
	for d := n; d != nil && d != f.root && d.dir != nil; {
		l := d.dir.loc.Load()
		if l == nil || l.parent == nil {
			break
		}
		path = "/" + l.name + path
		d = l.parent
	}
	return path
}
