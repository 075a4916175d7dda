package tui

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/inspect"
)

// The smallest screen that is drawn; what was made for is 80x24 and up.
const (
	minWidth  = 40
	minHeight = 10
)

// area is a part of the screen, without its heading.
type area struct{ x, y, w, h int }

func (a area) holds(x, y int) bool { return x >= a.x && x < a.x+a.w && y >= a.y && y < a.y+a.h }

// areas is where the panes are: layers over the whole width, below them tree
// and detail side by side, between a title and a foot. Those that are not
// shown have no cells.
func (x *Explorer) areas() (a [panes]area) {
	w, h := x.width, x.height
	if x.zoom {
		a[x.focus] = area{0, 2, w, max(0, h-3)}
		return a
	}
	layers := 1 + max(1, min(x.m.Len(), h/4))
	left := w * 11 / 20
	a[paneLayers] = area{0, 2, w, layers}
	y := 2 + layers + 1
	a[paneTree] = area{0, y, left, max(0, h-y-1)}
	a[paneDetail] = area{left + 1, y, max(0, w-left-1), max(0, h-y-1)}
	return a
}

// screen is the whole screen, height lines of width cells.
func (x *Explorer) screen() []line {
	var out []line
	switch {
	case x.width < minWidth || x.height < minHeight:
		out = []line{textLine(failure, "the terminal is too small"), textLine(plain, "80x24 is enough; q quits")}
	case x.help:
		out = x.helpLines()
	case x.viewer != nil:
		out = append([]line{textLine(strong, cutLeft(x.viewer.title, x.width))}, x.viewer.screen()...)
	default:
		out = x.paneLines()
	}
	if foot := x.height - 1; x.height >= minHeight {
		for len(out) < foot {
			out = append(out, line{})
		}
		out = append(out[:foot], x.foot())
	}
	if len(out) > x.height {
		out = out[:max(0, x.height)]
	}
	for i := range out {
		out[i] = out[i].fit(x.width)
	}
	return out
}

// Plain is the screen as text, without trailing spaces.
func (x *Explorer) Plain() []string {
	var out []string
	for _, l := range x.screen() {
		out = append(out, strings.TrimRight(l.plain(), " "))
	}
	return out
}

func (x *Explorer) paneLines() []line {
	a := x.areas()
	out := []line{x.titleLine()}
	if x.zoom {
		out = append(out, x.headingLine(x.focus, x.width))
		switch x.focus {
		case paneLayers:
			return append(out, x.layerLines(a[paneLayers].w)...)
		case paneDetail:
			return append(out, x.detailLines(a[paneDetail])...)
		default:
			return append(out, x.treeLines(a[paneTree].w)...)
		}
	}
	out = append(out, x.headingLine(paneLayers, x.width))
	layers := x.layerLines(x.width)
	for i := range a[paneLayers].h {
		if i < len(layers) {
			out = append(out, layers[i])
		} else {
			out = append(out, line{})
		}
	}
	left, right := a[paneTree], a[paneDetail]
	top := x.headingLine(paneTree, left.w)
	top.add(dim, "┬")
	top.spans = append(top.spans, x.headingLine(paneDetail, right.w).spans...)
	out = append(out, top)
	rows, detail := x.treeLines(left.w), x.detailLines(right)
	for i := range left.h {
		var l line
		if i < len(rows) {
			l = rows[i]
		}
		l = l.fit(left.w)
		joined := line{spans: mark(l)}
		joined.add(dim, "│")
		if i < len(detail) {
			joined.spans = append(joined.spans, mark(detail[i].fit(right.w))...)
		}
		out = append(out, joined)
	}
	return out
}

// reversed is added to the style of spans that are drawn in reverse.
const reversed style = 1 << 7

// mark gives the spans of a selected line that look.
func mark(l line) []span {
	if !l.selected {
		return l.spans
	}
	out := make([]span, len(l.spans))
	for i, s := range l.spans {
		out[i] = span{s.style | reversed, s.text}
	}
	return out
}

