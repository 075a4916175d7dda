package stack

import (
	"strings"

	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/whiteout"
)

// MaxLayers is how many layers a stack may have, as in the kernel
// (fs/overlayfs/params.h: OVL_MAX_STACK).
const MaxLayers = 500

// Stack is an ordered list of layers, index 0 on top. It is immutable.
type Stack struct {
	layers []Layer
	roots  []Real
}

// Real is one object of one layer of a stack.
type Real struct {
	Layer  int // index in the stack
	Object Object
}

// Dir is the object as a directory; it must be one.
func (r Real) Dir() (Dir, bool) {
	d, ok := r.Object.(Dir)
	return d, ok
}

// Entry is what the union shows under one path.
type Entry struct {
	// Reals begins with the visible object. Of a directory the others are the
	// directories it merges with, going down; of a metacopy file they are the
	// files below it, of which the last holds the data.
	Reals []Real
}

// Top is the visible object.
func (e Entry) Top() Real { return e.Reals[0] }

// IsDir tells whether the entry is a directory.
func (e Entry) IsDir() bool {
	_, ok := e.Reals[0].Dir()
	return ok
}

// Data is the object that holds a regular file's bytes.
func (e Entry) Data() Real { return e.Reals[len(e.Reals)-1] }

// New makes a stack of the layers, which stay the caller's to close.
func New(layers []Layer) *Stack {
	s := &Stack{layers: layers}
	for i, l := range layers {
		root := l.Root()
		s.roots = append(s.roots, Real{i, root})
		if root.Marks().Opacity == whiteout.OpaqueDir {
			break
		}
	}
	borrow(s.roots)
	return s
}

// Layers returns the layers, which the caller must not change.
func (s *Stack) Layers() []Layer { return s.layers }

// Root is the merged root directory. It has no reals in an empty stack.
func (s *Stack) Root() Entry { return Entry{Reals: s.roots} }

// Search is a question to the layers of a stack about one name. The zero value
// but for Name asks as if nothing lay above.
type Search struct {
	Name string
	// DirAbove: a layer above holds a directory under the name, which merges.
	DirAbove bool
	// DataAbove: a layer above holds a metacopy file, which needs data.
	DataAbove bool
	// Redirect is what that layer's redirect mark says, or "".
	Redirect string
}

// Lookup finds name in the merged directory dir. ENOENT: no layer shows it.
// ENOTDIR: dir is no directory. EIO: a metacopy file without data below it.
func (s *Stack) Lookup(dir Entry, name string) (Entry, error) {
	if !dir.IsDir() {
		return Entry{}, unix.ENOTDIR
	}
	reals, err := s.Find(dir.Reals, Search{Name: name})
	if err != nil {
		return Entry{}, err
	}
	if len(reals) == 0 {
		return Entry{}, unix.ENOENT
	}
	return Entry{Reals: reals}, nil
}

// Walk finds the entry at a slash-separated path below the root; no symlink is
// followed and "." and "" components are skipped. ENOTDIR: a component on the
// way is no directory. EINVAL: the path holds "..".
func (s *Stack) Walk(path string) (Entry, error) {
	e := s.Root()
	if len(e.Reals) == 0 {
		return e, unix.ENOENT
	}
	for _, name := range strings.Split(path, "/") {
		switch name {
		case "", ".":
			continue
		case "..":
			return Entry{}, unix.EINVAL
		}
		var err error
		if e, err = s.Lookup(e, name); err != nil {
			return Entry{}, err
		}
	}
	return e, nil
}

// finder carries one search down the stack
// (fs/overlayfs/namei.c: struct ovl_lookup_data).
type finder struct {
	s        *Stack
	name     string // what the remaining parents are asked for
	path     string // absolute redirect: asked of the roots instead; or ""
	dir      bool   // a directory was found, here or above
	needData bool   // a metacopy file was found, here or above
	stop     bool
	out      []Real
}

