package tui

import (
	"bytes"
	"context"
	"strings"
	"unicode"

	"github.com/unionfs-go/unionfs/internal/inspect"
)

// found is the state of a search in the tree.
type found struct {
	pattern string
	rank    int // of the match under the cursor, from 1
	total   int
	stale   bool // the tree was changed since
	running bool
	serial  int
	cancel  context.CancelFunc
	back    func(x *Explorer) // goes to where the search began, while it is typed
}

type searchResult struct {
	serial int
	node   inspect.Node
	rank   int
	total  int
	what   string
}

// matcher tells whether a pattern is in the name of a node, or, if it has a
// slash, in its path. Upper case counts only if the pattern has some.
func matcher(m *inspect.Model, pattern string) func(n inspect.Node) bool {
	fold := !strings.ContainsFunc(pattern, unicode.IsUpper)
	text := m.Name
	if strings.Contains(pattern, "/") {
		text = m.Path
	}
	return func(n inspect.Node) bool {
		s := text(n)
		if fold {
			s = strings.ToLower(s)
		}
		return strings.Contains(s, pattern)
	}
}

// find looks for the next node in the order of the tree, closed directories
// included, and goes on at the other end. It runs as a task.
func (x *Explorer) find(direction int, match func(n inspect.Node) bool, what string) {
	from := inspect.Root
	if r, ok := x.tree.selected(); ok {
		from = r.node
	}
	x.findFrom(from, direction, match, what)
}

func (x *Explorer) findFrom(from inspect.Node, direction int, match func(n inspect.Node) bool, what string) {
	if x.found.cancel != nil {
		x.found.cancel()
	}
	ctx, cancel := context.WithCancel(x.ctx)
	x.found.cancel = cancel
	x.found.serial++
	x.found.running = true
	serial, l := x.found.serial, x.tree.lens
	x.tasks = append(x.tasks, func() any {
		r := scan(ctx, &l, from, direction, match)
		r.serial, r.what = serial, what
		return r
	})
}

// scan looks at all nodes once, in any order, and keeps the nearest one.
func scan(ctx context.Context, l *lens, from inspect.Node, direction int, match func(n inspect.Node) bool) searchResult {
	r := searchResult{node: inspect.None}
	start := l.chain(nil, from)
	var best, wrapped, buf []inspect.Node // the nearest after from, and the first of all
	before := 0                           // matches up to from
	keep := func(dst *[]inspect.Node, n []inspect.Node) {
		if len(*dst) == 0 || l.comparePaths(n, *dst)*direction < 0 {
			*dst = append((*dst)[:0], n...)
		}
	}
	for n := inspect.Root + 1; int(n) < l.m.Nodes(); n++ {
		if n%4096 == 0 && ctx.Err() != nil {
			return r
		}
		if !match(n) || !l.shown(n) {
			continue
		}
		r.total++
		buf = l.chain(buf, n)
		c := l.comparePaths(buf, start) * direction
		if c <= 0 {
			before++
		} else {
			keep(&best, buf)
		}
		keep(&wrapped, buf)
	}
	switch {
	case len(best) > 0:
		r.node, r.rank = best[len(best)-1], before+1
	case len(wrapped) > 0:
		r.node, r.rank = wrapped[len(wrapped)-1], 1
	}
	if direction < 0 && r.total > 0 {
		r.rank = r.total - r.rank + 1
	}
	return r
}

func (x *Explorer) searched(r searchResult) {
	if r.serial != x.found.serial || x.ctx.Err() != nil {
		return
	}
	x.found.running = false
	if r.what != "" {
		x.found.rank, x.found.total, x.found.stale = r.rank, r.total, false
	}
	switch {
	case r.node != inspect.None:
		x.tree.reveal(r.node)
	case r.what == "":
		x.say(failure, "layer %d changes nothing", x.tree.lens.view)
	case x.prompt != nil && x.found.back != nil:
		x.found.back(x)
	default:
		x.say(failure, "nothing here has %q in its name", r.what)
	}
}

// again repeats the search.
func (x *Explorer) again(direction int) {
	if x.found.pattern == "" {
		x.say(failure, "search for something with / first")
		return
	}
	x.find(direction, matcher(x.m, x.found.pattern), x.found.pattern)
}

// follow goes to what a symlink points to.
func (x *Explorer) follow(v inspect.Version) {
	target, err := x.m.Readlink(v)
	if err != nil {
		x.say(failure, "%v", err)
		return
	}
	n, ok := x.resolve(x.m.Parent(v.Node), target, 0)
	if !ok {
		x.say(failure, "it points to %s, which is not there", target)
		return
	}
	x.focus = paneTree
	x.tree.reveal(n)
}

// maxLinks is how many symlinks are followed, as in the kernel
// (fs/namei.c: MAXSYMLINKS).
const maxLinks = 40

// resolve finds what a path stands for in the view, from the directory n on.
func (x *Explorer) resolve(n inspect.Node, path string, links int) (inspect.Node, bool) {
	if strings.HasPrefix(path, "/") {
		n = inspect.Root
	}
	parts := strings.Split(path, "/")
	for i, part := range parts {
		switch part {
		case "", ".":
			continue
		case "..":
			n = max(x.m.Parent(n), inspect.Root)
			continue
		}
		c, ok := x.m.Child(n, part)
		if !ok {
			return inspect.None, false
		}
		v, ok := x.m.At(c, x.tree.lens.view)
		if !ok {
			return inspect.None, false
		}
		if isLink(&v) && i < len(parts)-1 {
			target, err := x.m.Readlink(v)
			if err != nil || links == maxLinks {
				return inspect.None, false
			}
			if c, ok = x.resolve(n, target, links+1); !ok {
				return inspect.None, false
			}
		}
		n = c
	}
	return n, true
}

// next goes to the next line of the viewer that has what was searched for.
func (v *viewer) next(x *Explorer, direction int) {
	if v.search == "" || v.hex {
		x.say(failure, "search for something with / first; t shows a file as text")
		return
	}
	for k := 1; k <= len(v.text); k++ {
		i := ((v.list.top+direction*k)%len(v.text) + len(v.text)) % len(v.text)
		if bytes.Contains(v.text[i], []byte(v.search)) && (i != v.list.top) {
			top := v.list.top
			v.list.scroll(i)
			if v.list.top == top {
				continue // it is visible already, near the end
			}
			return
		}
	}
	x.say(failure, "no other line has %q", v.search)
}
