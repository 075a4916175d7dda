package fs

import (
	"fmt"
	"sync"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/stack"
	"github.com/unionfs-go/unionfs/internal/sys"
)

// With io=passthrough the kernel reads and writes the file behind an open node
// itself (FUSE passthrough, Linux 6.9). Opens are then messages, and these rules
// keep the layers safe:
//
//   - The kernel has one backing file per node while it is open. A lower file is
//     only ever reached through a read-only copy of its mount, and an open for
//     writing copies up first, so what is written goes to the upper.
//   - A file that was copied up while lower descriptors are open cannot change
//     its backing file under them. Its names get a new node, with the same inode
//     number, and the open that found this out is answered ESTALE, upon which
//     the kernel looks the name up again. The old descriptors go on reading the
//     lower file, as in overlayfs; every other request about the old node is
//     about the new one.
//   - Nothing else of the node's data is cached: a node is open through the page
//     cache (where passthrough is not possible) or passed through, never both.
//   - Writes by others than root to a file with set-id bits come with an empty
//     SETATTR, which drops the bits (setattr.go).

// openState is how a node is open, in io=passthrough.
type openState struct {
	mu      sync.Mutex
	count   int   // descriptors open; guarded by mu
	cached  bool  // through the page cache; guarded by mu
	backing int32 // the kernel's number of the backing file, 0 for none; guarded by mu
	lower   bool  // the backing file is the lower one; guarded by mu
}

// backer is a transport that can register backing files.
type backer interface {
	// openBacking registers fd, which may be O_PATH and is not needed after.
	openBacking(fd int) (int32, error)
	closeBacking(id int32)
}

// ErrNoPassthrough says that io=passthrough was asked for and cannot be had.
var ErrNoPassthrough = fmt.Errorf("the kernel does not let this process pass file data through: %w", unix.EPERM)

// probePassthrough finds out whether the kernel takes backing files from this
// process: that needs CAP_SYS_ADMIN in the initial namespace, whatever INIT said.
func (f *FS) probePassthrough(t transport) error {
	b, ok := t.(backer)
	if !ok {
		return ErrNoPassthrough
	}
	fd, err := unix.MemfdCreate("unionfs-probe", unix.MFD_CLOEXEC)
	if err != nil {
		return err
	}
	defer sys.Close(fd) //nolint:errcheck // nothing was written
	id, err := b.openBacking(fd)
	if err != nil {
		return fmt.Errorf("%w (it needs root outside of user namespaces and Linux 6.9; io=cached works everywhere): %w", ErrNoPassthrough, err)
	}
	b.closeBacking(id)
	f.backer = b
	return nil
}

// open is OPEN, in io=passthrough.
func (f *FS) open(n *node, in *fuse.OpenIn, out *fuse.OpenOut) error {
	if n.typ != unix.S_IFREG {
		return unix.EINVAL
	}
	write := in.Flags&unix.O_ACCMODE != unix.O_RDONLY || in.Flags&unix.O_TRUNC != 0
	if write {
		if err := f.openForWrite(n, in); err != nil {
			return err
		}
	}
	return f.enterOpen(n, out)
}

// openForWrite copies up the file and truncates it if asked to
// (FUSE_ATOMIC_O_TRUNC).
func (f *FS) openForWrite(n *node, in *fuse.OpenIn) error {
	if err := f.enterChange(); err != nil {
		return err
	}
	defer f.leaveChange()
	w := wantData
	if in.Flags&unix.O_TRUNC != 0 {
		w.size = 0
	}
	if err := f.copyUp(n, w); err != nil {
		return err
	}
	if in.Flags&unix.O_TRUNC == 0 {
		return nil
	}
	if in.Mode&fuse.OPEN_KILL_SUIDGID != 0 {
		if err := f.dropPriv(n, &in.Caller); err != nil {
			return err
		}
	}
	return f.truncate(n, 0, false)
}

