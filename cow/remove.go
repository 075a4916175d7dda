package cow

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/sys"
)

// RemoveTree removes name of dirfd, with everything in it when it is a
// directory. Symlinks are removed, never followed; a directory on which
// something is mounted is an error (EXDEV); a directory that its owner may not
// read is made readable. However deep the tree, at most two descriptors are
// open, and no recursion happens. A name that is not there is no error. Nobody
// else may move directories of the tree meanwhile (EIO).
func RemoveTree(dirfd int, name string) error {
	err := sys.Unlinkat(dirfd, name, 0)
	switch err {
	case nil, unix.ENOENT:
		return nil
	case unix.EISDIR, unix.EPERM:
		// unlink(2) of a directory: EISDIR on Linux, EPERM in POSIX.
		if rerr := sys.Unlinkat(dirfd, name, unix.AT_REMOVEDIR); rerr == nil || rerr == unix.ENOENT {
			return nil
		} else if rerr == unix.ENOTDIR {
			return fmt.Errorf("remove %q: %w", name, err)
		}
	default:
		return fmt.Errorf("remove %q: %w", name, err)
	}
	if err := removeDir(dirfd, name); err != nil {
		return fmt.Errorf("remove tree %q: %w", name, err)
	}
	return nil
}

// removal is one directory on the way from the root of a removal to where it
// stands.
type removal struct {
	name     string // in its parent
	dev, ino uint64
	subdirs  []string // not yet removed
}

// remover walks a tree with one descriptor, going up by "..".
type remover struct {
	fd    int // the directory of the last of stack, owned
	stack []removal
}

func removeDir(dirfd int, name string) error {
	r := remover{fd: -1}
	defer r.close()
	if err := r.enter(dirfd, name); err != nil {
		return err
	}
	for {
		top := &r.stack[len(r.stack)-1]
		if n := len(top.subdirs); n > 0 {
			sub := top.subdirs[n-1]
			top.subdirs = top.subdirs[:n-1]
			if err := r.enter(r.fd, sub); err != nil && !errors.Is(err, unix.ENOENT) {
				return err
			}
			continue
		}
		if len(r.stack) == 1 {
			return sys.Unlinkat(dirfd, name, unix.AT_REMOVEDIR)
		}
		if err := r.leave(); err != nil {
			return err
		}
	}
}

func (r *remover) close() {
	if r.fd >= 0 {
		_ = sys.Close(r.fd)
		r.fd = -1
	}
}

// enter goes into the directory name of parent and removes everything in it
// but its directories.
func (r *remover) enter(parent int, name string) error {
	const flags = unix.O_RDONLY | unix.O_DIRECTORY
	fd, err := sys.OpenInMount(parent, name, flags)
	if err == unix.EACCES {
		if err = sys.Chmodat(parent, name, 0o700); err == nil {
			fd, err = sys.OpenInMount(parent, name, flags)
		}
	}
	if err != nil {
		return fmt.Errorf("open directory %q: %w", name, err)
	}
	r.close()
	r.fd = fd
	var st unix.Statx_t
	if err := sys.Statx(fd, "", &st); err != nil {
		return fmt.Errorf("stat directory %q: %w", name, err)
	}
	here := removal{name: name, dev: sys.Dev(&st), ino: st.Ino}
	if st.Mode&0o700 != 0o700 {
		// Without write and search permission nothing in it can be removed.
		if err := sys.Chmodat(fd, "", 0o700); err != nil {
			return fmt.Errorf("make directory %q writable: %w", name, err)
		}
	}
	ents, err := sys.ReadDir(fd, "")
	if err != nil {
		return fmt.Errorf("list directory %q: %w", name, err)
	}
	for _, e := range ents {
		switch err := sys.Unlinkat(fd, e.Name, 0); err {
		case nil, unix.ENOENT:
		case unix.EISDIR, unix.EPERM:
			if e.Type != unix.DT_DIR && e.Type != unix.DT_UNKNOWN {
				return fmt.Errorf("remove %q: %w", e.Name, err)
			}
			here.subdirs = append(here.subdirs, e.Name)
		default:
			return fmt.Errorf("remove %q: %w", e.Name, err)
		}
	}
	r.stack = append(r.stack, here)
	return nil
}

// leave goes back up and removes the directory that was left, which is empty.
func (r *remover) leave() error {
	done := r.stack[len(r.stack)-1]
	r.stack = r.stack[:len(r.stack)-1]
	want := r.stack[len(r.stack)-1]
	fd, err := sys.Parent(r.fd, unix.O_RDONLY)
	if err != nil {
		return fmt.Errorf("open directory above %q: %w", done.name, err)
	}
	r.close()
	r.fd = fd
	var st unix.Statx_t
	if err := sys.Statx(fd, "", &st); err != nil {
		return fmt.Errorf("stat directory above %q: %w", done.name, err)
	}
	if sys.Dev(&st) != want.dev || st.Ino != want.ino {
		return fmt.Errorf("directory %q was moved while it was removed: %w", done.name, unix.EIO)
	}
	if err := sys.Unlinkat(fd, done.name, unix.AT_REMOVEDIR); err != nil && err != unix.ENOENT {
		return fmt.Errorf("remove directory %q: %w", done.name, err)
	}
	return nil
}

// RemoveTemp removes a temp of work/, a file or a whole directory, see
// RemoveTree.
func (w *Workdir) RemoveTemp(name string) error { return RemoveTree(w.workFD, name) }
