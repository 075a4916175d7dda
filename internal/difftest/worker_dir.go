package difftest

import (
	"encoding/binary"
	"fmt"
	"sort"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// dirCalls are the operations on directory streams.
var dirCalls = map[string]call{
	"list":    callList,
	"readdir": callReaddir,
	"rewind":  callRewind,
}

// dirent is one entry as getdents64 gave it.
type dirent struct {
	name string
	ino  uint64
	off  int64
	typ  byte
}

func parseDirents(b []byte) []dirent {
	var out []dirent
	for len(b) >= 19 {
		n := int(binary.NativeEndian.Uint16(b[16:]))
		if n < 19 || n > len(b) {
			break
		}
		name := string(b[19:n])
		if i := strings.IndexByte(name, 0); i >= 0 {
			name = name[:i]
		}
		out = append(out, dirent{name, binary.NativeEndian.Uint64(b), int64(binary.NativeEndian.Uint64(b[8:])), b[18]})
		b = b[n:]
	}
	return out
}

func getdents(fd, size int) ([]dirent, error) {
	buf := make([]byte, size)
	n := 0
	err := eintr(func() (err error) { n, err = unix.Getdents(fd, buf); return err })
	if err != nil {
		return nil, err
	}
	return parseDirents(buf[:n]), nil
}

// readAllDirents reads a directory that was just opened to its end.
func readAllDirents(fd, size int) ([]dirent, error) {
	var all []dirent
	for {
		part, err := getdents(fd, size)
		if err != nil || len(part) == 0 {
			return all, err
		}
		all = append(all, part...)
	}
}

func openDir(path string) (int, error) {
	fd := -1
	err := eintr(func() (err error) {
		fd, err = unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		return err
	})
	return fd, err
}

// callList lists a directory with types, and names what is wrong with it: a
// d_ino that is not st_ino, a d_type that is not the file's, names twice.
func callList(_ *worker, op Op) (string, error) {
	fd, err := openDir(op.Path)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd) //nolint:errcheck // only read
	ents, err := readAllDirents(fd, 4096)
	if err != nil {
		return "", err
	}
	var items []string
	seen := map[string]bool{}
	for _, e := range ents {
		item := fmt.Sprintf("%q:%c", e.name, direntChar(e.typ))
		if seen[e.name] {
			item += "!twice"
		}
		seen[e.name] = true
		if e.name == ".." {
			// Its number is not what the kernel promises in an overlay.
			items = append(items, item)
			continue
		}
		var st unix.Stat_t
		err := eintr(func() error { return unix.Fstatat(fd, e.name, &st, unix.AT_SYMLINK_NOFOLLOW) })
		switch {
		case err == unix.EACCES:
		case err != nil:
			item += "!" + errName(err)
		case st.Ino != e.ino:
			item += "!d_ino"
		case typeChar(st.Mode) != direntChar(e.typ):
			item += "!d_type"
		}
		items = append(items, item)
	}
	sort.Strings(items)
	return strings.Join(items, " "), nil
}

// dirPass is one reading of a directory from start to end, possibly in small
// parts with changes between them. Names there before and after must come
// exactly once; what changed meanwhile may come or not.
type dirPass struct {
	before  map[string]uint64
	got     map[string]int
	spoiled bool // a seek made it meaningless
	broken  bool // the directory could not be listed
}

func listFD(fd int) (map[string]uint64, error) {
	d, err := openDir("/proc/self/fd/" + strconv.Itoa(fd))
	if err != nil {
		return nil, err
	}
	defer unix.Close(d) //nolint:errcheck // only read
	ents, err := readAllDirents(d, 1<<15)
	if err != nil {
		return nil, err
	}
	m := map[string]uint64{}
	for _, e := range ents {
		m[e.name] = e.ino
	}
	return m, nil
}

func newDirPass(fd int) *dirPass {
	before, err := listFD(fd)
	return &dirPass{before: before, got: map[string]int{}, broken: err != nil}
}

// callReaddir reads up to Len bytes of entries from an open directory. What came
// is only judged at the end of the pass.
func callReaddir(w *worker, op Op) (string, error) {
	fd, err := w.slot(op.FD)
	if err != nil {
		return "", err
	}
	ents, err := getdents(fd, max(int(op.Len), 300))
	if err != nil {
		return "", err
	}
	p := w.handles[op.FD].pass
	if p == nil {
		return "", nil
	}
	for _, e := range ents {
		p.got[e.name]++
	}
	if len(ents) > 0 {
		return "", nil
	}
	val := p.judge(fd)
	p.spoiled = true
	return val, nil
}

func (p *dirPass) judge(fd int) string {
	if p.spoiled || p.broken {
		return ""
	}
	after, err := listFD(fd)
	if err != nil {
		return ""
	}
	var bad []string
	for name, ino := range p.before {
		if after[name] == ino && p.got[name] != 1 {
			bad = append(bad, fmt.Sprintf("%q came %d times", name, p.got[name]))
		}
	}
	sort.Strings(bad)
	return strings.Join(bad, ", ")
}

func callRewind(w *worker, op Op) (string, error) {
	fd, err := w.slot(op.FD)
	if err != nil {
		return "", err
	}
	if w.handles[op.FD].pass == nil {
		return "", unix.ENOTDIR
	}
	if _, err := unix.Seek(fd, 0, unix.SEEK_SET); err != nil {
		return "", err
	}
	w.handles[op.FD].pass = newDirPass(fd)
	return "", nil
}
