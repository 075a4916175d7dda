package fs

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/cow"
	"github.com/unionfs-go/unionfs/internal/stack"
	"github.com/unionfs-go/unionfs/internal/sys"
)

// want says how much of an object a copy-up has to bring.
type want struct {
	data bool  // its data too, not only a metacopy file
	size int64 // data up to this size, or -1: all of it
}

var (
	wantMeta = want{size: -1}
	wantData = want{data: true, size: -1}
)

// copyCall is one copy-up under way; others who want the same node wait for it.
type copyCall struct {
	done chan struct{}
	err  error // set before done is closed
}

// copyUp makes sure that n, and every directory above it, has an object in the
// upper. It takes no lock that others need while it copies: two callers for one
// node copy once, and readers go on with the lower object.
//
// Preconditions: no lock of f is held.
func (f *FS) copyUp(n *node, w want) error {
	for {
		if n.hasCopy(w) {
			return nil
		}
		if f.readOnly() {
			return unix.EROFS
		}
		f.copyMu.Lock()
		if call := f.copying[n]; call != nil {
			f.copyMu.Unlock()
			<-call.done
			if call.err != nil {
				return call.err
			}
			continue
		}
		if n.hasCopy(w) {
			f.copyMu.Unlock()
			return nil // by a copy-up that ended since the first look
		}
		call := &copyCall{done: make(chan struct{})}
		f.copying[n] = call
		f.copyMu.Unlock()

		call.err = f.copyUpOne(n, w)

		f.copyMu.Lock()
		delete(f.copying, n)
		f.copyMu.Unlock()
		close(call.done)
		if call.err != nil {
			return call.err
		}
	}
}

// hasCopy tells whether the upper has what w wants of n.
func (n *node) hasCopy(w want) bool {
	state := n.upper.Load()
	return state == fullUpper || state == metaUpper && !w.data
}

// copyUpAs is copyUp for an operation on one of several names: the copy gets
// that one.
func (f *FS) copyUpAs(n, dir *node, name string, w want) error {
	f.treeMu.RLock()
	n.prefer(dir, name)
	f.treeMu.RUnlock()
	return f.copyUp(n, w)
}

// copyUpOne copies up one node; its call is registered in f.copying.
func (f *FS) copyUpOne(n *node, w want) error {
	if n.upper.Load() == metaUpper {
		return f.completeData(n)
	}
	for {
		parent := f.someParent(n)
		if parent == nil {
			break // removed: the copy gets no name
		}
		if err := f.copyUp(parent, wantMeta); err != nil {
			return err
		}
		// A rename may have moved the node below another directory meanwhile.
		if f.someParent(n) == parent {
			break
		}
	}
	r, cleanup, err := f.request(n, w)
	if err != nil {
		return err
	}
	defer cleanup()
	f.log.Debug("copy up", "name", r.Name, "size", r.Meta.Size, "metacopy", r.Metacopy)
	p, err := f.work.Prepare(r)
	if err != nil {
		return err
	}
	defer p.Discard() //nolint:errcheck // does nothing after Publish; a leftover goes at the next mount
	return f.publish(n, r, p)
}

// someParent is a directory that the node has a name in, or nil.
func (f *FS) someParent(n *node) *node {
	f.treeMu.RLock()
	defer f.treeMu.RUnlock()
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.parentLocked()
}

// request describes the copy-up of n for package cow. cleanup closes the data.
func (f *FS) request(n *node, w want) (*cow.Request, func(), error) {
	o := n.lower[0].Object
	a := o.Attr()
	r := &cow.Request{
		Source: cow.Source{
			Meta: cow.Meta{
				Mode: a.Mode, UID: a.UID, GID: a.GID, Rdev: a.Rdev, Size: a.Size,
				Atime: timespec(a.Atime), Mtime: timespec(a.Mtime),
			},
			Xattrs: o.Xattrs, Xattr: o.Xattr,
		},
		Namespace: f.cfg.Namespace,
		DataLimit: w.size,
		Volatile:  f.cfg.Volatile,
	}
	f.claimCopy(n, r)
	cleanup := func() {}
	if err := f.describeLinks(n, o, r); err != nil {
		return nil, nil, err
	}
	switch n.typ {
	case unix.S_IFLNK:
		target, err := o.Readlink()
		if err != nil {
			return nil, nil, fmt.Errorf("copy up %q: %w", r.Name, err)
		}
		r.Link = target
	case unix.S_IFREG:
		if f.cfg.Metacopy && !w.data && a.Size > 0 {
			r.Metacopy = true
			break
		}
		if w.size == 0 {
			break
		}
		file, err := n.lower[len(n.lower)-1].Object.Open()
		if err != nil {
			return nil, nil, fmt.Errorf("copy up %q: %w", r.Name, err)
		}
		r.Data = file
		cleanup = func() { _ = file.Close() }
	}
	return r, cleanup, nil
}

// describeLinks fills in the name, the origin and the index entry.
func (f *FS) describeLinks(n *node, o stack.Object, r *cow.Request) error {
	f.treeMu.RLock()
	defer f.treeMu.RUnlock()
	n.mu.RLock()
	defer n.mu.RUnlock()
	if len(n.links) > 0 {
		r.Name = n.links[0].name
	}
	a := o.Attr()
	indexed := n.hard != nil && n.hard.name != ""
	// Broken hard links have no origin (ovl_do_copy_up).
	if n.typ == unix.S_IFDIR || a.Nlink == 1 || indexed {
		h, err := o.Handle()
		if err != nil && err != unix.ENOTSUP {
			return fmt.Errorf("copy up %q: read file handle: %w", r.Name, err)
		}
		r.Origin = h
	}
	if indexed && len(n.links) > 0 {
		// First relative to the lower file, which is right whether the copy has
		// its second name yet or not; then to the copy, which needs no lower.
		r.IndexName = n.hard.name
		r.NlinkMark = fmt.Sprintf("L%+d", n.hard.nlink-int(a.Nlink))
		r.NlinkAfter = fmt.Sprintf("U%+d", n.hard.nlink-indexedLinks)
	}
	return nil
}