func (x *Explorer) titleLine() line {
	shown, hidden := x.total.Shown[inspect.Root], x.total.Hidden[inspect.Root]
	right := size(shown) + " shown"
	if hidden > 0 {
		right += fmt.Sprintf(", %s wasted (%.1f %%)", size(hidden), 100*float64(hidden)/float64(shown+hidden))
	}
	l := line{}
	l.add(strong, "unionfs explore ")
	room := x.width - width("unionfs explore ") - width(right) - 2
	l.add(plain, pad(cutLeft(x.title, room), room)+"  ")
	l.add(plain, right)
	return l
}

// headingLine is the line above a pane.
func (x *Explorer) headingLine(p pane, w int) line {
	l := x.tree.lens
	text := "Layers"
	switch p {
	case paneTree:
		text = fmt.Sprintf("Layer %d and below", l.view)
		if l.view == 0 {
			text = "All layers"
		}
		if l.changes {
			text = fmt.Sprintf("Changes of layer %d", l.view)
		}
		if l.hidden && !l.changes {
			text += " and hidden"
		}
		if l.order != byName {
			text += ", by " + l.order.String()
		}
	case paneDetail:
		text = "Detail"
	default:
	}
	look := dim
	if x.focus == p {
		look = heading
		text = "▶ " + text
	}
	out := line{}
	out.add(dim, "─")
	out.add(look, " "+text+" ")
	out.add(dim, strings.Repeat("─", max(0, w-width(text)-3)))
	return out.fit(w)
}

func (x *Explorer) layerLines(w int) []line {
	digits := max(1, len(fmt.Sprint(x.m.Len()-1)))
	head := strings.Repeat(" ", digits+2) + "  shipped     files     +     ~     -  command"
	out := []line{textLine(dim, head)}
	for i := x.layers.top; i < min(x.layers.top+x.layers.height, x.m.Len()); i++ {
		d := x.m.Layer(i)
		l := line{selected: x.focus == paneLayers && i == x.layers.cursor}
		shipped := ""
		if d.BlobBytes > 0 {
			shipped = size(d.BlobBytes)
		}
		look := plain
		if i < x.tree.lens.view {
			look = dim // not part of what is shown
		}
		l.add(look, pointer(i == x.layers.cursor)+padLeft(fmt.Sprint(i), digits)+" "+padLeft(shipped, 9)+" "+padLeft(size(d.FileBytes), 9)+" ")
		l.add(added, padLeft("+"+count(d.Added), 6))
		l.add(modified, padLeft("~"+count(d.Modified), 6))
		l.add(deleted, padLeft("-"+count(d.Deleted), 6))
		l.add(look, "  "+command(d))
		out = append(out, l.fit(w))
	}
	return out
}

// The columns of the tree.
const (
	sizeColumn = 8
	barColumn  = 6
	attrColumn = 22
	roomy      = 60 // cells from which all columns fit beside each other
)

// indent is how much further a level of the tree begins.
func indent(w int) int {
	if w < roomy {
		return 1
	}
	return 2
}

func (x *Explorer) treeLines(w int) []line {
	t := &x.tree
	if len(t.rows) == 0 {
		text := "nothing is here"
		if t.lens.changes {
			text = "this layer changes nothing; m shows all"
		}
		return []line{textLine(dim, text)}
	}
	var out []line
	for i := t.list.top; i < min(t.list.top+t.list.height, len(t.rows)); i++ {
		l := x.rowLine(t.rows[i], i == t.list.cursor, w)
		l.selected = x.focus == paneTree && i == t.list.cursor
		out = append(out, l.fit(w))
	}
	return out
}

