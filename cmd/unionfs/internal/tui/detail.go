package tui

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/inspect"
)

// detail is what is known of the selected path. It is loaded by a task, since
// telling two versions apart may mean to read both.
type detail struct {
	row    row
	ready  bool
	after  func(x *Explorer) // what a key asked for before it was ready
	cancel context.CancelFunc
	events []inspect.Event  // newest first
	list   list             // of events
	mark   *inspect.Version // to compare with, see difference
	err    error

	first   int   // line of the pane on which the events begin
	shown   int32 // version whose attributes and beginning are shown, or noVersion
	preview previewResult
}

type detailResult struct {
	row    row
	events []inspect.Event
	err    error
}

type previewResult struct {
	version int32
	xattrs  []inspect.Xattr
	target  string // of a symlink
	head    []byte // the beginning of a file
	err     error
}

// want makes the detail that of another row.
func (d *detail) want(x *Explorer, r row) {
	if d.cancel != nil && d.row == r {
		d.wantPreview(x)
		return
	}
	if d.cancel != nil {
		d.cancel()
	}
	ctx, cancel := context.WithCancel(x.ctx)
	*d = detail{row: r, cancel: cancel, shown: noVersion}
	m := x.m
	x.tasks = append(x.tasks, func() any {
		events, err := m.Life(ctx, r.node)
		slices.Reverse(events)
		return detailResult{r, events, err}
	})
}

func (d *detail) loaded(x *Explorer, r detailResult) {
	if r.row != d.row || errors.Is(r.err, context.Canceled) {
		return
	}
	d.ready, d.events, d.err = true, r.events, r.err
	d.list.length = len(d.events)
	v, ok := x.version()
	if !ok {
		return
	}
	visible := v.VisibleIn(x.tree.lens.view)
	d.list.to(slices.IndexFunc(d.events, func(e inspect.Event) bool {
		return eventVersion(&e).ID == v.ID && (!visible || !ends(&e))
	}))
	if d.after != nil {
		d.after(x)
	}
}

// whenReady does what needs the versions of the selected path: now, or when
// they are loaded, if the cursor is still there.
func (x *Explorer) whenReady(do func(x *Explorer)) {
	if x.detail.ready {
		do(x)
		return
	}
	x.detail.after = do
}

// ends tells whether an event is the end of the version it is about.
func ends(e *inspect.Event) bool {
	return e.Kind == inspect.EventDeleted || e.Kind == inspect.EventHidden
}

// eventVersion is the version that an event is about: what was there, if the
// event is its end.
func eventVersion(e *inspect.Event) inspect.Version {
	if ends(e) && e.Old != nil {
		return *e.Old
	}
	return e.Version
}

// selected is the version of the event under the cursor.
func (d *detail) selected() (v inspect.Version, ok bool) {
	if d.list.cursor >= len(d.events) {
		return v, false
	}
	return eventVersion(&d.events[d.list.cursor]), true
}

// wantPreview loads what is shown of the version under the cursor.
func (d *detail) wantPreview(x *Explorer) {
	v, ok := d.selected()
	if !d.ready || !ok || v.ID == d.shown {
		return
	}
	d.shown, d.preview = v.ID, previewResult{version: noVersion}
	if v.Whiteout {
		return
	}
	m := x.m
	x.tasks = append(x.tasks, func() any { return loadPreview(m, v) })
}

func (d *detail) previewed(r previewResult) {
	if r.version == d.shown {
		d.preview = r
	}
}

// previewBytes is how much of a file is read for the preview.
const previewBytes = 4 << 10

func loadPreview(m *inspect.Model, v inspect.Version) previewResult {
	r := previewResult{version: v.ID}
	if v.HasXattr {
		r.xattrs, r.err = m.Xattrs(v)
	}
	switch {
	case r.err != nil:
	case v.Type() == unix.S_IFLNK:
		r.target, r.err = m.Readlink(v)
	case v.IsFile() && v.Size > 0 && !v.Dangling:
		r.head, _, r.err = readHead(m, v, previewBytes)
	}
	return r
}

// lines are the lines of the pane, w cells wide and at most h.
func (d *detail) lines(x *Explorer, w, h int) []line {
	if d.row.node < 0 || d.cancel == nil {
		return nil
	}
	out := []line{{spans: []span{{strong, cutLeft(clean(x.m.Path(d.row.node)), w)}}}}
	if !d.ready {
		return append(out, textLine(dim, "reading…"))
	}
	if d.err != nil {
		for _, s := range wrap(clean(d.err.Error()), w, 4) {
			out = append(out, textLine(failure, s))
		}
	}
	v, ok := d.selected()
	if ok && !v.Whiteout {
		out = append(out, d.attributes(x, &v, w)...)
	}
	out = append(out, line{}, textLine(heading, "Life, newest first"))
	d.first = len(out)
	d.list.resize(max(1, min(len(d.events), h-len(out)-3)))
	for i := d.list.top; i < min(d.list.top+d.list.height, len(d.events)); i++ {
		out = append(out, d.event(x, i))
	}
	if d.list.cursor < len(d.events) {
		e := &d.events[d.list.cursor]
		out = append(out, d.explain(x, e, w)...)
	}
	if ok && len(d.preview.head) > 0 {
		out = append(out, line{}, textLine(heading, fmt.Sprintf("Content in layer %d", v.Layer)))
		out = append(out, contentLines(d.preview.head, max(0, h-len(out)))...)
	}
	return out
}

