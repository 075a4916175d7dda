package cow

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/sys"
	"github.com/unionfs-go/unionfs/whiteout"
)

// Completion is the second half of a metadata-only copy-up.
type Completion struct {
	// FD is the metacopy file in the upper, open for reading and writing.
	FD int
	// Data is the content of the layer below, and Size how many bytes of it are
	// wanted; the file gets that size.
	Data DataSource
	Size int64
	// Namespace is where the metacopy mark is.
	Namespace whiteout.Namespace
	// Volatile leaves out fsync.
	Volatile bool
	// Cancel is polled while data is copied; it may be nil.
	Cancel func() error
}

// Complete fills a metacopy file with its data and then, when the data is on
// the disk, removes the metacopy mark (fs/overlayfs/copy_up.c:
// ovl_copy_up_meta_inode_data). Until then readers must read the data of the
// layer below. Owner, mode, capability and times stay as they are, though
// writing would change them. After an error the file is a metacopy file as
// before, with no data of its own.
func (w *Workdir) Complete(c *Completion) error {
	err := w.fill(c)
	if err == nil {
		err = w.at(StepCompleteMark)
	}
	if err == nil {
		err = c.Namespace.Remove(c.FD, "", whiteout.Metacopy)
	}
	if err != nil {
		return fmt.Errorf("complete metadata-only copy: %w", err)
	}
	return nil
}

func (w *Workdir) fill(c *Completion) error {
	var st unix.Statx_t
	if err := sys.Statx(c.FD, "", &st); err != nil {
		return fmt.Errorf("stat: %w", err)
	}
	// Writing removes the capability, and of a plain user's file the suid and
	// sgid bits.
	caps, err := sys.ReadXattr(c.FD, "", attrCaps)
	if err != nil && err != unix.ENODATA && err != unix.EOPNOTSUPP {
		return fmt.Errorf("read capability: %w", err)
	}
	err = w.at(StepCompleteData)
	if err == nil {
		err = copyData(c.FD, c.Data, c.Size, c.Cancel)
	}
	if err != nil {
		return errors.Join(err, giveBack(c.FD, int64(st.Size)), restore(c.FD, &st, caps))
	}
	if err := restore(c.FD, &st, caps); err != nil {
		return err
	}
	if c.Volatile {
		return nil
	}
	return sys.Fsync(c.FD)
}

// giveBack frees the space of data that is not complete.
func giveBack(fd int, size int64) error {
	if err := sys.Ftruncate(fd, 0); err != nil {
		return fmt.Errorf("give space back: %w", err)
	}
	if err := sys.Ftruncate(fd, size); err != nil {
		return fmt.Errorf("give space back: %w", err)
	}
	return nil
}

// restore sets what writing data changes.
func restore(fd int, st *unix.Statx_t, caps []byte) error {
	if st.Mode&(unix.S_ISUID|unix.S_ISGID) != 0 {
		if err := sys.Chmodat(fd, "", uint32(st.Mode)&0o7777); err != nil {
			return fmt.Errorf("restore mode: %w", err)
		}
	}
	if caps != nil {
		// A plain user's mount is nosuid, and he may not set it.
		if err := sys.Setxattrat(fd, "", attrCaps, caps, 0); err != nil && err != unix.EPERM {
			return fmt.Errorf("restore capability: %w", err)
		}
	}
	err := sys.Utimensat(fd, "", &[2]unix.Timespec{
		{Sec: st.Atime.Sec, Nsec: int64(st.Atime.Nsec)},
		{Sec: st.Mtime.Sec, Nsec: int64(st.Mtime.Nsec)},
	})
	if err != nil {
		return fmt.Errorf("restore times: %w", err)
	}
	return nil
}
