package inspect

import (
	"context"
	"slices"
	"strings"
)

// View is a view of a model: layer Layer and those below it. Layer may be
// Len(), which shows nothing.
type View struct {
	Model *Model
	Layer int
}

// ChangeKind is what happened to a path.
type ChangeKind string

// The kinds of change.
const (
	Added   ChangeKind = "added"
	Changed ChangeKind = "changed" // or, of a directory, something in it was
	Deleted ChangeKind = "deleted" // with all below it
	Renamed ChangeKind = "renamed" // by a redirect; what it holds may be changed besides
	Copied  ChangeKind = "copied"  // another copy that is the same in everything
)

// Letter is the letter that stands for the kind, docker's where it has one.
func (k ChangeKind) Letter() string {
	return map[ChangeKind]string{Added: "A", Changed: "C", Deleted: "D", Renamed: "R", Copied: "="}[k]
}

// Change is the difference of one path between two views.
type Change struct {
	Kind ChangeKind
	Path string
	From string // of what was renamed
	Old  *Version
	New  *Version
	What Differences // of what was changed; none of a directory with changes in it
	// Entries and Bytes are what was deleted with all below it.
	Entries int
	Bytes   int64
}

// Compare lists what has to be done to a to get b, sorted by path. Times count
// only within one model: other images were made at other times. Files of two
// versions are read where their sizes do not tell that they differ; ctx ends
// that.
func Compare(ctx context.Context, a, b View) ([]Change, error) {
	c := comparer{ctx: ctx, a: a, b: b, from: map[Node]Node{}, gone: map[Node]bool{}}
	c.findRenames()
	if _, err := c.children(Root, Root); err != nil {
		return nil, err
	}
	slices.SortStableFunc(c.out, func(x, y Change) int { return strings.Compare(x.Path, y.Path) })
	return c.out, nil
}

type comparer struct {
	ctx  context.Context
	a, b View
	from map[Node]Node // renamed: node of b -> node of a
	gone map[Node]bool // nodes of a that were renamed
	out  []Change
}

// findRenames looks for redirects between the views.
func (c *comparer) findRenames() {
	m := c.b.Model
	if c.a.Model != m || c.b.Layer >= c.a.Layer {
		return
	}
	for n, moves := range m.moves {
		for _, mv := range moves {
			old, ok := m.Find(mv.From)
			if !ok || mv.Layer < c.b.Layer || mv.Layer >= c.a.Layer || c.a.show(old) < 0 || c.b.show(n) < 0 || c.b.show(old) >= 0 {
				continue
			}
			if !c.gone[old] {
				c.from[n], c.gone[old] = old, true
			}
		}
	}
}

// show is the version of a node that the view shows, -1 for none.
func (w View) show(n Node) int32 {
	if n == None || w.Layer >= w.Model.Len() {
		return -1
	}
	return w.Model.at(n, w.Layer)
}

// children compares what the directories na of a and nb of b hold; either may
// be None. It tells whether there are changes.
func (c *comparer) children(na, nb Node) (changed bool, err error) {
	if err := c.ctx.Err(); err != nil {
		return false, err
	}
	ia, ib := 0, 0
	childA, countA := c.a.span(na)
	childB, countB := c.b.span(nb)
	for ia < countA || ib < countB {
		x, y := None, None
		order := 0
		switch {
		case ia == countA:
			order = 1
		case ib == countB:
			order = -1
		default:
			order = strings.Compare(c.a.Model.Name(childA+Node(ia)), c.b.Model.Name(childB+Node(ib)))
		}
		if order <= 0 {
			x = childA + Node(ia)
			ia++
		}
		if order >= 0 {
			y = childB + Node(ib)
			ib++
		}
		one, err := c.path(nb, x, y)
		if err != nil {
			return false, err
		}
		changed = changed || one
	}
	return changed, nil
}

func (w View) span(n Node) (first Node, count int) {
	if n == None {
		return 0, 0
	}
	d := &w.Model.nodes[n]
	return d.child, int(d.children)
}

