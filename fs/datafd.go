package fs

import (
	"io"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/stack"
	"github.com/unionfs-go/unionfs/internal/sys"
)

// dataFiles is what the data of a regular file is read and written through.
// There are no open files in a mount without OPEN messages, so the node itself
// keeps what it needs, and the cache closes what was not used for long.
type dataFiles struct {
	upper sys.Slot // the upper file, for reading and writing
	upRO  sys.Slot // the upper file when it can only be read
	lower sys.Slot // the lower file, where its layer has descriptors

	mu   sync.Mutex
	file stack.File // the lower file, where its layer has none; guarded by mu
}

// files returns the node's data files, made when they are first needed.
func (n *node) files() *dataFiles {
	if d := n.data.Load(); d != nil {
		return d
	}
	n.data.CompareAndSwap(nil, new(dataFiles))
	return n.data.Load()
}

// retireLower closes the lower file once its data is in the upper.
func (n *node) retireLower(f *FS) {
	if d := n.data.Load(); d != nil {
		d.retireLower(f)
	}
}

// drop closes everything, when the kernel has forgotten the node.
func (d *dataFiles) drop(f *FS) {
	f.dataFDs.Drop(&d.upper)
	f.dataFDs.Drop(&d.upRO)
	d.retireLower(f)
}

// retireLower closes the lower file once its data is in the upper. A read that
// still uses it ends first.
func (d *dataFiles) retireLower(f *FS) {
	f.dataFDs.Drop(&d.lower)
	d.mu.Lock()
	d.file = nil // readers under way hold it; it has no descriptor to leak
	d.mu.Unlock()
}

// upperData returns a descriptor of n's upper file until done is called. With
// write it can be written.
//
// Preconditions: no lock of f is held; n is a regular file in the upper.
func (f *FS) upperData(n *node, write bool) (fd int, done func(), err error) {
	files := n.files()
	slot := &files.upper
	fd, err = f.dataFDs.Acquire(slot, func() (int, error) { return f.openUpperData(n, unix.O_RDWR) })
	if err != nil && !write && err != unix.ENOENT {
		// A file that its owner may not write, without root's rights.
		slot = &files.upRO
		fd, err = f.dataFDs.Acquire(slot, func() (int, error) { return f.openUpperData(n, unix.O_RDONLY) })
	}
	if err != nil {
		return -1, nil, err
	}
	return fd, func() { f.dataFDs.Release(slot) }, nil
}

func (f *FS) openUpperData(n *node, flags int) (fd int, err error) {
	f.treeMu.RLock()
	defer f.treeMu.RUnlock()
	n.mu.RLock()
	defer n.mu.RUnlock()
	err = f.at(n, func(p place) (err error) {
		fd, err = openAt(p, flags)
		if err == unix.EACCES {
			fd, err = openLocked(p, flags)
		}
		return err
	})
	return fd, err
}

// openAt opens an upper file, without touching its access time where this
// process may ask for that.
func openAt(p place, flags int) (int, error) {
	if p.name == "" {
		return sys.Reopen(p.fd, flags)
	}
	fd, err := sys.Openat(p.fd, p.name, flags|unix.O_NONBLOCK|unix.O_NOATIME, 0)
	if err == unix.EPERM {
		fd, err = sys.Openat(p.fd, p.name, flags|unix.O_NONBLOCK, 0)
	}
	return fd, err
}

// openLocked opens a file whose mode keeps its owner from it, if that is this
// process's user, who has not root's rights: who made a file with such a mode,
// or had it open when the mode was set, goes on reading and writing it.
//
// Preconditions: the node's mu is held, so that nobody else changes the mode.
func openLocked(p place, flags int) (int, error) {
	var st unix.Statx_t
	if err := sys.Statx(p.fd, p.name, &st); err != nil {
		return -1, err
	}
	if st.Uid != uint32(unix.Geteuid()) {
		return -1, unix.EACCES
	}
	mode := uint32(st.Mode) & 0o7777
	if err := sys.Chmodat(p.fd, p.name, mode|0o600); err != nil {
		return -1, err
	}
	fd, err := openAt(p, flags)
	if cerr := sys.Chmodat(p.fd, p.name, mode); err == nil && cerr != nil {
		_ = sys.Close(fd)
		return -1, cerr
	}
	return fd, err
}

// lowerData returns the object whose data is read while the upper has none.
func (n *node) lowerData() stack.Object { return n.lower[len(n.lower)-1].Object }

// lowerFD returns a descriptor of n's lower file until done is called; ok is
// false where the layer has no descriptors.
func (f *FS) lowerFD(n *node) (fd int, done func(), ok bool, err error) {
	files := n.files()
	slot := &files.lower
	fd, err = f.dataFDs.Acquire(slot, func() (int, error) {
		file, err := n.lowerData().Open()
		if err != nil {
			return -1, err
		}
		fd, has := file.FD()
		if !has {
			files.keep(file)
			return -1, errNoFD
		}
		dup, err := sys.Dup(fd)
		_ = file.Close()
		return dup, err
	})
	if err == errNoFD { //nolint:errorlint // our own sentinel, never wrapped
		return -1, nil, false, nil
	}
	if err != nil {
		return -1, nil, false, err
	}
	return fd, func() { f.dataFDs.Release(slot) }, true, nil
}

// noFDError is the type of errNoFD.
type noFDError struct{}

func (noFDError) Error() string { return "layer has no descriptors" }

var errNoFD error = noFDError{}

func (d *dataFiles) keep(file stack.File) {
	d.mu.Lock()
	d.file = file
	d.mu.Unlock()
}

// readLower reads the lower file where its layer has no descriptors.
func (n *node) readLower(p []byte, off int64) (int, error) {
	files := n.files()
	files.mu.Lock()
	file := files.file
	files.mu.Unlock()
	if file == nil {
		var err error
		if file, err = n.lowerData().Open(); err != nil {
			return 0, err
		}
		files.keep(file)
	}
	count, err := file.ReadAt(p, off)
	if err == io.EOF { //nolint:errorlint // io.ReaderAt returns it bare
		err = nil
	}
	return count, err
}
