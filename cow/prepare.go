package cow

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/sys"
)

// Prepared is a finished copy that has no name in the upper yet. One goroutine
// at a time may use it.
type Prepared struct {
	w        *Workdir
	r        *Request
	fd       int    // the copy, -1 once closed or taken
	temp     string // its name in work/; "" for O_TMPFILE and once it has moved
	dir      int    // dir and name lead to the copy while it is prepared: work/
	name     string // and temp, or fd and "" for a file
	taken    bool   // fd belongs to the caller
	indexed  bool   // the copy has its name in the index
	done     bool   // published or discarded
	lateMode bool   // the mode is to be set once more after publishing
	hasData  bool   // data was written that only fsync brings to the disk
}

// CopyUp makes a copy of the source and publishes it under Request.Name in
// Request.ParentFD, all or nothing. It returns the attributes of the copy.
// ErrExist: the name was taken meanwhile, and is as it was. Any other error,
// ENOSPC, EDQUOT and EIO among them, wraps its errno, and leaves nothing behind.
func (w *Workdir) CopyUp(r *Request) (unix.Statx_t, error) {
	var st unix.Statx_t
	p, err := w.Prepare(r)
	if err != nil {
		return st, err
	}
	if err := p.Publish(r.ParentFD, r.Name); err != nil {
		return st, errors.Join(err, p.Discard())
	}
	if err := sys.Statx(r.ParentFD, r.Name, &st); err != nil {
		return st, fmt.Errorf("stat copy of %q: %w", r.Name, err)
	}
	return st, nil
}

// Prepare makes a complete copy of the source aside, in work/ or without a
// name. It takes as long as the data takes; callers need no lock but the one
// that keeps others from copying the same object. The caller ends it with
// Publish or Discard.
func (w *Workdir) Prepare(r *Request) (*Prepared, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	p := &Prepared{w: w, r: r, fd: -1}
	var acls []string
	for _, s := range [...]struct {
		step Step
		do   func() error
	}{
		{StepCreate, p.create},
		{StepData, p.copyData},
		{StepOwner, p.setOwner},
		{StepXattrs, func() (err error) { acls, err = p.copyXattrs(); return err }},
		{StepMarks, p.setMarks},
		{StepACL, func() error { return p.copyACLs(acls) }},
		{StepMode, p.setMode},
		{StepTimes, p.setTimes},
		{StepSync, p.sync},
	} {
		err := w.at(s.step)
		if err == nil {
			err = s.do()
		}
		if err != nil {
			return nil, errors.Join(stepError(r, s.step, err), p.Discard())
		}
	}
	return p, nil
}

// FD is the copy: of a regular file open for reading and writing, of anything
// else O_PATH. It is closed by Publish and Discard, unless it was taken.
func (p *Prepared) FD() int { return p.fd }

// TakeFD is FD, and from now on the caller closes it, not before Publish or
// Discard. A copy that is taken and then discarded is an unlinked file, for one
// that is open but has no name any more.
func (p *Prepared) TakeFD() int {
	p.taken = true
	return p.fd
}

// Discard removes a copy that was not published. After Publish, and a second
// time, it does nothing. A copy that is in the hardlink index already stays
// there, since it is complete.
func (p *Prepared) Discard() error {
	if p.done {
		return nil
	}
	p.done = true
	p.closeFD()
	if p.temp == "" {
		return nil
	}
	temp := p.temp
	p.temp = ""
	return p.w.RemoveTemp(temp)
}

func (p *Prepared) closeFD() {
	if p.fd >= 0 && !p.taken {
		// What matters was synced; a volatile mount does not ask.
		_ = sys.Close(p.fd)
	}
	p.fd = -1
}

