package tui

// Click selects what is under the mouse; where it was selected already, it opens
// it.
func (x *Explorer) Click(col, row int) {
	switch {
	case x.prompt != nil || x.viewer != nil:
		return
	case x.help:
		x.help = false
		return
	}
	x.message = line{}
	for p, a := range x.areas() {
		if !a.holds(col, row) {
			continue
		}
		focus := pane(p)
		again := x.focus == focus
		x.focus = focus
		x.clickIn(focus, col, row-a.y, again)
	}
	x.settle()
}

func (x *Explorer) clickIn(p pane, col, row int, again bool) {
	switch p {
	case paneLayers:
		if i := x.layers.top + row - 1; row > 0 && i < x.layers.length {
			x.setView(i)
		}
	case paneTree:
		i := x.tree.list.top + row
		if i >= len(x.tree.rows) {
			return
		}
		r := x.tree.rows[i]
		sign := 2 + indent(x.areas()[paneTree].w)*int(r.depth)
		onSign := col >= sign && col < sign+2
		open := again && x.tree.list.cursor == i || onSign && x.tree.opens(r)
		x.tree.list.to(i)
		if open {
			x.enter()
		}
	case paneDetail:
		i := row - x.detail.first + x.detail.list.top
		if row < x.detail.first || i >= min(x.detail.list.top+x.detail.list.height, len(x.detail.events)) {
			return
		}
		open := again && x.detail.list.cursor == i
		x.detail.list.to(i)
		if open {
			x.enter()
		}
	default:
	}
}

// Wheel scrolls what is under the mouse; the cursor goes along where it would
// leave the visible part.
func (x *Explorer) Wheel(col, row, lines int) {
	if x.viewer != nil {
		x.viewer.list.scroll(x.viewer.list.top + lines)
		return
	}
	if x.help || x.prompt != nil {
		return
	}
	a := x.areas()
	switch {
	case a[paneLayers].holds(col, row):
		x.layers.scroll(x.layers.top + lines)
	case a[paneTree].holds(col, row):
		l := &x.tree.list
		l.scroll(l.top + lines)
		l.to(min(max(l.cursor, l.top), l.top+l.height-1))
	case a[paneDetail].holds(col, row):
		x.detail.list.to(x.detail.list.cursor + lines/wheelLines)
	}
	x.settle()
}
