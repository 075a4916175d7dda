package difftest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"
)

// pathCalls are the operations that name their object by path.
var pathCalls = map[string]call{
	"mkdir": func(_ *worker, op Op) (string, error) {
		return "", eintr(func() error { return unix.Mkdir(op.Path, op.Mode) })
	},
	"rmdir": func(_ *worker, op Op) (string, error) {
		return "", eintr(func() error { return unix.Rmdir(op.Path) })
	},
	"unlink": func(_ *worker, op Op) (string, error) {
		return "", eintr(func() error { return unix.Unlink(op.Path) })
	},
	"rename": callRename,
	"link": func(_ *worker, op Op) (string, error) {
		return keptIno(op.Path, func() error {
			return eintr(func() error { return unix.Linkat(unix.AT_FDCWD, op.Path, unix.AT_FDCWD, op.To, 0) })
		})
	},
	"symlink": func(_ *worker, op Op) (string, error) {
		return "", eintr(func() error { return unix.Symlink(op.To, op.Path) })
	},
	"readlink": callReadlink,
	"mknod":    callMknod,
	"chmod": func(_ *worker, op Op) (string, error) {
		return keptIno(op.Path, func() error {
			return eintr(func() error { return unix.Chmod(op.Path, op.Mode) })
		})
	},
	"chown": func(_ *worker, op Op) (string, error) {
		return keptIno(op.Path, func() error {
			return eintr(func() error { return unix.Lchown(op.Path, op.UID, op.GID) })
		})
	},
	"utimens": callUtimens,
	"truncate": func(_ *worker, op Op) (string, error) {
		return keptIno(op.Path, func() error {
			return eintr(func() error { return unix.Truncate(op.Path, op.Len) })
		})
	},
	"access":  callAccess,
	"stat":    callStat,
	"lstat":   callLstat,
	"statx":   callStatx,
	"statfs":  callStatfs,
	"readall": callReadAll,
	"exec":    callExec,
	"handle":  callNameToHandle,
	"sameino": callSameIno,
}

func callRename(_ *worker, op Op) (string, error) {
	flags, err := parseFlags(op.Flags)
	if err != nil {
		return "", err
	}
	before, berr := lstat(op.Path)
	err = eintr(func() error {
		return unix.Renameat2(unix.AT_FDCWD, op.Path, unix.AT_FDCWD, op.To, uint(flags))
	})
	if err != nil || berr != nil {
		return "", err
	}
	after, err := lstat(op.To)
	if err != nil {
		return "lost:" + errName(err), nil
	}
	if before.Ino != after.Ino {
		return "ino=changed", nil
	}
	return "ino=kept", nil
}

func callReadlink(_ *worker, op Op) (string, error) {
	buf := make([]byte, 5000)
	n := 0
	err := eintr(func() (err error) {
		n, err = unix.Readlink(op.Path, buf)
		return err
	})
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%q", buf[:n]), nil
}

func callMknod(_ *worker, op Op) (string, error) {
	t, err := parseFlags(op.Flags)
	if err != nil {
		return "", err
	}
	dev := unix.Mkdev(uint32(op.Off), uint32(op.Off2))
	return "", eintr(func() error { return unix.Mknod(op.Path, uint32(t)|op.Mode, int(dev)) })
}

// timespecs reads the times of an operation: Off is the access time and Off2
// the modification time in seconds, Len the nanoseconds of both; the flag OMIT
// leaves the access time, NOW sets the modification time to now.
func timespecs(op Op) ([]unix.Timespec, error) {
	f, err := parseFlags(op.Flags)
	ts := []unix.Timespec{{Sec: op.Off, Nsec: op.Len}, {Sec: op.Off2, Nsec: op.Len}}
	if f&1 != 0 {
		ts[0] = unix.Timespec{Nsec: unix.UTIME_OMIT}
	}
	if f&2 != 0 {
		ts[1] = unix.Timespec{Nsec: unix.UTIME_NOW}
	}
	return ts, err
}

func callUtimens(w *worker, op Op) (string, error) {
	ts, err := timespecs(op)
	if err != nil {
		return "", err
	}
	return keptIno(op.Path, func() error {
		return eintr(func() error {
			return unix.UtimesNanoAt(unix.AT_FDCWD, op.Path, ts, unix.AT_SYMLINK_NOFOLLOW)
		})
	})
}

func callAccess(_ *worker, op Op) (string, error) {
	mode, err := parseFlags(op.Flags)
	if err != nil {
		return "", err
	}
	return "", eintr(func() error { return unix.Access(op.Path, uint32(mode)) })
}

func callStat(w *worker, op Op) (string, error) {
	var st unix.Stat_t
	if err := eintr(func() error { return unix.Stat(op.Path, &st) }); err != nil {
		return "", err
	}
	return statText(&st, w.now), nil
}

func callLstat(w *worker, op Op) (string, error) {
	st, err := lstat(op.Path)
	if err != nil {
		return "", err
	}
	return statText(&st, w.now), nil
}

func callStatx(_ *worker, op Op) (string, error) {
	var st unix.Statx_t
	err := eintr(func() error {
		return unix.Statx(unix.AT_FDCWD, op.Path, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_BASIC_STATS|unix.STATX_BTIME, &st)
	})
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("btime=%v", st.Mask&unix.STATX_BTIME != 0 && st.Btime.Sec != 0), nil
}

func callStatfs(_ *worker, op Op) (string, error) {
	var st unix.Statfs_t
	if err := eintr(func() error { return unix.Statfs(op.Path, &st) }); err != nil {
		return "", err
	}
	return fmt.Sprintf("namelen=%d blocks=%d", st.Namelen, st.Blocks), nil
}

// callReadAll opens, reads and closes a file: content as everybody sees it.
func callReadAll(_ *worker, op Op) (string, error) {
	fd := -1
	err := eintr(func() (err error) {
		fd, err = unix.Open(op.Path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
		return err
	})
	if err != nil {
		return "", err
	}
	defer unix.Close(fd) //nolint:errcheck // only read
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return "", err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return "special", nil
	}
	return readText(fd)
}

func callExec(_ *worker, op Op) (string, error) {
	out, err := exec.Command("./"+op.Path, strings.Fields(op.Data)...).Output()
	if failed := (*exec.ExitError)(nil); errors.As(err, &failed) {
		return fmt.Sprintf("%v %q", err, out), nil
	}
	return fmt.Sprintf("%q", out), err
}

func callNameToHandle(_ *worker, op Op) (string, error) {
	h, _, err := unix.NameToHandleAt(unix.AT_FDCWD, op.Path, 0)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("size>0=%v", h.Size() > 0), nil
}

// callSameIno tells whether two paths are the same object.
func callSameIno(_ *worker, op Op) (string, error) {
	a, err := os.Lstat(op.Path)
	if err != nil {
		return "", err
	}
	b, err := os.Lstat(op.To)
	if err != nil {
		return "", err
	}
	return fmt.Sprint(os.SameFile(a, b)), nil
}