// path compares one name, whose nodes are x in a and y in b, in the directory
// nb of b.
func (c *comparer) path(nb, x, y Node) (bool, error) {
	va, vb := c.a.show(x), c.b.show(y)
	if va < 0 && y != None && vb >= 0 {
		if old, ok := c.from[y]; ok {
			return true, c.renamed(old, y)
		}
	}
	switch {
	case va < 0 && vb < 0:
		return false, nil
	case vb < 0:
		if !c.gone[x] {
			c.deleted(nb, x, va)
		}
		return true, nil
	case va < 0:
		v := c.b.Model.version(y, vb)
		c.out = append(c.out, Change{Kind: Added, Path: c.b.Model.Path(y), New: &v})
		if v.IsDir() {
			_, err := c.children(None, y)
			return true, err
		}
		return true, nil
	}
	return c.both(x, y, va, vb)
}

// deleted adds a deletion. In a directory that was renamed its path is the one
// that it would have now.
func (c *comparer) deleted(nb, x Node, va int32) {
	v := c.a.Model.version(x, va)
	entries, bytes := c.a.total(x)
	path := c.a.Model.Path(x)
	if nb != None {
		path = strings.TrimSuffix(c.b.Model.Path(nb), "/") + "/" + c.a.Model.Name(x)
	}
	c.out = append(c.out, Change{Kind: Deleted, Path: path, Old: &v, Entries: entries, Bytes: bytes})
}

// renamed adds a rename and what changed besides.
func (c *comparer) renamed(old, y Node) error {
	va, vb := c.a.Model.version(old, c.a.show(old)), c.b.Model.version(y, c.b.show(y))
	what, err := c.a.Model.Differences(c.ctx, va, c.b.Model, vb)
	if err != nil {
		return err
	}
	c.out = append(c.out, Change{
		Kind: Renamed, Path: c.b.Model.Path(y), From: c.a.Model.Path(old), Old: &va, New: &vb, What: what,
	})
	if va.IsDir() && vb.IsDir() {
		_, err = c.children(old, y)
	}
	return err
}

// both compares a path that both views show.
func (c *comparer) both(x, y Node, ida, idb int32) (bool, error) {
	one := c.a.Model == c.b.Model
	va, vb := c.a.Model.version(x, ida), c.b.Model.version(y, idb)
	same := one && (ida == idb || c.a.Model.same(&va, c.b.Model, &vb))
	if same && !va.IsDir() {
		return false, nil
	}
	var what Differences
	var err error
	if !same {
		if what, err = c.a.Model.Differences(c.ctx, va, c.b.Model, vb); err != nil {
			return false, err
		}
		if !one {
			what &^= DiffMtime
		}
	}
	at := len(c.out)
	inside := false
	if va.IsDir() || vb.IsDir() {
		down, up := x, y
		if !va.IsDir() {
			down = None
		}
		if !vb.IsDir() {
			up = None // what was in it went with it
			down = None
		}
		if inside, err = c.children(down, up); err != nil {
			return false, err
		}
	}
	kind := Changed
	switch {
	case what != 0 || inside:
	case va.IsDir() || !one:
		return false, nil
	default:
		kind = Copied
	}
	c.out = slices.Insert(c.out, at, Change{Kind: kind, Path: c.b.Model.Path(y), Old: &va, New: &vb, What: what})
	return true, nil
}

// total counts what a view shows at and below a node.
func (w View) total(n Node) (entries int, bytes int64) {
	id := w.show(n)
	if id < 0 {
		return 0, 0
	}
	v := &w.Model.versions[id]
	entries = 1
	if isFile(v.mode) {
		bytes = v.size
	}
	if isDir(v.mode) {
		for c := range w.Model.Children(n) {
			e, b := w.total(c)
			entries, bytes = entries+e, bytes+b
		}
	}
	return entries, bytes
}
