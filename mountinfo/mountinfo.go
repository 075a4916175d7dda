package mountinfo

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// FSType is the filesystem type of a mount of unionfs.
const FSType = "fuse.unionfs"

// Info is one mount. Fields are unescaped.
type Info struct {
	ID         int    // unique while the mount lives
	Parent     int    // ID of the mount it is on
	Major      uint32 // device number of its files (st_dev)
	Minor      uint32
	Root       string // directory of the filesystem that is the mount's root
	Mountpoint string // where it is, below this process's root directory
	Options    string // per mount: "rw,noatime"
	Optional   []string
	FSType     string // with subtype: "fuse.unionfs"
	Source     string
	Super      string // per filesystem: "rw,user_id=0"
}

// Table is all mounts of one namespace, in the order they were listed: of mounts
// on the same path the last one covers the others.
type Table []Info

// Mounts reads the table of this process.
func Mounts() (Table, error) { return ReadFile("/proc/self/mountinfo") }

// ReadFile reads the table in a file, such as /proc/PID/mountinfo.
func ReadFile(path string) (Table, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the mount table: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read
	t, err := Parse(f)
	if err != nil {
		return nil, fmt.Errorf("read the mount table %s: %w", path, err)
	}
	return t, nil
}

// Filter returns the mounts that keep says yes to.
func (t Table) Filter(keep func(*Info) bool) Table {
	var out Table
	for i := range t {
		if keep(&t[i]) {
			out = append(out, t[i])
		}
	}
	return out
}

// Ours returns the mounts of unionfs, dead ones included, once each: a bind
// mount of one, or of a part of one, is left out.
func (t Table) Ours() Table {
	seen := make(map[[2]uint32]bool)
	return t.Filter(func(m *Info) bool {
		dev := [2]uint32{m.Major, m.Minor}
		if m.FSType != FSType || m.Root != "/" || seen[dev] {
			return false
		}
		seen[dev] = true
		return true
	})
}

// At returns the mount whose mountpoint is exactly path and that is seen there:
// of several the covering one, and none when a mount further up covers it. path
// must be absolute and clean.
func (t Table) At(path string) (Info, bool) {
	m, ok := t.Covering(path)
	return m, ok && m.Mountpoint == path
}

// Under returns the mounts on path and anywhere below it, in table order.
func (t Table) Under(path string) Table {
	return t.Filter(func(m *Info) bool { return Within(m.Mountpoint, path) })
}

// On returns the mounts that lie directly on the mount with the given ID.
func (t Table) On(id int) Table {
	return t.Filter(func(m *Info) bool { return m.Parent == id && m.ID != id })
}

// Covering returns the mount that a path is on. path must be absolute, clean
// and free of symlinks.
func (t Table) Covering(path string) (Info, bool) {
	cur := t.base()
	if cur < 0 {
		return Info{}, false
	}
	// As a path walk does: of the mounts on the current one the first on the
	// way to path is entered. Each step goes to another mount, so a table
	// without cycles needs no more steps than it has lines.
	for range t {
		next := -1
		for i := range t {
			m := &t[i]
			if m.Parent != t[cur].ID || i == cur || !Within(path, m.Mountpoint) {
				continue
			}
			if next < 0 || len(m.Mountpoint) < len(t[next].Mountpoint) {
				next = i
			}
		}
		if next < 0 {
			break
		}
		cur = next
	}
	if !Within(path, t[cur].Mountpoint) {
		return Info{}, false
	}
	return t[cur], true
}

// base is the index of the mount that this process's root directory is on, or
// -1 when the table is empty.
func (t Table) base() int {
	ids := make(map[int]bool, len(t))
	for i := range t {
		ids[t[i].ID] = true
	}
	for i := range t {
		if t[i].Mountpoint == "/" && (!ids[t[i].Parent] || t[i].Parent == t[i].ID) {
			return i
		}
	}
	return -1
}

// Place is a directory or file named by filesystem and path within it. Two
// paths to the same place, over bind mounts too, have equal Places.
type Place struct {
	Major, Minor uint32
	Path         string
}

// Place finds the place of a path. path must be absolute, clean and free of
// symlinks.
func (t Table) Place(path string) (Place, bool) {
	m, ok := t.Covering(path)
	if !ok {
		return Place{}, false
	}
	rel := strings.TrimPrefix(path[len(strings.TrimSuffix(m.Mountpoint, "/")):], "/")
	return Place{Major: m.Major, Minor: m.Minor, Path: filepath.Join(m.Root, rel)}, true
}

// Contains tells whether q is p or lies below it.
func (p Place) Contains(q Place) bool {
	return p.Major == q.Major && p.Minor == q.Minor && Within(q.Path, p.Path)
}

// Within tells whether path is dir or lies below it. Both are absolute and
// clean.
func Within(path, dir string) bool {
	if dir == "/" || path == dir {
		return true
	}
	return strings.HasPrefix(path, dir) && path[len(dir)] == '/'
}

// Option returns the value of NAME=VALUE in the mount's filesystem options, with
// backslash escapes as the filesystem wrote them. A comma after a backslash
// belongs to the value.
func (m *Info) Option(name string) (string, bool) {
	for s := m.Super; s != ""; {
		end := 0
		for end < len(s) && s[end] != ',' {
			if s[end] == '\\' && end+1 < len(s) {
				end++
			}
			end++
		}
		if n, v, has := strings.Cut(s[:end], "="); has && n == name {
			return v, true
		}
		if end >= len(s) {
			break
		}
		s = s[end+1:]
	}
	return "", false
}

// Resolve makes a path absolute, clean and free of symlinks without touching
// the object it names, which may be a dead or hanging mount: all components but
// the last are resolved, and the last one only when no mountpoint of t is found
// under that name.
func (t Table) Resolve(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("find the working directory for %s: %w", path, err)
	}
	if _, ok := t.At(abs); ok {
		return abs, nil
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(abs))
	if err != nil {
		return "", err
	}
	abs = filepath.Join(dir, filepath.Base(abs))
	if _, ok := t.At(abs); ok {
		return abs, nil
	}
	full, err := filepath.EvalSymlinks(abs)
	if errors.Is(err, fs.ErrNotExist) {
		return abs, err
	}
	if err != nil {
		return "", err
	}
	return full, nil
}
