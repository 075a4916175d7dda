package difftest

import (
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Build makes the tree that text describes in the existing directory root. Each
// line is one object or one change to it; missing parents are made. Words may
// be quoted as Go strings.
//
//	dir PATH [ATTR...]
//	file PATH [CONTENT] [ATTR...]        size=N makes it that long, with a hole
//	data PATH OFFSET LENGTH CONTENT      content, repeated, at an offset
//	symlink PATH TARGET [ATTR...]
//	fifo PATH, socket PATH, chr PATH MAJOR:MINOR, blk PATH MAJOR:MINOR
//	link PATH EXISTING                   hard link
//	whiteout PATH                        character device 0:0
//	opaque PATH, redirect PATH TARGET    trusted.overlay marks of a directory
//	xattr PATH NAME VALUE                VALUE is text, or hex:BYTES
//
// ATTR is mode=OCTAL, uid=N, gid=N, mtime=SECONDS[.NANOSECONDS], size=BYTES. All
// modification times are set at the end; those not given follow from the line
// number, so that a text always gives the same tree. It needs root.
func Build(root, text string) error {
	b := &builder{root: root, times: map[string]time.Time{}}
	for i, line := range strings.Split(text, "\n") {
		words, err := splitWords(line)
		if err != nil {
			return fmt.Errorf("fixture line %d %q: %w", i+1, line, err)
		}
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		b.stamp = time.Unix(1_500_000_000+int64(i)*1000, 123_456_789)
		if err := b.line(words); err != nil {
			return fmt.Errorf("fixture line %d %q: %w", i+1, line, err)
		}
	}
	return b.setTimes()
}

// splitWords splits at spaces; a word may be a quoted Go string.
func splitWords(line string) ([]string, error) {
	var words []string
	for {
		line = strings.TrimLeft(line, " \t")
		if line == "" {
			return words, nil
		}
		if line[0] == '"' {
			q, err := strconv.QuotedPrefix(line)
			if err != nil {
				return nil, err
			}
			w, err := strconv.Unquote(q)
			if err != nil {
				return nil, err
			}
			words, line = append(words, w), line[len(q):]
			continue
		}
		end := strings.IndexAny(line, " \t")
		if end < 0 {
			end = len(line)
		}
		words, line = append(words, line[:end]), line[end:]
	}
}

type builder struct {
	root  string
	stamp time.Time
	times map[string]time.Time // path below root -> modification time
	order []string             // paths in the order they were first named
}

func (b *builder) full(path string) string { return filepath.Join(b.root, path) }

// touch notes a path for setTimes and makes its parents.
func (b *builder) touch(path string) error {
	if path != "." {
		parent := filepath.Dir(path)
		if _, ok := b.times[parent]; !ok && parent != "." {
			if err := b.touch(parent); err != nil {
				return err
			}
			if err := os.MkdirAll(b.full(parent), 0o755); err != nil {
				return err
			}
		}
	}
	if _, ok := b.times[path]; !ok {
		b.order = append(b.order, path)
		b.times[path] = b.stamp
	}
	return nil
}

// attrs are the key=value words of a line.
type attrs struct {
	mode     int64
	uid, gid int
	size     int64
	mtime    *time.Time
	rest     []string
}

func parseAttrs(words []string) (a attrs, err error) {
	a.mode, a.size = -1, -1
	for _, w := range words {
		key, val, ok := strings.Cut(w, "=")
		switch {
		case ok && key == "mode":
			a.mode, err = strconv.ParseInt(val, 8, 32)
		case ok && key == "uid":
			a.uid, err = strconv.Atoi(val)
		case ok && key == "gid":
			a.gid, err = strconv.Atoi(val)
		case ok && key == "size":
			a.size, err = strconv.ParseInt(val, 10, 64)
		case ok && key == "mtime":
			var t time.Time
			t, err = parseTime(val)
			a.mtime = &t
		default:
			a.rest = append(a.rest, w)
		}
		if err != nil {
			return a, err
		}
	}
	return a, nil
}

func parseTime(s string) (time.Time, error) {
	sec, frac, _ := strings.Cut(s, ".")
	n, err := strconv.ParseInt(sec, 10, 64)
	if err != nil {
		return time.Time{}, err
	}
	ns := int64(0)
	if frac != "" {
		if ns, err = strconv.ParseInt((frac + "000000000")[:9], 10, 64); err != nil {
			return time.Time{}, err
		}
	}
	return time.Unix(n, ns), nil
}

func (b *builder) line(words []string) error {
	if len(words) < 2 {
		return fmt.Errorf("too few words")
	}
	kind, path := words[0], filepath.Clean(words[1])
	if err := b.touch(path); err != nil {
		return err
	}
	a, err := parseAttrs(words[2:])
	if err != nil {
		return err
	}
	need := map[string]int{"symlink": 1, "link": 1, "chr": 1, "blk": 1, "redirect": 1, "xattr": 2, "data": 3}[kind]
	if len(a.rest) < need {
		return fmt.Errorf("%s needs %d more words", kind, need)
	}
	if a.mtime != nil {
		b.times[path] = *a.mtime
	}
	full := b.full(path)
	switch kind {
	case "data":
		return writeData(full, a.rest)
	case "link":
		return os.Link(b.full(a.rest[0]), full)
	case "opaque":
		return setXattr(full, "trusted.overlay.opaque", []byte("y"))
	case "redirect":
		return setXattr(full, "trusted.overlay.redirect", []byte(a.rest[0]))
	case "xattr":
		return setFixtureXattr(full, a.rest[0], a.rest[1])
	case "whiteout":
		return unix.Mknod(full, unix.S_IFCHR, 0)
	}
	if err := makeObject(kind, full, a); err != nil {
		return err
	}
	return setOwner(kind, full, a)
}

func makeObject(kind, full string, a attrs) error {
	switch kind {
	case "dir":
		return os.MkdirAll(full, 0o755)
	case "file":
		content := ""
		if len(a.rest) > 0 {
			content = a.rest[0]
		}
		if err := os.WriteFile(full, []byte(content), 0o644); err != nil {
			return err
		}
		if a.size >= 0 {
			return os.Truncate(full, a.size)
		}
		return nil
	case "symlink":
		return os.Symlink(a.rest[0], full)
	case "fifo":
		return unix.Mknod(full, unix.S_IFIFO|0o644, 0)
	case "socket":
		return unix.Mknod(full, unix.S_IFSOCK|0o644, 0)
	case "chr", "blk":
		var major, minor uint32
		if _, err := fmt.Sscanf(a.rest[0], "%d:%d", &major, &minor); err != nil {
			return err
		}
		t := uint32(unix.S_IFCHR)
		if kind == "blk" {
			t = unix.S_IFBLK
		}
		err := unix.Mknod(full, t|0o644, int(unix.Mkdev(major, minor)))
		if err == unix.EPERM && os.Getenv(inUserNamespace) != "" {
			return unix.Mknod(full, unix.S_IFSOCK|0o644, 0) // no devices there
		}
		return err
	}
	return fmt.Errorf("unknown kind %q", kind)
}

func setOwner(kind, full string, a attrs) error {
	if err := os.Lchown(full, a.uid, a.gid); err != nil {
		return err
	}
	if a.mode >= 0 && kind != "symlink" {
		return unix.Chmod(full, uint32(a.mode))
	}
	return nil
}

func writeData(full string, words []string) error {
	off, err := strconv.ParseInt(words[0], 10, 64)
	if err != nil {
		return err
	}
	n, err := strconv.ParseInt(words[1], 10, 64)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(full, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // WriteAt reports
	_, err = f.WriteAt(pattern(Op{Data: words[2], Len: n}), off)
	return err
}

func setFixtureXattr(full, name, value string) error {
	v := []byte(value)
	if h, ok := strings.CutPrefix(value, "hex:"); ok {
		var err error
		if v, err = hex.DecodeString(h); err != nil {
			return err
		}
	}
	return setXattr(full, name, v)
}

// inUserNamespace is set in the environment of a process that is root of a user
// namespace of its own.
const inUserNamespace = "UNIONFS_DIFF_USERNS"

// setXattr leaves out what only root may set, in a user namespace.
func setXattr(full, name string, value []byte) error {
	err := unix.Lsetxattr(full, name, value, 0)
	if err == unix.EPERM && os.Getenv(inUserNamespace) != "" && strings.HasPrefix(name, "trusted.") {
		return nil
	}
	return err
}

// setTimes sets all times, children before parents.
func (b *builder) setTimes() error {
	for i := len(b.order) - 1; i >= 0; i-- {
		t := b.times[b.order[i]]
		ts := []unix.Timespec{{Sec: t.Unix(), Nsec: int64(t.Nanosecond())}, {Sec: t.Unix(), Nsec: int64(t.Nanosecond())}}
		err := unix.UtimesNanoAt(unix.AT_FDCWD, b.full(b.order[i]), ts, unix.AT_SYMLINK_NOFOLLOW)
		if err != nil {
			return fmt.Errorf("set times of %s: %w", b.order[i], err)
		}
	}
	return nil
}
