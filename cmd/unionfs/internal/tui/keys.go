package tui

import "github.com/unionfs-go/unionfs/internal/inspect"

// binding is what one key does, under all its names. Those without help are
// second names for people used to other programs.
type binding struct {
	keys []string
	show string // how the help writes the keys
	help string
	do   func(x *Explorer)
}

// bindings are the keys outside of prompts, the viewer and the help.
func bindings() []binding {
	return []binding{
		{[]string{"j", "down"}, "j k ↓ ↑", "move", func(x *Explorer) { x.move(1) }},
		{[]string{"k", "up"}, "", "", func(x *Explorer) { x.move(-1) }},
		{[]string{"ctrl+d"}, "ctrl+d ctrl+u", "half a page down, up", func(x *Explorer) { x.move(x.page() / 2) }},
		{[]string{"ctrl+u"}, "", "", func(x *Explorer) { x.move(-x.page() / 2) }},
		{[]string{"pgdown", "ctrl+f"}, "pgdn pgup", "a page down, up", func(x *Explorer) { x.move(x.page()) }},
		{[]string{"pgup", "ctrl+b"}, "", "", func(x *Explorer) { x.move(-x.page()) }},
		{[]string{"g", "home"}, "g G", "first, last", func(x *Explorer) { x.move(-farAway) }},
		{[]string{"G", "end"}, "", "", func(x *Explorer) { x.move(farAway) }},
		{[]string{"tab"}, "tab 1 2 3", "other pane", func(x *Explorer) { x.focus = (x.focus + 1) % panes }},
		{[]string{"shift+tab"}, "", "", func(x *Explorer) { x.focus = (x.focus + panes - 1) % panes }},
		{[]string{"1"}, "", "", func(x *Explorer) { x.focus = paneLayers }},
		{[]string{"2"}, "", "", func(x *Explorer) { x.focus = paneTree }},
		{[]string{"3"}, "", "", func(x *Explorer) { x.focus = paneDetail }},
		{[]string{"z"}, "z", "the pane alone", func(x *Explorer) { x.zoom = !x.zoom; x.Resize(x.width, x.height) }},
		{[]string{"l", "right"}, "l h → ←", "open, close", (*Explorer).right},
		{[]string{"h", "left"}, "", "", (*Explorer).left},
		{[]string{"space"}, "space", "open or close", (*Explorer).toggle},
		{[]string{"*"}, "*", "open all below", (*Explorer).openAll},
		{[]string{"-", "ctrl+space", "ctrl+@"}, "-", "close all", func(x *Explorer) { x.tree.setAll(inspect.Root, false) }},
		{[]string{"enter"}, "enter", "view file, follow link", (*Explorer).enter},
		{[]string{"d"}, "d", "compare with layer below", func(x *Explorer) { x.whenReady((*Explorer).difference) }},
		{[]string{"v"}, "v", "mark a version for d", func(x *Explorer) { x.whenReady((*Explorer).markVersion) }},
		{[]string{"["}, "[ ]", "layer up, down", func(x *Explorer) { x.setView(x.tree.lens.view - 1) }},
		{[]string{"]"}, "", "", func(x *Explorer) { x.setView(x.tree.lens.view + 1) }},
		{[]string{"m"}, "m", "all, or only changes", func(x *Explorer) { x.setLens(func(l *lens) { l.changes = !l.changes }) }},
		{[]string{"ctrl+a"}, "", "", func(x *Explorer) { x.setLens(func(l *lens) { l.changes = false }) }},
		{[]string{"ctrl+l"}, "", "", func(x *Explorer) { x.setLens(func(l *lens) { l.changes = true }) }},
		{[]string{"w"}, "w", "hidden versions too", func(x *Explorer) { x.setLens(func(l *lens) { l.hidden = !l.hidden }) }},
		{[]string{"s", "ctrl+o"}, "s", "by name, size, waste", (*Explorer).sort},
		{[]string{"a"}, "a", "mode and owner", func(x *Explorer) { x.attrs = !x.attrs }},
		{[]string{"c"}, "c C", "next, previous change", func(x *Explorer) { x.change(1) }},
		{[]string{"C"}, "", "", func(x *Explorer) { x.change(-1) }},
		{[]string{"/"}, "/", "search names, or paths", (*Explorer).startSearch},
		{[]string{"n"}, "n N", "next, previous match", func(x *Explorer) { x.again(1) }},
		{[]string{"N"}, "", "", func(x *Explorer) { x.again(-1) }},
		{[]string{"x", "ctrl+e"}, "x", "extract", (*Explorer).startExtract},
		{[]string{"y"}, "y", "copy the path", (*Explorer).copyPath},
		{[]string{"esc"}, "esc", "back", func(x *Explorer) { x.found, x.zoom = found{}, false; x.Resize(x.width, x.height) }},
		{[]string{"?", "f1"}, "?", "this help", func(x *Explorer) { x.help = true }},
		{[]string{"q"}, "q", "quit", func(x *Explorer) { x.quit = true }},
	}
}

func keyTable() map[string]func(*Explorer) {
	table := map[string]func(*Explorer){}
	for _, b := range bindings() {
		for _, k := range b.keys {
			table[k] = b.do
		}
	}
	return table
}

// farAway is further than any list is long.
const farAway = 1 << 40

func (x *Explorer) focused() *list {
	switch x.focus {
	case paneLayers:
		return &x.layers
	case paneDetail:
		return &x.detail.list
	default:
		return &x.tree.list
	}
}

