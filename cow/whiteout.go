package cow

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/sys"
	"github.com/unionfs-go/unionfs/whiteout"
)

// sharedWhiteout is a whiteout in work/ of which the others are hard links, so
// that deleting a thousand files costs one inode (fs/overlayfs/dir.c:
// ovl_whiteout).
type sharedWhiteout struct {
	name string // in work/; "" is none yet
	off  bool   // the filesystem cannot link it
}

// Whiteout puts a whiteout at a free name of the upper directory dirfd, in one
// step. ErrExist: the name is taken.
func (w *Workdir) Whiteout(dirfd int, name string, style whiteout.Style) error {
	err := w.holdsXWhiteouts(dirfd, style)
	if err == nil {
		err = w.makeWhiteout(dirfd, name, style)
	}
	if err != nil {
		return fmt.Errorf("make whiteout %q: %w", name, existing(ErrExist, err))
	}
	return nil
}

// WhiteoutOver replaces name of the upper directory dirfd, which is no
// directory, by a whiteout, in one step: what lies below never shows.
func (w *Workdir) WhiteoutOver(dirfd int, name string, style whiteout.Style) error {
	temp, err := w.whiteoutAside(dirfd, style)
	if err == nil {
		err = sys.Renameat2(w.workFD, temp, dirfd, name, 0)
	}
	if temp != "" {
		// Still there after an error, and where name was a link of the same
		// whiteout already: then rename(2) does nothing.
		_ = sys.Unlinkat(w.workFD, temp, 0)
	}
	if err != nil {
		return fmt.Errorf("replace %q by a whiteout: %w", name, err)
	}
	return nil
}

// SwapWhiteout replaces name of the upper directory dirfd, which may be a
// directory with anything in it, by a whiteout, in one step, and leaves the old
// object in work/ under the returned name, for RemoveTemp.
func (w *Workdir) SwapWhiteout(dirfd int, name string, style whiteout.Style) (temp string, err error) {
	temp, err = w.whiteoutAside(dirfd, style)
	if err == nil {
		err = w.exchange(temp, dirfd, name)
	}
	if err != nil {
		if temp != "" {
			_ = sys.Unlinkat(w.workFD, temp, 0)
		}
		return "", fmt.Errorf("exchange %q with a whiteout: %w", name, err)
	}
	if err := w.at(StepSwapped); err != nil {
		return temp, fmt.Errorf("exchange %q with a whiteout: %w", name, err)
	}
	return temp, nil
}

// exchange lets a temp and a name of the upper change places. A directory that
// its owner may not write cannot be moved by a plain user; it is about to be
// removed, so its mode does not matter.
func (w *Workdir) exchange(temp string, dirfd int, name string) error {
	err := sys.Renameat2(w.workFD, temp, dirfd, name, unix.RENAME_EXCHANGE)
	if err != unix.EACCES {
		return err
	}
	var st unix.Statx_t
	if serr := sys.Statx(dirfd, name, &st); serr != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return err
	}
	mode := uint32(st.Mode) & 0o7777
	if sys.Chmodat(dirfd, name, mode|unix.S_IWUSR) != nil {
		return err
	}
	if err = sys.Renameat2(w.workFD, temp, dirfd, name, unix.RENAME_EXCHANGE); err != nil {
		_ = sys.Chmodat(dirfd, name, mode)
	}
	return err
}

// whiteoutAside makes a whiteout in work/, for a directory dirfd that is fit to
// hold it. A name that is returned with an error must be removed too.
func (w *Workdir) whiteoutAside(dirfd int, style whiteout.Style) (temp string, err error) {
	if err := w.holdsXWhiteouts(dirfd, style); err != nil {
		return "", err
	}
	temp = w.TempName()
	if err := w.makeWhiteout(w.workFD, temp, style); err != nil {
		return "", err
	}
	return temp, w.at(StepWhiteoutMade)
}

// holdsXWhiteouts marks a directory before a whiteout of style Xattr comes into
// it: readers would else take that for an empty file.
func (w *Workdir) holdsXWhiteouts(dirfd int, style whiteout.Style) error {
	if style != whiteout.Xattr {
		return nil
	}
	if err := w.ns.MarkHoldsXWhiteouts(dirfd, ""); err != nil {
		return fmt.Errorf("mark directory: %w", err)
	}
	return nil
}

// makeWhiteout makes a whiteout under a free name, a link of the shared one
// where that works.
func (w *Workdir) makeWhiteout(dirfd int, name string, style whiteout.Style) error {
	for range 3 {
		from, err := w.sharedName(style)
		if err != nil {
			return err
		}
		if from == "" {
			break
		}
		switch err := sys.Linkat(w.workFD, from, dirfd, name); err {
		case unix.EMLINK, unix.ENOENT:
			// It has as many links as it can have; or somebody else saw that
			// first. (Or the directory is gone, which the last try tells.)
			w.forgetShared(style, from, false)
		case unix.EXDEV, unix.EPERM, unix.EOPNOTSUPP:
			w.forgetShared(style, from, true)
		default:
			return err
		}
	}
	if style == whiteout.Device || dirfd == w.workFD {
		return w.ns.Make(dirfd, name, style)
	}
	temp := w.TempName()
	if err := w.ns.Make(w.workFD, temp, style); err != nil {
		return err
	}
	if err := w.moveTemp(temp, dirfd, name); err != nil {
		_ = sys.Unlinkat(w.workFD, temp, 0)
		return err
	}
	return nil
}

// sharedName returns the shared whiteout's name in work/, making it first where
// there is none; "" where it cannot be shared.
func (w *Workdir) sharedName(style whiteout.Style) (string, error) {
	w.sharedMu.Lock()
	defer w.sharedMu.Unlock()
	s := &w.shared[style]
	if s.off || s.name != "" {
		return s.name, nil
	}
	name := w.TempName()
	if err := w.ns.Make(w.workFD, name, style); err != nil {
		return "", err
	}
	s.name = name
	return name, nil
}

// forgetShared gives up the shared whiteout called name; its links stay.
func (w *Workdir) forgetShared(style whiteout.Style, name string, off bool) {
	w.sharedMu.Lock()
	defer w.sharedMu.Unlock()
	s := &w.shared[style]
	s.off = s.off || off
	if s.name == name {
		s.name = ""
		_ = sys.Unlinkat(w.workFD, name, 0)
	}
}

// dropShared removes the shared whiteouts from work/.
func (w *Workdir) dropShared() error {
	w.sharedMu.Lock()
	defer w.sharedMu.Unlock()
	var errs []error
	for i := range w.shared {
		s := &w.shared[i]
		if s.name == "" {
			continue
		}
		if err := sys.Unlinkat(w.workFD, s.name, 0); err != nil && err != unix.ENOENT {
			errs = append(errs, fmt.Errorf("remove shared whiteout in workdir %s: %w", w.path, err))
		}
		s.name = ""
	}
	return errors.Join(errs...)
}
