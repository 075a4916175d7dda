package cow

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/sys"
)

// checkIncompat refuses a workdir in whose work/incompat/ something lies: the
// names there are features without which the upper must not be used
// (fs/overlayfs/readdir.c: ovl_workdir_cleanup_recurse).
func (w *Workdir) checkIncompat() error {
	ents, err := sys.ReadDir(w.workFD, incompatName)
	switch err {
	case nil:
	case unix.ENOENT, unix.ENOTDIR, unix.ELOOP:
		return nil
	default:
		return fmt.Errorf("read %s/work/incompat: %w", w.path, err)
	}
	for _, e := range ents {
		if e.Name != volatileName {
			return fmt.Errorf("workdir %s: %w (%q): %w", w.path, ErrIncompatible, e.Name, unix.EINVAL)
		}
	}
	if len(ents) == 0 {
		return nil
	}
	return fmt.Errorf("workdir %s: %w: what was written last may be missing or damaged in the upper directory; "+
		"make a new upper, or, if the machine has not crashed since, remove %s/work/incompat/volatile: %w",
		w.path, ErrVolatile, w.path, unix.EINVAL)
}

// markVolatile leaves the mark that the kernel leaves, work/incompat/volatile
// with a file in it (fs/overlayfs/super.c: ovl_create_volatile_dirty), and
// syncs it: it must be there after a crash though nothing else may be.
func (w *Workdir) markVolatile() error {
	err := w.makeVolatileMark()
	if err == nil {
		err = sys.Syncfs(w.workFD)
	}
	if err != nil {
		return fmt.Errorf("mark workdir %s as volatile: %w", w.path, err)
	}
	return nil
}

func (w *Workdir) makeVolatileMark() error {
	if err := sys.Mkdirat(w.workFD, incompatName, 0o700); err != nil {
		return err
	}
	dir, err := sys.OpenInMount(w.workFD, incompatName, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer sys.Close(dir) //nolint:errcheck // only read
	if err := sys.Mkdirat(dir, volatileName, 0o700); err != nil {
		return err
	}
	mark, err := sys.OpenInMount(dir, volatileName, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer sys.Close(mark) //nolint:errcheck // only read
	return sys.Mknodat(mark, dirtyName, unix.S_IFREG|0o600, 0)
}

// unmarkVolatile syncs the filesystem and removes the mark. The descriptor was
// opened when the mount began, so that syncfs reports every write that failed
// since then.
func (w *Workdir) unmarkVolatile() error {
	err := sys.Syncfs(w.workFD)
	if err == nil {
		err = RemoveTree(w.workFD, incompatName)
	}
	if err != nil {
		return fmt.Errorf("end volatile use of workdir %s (its mark stays, the upper may be damaged): %w", w.path, err)
	}
	return nil
}
