package difftest

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// typeChar is the letter of a file type, as in ls -l and dumps.
func typeChar(mode uint32) byte {
	switch mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return 'd'
	case unix.S_IFLNK:
		return 'l'
	case unix.S_IFIFO:
		return 'p'
	case unix.S_IFSOCK:
		return 's'
	case unix.S_IFCHR:
		return 'c'
	case unix.S_IFBLK:
		return 'b'
	case unix.S_IFREG:
		return 'f'
	}
	return '?'
}

func direntChar(t byte) byte { return typeChar(uint32(t) << 12) }

// statText is what a stat observed, as tokens: the parts that both targets must
// agree on. Inode numbers are compared by identity elsewhere.
func statText(st *unix.Stat_t, now time.Time) string {
	c := typeChar(st.Mode)
	s := fmt.Sprintf("%c %04o %d:%d", c, st.Mode&0o7777, st.Uid, st.Gid)
	switch c {
	case 'd':
		s += fmt.Sprintf(" dn=%d", st.Nlink)
	case 'c', 'b':
		s += fmt.Sprintf(" n=%d dev=%d:%d", st.Nlink, unix.Major(st.Rdev), unix.Minor(st.Rdev))
	default:
		s += fmt.Sprintf(" n=%d sz=%d", st.Nlink, st.Size)
	}
	return s + " m=" + timeText(time.Unix(st.Mtim.Sec, st.Mtim.Nsec), now)
}

// timeText shows times of this run as "now" and all others exactly.
func timeText(t, now time.Time) string {
	if d := t.Sub(now); d > -12*time.Hour && d < 12*time.Hour {
		return "now"
	}
	return fmt.Sprintf("%d.%09d", t.Unix(), t.Nanosecond())
}

func lstat(path string) (unix.Stat_t, error) {
	var st unix.Stat_t
	err := eintr(func() error { return unix.Lstat(path, &st) })
	return st, err
}

// look stats a path after an operation on it.
func (w *worker) look(path string) string {
	st, err := lstat(path)
	if err != nil {
		return errName(err)
	}
	return statText(&st, w.now)
}

// keptIno runs f, which changes the object behind path, and tells whether its
// inode number and device stayed the same: over a copy-up they must.
func keptIno(path string, f func() error) (string, error) {
	before, berr := lstat(path)
	if err := f(); err != nil {
		return "", err
	}
	after, aerr := lstat(path)
	if berr != nil || aerr != nil {
		return "", nil
	}
	if before.Ino != after.Ino {
		return "ino=changed", nil
	}
	return "ino=kept", nil
}
