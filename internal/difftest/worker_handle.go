package difftest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// handleCalls are the operations on handles, which workers keep in slots.
var handleCalls = map[string]call{
	"open":      callOpen,
	"close":     func(w *worker, op Op) (string, error) { return "", w.closeSlot(op.FD) },
	"read":      callRead,
	"pread":     callPread,
	"write":     callWrite,
	"pwrite":    callPwrite,
	"lseek":     callLseek,
	"fstat":     callFstat,
	"ftruncate": onHandle(func(fd int, op Op) error { return unix.Ftruncate(fd, op.Len) }),
	"fallocate": callFallocate,
	"copyrange": callCopyRange,
	"fchmod":    onHandle(func(fd int, op Op) error { return unix.Fchmod(fd, op.Mode) }),
	"fchown":    onHandle(func(fd int, op Op) error { return unix.Fchown(fd, op.UID, op.GID) }),
	"futimens":  callFutimens,
	"fsync":     onHandle(func(fd int, _ Op) error { return unix.Fsync(fd) }),
	"fdatasync": onHandle(func(fd int, _ Op) error { return unix.Fdatasync(fd) }),
	"syncfs":    onHandle(func(fd int, _ Op) error { return unix.Syncfs(fd) }),
	"flock":     callFlock,
	"setlk":     callSetlk,
	"linkfd":    callLinkFD,
	"fchdir":    onHandle(func(fd int, _ Op) error { return unix.Fchdir(fd) }),
	"getflags":  callGetFlags,
	"badioctl":  callBadIoctl,
	"freadall":  callFreadAll,
	"reopen":    callReopen,
}

// onHandle is a call that only needs the descriptor and observes nothing.
func onHandle(f func(fd int, op Op) error) call {
	return func(w *worker, op Op) (string, error) {
		fd, err := w.slot(op.FD)
		if err != nil {
			return "", err
		}
		return "", eintr(func() error { return f(fd, op) })
	}
}

func callOpen(w *worker, op Op) (string, error) {
	flags, err := parseFlags(op.Flags)
	if err != nil {
		return "", err
	}
	return w.openInto(op.FD, op.Path, flags, op.Mode)
}

func (w *worker) openInto(slot int, path string, flags int, mode uint32) (string, error) {
	if err := w.closeSlot(slot); err != nil {
		return "", err
	}
	var fd int
	err := eintr(func() (err error) {
		// Never wait for the other end of a fifo.
		fd, err = unix.Open(path, flags|unix.O_NONBLOCK|unix.O_CLOEXEC, mode)
		return err
	})
	if err != nil {
		return "", err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		_ = unix.Close(fd)
		return "fstat", err
	}
	w.handles[slot] = handle{open: true, fd: fd, ino: st.Ino}
	if typeChar(st.Mode) == 'd' && flags&unix.O_PATH == 0 {
		w.handles[slot].pass = newDirPass(fd)
	}
	return statText(&st, w.now), nil
}

// callReopen opens the object of slot FD again into FD2 through /proc.
func callReopen(w *worker, op Op) (string, error) {
	fd, err := w.slot(op.FD)
	if err != nil {
		return "", err
	}
	flags, err := parseFlags(op.Flags)
	if err != nil {
		return "", err
	}
	if op.FD == op.FD2 {
		return "", unix.EINVAL
	}
	return w.openInto(op.FD2, "/proc/self/fd/"+strconv.Itoa(fd), flags, 0)
}

func pattern(op Op) []byte {
	if op.Data == "" {
		op.Data = "."
	}
	if op.Len == 0 {
		return []byte(op.Data)
	}
	n := int(op.Len)/len(op.Data) + 1
	return []byte(strings.Repeat(op.Data, n))[:op.Len]
}

// dataText shows data: short data as it is, long data by its hash.
func dataText(b []byte) string {
	if len(b) <= 48 {
		return fmt.Sprintf("%d:%q", len(b), b)
	}
	h := sha256.Sum256(b)
	return fmt.Sprintf("%d:%s", len(b), hex.EncodeToString(h[:8]))
}

func callRead(w *worker, op Op) (string, error) {
	fd, err := w.slot(op.FD)
	if err != nil {
		return "", err
	}
	buf := make([]byte, op.Len)
	n := 0
	err = eintr(func() (err error) { n, err = unix.Read(fd, buf); return err })
	return dataText(buf[:max(n, 0)]), err
}

func callPread(w *worker, op Op) (string, error) {
	fd, err := w.slot(op.FD)
	if err != nil {
		return "", err
	}
	buf := make([]byte, op.Len)
	n := 0
	err = eintr(func() (err error) { n, err = unix.Pread(fd, buf, op.Off); return err })
	return dataText(buf[:max(n, 0)]), err
}

func callWrite(w *worker, op Op) (string, error) {
	fd, err := w.slot(op.FD)
	if err != nil {
		return "", err
	}
	n := 0
	err = eintr(func() (err error) { n, err = unix.Write(fd, pattern(op)); return err })
	if err != nil {
		return "", err
	}
	pos, err := unix.Seek(fd, 0, unix.SEEK_CUR)
	if err != nil {
		return strconv.Itoa(n), nil
	}
	return fmt.Sprintf("%d at %d", n, pos), nil
}

