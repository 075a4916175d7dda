package tui

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/unionfs-go/unionfs/internal/inspect"
)

// prompt is a line of input at the foot of the screen.
type prompt struct {
	label   string
	text    string
	changed func(x *Explorer, text string) // after each key, may be nil
	done    func(x *Explorer, text string)
	abort   func(x *Explorer) // may be nil
}

func (x *Explorer) promptKey(name, text string) {
	p := x.prompt
	old := p.text
	switch name {
	case "esc":
		x.prompt = nil
		if p.abort != nil {
			p.abort(x)
		}
		return
	case "enter":
		x.prompt = nil
		p.done(x, p.text)
		return
	case "backspace", "ctrl+h":
		if p.text == "" {
			x.promptKey("esc", "")
			return
		}
		_, n := utf8.DecodeLastRuneInString(p.text)
		p.text = p.text[:len(p.text)-n]
	case "ctrl+u":
		p.text = ""
	case "ctrl+w":
		p.text = p.text[:strings.LastIndexAny(strings.TrimRight(p.text, " /"), " /")+1]
	default:
		p.text += text
	}
	if p.changed != nil && p.text != old {
		p.changed(x, p.text)
	}
}

// Paste takes text from the terminal's clipboard.
func (x *Explorer) Paste(text string) {
	if x.prompt != nil {
		line, _, _ := strings.Cut(text, "\n")
		x.Key("paste", strings.TrimRight(line, "\r"))
	}
}

// startSearch asks for a pattern and goes to the first match from where the
// cursor is while it is typed.
func (x *Explorer) startSearch() {
	x.focus = paneTree
	origin, from := x.tree.list, inspect.Root
	if r, ok := x.tree.selected(); ok {
		from = r.node
	}
	back := func(x *Explorer) {
		x.tree.reveal(from)
		x.tree.list.scroll(origin.top)
		x.tree.list.to(x.tree.list.cursor)
	}
	x.found.back = back
	x.prompt = &prompt{
		label: "/",
		changed: func(x *Explorer, text string) {
			x.found.pattern = text
			if text == "" {
				back(x)
				return
			}
			match := matcher(x.m, text)
			x.findFrom(from, 1, match, text)
		},
		done: func(x *Explorer, text string) {
			x.found.back = nil
			if text == "" {
				x.found = found{serial: x.found.serial}
			} else if x.found.total == 0 && !x.found.running {
				x.say(failure, "nothing here has %q in its name", text)
			}
		},
		abort: func(x *Explorer) {
			x.found = found{serial: x.found.serial + 1}
			back(x)
		},
	}
}

func (x *Explorer) startViewerSearch() {
	x.prompt = &prompt{label: "/", done: func(x *Explorer, text string) {
		v := x.viewer
		if v == nil || text == "" {
			return
		}
		v.search = text
		if v.hex || len(v.text) == 0 || v.list.top < len(v.text) && !bytes.Contains(v.text[v.list.top], []byte(text)) {
			v.next(x, 1)
		}
	}}
}

// startExtract asks for a directory and writes what is selected there: of the
// tree what the view shows, of the detail the version under the cursor.
func (x *Explorer) startExtract() {
	r, ok := x.tree.selected()
	if !ok {
		return
	}
	view := x.tree.lens.view
	opt := inspect.ExtractOptions{}
	if v, ok := x.version(); ok && (x.focus == paneDetail || r.version != noVersion || !v.VisibleIn(view)) {
		if x.focus == paneDetail {
			v, ok = x.detail.selected()
		}
		if !ok || v.Whiteout {
			x.say(failure, "a whiteout has nothing to extract; choose a version in the detail")
			return
		}
		view, opt.Own = v.Layer, true
	}
	what := fmt.Sprintf("%s of layer %d", x.m.Path(r.node), view)
	if !opt.Own {
		what = x.m.Path(r.node)
	}
	x.prompt = &prompt{label: "extract " + clean(what) + " into the directory: ", text: ".", done: func(x *Explorer, dir string) {
		if dir == "" {
			return
		}
		x.say(dim, "extracting %s into %s…", what, dir)
		x.extract(r.node, view, dir, what, opt)
	}}
}

type extractResult struct {
	what    string
	dir     string
	skipped int
	err     error
}

func (x *Explorer) extract(n inspect.Node, view int, dir, what string, opt inspect.ExtractOptions) {
	m, ctx := x.m, x.ctx
	x.tasks = append(x.tasks, func() any {
		r := extractResult{what: what, dir: dir}
		opt.Skipped = func(string, string) { r.skipped++ }
		r.err = m.Extract(ctx, n, view, dir, opt)
		return r
	})
}

func (r extractResult) message() line {
	switch {
	case r.err != nil:
		return textLine(failure, r.err.Error())
	case r.skipped > 0:
		return textLine(failure, fmt.Sprintf("extracted %s into %s, without %d objects that need privileges", r.what, r.dir, r.skipped))
	}
	return textLine(plain, fmt.Sprintf("extracted %s into %s", r.what, r.dir))
}