// indexedLinks is the link count of a fresh copy of a hard-linked file: its name
// and its index entry.
const indexedLinks = 2

// publish gives the prepared copy its name and turns the node over to it.
func (f *FS) publish(n *node, r *cow.Request, p *cow.Prepared) error {
	f.treeMu.RLock()
	defer f.treeMu.RUnlock()
	// Lock the parent before the node; the name may change until both are held.
	for {
		n.mu.RLock()
		parent := n.parentLocked()
		n.mu.RUnlock()
		if parent == nil {
			return f.publishOrphan(n, r, p)
		}
		parent.mu.Lock()
		n.mu.Lock()
		if len(n.links) > 0 && n.links[0].parent == parent {
			err := f.publishLocked(n, parent, r, p)
			n.mu.Unlock()
			parent.mu.Unlock()
			if err == nil && n.dir != nil {
				f.notify.staleAttr(n.id)
			}
			return err
		}
		n.mu.Unlock()
		parent.mu.Unlock()
	}
}

// publishLocked links the copy into the upper directory.
//
// Preconditions: f.treeMu, parent.mu and n.mu are held; the node's first name
// is in parent; the parent is in the upper.
func (f *FS) publishLocked(n, parent *node, r *cow.Request, p *cow.Prepared) error {
	dir, err := f.enter(parent)
	if err != nil {
		return err
	}
	defer f.leave(dir)
	r.Impure = len(r.Origin) > 0 && !parent.dir.impure
	if err := p.Publish(dir.fd, n.links[0].name); err != nil {
		return err
	}
	parent.dir.impure = parent.dir.impure || r.Impure
	n.links[0].below = false
	if ix := parent.dir.index; ix != nil {
		ix.setBelow(n.links[0].name, false)
	}
	if n.hard != nil && r.IndexName != "" {
		n.hard.indexed = true
	}
	return f.turnOver(n, dir.fd, n.links[0].name, r)
}

// publishOrphan keeps the copy of a node that has lost its name: it lives on
// through the descriptor.
//
// Preconditions: f.treeMu is held.
func (f *FS) publishOrphan(n *node, r *cow.Request, p *cow.Prepared) error {
	fd := p.TakeFD()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.orphan = int32(fd) + 1
	return f.turnOver(n, fd, "", r)
}

// turnOver makes the node use its new upper object.
//
// Preconditions: f.treeMu is held; n.mu is held for writing.
func (f *FS) turnOver(n *node, fd int, name string, r *cow.Request) error {
	var st unix.Statx_t
	if err := sys.Statx(fd, name, &st); err != nil {
		return err
	}
	if n.typ != unix.S_IFDIR && n.lower[0].Object.Attr().Nlink > 1 {
		if n.hard == nil {
			a := stack.AttrOf(&st)
			n.ino.Store(f.inoOf(&a)) // a broken hard link is an object of its own
		}
		f.nodes.setKeys(n, hardKeys{upper: st.Ino})
	}
	if f.own.remembers() {
		if over, native := f.copyOver(n); !native {
			n.over.Store(over)
		}
	}
	state := fullUpper
	if r.Metacopy {
		state = metaUpper
	}
	n.upper.Store(state)
	n.retireLower(f)
	return nil
}

// completeData gives a metacopy file its data.
func (f *FS) completeData(n *node) error {
	file, err := n.lower[len(n.lower)-1].Object.Open()
	if err != nil {
		return err
	}
	defer file.Close() //nolint:errcheck // only read
	fd, done, err := f.upperData(n, true)
	if err != nil {
		return err
	}
	defer done()
	err = f.work.Complete(&cow.Completion{
		FD: fd, Data: file, Size: n.lower[len(n.lower)-1].Object.Attr().Size,
		Namespace: f.cfg.Namespace, Volatile: f.cfg.Volatile,
	})
	if err != nil {
		return err
	}
	n.upper.Store(fullUpper)
	n.retireLower(f)
	return nil
}

// keepTimes notes the times of an upper directory and returns a function that
// puts them back: copying up a child is no change of its directory
// (fs/overlayfs/copy_up.c:ovl_set_timestamps).
func keepTimes(dir place) (func() error, error) {
	var st unix.Statx_t
	if err := sys.Statx(dir.fd, dir.name, &st); err != nil {
		return nil, err
	}
	ts := [2]unix.Timespec{
		{Sec: st.Atime.Sec, Nsec: int64(st.Atime.Nsec)},
		{Sec: st.Mtime.Sec, Nsec: int64(st.Mtime.Nsec)},
	}
	return func() error { return sys.Utimensat(dir.fd, dir.name, &ts) }, nil
}

func timespec(t stack.Time) unix.Timespec {
	return unix.Timespec{Sec: t.Sec, Nsec: int64(t.Nsec)}
}

// enterChange is the gate of every operation that changes something: it fails
// on a read-only mount and waits while the filesystem is frozen. The caller
// must call leaveChange.
func (f *FS) enterChange() error {
	if f.readOnly() {
		return unix.EROFS
	}
	f.gate.RLock()
	return nil
}

func (f *FS) leaveChange() { f.gate.RUnlock() }

// isExist tells whether an error says that a name is taken.
func isExist(err error) bool { return errors.Is(err, unix.EEXIST) }