// rowLine is one row of the tree: name at the left, numbers at the right.
func (x *Explorer) rowLine(r row, selected bool, w int) line {
	lens := &x.tree.lens
	l := line{}
	l.add(plain, pointer(selected))
	var right []span
	margin := strings.Repeat(" ", min(int(r.depth)*indent(w), w/2))
	if r.version != noVersion {
		var v inspect.Version
		for _, o := range x.m.Versions(r.node) {
			if o.ID == r.version {
				v = o
			}
		}
		l.add(plain, " ")
		l.add(gone, margin+"  └ "+describeHidden(&v))
		if b := v.Bytes(); b > 0 {
			right = append(right, span{gone, padLeft("x "+size(b), sizeColumn+1) + " "})
			if w >= roomy {
				right = append(right, span{plain, strings.Repeat(" ", sizeColumn+barColumn-1)})
			}
		}
		return x.columns(l, right, w)
	}
	v, visible := lens.version(r.node)
	st := lens.state(r.node)
	l.spans = append(l.spans, stateMarks[st])
	sign := "  "
	if x.tree.open[r.node] {
		sign = "▾ "
	} else if x.tree.opens(r) {
		sign = "▸ "
	}
	l.add(dim, margin+sign)
	name := clean(x.m.Name(r.node))
	l.add(nameStyle(&v, visible), name+suffix(&v))
	if x.attrs {
		text := ""
		if !v.Whiteout {
			text = fmt.Sprintf(" %s %d:%d", inspect.ModeString(v.Mode), v.UID, v.GID)
		}
		right = append(right, span{dim, pad(text, attrColumn)})
		if w < roomy {
			return x.columns(l, right, w)
		}
	}
	hidden := lens.sums.Hidden[r.node]
	if lens.hidden || lens.changes || lens.order == byWaste {
		text := ""
		if hidden > 0 {
			text = "x " + size(hidden)
		}
		right = append(right, span{gone, padLeft(text, sizeColumn+1)})
	}
	bytes := lens.bytes(r.node)
	text := ""
	if visible && (v.IsDir() || v.IsFile()) || bytes > 0 {
		text = size(bytes)
	}
	right = append(right, span{plain, padLeft(text, sizeColumn)})
	if w >= roomy || len(right) == 1 {
		right = append(right, span{bar, " " + gauge(bytes, lens.bytes(x.m.Parent(r.node)), barColumn-1)})
	} else {
		right = append(right, span{plain, " "})
	}
	return x.columns(l, right, w)
}

// columns puts the right part of a row at the right edge.
func (x *Explorer) columns(l line, right []span, w int) line {
	taken := 0
	for _, s := range right {
		taken += width(s.text)
	}
	selected := l.selected
	l = l.fit(max(0, w-taken))
	l.spans = append(l.spans, right...)
	l.selected = selected
	return l
}

// describeHidden says what a version is that the view does not show.
func describeHidden(v *inspect.Version) string {
	if v.Whiteout {
		return fmt.Sprintf("layer %d: whiteout", v.Layer)
	}
	what := map[inspect.Why]string{
		inspect.WhyReplaced: "replaced by", inspect.WhyWhiteout: "deleted by", inspect.WhyOpaque: "hidden by",
		inspect.WhyShadowed: "shadowed by", inspect.WhyMoved: "moved by",
	}[v.Why]
	return fmt.Sprintf("layer %d: %s %d", v.Layer, what, v.Until)
}

func nameStyle(v *inspect.Version, visible bool) style {
	switch {
	case !visible:
		return gone
	case v.IsDir():
		return directory
	case isLink(v):
		return link
	}
	return plain
}

func isLink(v *inspect.Version) bool { return v.Type() == unix.S_IFLNK }

// suffix tells the type as ls -F does.
func suffix(v *inspect.Version) string {
	switch {
	case v.Whiteout:
		return ""
	case v.IsDir():
		return "/"
	case isLink(v):
		return "@"
	case v.Type() == unix.S_IFIFO:
		return "|"
	case v.Type() == unix.S_IFSOCK:
		return "="
	case v.IsFile() && v.Mode&0o111 != 0:
		return "*"
	}
	return ""
}

func (x *Explorer) detailLines(a area) []line {
	if x.focus == paneLayers {
		return x.layerDetail(a.w, a.h)
	}
	return x.detail.lines(x, a.w, a.h)
}