// enterOpen counts one more descriptor of n and tells the kernel how to serve
// it. ESTALE: the name has a new node now.
func (f *FS) enterOpen(n *node, out *fuse.OpenOut) error {
	s := n.openState()
	s.mu.Lock()
	lower := n.upper.Load() != fullUpper
	if s.count > 0 && !s.cached && s.lower && !lower {
		s.mu.Unlock()
		f.renewNode(n)
		return unix.ESTALE
	}
	defer s.mu.Unlock()
	if s.count == 0 {
		if err := f.chooseOpen(n, s, lower); err != nil {
			return err
		}
	}
	s.count++
	if s.cached {
		out.OpenFlags = fuse.FOPEN_KEEP_CACHE | fuse.FOPEN_NOFLUSH
		return nil
	}
	out.OpenFlags = fuse.FOPEN_PASSTHROUGH | fuse.FOPEN_NOFLUSH
	out.BackingID = s.backing
	return nil
}

// chooseOpen decides how the first descriptor of n is served.
//
// Preconditions: s.mu is held; no descriptor is open.
func (f *FS) chooseOpen(n *node, s *openState, lower bool) error {
	if s.backing != 0 && s.lower != lower {
		f.backer.closeBacking(s.backing)
		s.backing = 0
	}
	s.cached = false
	s.lower = lower
	if s.backing != 0 {
		return nil
	}
	fd, err := f.backingFD(n, lower)
	if err != nil {
		return err
	}
	if fd < 0 {
		s.cached = true // a layer without descriptors
		return nil
	}
	defer sys.Close(fd) //nolint:errcheck // O_PATH or only read
	if s.backing, err = f.backer.openBacking(fd); err != nil {
		f.log.Debug("a file cannot be passed through", "ino", n.ino.Load(), "err", err)
		s.backing, s.cached = 0, true
	}
	return nil
}

// backingFD opens what is to be passed through; -1 where there is no descriptor.
func (f *FS) backingFD(n *node, lower bool) (int, error) {
	if lower {
		file, err := n.lowerData().Open()
		if err != nil {
			return -1, err
		}
		defer file.Close() //nolint:errcheck // only read
		fd, ok := file.FD()
		if !ok {
			return -1, nil
		}
		return sys.Dup(fd)
	}
	f.treeMu.RLock()
	defer f.treeMu.RUnlock()
	n.mu.RLock()
	defer n.mu.RUnlock()
	return f.hold(n)
}

// release is RELEASE: one descriptor of n less.
func (f *FS) release(n *node) {
	s := n.opened.Load()
	if s == nil {
		return
	}
	s.mu.Lock()
	s.count--
	s.mu.Unlock()
}

// openState returns the node's open state, made when it is first opened.
func (n *node) openState() *openState {
	if s := n.opened.Load(); s != nil {
		return s
	}
	n.opened.CompareAndSwap(nil, new(openState))
	return n.opened.Load()
}

// dropBacking lets the backing file go when the kernel has forgotten the node.
func (f *FS) dropBacking(n *node) {
	s := n.opened.Load()
	if s == nil {
		return
	}
	s.mu.Lock()
	id := s.backing
	if s.count > 0 {
		id = 0 // taken up again meanwhile
	} else {
		s.backing = 0
	}
	s.mu.Unlock()
	if id != 0 {
		f.backer.closeBacking(id)
	}
}

// renewNode gives all names of n a new node with the same object and inode
// number. n stays for the descriptors that are open, and leads to the new one.
func (f *FS) renewNode(n *node) {
	f.treeMu.Lock()
	defer f.treeMu.Unlock()
	if n.successor.Load() != nil {
		return
	}
	next := f.newNode(n.typ, append([]stack.Real(nil), n.lower...), n.upper.Load())
	next.ino.Store(n.ino.Load())
	next.maybeXat.Store(n.maybeXat.Load())
	next.mtime.Store(n.mtime.Load())
	next.origin = n.origin
	next.links, next.hard, next.orphan = n.links, n.hard, n.orphan
	n.links, n.hard, n.orphan = nil, nil, 0
	for _, l := range next.links {
		if l.parent.dir.children[l.name] == n {
			l.parent.dir.children[l.name] = next
		}
	}
	f.nodes.replace(n, next)
	n.successor.Store(next)
	f.notify.staleAttr(n.id)
}
