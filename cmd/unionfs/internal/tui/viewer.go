package tui

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/inspect"
)

// viewerBytes is how much of a file the viewer reads.
const viewerBytes = 1 << 20

// viewer shows one version, or the difference of two, on the whole screen.
type viewer struct {
	serial  int
	title   string
	cancel  context.CancelFunc
	loading bool
	err     error
	data    []byte
	text    [][]byte // lines of data
	patch   bool
	hex     bool
	more    int64 // bytes that were not read
	list    list  // cursor is unused, top is the first line shown
	left    int   // cells scrolled to the right
	search  string
}

type viewerResult struct {
	serial int
	data   []byte
	more   int64
	patch  bool
	err    error
}

// readHead reads the beginning of a regular file.
func readHead(m *inspect.Model, v inspect.Version, limit int64) (data []byte, more int64, err error) {
	f, err := m.Open(v)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	data = make([]byte, min(limit, v.Size))
	n, err := f.ReadAt(data, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, 0, fmt.Errorf("read %s of layer %d: %w", m.Path(v.Node), v.Layer, err)
	}
	return data[:n], v.Size - int64(n), nil
}

// openViewer puts the viewer on the screen; load runs as a task.
func (x *Explorer) openViewer(title string, load func(ctx context.Context) viewerResult) {
	serial := 1
	if x.viewer != nil {
		serial = x.viewer.serial + 1
		x.viewer.cancel()
	}
	ctx, cancel := context.WithCancel(x.ctx)
	x.viewer = &viewer{serial: serial, title: clean(title), cancel: cancel, loading: true}
	x.viewer.resize(x.width, x.height)
	x.tasks = append(x.tasks, func() any {
		r := load(ctx)
		r.serial = serial
		return r
	})
}

// view opens one version.
func (x *Explorer) view(v inspect.Version) {
	path := x.m.Path(v.Node)
	switch {
	case v.Whiteout:
		x.say(failure, "a whiteout has no content; choose a version in the detail")
		return
	case v.Type() == unix.S_IFLNK:
		x.follow(v)
		return
	case !v.IsFile():
		x.say(failure, "%s is no file, it has nothing to view", path)
		return
	case v.Dangling:
		x.say(failure, "the bytes of %s are in no layer", path)
		return
	}
	m := x.m
	x.openViewer(fmt.Sprintf("%s in layer %d, %s", path, v.Layer, size(v.Size)), func(context.Context) viewerResult {
		data, more, err := readHead(m, v, viewerBytes)
		return viewerResult{data: data, more: more, err: err}
	})
}

// compareVersions opens the difference between two versions of a path.
func (x *Explorer) compareVersions(old, now inspect.Version) {
	m, path := x.m, x.m.Path(now.Node)
	x.openViewer(fmt.Sprintf("%s: layer %d against layer %d", path, old.Layer, now.Layer), func(ctx context.Context) viewerResult {
		var b bytes.Buffer
		what, err := m.Differences(ctx, old, m, now)
		if err != nil {
			return viewerResult{err: err}
		}
		describe := func(sign string, v *inspect.Version) {
			fmt.Fprintf(&b, "%s %s %d:%d %d bytes, layer %d\n", sign, inspect.ModeString(v.Mode), v.UID, v.GID, v.Size, v.Layer)
		}
		describe("-", &old)
		describe("+", &now)
		if what == 0 {
			b.WriteString("  the same in everything\n")
		} else {
			fmt.Fprintf(&b, "  differ in: %s\n", strings.Join(what.Names(), ", "))
		}
		change := inspect.Change{Kind: inspect.Changed, Path: path, Old: &old, New: &now}
		if !old.IsDir() && !now.IsDir() {
			err = inspect.WritePatch(&b, inspect.View{Model: m, Layer: old.Layer}, inspect.View{Model: m, Layer: now.Layer}, []inspect.Change{change})
		}
		return viewerResult{data: b.Bytes(), patch: true, err: err}
	})
}

func (v *viewer) loaded(r viewerResult) {
	v.loading, v.data, v.more, v.patch, v.err = false, r.data, r.more, r.patch, r.err
	v.text = bytes.Split(bytes.TrimSuffix(r.data, []byte("\n")), []byte("\n"))
	v.hex = !r.patch && !inspect.IsText(r.data)
}

// hexBytes is how many bytes a line of a hex dump has.
const hexBytes = 16

