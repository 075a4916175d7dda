package tui

import (
	"cmp"
	"slices"

	"github.com/unionfs-go/unionfs/internal/inspect"
)

// order is what the tree is sorted by.
type order uint8

// The orders.
const (
	byName order = iota
	bySize
	byWaste
)

func (o order) String() string { return [...]string{"name", "size", "waste"}[o] }

// lens is what the tree shows of a model, and in which order. It is immutable.
type lens struct {
	m       *inspect.Model
	sums    *inspect.Sums // of view
	view    int
	changes bool // what layer view changes, not all that the view shows
	hidden  bool // what the view's layers ship and the view does not show, too
	order   order
}

// state is what layer view did to a path.
type state uint8

// The states.
const (
	stateSame   state = iota
	stateInside       // only to something below it
	stateAdded
	stateModified
	stateDeleted
	stateGone // a layer below deleted it
)

var stateMarks = [...]span{
	stateSame: {plain, " "}, stateInside: {dim, "·"}, stateAdded: {added, "+"}, stateModified: {modified, "~"},
	stateDeleted: {deleted, "-"}, stateGone: {gone, "x"},
}

// shown tells whether the tree has a row for n, once the directories above are
// open. What is above something shown is shown itself.
func (l *lens) shown(n inspect.Node) bool {
	if l.changes {
		return l.sums.Changed[n]
	}
	if _, ok := l.m.At(n, l.view); ok {
		return true
	}
	if !l.hidden {
		return false
	}
	for i := l.view; i < l.m.Len(); i++ {
		if _, ok := l.m.In(n, i); ok {
			return true
		}
	}
	return false
}

// version is what the row of n stands for: what the view shows, else what was
// there last; a whiteout if there is nothing else.
func (l *lens) version(n inspect.Node) (v inspect.Version, visible bool) {
	if v, ok := l.m.At(n, l.view); ok {
		return v, true
	}
	var whiteout *inspect.Version
	for _, v := range l.m.Versions(n) {
		if v.Layer < l.view || v.Borrowed() {
			continue
		}
		if !v.Whiteout {
			return v, false
		}
		if whiteout == nil {
			whiteout = &v
		}
	}
	if whiteout == nil {
		return inspect.Version{Node: n, Whiteout: true}, false
	}
	return *whiteout, false
}

func (l *lens) state(n inspect.Node) state {
	now, ok := l.m.At(n, l.view)
	var old inspect.Version
	before := false
	if l.view+1 < l.m.Len() {
		old, before = l.m.At(n, l.view+1)
	}
	switch {
	case !ok && before:
		return stateDeleted
	case !ok:
		return stateGone
	case !before:
		return stateAdded
	case now.ID == old.ID || now.IsDir() && old.IsDir() && now.Mode == old.Mode && now.UID == old.UID && now.GID == old.GID:
		if now.IsDir() && l.sums.Changed[n] {
			return stateInside
		}
		return stateSame
	}
	return stateModified
}

// bytes is the size that the row of n has.
func (l *lens) bytes(n inspect.Node) int64 {
	if l.changes {
		return l.sums.Own[n]
	}
	return l.sums.Shown[n]
}

// compare orders two children of one directory.
func (l *lens) compare(a, b inspect.Node) int {
	switch l.order {
	case bySize:
		if c := cmp.Or(cmp.Compare(l.bytes(b), l.bytes(a)), cmp.Compare(l.sums.Hidden[b], l.sums.Hidden[a])); c != 0 {
			return c
		}
	case byWaste:
		if c := cmp.Compare(l.sums.Hidden[b], l.sums.Hidden[a]); c != 0 {
			return c
		}
	case byName:
	}
	return cmp.Compare(a, b) // siblings are numbered by name
}

// children are the nodes shown below n, in order.
func (l *lens) children(n inspect.Node) []inspect.Node {
	var out []inspect.Node
	for c := range l.m.Children(n) {
		if l.shown(c) {
			out = append(out, c)
		}
	}
	if l.order != byName {
		slices.SortFunc(out, l.compare)
	}
	return out
}

// shadowed are the versions of n that get rows of their own: those that the
// view does not show, topmost first, but that for which n itself has a row.
func (l *lens) shadowed(n inspect.Node) []inspect.Version {
	if !l.hidden || l.changes {
		return nil
	}
	var out []inspect.Version
	row, _ := l.version(n)
	for _, v := range l.m.Versions(n) {
		if v.Layer < l.view || v.Borrowed() || v.ID == row.ID || v.IsDir() || v.VisibleIn(l.view) {
			continue
		}
		out = append(out, v)
	}
	return out
}

// chain is the way from the root down to n.
func (l *lens) chain(buf []inspect.Node, n inspect.Node) []inspect.Node {
	buf = buf[:0]
	for ; n > inspect.Root; n = l.m.Parent(n) {
		buf = append(buf, n)
	}
	slices.Reverse(buf)
	return buf
}

// comparePaths orders two paths as the tree does that has all of them open.
func (l *lens) comparePaths(a, b []inspect.Node) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return l.compare(a[i], b[i])
		}
	}
	return cmp.Compare(len(a), len(b))
}