// layerDetail says all about the layer under the cursor.
func (x *Explorer) layerDetail(w, h int) []line {
	d := x.m.Layer(x.layers.cursor)
	var out []line
	say := func(s style, format string, args ...any) {
		for _, part := range wrap(clean(fmt.Sprintf(format, args...)), w, h) {
			out = append(out, textLine(s, part))
		}
	}
	say(strong, "Layer %d of %d", d.Index, x.m.Len())
	if by := command(d); by != "" {
		say(plain, "%s", by)
	}
	if d.Created != nil {
		say(dim, "made %s", d.Created.UTC().Format("2006-01-02 15:04:05 UTC"))
	}
	out = append(out, line{})
	say(plain, "%d objects, %d files of %s", d.Entries, d.Files, size(d.FileBytes))
	if d.BlobBytes > 0 {
		say(plain, "shipped as %s", size(d.BlobBytes))
	}
	say(added, "+ %d added", d.Added)
	say(modified, "~ %d modified", d.Modified)
	say(deleted, "- %d deleted, by %d whiteouts and %d opaque directories", d.Deleted, d.Whiteouts, d.Opaques)
	out = append(out, line{})
	if d.Digest != "" {
		say(dim, "digest %s", d.Digest)
		say(dim, "DiffID %s", d.DiffID)
	} else {
		say(dim, "%s", d.Name)
	}
	return out
}

// foot is the last line: the prompt, a message, or what keys there are.
func (x *Explorer) foot() line {
	l := line{}
	switch {
	case x.prompt != nil:
		text := x.prompt.label + clean(x.prompt.text)
		l.add(strong, cutLeft(text, x.width-20))
		l.add(plain|reversed, " ")
		if x.found.total > 0 && x.prompt.label == "/" && x.viewer == nil {
			l.add(dim, fmt.Sprintf("  %d of %d", x.found.rank, x.found.total))
		}
	case len(x.message.spans) > 0:
		l = x.message
	case x.help:
		l.add(dim, "any key: back")
	case x.viewer != nil:
		l = x.viewer.foot()
	case x.found.pattern != "" && !x.found.stale && x.found.total > 0:
		l.add(plain, fmt.Sprintf("/%s  %d of %d", clean(x.found.pattern), x.found.rank, x.found.total))
		l.add(dim, "   n N next, previous   esc end")
	default:
		l.add(dim, "? help  tab pane  [ ] layer  m changes  w hidden  s sort  / search  q quit")
	}
	return l
}

func (v *viewer) foot() line {
	l := line{}
	place := ""
	if v.list.length > 0 {
		place = fmt.Sprintf("%d-%d of %d", v.list.top+1, min(v.list.top+v.list.height, v.list.length), v.list.length)
	}
	if v.more > 0 {
		place += fmt.Sprintf(" and %s more", size(v.more))
	}
	l.add(plain, place)
	keys := "   j k space b g G   h l   / n N"
	switch {
	case v.hex:
		keys = "   j k space b g G   t text"
	case !v.patch:
		keys += "   t hex"
	}
	l.add(dim, keys+"   q back")
	return l
}

func (x *Explorer) helpLines() []line {
	out := []line{textLine(heading, "Keys")}
	var items []binding
	for _, b := range bindings() {
		if b.help != "" {
			items = append(items, b)
		}
	}
	half := (len(items) + 1) / 2
	for i := range half {
		l := line{}
		for _, k := range []int{i, i + half} {
			if k < len(items) {
				l.add(strong, " "+pad(items[k].show, 14))
				l.add(plain, pad(items[k].help, x.width/2-15))
			}
		}
		out = append(out, l)
	}
	out = append(out, line{},
		textLine(plain, " + added  ~ modified  - deleted by the layer   · a change below   x gone before"),
		textLine(plain, " x SIZE: bytes that are shipped and not shown"),
		textLine(plain, " Mouse: click selects, a second click opens, the wheel scrolls."))
	return out
}
