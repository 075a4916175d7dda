package difftest

import (
	"math/rand/v2"
	"path/filepath"
	"sort"
	"strings"
)

// model is what a generator believes the tree to be: paths and their types. It
// need not be right, only good enough for most operations to succeed.
type model struct {
	types map[string]byte // as in statText
}

func newModel() *model { return &model{types: map[string]byte{".": 'd'}} }

// load fills the model from fixture texts, top first.
func (m *model) load(layers []string) {
	for i := len(layers) - 1; i >= 0; i-- {
		for _, line := range strings.Split(layers[i], "\n") {
			words, err := splitWords(line)
			if err != nil || len(words) < 2 {
				continue
			}
			m.addFixture(words[0], words[1])
		}
	}
}

func (m *model) addFixture(kind, path string) {
	switch kind {
	case "whiteout", "opaque":
		m.remove(path)
		if kind == "whiteout" {
			return
		}
	}
	t := map[string]byte{"dir": 'd', "opaque": 'd', "symlink": 'l', "fifo": 'p', "socket": 's', "chr": 'c', "blk": 'b'}[kind]
	if t == 0 {
		t = 'f'
	}
	if kind == "data" || kind == "xattr" || kind == "redirect" {
		return
	}
	for p := filepath.Dir(path); p != "."; p = filepath.Dir(p) {
		m.types[p] = 'd'
	}
	m.types[path] = t
}

// remove forgets a path and all below it.
func (m *model) remove(path string) {
	for p := range m.types {
		if p == path || strings.HasPrefix(p, path+"/") {
			delete(m.types, p)
		}
	}
}

// move renames a path and all below it.
func (m *model) move(from, to string) {
	moved := map[string]byte{}
	for p, t := range m.types {
		if p == from || strings.HasPrefix(p, from+"/") {
			moved[to+p[len(from):]] = t
		}
	}
	m.remove(from)
	m.remove(to)
	for p, t := range moved {
		m.types[p] = t
	}
}

func (m *model) exchange(a, b string) {
	const aside = "\x00aside"
	m.move(a, aside)
	m.move(b, a)
	m.move(aside, b)
}

// paths are all paths of the given types (all when empty), sorted.
func (m *model) paths(types string) []string {
	var out []string
	for p, t := range m.types {
		if p != "." && (types == "" || strings.IndexByte(types, t) >= 0) {
			out = append(out, p)
		}
	}
	sort.Strings(out)
	return out
}

// some is a random path of the given types, "." when there is none.
func (m *model) some(r *rand.Rand, types string) string {
	ps := m.paths(types)
	if len(ps) == 0 {
		return "."
	}
	return ps[r.IntN(len(ps))]
}

// dir is a random directory, the root too.
func (m *model) dir(r *rand.Rand) string {
	ps := append(m.paths("d"), ".")
	return ps[r.IntN(len(ps))]
}

// update follows an operation that succeeded.
func (m *model) update(op Op) {
	switch op.Call {
	case "mkdir":
		m.types[op.Path] = 'd'
	case "open":
		if strings.Contains(op.Flags, "O_CREAT") && m.types[op.Path] == 0 {
			m.types[op.Path] = 'f'
		}
	case "mknod":
		m.types[op.Path] = map[string]byte{"S_IFIFO": 'p', "S_IFSOCK": 's', "S_IFCHR": 'c', "S_IFBLK": 'b'}[op.Flags]
		if m.types[op.Path] == 0 {
			m.types[op.Path] = 'f'
		}
	case "symlink":
		m.types[op.Path] = 'l'
	case "link":
		m.types[op.To] = m.types[op.Path]
	case "linkfd":
		m.types[op.Path] = 'f'
	case "unlink", "rmdir":
		m.remove(op.Path)
	case "rename":
		if op.Flags == "RENAME_EXCHANGE" {
			m.exchange(op.Path, op.To)
		} else {
			m.move(op.Path, op.To)
		}
	}
}