// create makes the object aside, open only to this process's user: nobody sees
// half of it, and an owner or a mode that come later never show what they
// should not.
func (p *Prepared) create() error {
	m := &p.r.Meta
	if m.typ() == unix.S_IFREG {
		err := p.createFile()
		p.dir = p.fd
		return err
	}
	p.temp = p.w.TempName()
	p.dir, p.name = p.w.workFD, p.temp
	var err error
	switch m.typ() {
	case unix.S_IFDIR:
		err = sys.Mkdirat(p.w.workFD, p.temp, 0o700)
	case unix.S_IFLNK:
		err = sys.Symlinkat(p.r.Link, p.w.workFD, p.temp)
	case unix.S_IFCHR, unix.S_IFBLK, unix.S_IFIFO, unix.S_IFSOCK:
		// Never opened: a fifo would block, a device would act.
		err = sys.Mknodat(p.w.workFD, p.temp, m.typ()|0o600, m.Rdev)
	default:
		err = unix.EINVAL
	}
	if err != nil {
		p.temp = ""
		return err
	}
	p.fd, err = sys.Openat(p.w.workFD, p.temp, unix.O_PATH, 0)
	return err
}

// createFile makes a regular file without a name where the filesystem can, so
// that a kill leaves nothing at all.
func (p *Prepared) createFile() (err error) {
	if !p.w.noTmpfile.Load() {
		p.fd, err = sys.Openat(p.w.workFD, ".", unix.O_TMPFILE|unix.O_RDWR, 0o600)
		switch err {
		case unix.EOPNOTSUPP, unix.EISDIR, unix.EINVAL:
			p.w.noTmpfile.Store(true)
		default:
			return err
		}
	}
	temp := p.w.TempName()
	p.fd, err = sys.Openat(p.w.workFD, temp, unix.O_CREAT|unix.O_EXCL|unix.O_RDWR, 0o600)
	if err == nil {
		p.temp = temp
	}
	return err
}

func (p *Prepared) copyData() error {
	r := p.r
	if r.Meta.typ() != unix.S_IFREG {
		return nil
	}
	if r.Metacopy {
		if r.Meta.Size == 0 {
			return nil
		}
		return sys.Ftruncate(p.fd, r.Meta.Size)
	}
	size := r.dataSize()
	if size == 0 {
		return nil
	}
	p.hasData = true
	return copyData(p.fd, r.Data, size, r.Cancel)
}

func (p *Prepared) setOwner() error {
	var st unix.Statx_t
	if err := sys.Statx(p.dir, p.name, &st); err != nil {
		return err
	}
	// -1 leaves it as it is: a plain user may not even ask for a group that he
	// is not in, though the file has it.
	uid, gid := -1, -1
	if st.Uid != p.r.Meta.UID {
		uid = int(p.r.Meta.UID)
	}
	if st.Gid != p.r.Meta.GID {
		gid = int(p.r.Meta.GID)
	}
	if uid == -1 && gid == -1 {
		return nil
	}
	if err := sys.Chownat(p.dir, p.name, uid, gid); err != nil {
		return fmt.Errorf("to %d:%d: %w", p.r.Meta.UID, p.r.Meta.GID, err)
	}
	return nil
}

func (p *Prepared) setMode() error {
	mode := p.r.Meta.Mode & 0o7777
	switch p.r.Meta.typ() {
	case unix.S_IFLNK:
		return nil
	case unix.S_IFDIR:
		// rename(2) changes ".." of a directory and wants the right to write it
		// (fs/namei.c: vfs_rename), which root has whatever the mode.
		if mode&unix.S_IWUSR == 0 && !sys.HasCap(unix.CAP_DAC_OVERRIDE) {
			p.lateMode = true
			mode |= unix.S_IWUSR
		}
	}
	return sys.Chmodat(p.dir, p.name, mode)
}

func (p *Prepared) setTimes() error {
	return sys.Utimensat(p.dir, p.name, &[2]unix.Timespec{p.r.Meta.Atime, p.r.Meta.Mtime})
}

func (p *Prepared) sync() error {
	if !p.hasData || p.r.Volatile {
		return nil
	}
	return sys.Fsync(p.fd)
}
