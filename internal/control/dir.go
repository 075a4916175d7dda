package control

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// socketName is the name of a mount's socket.
func socketName(major, minor uint32) string {
	return fmt.Sprintf("%d-%d.sock", major, minor)
}

// runtimeDirs are the directories that a user's sockets may be in, the wished
// one first.
func runtimeDirs(uid int) []string {
	var dirs []string
	self := uid == os.Geteuid()
	if uid == 0 {
		dirs = append(dirs, "/run/unionfs")
	}
	if xdg := os.Getenv("XDG_RUNTIME_DIR"); self && filepath.IsAbs(xdg) {
		dirs = append(dirs, filepath.Join(xdg, "unionfs"))
	}
	id := strconv.Itoa(uid)
	return append(dirs, filepath.Join("/run/user", id, "unionfs"), "/tmp/unionfs-"+id)
}

// Dir is a directory for sockets, opened before the mount is made: a mount that
// covers it does no harm to the daemon then.
type Dir struct {
	f *os.File
}

// OpenDir opens the directory for this user's sockets, making it where needed.
// The caller closes it.
func OpenDir() (*Dir, error) {
	var errs []error
	for _, path := range runtimeDirs(os.Geteuid()) {
		f, err := openPrivate(path, true)
		if err == nil {
			return &Dir{f: f}, nil
		}
		errs = append(errs, err)
	}
	return nil, fmt.Errorf("find a directory for the control socket: %w", errors.Join(errs...))
}

// Close closes the directory.
func (d *Dir) Close() error { return d.f.Close() }

// path is the path of a name in the directory, through its descriptor: it is
// short, and right whatever was mounted since.
func (d *Dir) path(name string) string {
	return fmt.Sprintf("/proc/self/fd/%d/%s", d.f.Fd(), name)
}

// openPrivate opens a directory that only its owner can enter. With create it
// is made, and must belong to this user; without, it may also be another
// user's, since only root gets into that.
func openPrivate(path string, create bool) (*os.File, error) {
	if create {
		if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	if err := checkPrivate(f, create); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

func checkPrivate(f *os.File, own bool) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("%s is open to others (mode %o); remove it, or chmod 700 it", f.Name(), info.Mode().Perm())
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("%s: its owner is unknown", f.Name())
	}
	if own && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("%s belongs to user %d, not to %d; remove it", f.Name(), st.Uid, os.Geteuid())
	}
	return nil
}