func (d *detail) attributes(x *Explorer, v *inspect.Version, w int) []line {
	mode := fmt.Sprintf("%s %d:%d", inspect.ModeString(v.Mode), v.UID, v.GID)
	switch {
	case v.IsFile():
		mode += "  " + size(v.Size)
	case v.Type() == unix.S_IFCHR || v.Type() == unix.S_IFBLK:
		mode += fmt.Sprintf("  %d, %d", unix.Major(v.Rdev), unix.Minor(v.Rdev))
	}
	out := []line{textLine(plain, mode)}
	when := time.Unix(v.Mtime.Sec, 0).UTC().Format("2006-01-02 15:04:05 UTC")
	if v.Nlink > 1 && !v.IsDir() {
		when += fmt.Sprintf("  %d names", v.Nlink)
	}
	out = append(out, textLine(dim, when))
	if v.IsFile() && v.Size >= 1000 {
		out[1].add(dim, fmt.Sprintf("  %d B", v.Size))
	}
	if v.Metacopy {
		out = append(out, textLine(dim, "its bytes are in a layer below"))
	}
	if v.Opaque {
		out = append(out, textLine(dim, "opaque: hides all below it"))
	}
	if d.preview.target != "" {
		out = append(out, textLine(link, "→ "+d.preview.target))
	}
	for _, a := range d.preview.xattrs {
		out = append(out, textLine(dim, fmt.Sprintf("%s=%q", a.Name, cut(clean(string(a.Value)), w))))
	}
	if d.preview.err != nil {
		out = append(out, textLine(failure, d.preview.err.Error()))
	}
	if v.IsDir() {
		s := x.tree.lens.sums
		l := textLine(plain, "holds "+size(s.Shown[v.Node]))
		if hidden := s.Hidden[v.Node]; hidden > 0 {
			l.add(gone, fmt.Sprintf(", hides %s more", size(hidden)))
		}
		out = append(out, l)
	}
	return out
}

// event is the line of one event.
func (d *detail) event(x *Explorer, i int) line {
	e := &d.events[i]
	looks := map[inspect.EventKind]style{
		inspect.EventAdded: added, inspect.EventModified: modified, inspect.EventRecreated: added,
		inspect.EventDeleted: deleted, inspect.EventHidden: deleted, inspect.EventMoved: modified,
	}
	l := line{selected: x.focus == paneDetail && i == d.list.cursor}
	l.add(plain, pointer(i == d.list.cursor)+padLeft(fmt.Sprint(e.Layer), len(fmt.Sprint(x.m.Len()-1)))+" ")
	l.add(looks[e.Kind], pad(string(e.Kind), 10))
	v := eventVersion(e)
	switch {
	case e.Useless:
		l.add(dim, "nothing")
	case ends(e) && v.IsFile():
		l.add(gone, size(v.Bytes())+" shipped")
	case v.IsFile():
		l.add(plain, size(v.Size))
	default:
		l.add(plain, inspect.TypeName(v.Mode))
	}
	if !ends(e) && e.Version.VisibleIn(x.tree.lens.view) {
		l.add(strong, " shown")
	}
	if e.What != 0 {
		l.add(dim, " "+e.What.String())
	}
	return l
}

// explain says why, and which command did it.
func (d *detail) explain(x *Explorer, e *inspect.Event, w int) []line {
	var out []line
	if e.Kind == inspect.EventHidden && e.By >= 0 {
		out = append(out, textLine(dim, fmt.Sprintf("by %s (%s)", x.m.Path(e.By), e.Why)))
	}
	if e.From != "" {
		out = append(out, textLine(dim, "from "+e.From))
	}
	if by := command(x.m.Layer(e.Layer)); by != "" {
		for _, s := range wrap("by: "+by, w, 2) {
			out = append(out, textLine(dim, s))
		}
	}
	return out
}

// command is what made a layer, without the shell that docker writes before it.
func command(l *inspect.Layer) string {
	by := l.CreatedBy
	for _, prefix := range []string{"/bin/sh -c #(nop)", "/bin/sh -c", "|"} {
		if rest, ok := strings.CutPrefix(by, prefix); ok && prefix != "|" {
			by = rest
			break
		}
	}
	by = strings.TrimSpace(strings.TrimSuffix(by, "# buildkit"))
	if by == "" {
		by = l.Comment
	}
	if by == "" && l.Digest == "" {
		by = l.Name
	}
	return clean(strings.Join(strings.Fields(by), " "))
}

// pointer marks what is selected, also without colours.
func pointer(selected bool) string {
	if selected {
		return "›"
	}
	return " "
}