func (v *viewer) resize(_, height int) {
	v.list.length = len(v.text)
	if v.hex {
		v.list.length = (len(v.data) + hexBytes - 1) / hexBytes
	}
	v.list.height = max(1, height-2)
	v.list.scroll(v.list.top)
}

// screen are the lines between title and foot.
func (v *viewer) screen() []line {
	switch {
	case v.err != nil:
		return []line{textLine(failure, v.err.Error())}
	case v.loading:
		return []line{textLine(dim, "reading…")}
	case len(v.data) == 0:
		return []line{textLine(dim, "the file is empty")}
	}
	var out []line
	digits := max(3, len(fmt.Sprint(len(v.text))))
	for i := v.list.top; i < min(v.list.top+v.list.height, v.list.length); i++ {
		switch {
		case v.hex:
			out = append(out, hexLine(v.data, i))
		case v.patch:
			out = append(out, v.shift(textLine(patchStyle(v.text[i]), expand(v.text[i]))))
		default:
			s := plain
			if v.search != "" && bytes.Contains(v.text[i], []byte(v.search)) {
				s = hit
			}
			l := v.shift(textLine(s, expand(v.text[i])))
			l.spans = append([]span{{dim, padLeft(fmt.Sprint(i+1), digits) + " "}}, l.spans...)
			out = append(out, l)
		}
	}
	return out
}

// shift leaves out the cells that are scrolled away.
func (v *viewer) shift(l line) line {
	r := []rune(l.spans[0].text)
	l.spans[0].text = string(r[min(v.left, len(r)):])
	return l
}

func patchStyle(text []byte) style {
	switch {
	case bytes.HasPrefix(text, []byte("+++")), bytes.HasPrefix(text, []byte("---")), bytes.HasPrefix(text, []byte("diff ")):
		return strong
	case bytes.HasPrefix(text, []byte("+")):
		return added
	case bytes.HasPrefix(text, []byte("-")):
		return deleted
	case bytes.HasPrefix(text, []byte("@@")):
		return heading
	}
	return plain
}

// longestLine is how many bytes of one line are shown.
const longestLine = 8 << 10

// expand writes tabs as spaces.
func expand(text []byte) string {
	s := strings.TrimSuffix(string(text[:min(len(text), longestLine)]), "\r")
	if !strings.Contains(s, "\t") {
		return s
	}
	var b strings.Builder
	column := 0
	for _, r := range s {
		if r == '\t' {
			n := 8 - column%8
			b.WriteString(strings.Repeat(" ", n))
			column += n
			continue
		}
		b.WriteRune(r)
		column++
	}
	return b.String()
}

// hexLine is line i of a hex dump, as hexdump -C writes it.
func hexLine(data []byte, i int) line {
	part := data[i*hexBytes : min((i+1)*hexBytes, len(data))]
	var digits, text strings.Builder
	for k := range hexBytes {
		if k == hexBytes/2 {
			digits.WriteByte(' ')
		}
		if k >= len(part) {
			digits.WriteString("   ")
			continue
		}
		fmt.Fprintf(&digits, "%02x ", part[k])
		if part[k] < ' ' || part[k] > '~' {
			text.WriteByte('.')
		} else {
			text.WriteByte(part[k])
		}
	}
	return line{spans: []span{{dim, fmt.Sprintf("%08x  ", i*hexBytes)}, {plain, digits.String()}, {dim, " " + text.String()}}}
}

// contentLines are the first lines of a file: text, or a short hex dump.
func contentLines(head []byte, limit int) []line {
	var out []line
	if !inspect.IsText(head) {
		for i := 0; i < limit && i*8 < len(head); i++ {
			part := head[i*8 : min(i*8+8, len(head))]
			l := textLine(plain, fmt.Sprintf("% -24x", part))
			l.add(dim, strings.Map(printable, string(part)))
			out = append(out, l)
		}
		return out
	}
	for i, text := range bytes.SplitN(bytes.TrimSuffix(head, []byte("\n")), []byte("\n"), limit+1) {
		if i == limit {
			break
		}
		l := textLine(dim, padLeft(fmt.Sprint(i+1), 3)+" ")
		l.add(plain, clean(expand(text)))
		out = append(out, l)
	}
	return out
}

func printable(r rune) rune {
	if r < ' ' || r > '~' {
		return '.'
	}
	return r
}
