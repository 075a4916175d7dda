package tui

import (
	"context"
	"fmt"

	"github.com/unionfs-go/unionfs/internal/inspect"
)

// pane is one of the three parts of the screen.
type pane uint8

// The panes, in the order of the tab key.
const (
	paneLayers pane = iota
	paneTree
	paneDetail
	panes
)

// task is work that is done beside the screen; its result goes to Done.
type task func() any

// Explorer is the state of the explorer. Its methods must not be called
// concurrently, but tasks run beside them.
type Explorer struct {
	ctx    context.Context
	m      *inspect.Model
	title  string
	keys   map[string]func(*Explorer)
	sums   map[int]*inspect.Sums // of the views seen last
	total  *inspect.Sums         // of view 0
	width  int
	height int

	focus   pane
	zoom    bool // the focused pane alone
	help    bool
	attrs   bool // mode and owner in the tree
	layers  list
	tree    tree
	detail  detail
	viewer  *viewer
	prompt  *prompt
	found   found
	message line
	tasks   []task
	quit    bool
	copied  string // to be put on the clipboard
}

// New makes the explorer of a model, which stays the caller's to close; title
// says what it is of. ctx ends the tasks.
func New(ctx context.Context, m *inspect.Model, title string) *Explorer {
	x := &Explorer{ctx: ctx, m: m, title: clean(title), keys: keyTable(), sums: map[int]*inspect.Sums{}, focus: paneTree}
	x.layers.length = m.Len()
	x.total = x.sumsOf(0)
	x.tree.open = map[inspect.Node]bool{}
	x.tree.show(lens{m: m, sums: x.total})
	x.Resize(80, 24)
	return x
}

// keptSums is how many views keep their sums; they take 25 bytes a path.
const keptSums = 6

func (x *Explorer) sumsOf(view int) *inspect.Sums {
	s, ok := x.sums[view]
	if !ok {
		if len(x.sums) >= keptSums {
			clear(x.sums)
		}
		s = x.m.Sums(view)
		x.sums[view] = s
	}
	return s
}

// Resize fits everything into a screen of so many cells.
func (x *Explorer) Resize(width, height int) {
	x.width, x.height = width, height
	a := x.areas()
	x.layers.resize(max(1, a[paneLayers].h-1))
	x.tree.list.resize(max(1, a[paneTree].h))
	if x.viewer != nil {
		x.viewer.resize(width, height)
	}
}

// Key takes one key by its name, as in "j", "ctrl+d" or "enter"; text is what
// it types.
func (x *Explorer) Key(name, text string) {
	x.message = line{}
	switch {
	case name == "ctrl+c":
		x.quit = true
	case x.prompt != nil:
		x.promptKey(name, text)
	case x.help:
		x.help = false
	case x.viewer != nil:
		x.viewerKey(name)
	default:
		if do := x.keys[name]; do != nil {
			do(x)
		}
	}
	x.settle()
}

// settle keeps the detail on what is selected.
func (x *Explorer) settle() {
	if r, ok := x.tree.selected(); ok {
		x.detail.want(x, r)
	}
}

// takeTasks gives the work that came up since the last call. Each must be run once
// and its result given to Done.
func (x *Explorer) takeTasks() []task {
	t := x.tasks
	x.tasks = nil
	return t
}

// Done takes the result of a task.
func (x *Explorer) Done(result any) {
	switch r := result.(type) {
	case detailResult:
		x.detail.loaded(x, r)
	case previewResult:
		x.detail.previewed(r)
	case viewerResult:
		if x.viewer != nil && x.viewer.serial == r.serial {
			x.viewer.loaded(r)
			x.viewer.resize(x.width, x.height)
		}
	case searchResult:
		x.searched(r)
	case extractResult:
		x.message = r.message()
	}
	x.settle()
}

func (x *Explorer) say(s style, format string, args ...any) {
	x.message = textLine(s, fmt.Sprintf(format, args...))
}

// setLens changes what the tree shows.
func (x *Explorer) setLens(change func(l *lens)) {
	l := x.tree.lens
	change(&l)
	l.sums = x.sumsOf(l.view)
	x.tree.show(l)
	x.layers.to(l.view)
	x.found.stale = true
}

// setView goes to another layer.
func (x *Explorer) setView(view int) {
	view = max(0, min(view, x.m.Len()-1))
	if view != x.tree.lens.view {
		x.setLens(func(l *lens) { l.view = view })
	}
}

// version is what the row under the cursor stands for.
func (x *Explorer) version() (v inspect.Version, ok bool) {
	r, ok := x.tree.selected()
	if !ok {
		return v, false
	}
	if r.version == noVersion {
		v, _ = x.tree.lens.version(r.node)
		return v, true
	}
	for _, v := range x.m.Versions(r.node) {
		if v.ID == r.version {
			return v, true
		}
	}
	return v, false
}