func callPwrite(w *worker, op Op) (string, error) {
	fd, err := w.slot(op.FD)
	if err != nil {
		return "", err
	}
	n := 0
	err = eintr(func() (err error) { n, err = unix.Pwrite(fd, pattern(op), op.Off); return err })
	return strconv.Itoa(max(n, 0)), err
}

func callLseek(w *worker, op Op) (string, error) {
	fd, err := w.slot(op.FD)
	if err != nil {
		return "", err
	}
	whence, err := parseFlags(op.Flags)
	if err != nil {
		return "", err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return "", err
	}
	pos, err := unix.Seek(fd, op.Off, whence)
	if typeChar(st.Mode) == 'd' {
		// A directory's offsets are its filesystem's own business.
		if h := &w.handles[op.FD]; h.pass != nil {
			h.pass.spoiled = true
		}
		return "dir", err
	}
	if err != nil {
		return "", err
	}
	return strconv.FormatInt(pos, 10), nil
}

// callFstat also tells whether the handle's inode number is still that of the
// open, and, when a path is given, whether the path names the same object.
func callFstat(w *worker, op Op) (string, error) {
	fd, err := w.slot(op.FD)
	if err != nil {
		return "", err
	}
	var st unix.Stat_t
	if err := eintr(func() error { return unix.Fstat(fd, &st) }); err != nil {
		return "", err
	}
	s := fmt.Sprintf("%s same=%v", statText(&st, w.now), st.Ino == w.handles[op.FD].ino)
	if op.Path != "" {
		p, err := lstat(op.Path)
		s += fmt.Sprintf(" path=%v", err == nil && p.Ino == st.Ino && p.Dev == st.Dev)
	}
	return s, nil
}

func callFallocate(w *worker, op Op) (string, error) {
	fd, err := w.slot(op.FD)
	if err != nil {
		return "", err
	}
	mode, err := parseFlags(op.Flags)
	if err != nil {
		return "", err
	}
	return "", eintr(func() error { return unix.Fallocate(fd, uint32(mode), op.Off, op.Len) })
}

func callCopyRange(w *worker, op Op) (string, error) {
	src, err := w.slot(op.FD)
	if err != nil {
		return "", err
	}
	dst, err := w.slot(op.FD2)
	if err != nil {
		return "", err
	}
	so, do, n := op.Off, op.Off2, 0
	err = eintr(func() (err error) {
		n, err = unix.CopyFileRange(src, &so, dst, &do, int(op.Len), 0)
		return err
	})
	return strconv.Itoa(max(n, 0)), err
}

func callFutimens(w *worker, op Op) (string, error) {
	fd, err := w.slot(op.FD)
	if err != nil {
		return "", err
	}
	ts, err := timespecs(op)
	if err != nil {
		return "", err
	}
	return "", eintr(func() error {
		return unix.UtimesNanoAt(fd, "", ts, unix.AT_EMPTY_PATH)
	})
}

func callFlock(w *worker, op Op) (string, error) {
	fd, err := w.slot(op.FD)
	if err != nil {
		return "", err
	}
	how, err := parseFlags(op.Flags)
	if err != nil {
		return "", err
	}
	return "", eintr(func() error { return unix.Flock(fd, how|unix.LOCK_NB) })
}

func callSetlk(w *worker, op Op) (string, error) {
	fd, err := w.slot(op.FD)
	if err != nil {
		return "", err
	}
	lk := unix.Flock_t{Type: int16(op.Mode), Start: op.Off, Len: op.Len}
	return "", eintr(func() error { return unix.FcntlFlock(uintptr(fd), unix.F_SETLK, &lk) })
}

// callLinkFD gives an open file a name, as O_TMPFILE users do without
// CAP_DAC_READ_SEARCH.
func callLinkFD(w *worker, op Op) (string, error) {
	fd, err := w.slot(op.FD)
	if err != nil {
		return "", err
	}
	return "", eintr(func() error {
		return unix.Linkat(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(fd), unix.AT_FDCWD, op.Path, unix.AT_SYMLINK_FOLLOW)
	})
}

func callGetFlags(w *worker, op Op) (string, error) {
	fd, err := w.slot(op.FD)
	if err != nil {
		return "", err
	}
	flags, err := unix.IoctlGetInt(fd, unix.FS_IOC_GETFLAGS)
	if err != nil {
		return "", err
	}
	// Extents and inline data are the backing filesystem's own business.
	const mask = 0x10 | 0x20 | 0x40 | 0x80 // FS_IMMUTABLE_FL, _APPEND_, _NODUMP_, _NOATIME_
	return fmt.Sprintf("%#x", flags&mask), nil
}

func callBadIoctl(w *worker, op Op) (string, error) {
	fd, err := w.slot(op.FD)
	if err != nil {
		return "", err
	}
	_, err = unix.IoctlGetInt(fd, 0x80047a7a)
	return "", err
}

func callFreadAll(w *worker, op Op) (string, error) {
	fd, err := w.slot(op.FD)
	if err != nil {
		return "", err
	}
	return readText(fd)
}

// readText reads a whole file from its start without moving its offset.
func readText(fd int) (string, error) {
	var all []byte
	buf := make([]byte, 1<<16)
	for {
		n := 0
		err := eintr(func() (err error) { n, err = unix.Pread(fd, buf, int64(len(all))); return err })
		if err != nil {
			return dataText(all), err
		}
		if n == 0 {
			return dataText(all), nil
		}
		all = append(all, buf[:n]...)
	}
}
