package pack

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/stack"
	"github.com/unionfs-go/unionfs/whiteout"
)

// With the hardlink index, a lower file with several names that was copied up
// under one of them is changed under all of them: the union shows the upper
// file in place of every lower file with the same origin (fs/overlayfs/namei.c:
// ovl_lookup_index). The upper itself does not hold the other names, so they
// are looked for in the layers below. Where the upper has no name left for such
// a file, it is found in the index itself.

// aliasTree is the part of the tree that holds such names.
type aliasTree struct {
	dirs    map[string]*aliasTree
	sources map[string]source // by name
}

// source is an upper file that another name stands for.
type source struct {
	path  string      // in the union, or
	entry stack.Entry // in the index
}

func (t *aliasTree) names() []string {
	if t == nil {
		return nil
	}
	var out []string
	for n := range t.dirs {
		out = append(out, n)
	}
	for n := range t.sources {
		out = append(out, n)
	}
	return out
}

func (t *aliasTree) child(name string) *aliasTree {
	if t == nil {
		return nil
	}
	return t.dirs[name]
}

func (t *aliasTree) source(name string) (source, bool) {
	if t == nil {
		return source{}, false
	}
	s, ok := t.sources[name]
	return s, ok
}

func (t *aliasTree) add(path string, src source) {
	parts := strings.Split(path, "/")
	for _, p := range parts[:len(parts)-1] {
		if t.dirs == nil {
			t.dirs = make(map[string]*aliasTree)
		}
		sub := t.dirs[p]
		if sub == nil {
			sub = &aliasTree{}
			t.dirs[p] = sub
		}
		t = sub
	}
	if t.sources == nil {
		t.sources = make(map[string]source)
	}
	t.sources[parts[len(parts)-1]] = src
}

// noteIndexed remembers an upper file that the index keeps together with names
// of the layers below: by the origin it has, and by the file below it of the same
// name, since the layers may have been copied after the origin was written.
func (w *walker) noteIndexed(d *dir, name string, o stack.Object) error {
	m := o.Marks()
	if w.tw != nil || !m.HasNlink || w.opt.LowersUnknown {
		return nil
	}
	path := d.join(name)
	if m.HasOrigin {
		h, err := o.Xattr(w.opt.Namespace.Attr(whiteout.Origin))
		if err != nil {
			return err
		}
		if _, have := w.origins[string(h)]; !have && len(h) > 0 {
			w.origins[string(h)] = path
		}
	}
	if len(d.below) == 0 {
		return nil
	}
	reals, err := w.lower.Find(d.below, stack.Search{Name: name})
	if err != nil || len(reals) == 0 {
		return err
	}
	a := reals[0].Object.Attr()
	key := inode{a.Dev, a.Ino}
	if _, have := w.indexed[key]; !have && a.Type() == unix.S_IFREG && a.Nlink > 1 {
		w.indexed[key] = path
	}
	return nil
}

// aliasOf returns the upper file that the union shows in place of a lower one.
func (w *walker) aliasOf(o stack.Object) (source, bool) {
	a := o.Attr()
	if a.Type() != unix.S_IFREG || a.Nlink < 2 {
		return source{}, false
	}
	if path, ok := w.indexed[inode{a.Dev, a.Ino}]; ok {
		return source{path: path}, true
	}
	if len(w.origins) == 0 && len(w.index) == 0 {
		return source{}, false
	}
	h, err := o.Handle()
	if err != nil {
		return source{}, false // no handles there, so nothing of it is in an index
	}
	if path, ok := w.origins[string(h)]; ok {
		return source{path: path}, true
	}
	e, ok := w.index[string(h)]
	return source{entry: e}, ok
}

// readIndex reads what the index of the workdir holds, whose names are the
// origins of its files in hex (fs/overlayfs/namei.c:ovl_get_index_name). It
// returns what has to be closed in the end.
func (w *walker) readIndex() (io.Closer, error) {
	if w.opt.Index == "" || w.opt.LowersUnknown {
		return nil, nil
	}
	l, err := stack.OpenDir(w.opt.Index, stack.DirOptions{Namespace: w.opt.Namespace})
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open the hardlink index %s: %w", w.opt.Index, err)
	}
	ents, err := l.Root().ReadDir()
	if err != nil {
		return l, fmt.Errorf("read the hardlink index %s: %w", w.opt.Index, err)
	}
	w.index = make(map[string]stack.Entry)
	for _, e := range ents {
		handle, err := hex.DecodeString(e.Name)
		if err != nil || e.Whiteout || e.Type != unix.S_IFREG && e.Type != 0 {
			continue
		}
		o, p, err := l.Root().Lookup(e.Name)
		if err != nil {
			return l, fmt.Errorf("read the hardlink index %s: %w", w.opt.Index, err)
		}
		if p == stack.Present && !o.Marks().HasMetacopy {
			w.index[string(handle)] = stack.Entry{Reals: []stack.Real{{Layer: 0, Object: o}}}
		}
	}
	return l, nil
}

// findAliases looks through the union for the other names of the files that the
// first pass noted and the index holds. It costs a walk of all layers, and only
// where there are such files.
func (w *walker) findAliases() (*aliasTree, error) {
	if len(w.indexed) == 0 && len(w.origins) == 0 && len(w.index) == 0 {
		return nil, nil
	}
	t := &aliasTree{}
	err := w.searchAliases(t, w.union.Root(), "")
	if err != nil || t.dirs == nil && t.sources == nil {
		return nil, err
	}
	return t, nil
}

func (w *walker) searchAliases(t *aliasTree, d stack.Entry, path string) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	ents, err := stack.ReadDir(d.Reals)
	if err != nil {
		return pathError(path, err)
	}
	for _, le := range ents {
		if le.Layer == 0 && le.Type != unix.S_IFDIR && le.Type != 0 {
			continue
		}
		p := strings.TrimPrefix(path+"/"+le.Name, "/")
		e, err := w.union.Lookup(d, le.Name)
		if err != nil {
			return w.lookupError(p, err)
		}
		if e.IsDir() {
			if err := w.searchAliases(t, e, p); err != nil {
				return err
			}
			continue
		}
		top := e.Top()
		if top.Layer == 0 {
			continue
		}
		if src, ok := w.aliasOf(top.Object); ok {
			t.add(p, src)
		}
	}
	return nil
}
