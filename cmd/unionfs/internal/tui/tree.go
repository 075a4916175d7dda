package tui

import (
	"slices"

	"github.com/unionfs-go/unionfs/internal/inspect"
)

// row is one line of the tree: a path, or one shadowed version of it.
type row struct {
	node    inspect.Node
	version int32 // ID of a shadowed version, or noVersion
	depth   int32
}

const noVersion = -1

// tree is the rows of all open directories. Opening and closing one changes
// only the rows below it.
type tree struct {
	lens lens
	open map[inspect.Node]bool
	rows []row
	list list
}

// show builds the rows anew after the lens was changed. The cursor stays on its
// path, or goes to the nearest directory above that is still there.
func (t *tree) show(l lens) {
	at, version := inspect.Root, int32(noVersion)
	if r, ok := t.selected(); ok {
		at, version = r.node, r.version
	}
	offset := t.list.cursor - t.list.top
	t.lens = l
	t.rows = t.below(nil, inspect.Root, 0)
	t.list.length = len(t.rows)
	i := t.find(at, version)
	for i < 0 && at > inspect.Root {
		if i = t.find(at, noVersion); i < 0 {
			at = l.m.Parent(at)
		}
	}
	t.list.top = max(0, i) - offset
	t.list.to(max(0, i))
}

// below appends the rows below n to out.
func (t *tree) below(out []row, n inspect.Node, depth int32) []row {
	for _, c := range t.lens.children(n) {
		out = append(out, row{c, noVersion, depth})
		for _, v := range t.lens.shadowed(c) {
			out = append(out, row{c, v.ID, depth + 1})
		}
		if t.open[c] {
			out = t.below(out, c, depth+1)
		}
	}
	return out
}

func (t *tree) find(n inspect.Node, version int32) int {
	return slices.IndexFunc(t.rows, func(r row) bool { return r.node == n && r.version == version })
}

func (t *tree) selected() (row, bool) {
	if t.list.cursor >= len(t.rows) {
		return row{}, false
	}
	return t.rows[t.list.cursor], true
}

// opens tells whether a row is a directory, or was one, with rows below it.
func (t *tree) opens(r row) bool {
	if r.version != noVersion {
		return false
	}
	for c := range t.lens.m.Children(r.node) {
		if t.lens.shown(c) {
			return true
		}
	}
	return false
}

// set opens or closes the directory of row i.
func (t *tree) set(i int, open bool) {
	r := t.rows[i]
	if t.open[r.node] == open || open && !t.opens(r) {
		return
	}
	first := i + 1 + len(t.lens.shadowed(r.node))
	if open {
		t.open[r.node] = true
		t.rows = slices.Insert(t.rows, first, t.below(nil, r.node, r.depth+1)...)
	} else {
		delete(t.open, r.node)
		last := first
		for last < len(t.rows) && t.rows[last].depth > r.depth {
			last++
		}
		t.rows = slices.Delete(t.rows, first, last)
	}
	t.list.length = len(t.rows)
	t.list.to(t.list.cursor)
}

// setAll opens or closes everything below n.
func (t *tree) setAll(n inspect.Node, open bool) {
	if !open {
		t.open = map[inspect.Node]bool{}
	} else {
		t.openBelow(n)
	}
	t.show(t.lens)
}

func (t *tree) openBelow(n inspect.Node) {
	if t.lens.m.NumChildren(n) == 0 {
		return
	}
	t.open[n] = true
	for c := range t.lens.m.Children(n) {
		if t.lens.shown(c) {
			t.openBelow(c)
		}
	}
}

// reveal opens all directories above n and moves the cursor to it.
func (t *tree) reveal(n inspect.Node) {
	closed := false
	for p := t.lens.m.Parent(n); p > inspect.Root; p = t.lens.m.Parent(p) {
		closed = closed || !t.open[p]
		t.open[p] = true
	}
	if closed {
		t.show(t.lens)
	}
	if i := t.find(n, noVersion); i >= 0 {
		t.list.to(i)
	}
}

// parent moves the cursor to the row of the directory above.
func (t *tree) parent() {
	depth := t.rows[t.list.cursor].depth
	for i := t.list.cursor - 1; i >= 0; i-- {
		if t.rows[i].depth < depth {
			t.list.to(i)
			return
		}
	}
}

// list is a cursor in a list of which a part is visible.
type list struct {
	length, cursor, top, height int
}

// to moves the cursor and keeps it visible.
func (l *list) to(i int) {
	l.cursor = max(0, min(i, l.length-1))
	l.scroll(l.top)
	switch {
	case l.cursor < l.top:
		l.top = l.cursor
	case l.height > 0 && l.cursor >= l.top+l.height:
		l.top = l.cursor - l.height + 1
	}
}

// scroll moves the visible part, with the cursor where it was.
func (l *list) scroll(top int) { l.top = max(0, min(top, l.length-l.height)) }

// resize sets the height.
func (l *list) resize(height int) {
	l.height = height
	l.to(l.cursor)
}
