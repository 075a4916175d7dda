package cow

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/sys"
	"github.com/unionfs-go/unionfs/whiteout"
)

// Publish gives the copy its name in the upper directory parentFD, which need
// not be the one of the request, with one link or rename that never replaces
// anything, and restores the directory's times. Callers hold the lock that
// keeps others from changing the directory, or lose their change of its times.
//
// ErrExist: the name is taken and as it was. ErrIndexExists: the index entry
// is. After an error the copy can be published again, or discarded.
func (p *Prepared) Publish(parentFD int, name string) error {
	if p.done {
		return fmt.Errorf("publish %q: the copy was published or discarded before: %w", name, unix.EBADF)
	}
	var parent unix.Statx_t
	if err := sys.Statx(parentFD, "", &parent); err != nil {
		return fmt.Errorf("publish %q: stat its directory: %w", name, err)
	}
	if p.r.Impure {
		err := p.r.Namespace.Set(parentFD, "", whiteout.Impure, []byte("y"))
		if err != nil && err != unix.EOPNOTSUPP {
			return fmt.Errorf("publish %q: mark its directory impure: %w", name, err)
		}
	}
	if err := p.publishIndex(); err != nil {
		return err
	}
	err := p.w.at(StepPublish)
	if err == nil {
		err = p.link(parentFD, name)
	}
	if err != nil {
		return fmt.Errorf("publish %q: %w", name, existing(ErrExist, err))
	}
	p.done = true
	p.temp = ""
	// From here on the object is there: nothing may fail any more.
	if p.w.at(StepPublished) == nil {
		p.finish(parentFD, &parent)
	}
	p.closeFD()
	return nil
}

// finish does what may be missing after a crash: the mode of a directory that
// its owner may not write, of a plain user; the link count mark that is easier
// to keep; and the parent's times (ovl_link_up does as much, and ignores errors
// too).
func (p *Prepared) finish(parentFD int, parent *unix.Statx_t) {
	if p.lateMode {
		_ = sys.Chmodat(p.fd, "", p.r.Meta.Mode&0o7777)
	}
	if p.r.NlinkAfter != "" {
		_ = p.r.Namespace.Set(p.fd, "", whiteout.Nlink, []byte(p.r.NlinkAfter))
	}
	_ = sys.Utimensat(parentFD, "", &[2]unix.Timespec{
		{Sec: parent.Atime.Sec, Nsec: int64(parent.Atime.Nsec)},
		{Sec: parent.Mtime.Sec, Nsec: int64(parent.Mtime.Nsec)},
	})
}

func (p *Prepared) publishIndex() error {
	r := p.r
	if r.IndexName == "" || p.indexed {
		return nil
	}
	err := p.w.at(StepIndex)
	switch {
	case err != nil:
	case p.w.indexFD < 0:
		err = fmt.Errorf("the workdir was opened without index: %w", unix.EINVAL)
	default:
		err = p.move(p.w.indexFD, r.IndexName)
	}
	if err != nil {
		return fmt.Errorf("publish %q: index entry %s: %w", r.Name, r.IndexName, existing(ErrIndexExists, err))
	}
	p.indexed = true
	p.temp = ""
	return nil
}

// link gives the copy its name in the upper.
func (p *Prepared) link(parentFD int, name string) error {
	if p.indexed {
		return sys.Linkat(p.w.indexFD, p.r.IndexName, parentFD, name)
	}
	return p.move(parentFD, name)
}

// move gives the copy its first lasting name.
func (p *Prepared) move(dirfd int, name string) error {
	if p.temp == "" {
		return sys.LinkFD(p.fd, dirfd, name)
	}
	return p.w.moveTemp(p.temp, dirfd, name)
}

// moveTemp renames a temp to a name that must be free.
func (w *Workdir) moveTemp(temp string, dirfd int, name string) error {
	err := sys.Renameat2(w.workFD, temp, dirfd, name, unix.RENAME_NOREPLACE)
	if err != unix.EINVAL && err != unix.ENOSYS {
		return err
	}
	// A filesystem without RENAME_NOREPLACE. A link never replaces either; a
	// directory cannot be linked, so look first: the caller's lock of the
	// directory keeps the name free, and rename(2) itself replaces nothing but
	// an empty directory by a directory.
	err = sys.Linkat(w.workFD, temp, dirfd, name)
	switch err {
	case nil:
		return sys.Unlinkat(w.workFD, temp, 0)
	case unix.EPERM, unix.EOPNOTSUPP:
	default:
		return err
	}
	var st unix.Statx_t
	switch err := sys.Statx(dirfd, name, &st); err {
	case unix.ENOENT:
		return sys.Renameat2(w.workFD, temp, dirfd, name, 0)
	case nil:
		return unix.EEXIST
	default:
		return err
	}
}