// Find asks the directories parents (of this stack, top first) a question and
// returns the objects that take part in the answer, none if there is none.
// Of a directory they are the ones to merge. For a question with DataAbove the
// last holds data. EIO: a metacopy file without data below it.
func (s *Stack) Find(parents []Real, q Search) ([]Real, error) {
	f := finder{s: s, name: q.Name, dir: q.DirAbove, needData: q.DataAbove}
	f.redirect(q.Redirect, "", "")
	if f.path != "" {
		parents = s.roots
	}
	for i := 0; i < len(parents) && !f.stop; i++ {
		moved, err := f.ask(parents[i])
		if err != nil {
			return nil, err
		}
		if moved {
			// An absolute redirect: go on with the roots of the layers below.
			next := parents[i].Layer + 1
			parents, i = s.roots, -1
			for i+1 < len(parents) && parents[i+1].Layer < next {
				i++
			}
		}
	}
	if f.needData {
		return nil, unix.EIO
	}
	borrow(f.out)
	return f.out, nil
}

// redirect takes over a redirect mark of an object; it tells whether it is
// absolute. Where the object stands in an absolute path, before is that path
// up to the object's name and after what follows the name
// (fs/overlayfs/namei.c:ovl_check_redirect).
func (f *finder) redirect(r, before, after string) bool {
	switch {
	case r == "":
		return false
	case r[0] == '/':
		f.path = r + after
		f.stop = false // an opaque directory on the way here does not count there
		return true
	case f.path != "":
		f.path = before + r + after
		return false
	}
	f.name = r
	return false
}

// ask asks one layer, and tells whether an absolute redirect sends the search
// elsewhere.
func (f *finder) ask(parent Real) (moved bool, err error) {
	dir, ok := parent.Dir()
	if !ok {
		return false, unix.EIO
	}
	name := f.name
	if f.path != "" {
		if dir, name, err = f.descend(dir); err != nil || dir == nil {
			return false, err
		}
	}
	o, p, err := dir.Lookup(name)
	switch {
	case err != nil:
		return false, err
	case p == WhitedOut:
		f.stop = true
		return false, nil
	case p == Absent:
		return false, nil
	}
	return f.take(Real{parent.Layer, o}), nil
}

// descend walks all but the last part of an absolute redirect inside one layer
// (fs/overlayfs/namei.c:ovl_lookup_layer). A directory on the way that has a
// redirect itself changes the path that the layers below are asked for. A nil
// directory: not in this layer.
func (f *finder) descend(dir Dir) (Dir, string, error) {
	rest := f.path[1:] // counted from the end, since what is before may change
	for {
		part, after, more := strings.Cut(rest, "/")
		if !more {
			return dir, part, nil
		}
		o, p, err := dir.Lookup(part)
		if err != nil {
			return nil, "", err
		}
		sub, ok := o.(Dir)
		if p == WhitedOut || p == Present && !ok {
			f.stop = true
			return nil, "", nil
		}
		if p == Absent {
			return nil, "", nil
		}
		if m := sub.Marks(); m.Opacity == whiteout.OpaqueDir {
			f.stop = true // nothing below this layer, but go on in it
		} else {
			f.redirect(m.Redirect, f.path[:len(f.path)-len(rest)], f.path[len(f.path)-len(after)-1:])
		}
		dir, rest = sub, after
	}
}

// take adds an object to the answer where it belongs there.
func (f *finder) take(r Real) (moved bool) {
	m := r.Object.Marks()
	if _, isDir := r.Dir(); isDir {
		if f.needData {
			f.stop = true // a directory holds no data for a file
			return false
		}
		f.dir = true
		f.out = append(f.out, r)
		if m.Opacity == whiteout.OpaqueDir {
			f.stop = true
			return false
		}
		return f.redirect(m.Redirect, f.prefix(), "")
	}
	if f.dir {
		f.stop = true // a file below a directory ends the merge
		return false
	}
	a := r.Object.Attr()
	if f.needData && a.Type() != unix.S_IFREG {
		f.stop = true
		return false
	}
	f.out = append(f.out, r)
	f.needData = m.HasMetacopy
	f.stop = !m.HasMetacopy
	if f.stop {
		return false
	}
	return f.redirect(m.Redirect, f.prefix(), "")
}

// prefix is the absolute path that is asked for up to its last part.
func (f *finder) prefix() string { return f.path[:strings.LastIndexByte(f.path, '/')+1] }