func (x *Explorer) page() int { return max(2, x.focused().height) }

func (x *Explorer) move(by int) {
	l := x.focused()
	l.to(l.cursor + by)
	if x.focus == paneLayers {
		x.setView(l.cursor)
	}
}

func (x *Explorer) right() {
	if x.focus != paneTree || len(x.tree.rows) == 0 {
		return
	}
	r, _ := x.tree.selected()
	if x.tree.open[r.node] {
		x.tree.list.to(x.tree.list.cursor + 1)
		return
	}
	x.tree.set(x.tree.list.cursor, true)
}

func (x *Explorer) left() {
	if x.focus != paneTree || len(x.tree.rows) == 0 {
		return
	}
	if r, _ := x.tree.selected(); r.version == noVersion && x.tree.open[r.node] {
		x.tree.set(x.tree.list.cursor, false)
		return
	}
	x.tree.parent()
}

func (x *Explorer) toggle() {
	r, ok := x.tree.selected()
	if ok && x.focus == paneTree && r.version == noVersion {
		x.tree.set(x.tree.list.cursor, !x.tree.open[r.node])
	}
}

// sort takes the next order and goes to what comes first by it where the cursor
// is.
func (x *Explorer) sort() {
	x.setLens(func(l *lens) { l.order = (l.order + 1) % 3 })
	if len(x.tree.rows) == 0 {
		return
	}
	first, depth := x.tree.list.cursor, x.tree.rows[x.tree.list.cursor].depth
	for i := first; i >= 0 && x.tree.rows[i].depth >= depth; i-- {
		if x.tree.rows[i].depth == depth {
			first = i
		}
	}
	x.tree.list.to(max(0, first-1)) // the directory stays visible
	x.tree.list.to(first)
}

func (x *Explorer) openAll() {
	if r, ok := x.tree.selected(); ok && r.version == noVersion {
		x.tree.setAll(r.node, true)
	}
}

func (x *Explorer) enter() {
	switch x.focus {
	case paneLayers:
		x.focus = paneTree
	case paneDetail:
		x.whenReady(func(x *Explorer) {
			if v, ok := x.detail.selected(); ok {
				x.view(v)
			}
		})
	default:
		r, ok := x.tree.selected()
		if !ok {
			return
		}
		if x.tree.opens(r) {
			x.toggle()
		} else if v, ok := x.version(); ok {
			x.view(v)
		}
	}
}

// difference shows what the selected version, which in the tree is the one of
// the row, changed of the marked one, or else of the one below it; of the lowest
// it shows what the one above changed.
func (x *Explorer) difference() {
	d := &x.detail
	now, ok := d.selected()
	if !ok || now.Whiteout {
		x.say(failure, "there is no version to compare")
		return
	}
	if d.mark != nil && d.mark.ID != now.ID {
		x.compareVersions(*d.mark, now)
		return
	}
	for i := d.list.cursor + 1; i < len(d.events); i++ {
		if old := eventVersion(&d.events[i]); old.ID != now.ID && !old.Whiteout {
			x.compareVersions(old, now)
			return
		}
	}
	for i := d.list.cursor - 1; i >= 0; i-- {
		if next := eventVersion(&d.events[i]); next.ID != now.ID && !next.Whiteout {
			x.compareVersions(now, next)
			return
		}
	}
	x.say(failure, "only layer %d has a version of it", now.Layer)
}

func (x *Explorer) markVersion() {
	if v, ok := x.detail.selected(); ok && !v.Whiteout {
		x.detail.mark = &v
		x.say(plain, "the version of layer %d is marked; go to another one and press d", v.Layer)
	}
}

// change goes to the next path that the layer changed, forward or back.
func (x *Explorer) change(direction int) {
	l := x.tree.lens
	x.find(direction, func(n inspect.Node) bool {
		return l.sums.Changed[n] && l.state(n) != stateInside
	}, "")
}

func (x *Explorer) copyPath() {
	r, ok := x.tree.selected()
	if !ok {
		return
	}
	x.copied = x.m.Path(r.node)
	x.say(plain, "copied: %s", x.copied)
}

// viewerKey takes a key of the viewer.
func (x *Explorer) viewerKey(name string) {
	v := x.viewer
	half := max(1, v.list.height/2)
	switch name {
	case "q", "esc", "enter":
		v.cancel()
		x.viewer = nil
	case "j", "down":
		v.list.scroll(v.list.top + 1)
	case "k", "up":
		v.list.scroll(v.list.top - 1)
	case "ctrl+d":
		v.list.scroll(v.list.top + half)
	case "ctrl+u":
		v.list.scroll(v.list.top - half)
	case "space", "pgdown", "ctrl+f":
		v.list.scroll(v.list.top + v.list.height)
	case "pgup", "b", "ctrl+b":
		v.list.scroll(v.list.top - v.list.height)
	case "g", "home":
		v.list.scroll(0)
	case "G", "end":
		v.list.scroll(farAway)
	case "l", "right":
		v.left += 8
	case "h", "left":
		v.left = max(0, v.left-8)
	case "t":
		if !v.patch {
			v.hex = !v.hex
			v.list.top = 0
			v.resize(x.width, x.height)
		}
	case "/":
		x.startViewerSearch()
	case "n":
		v.next(x, 1)
	case "N":
		v.next(x, -1)
	}
}
