package tui

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"charm.land/lipgloss/v2"
)

// style names the look of a span; see palette.
type style uint8

// The styles.
const (
	plain style = iota
	dim
	strong
	heading
	added
	modified
	deleted
	gone
	directory
	link
	bar
	hit
	failure
)

// span is text in one style; the text is clean.
type span struct {
	style style
	text  string
}

// line is one line of the screen. A selected one is drawn in reverse.
type line struct {
	spans    []span
	selected bool
}

// textLine makes a line of one span; the text is cleaned.
func textLine(s style, text string) line { return line{spans: []span{{s, clean(text)}}} }

func (l *line) add(s style, text string) { l.spans = append(l.spans, span{s, text}) }

// plain is the line without styles.
func (l line) plain() string {
	var b strings.Builder
	for _, s := range l.spans {
		b.WriteString(s.text)
	}
	return b.String()
}

// width is how many cells text takes.
func width(text string) int {
	if isASCII(text) {
		return len(text)
	}
	return lipgloss.Width(text)
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// clean makes text harmless: what cannot be printed, or turns the direction of
// writing, is written as an escape.
func clean(text string) string {
	ok := utf8.ValidString(text)
	for _, r := range text {
		if !unicode.IsPrint(r) {
			ok = false
			break
		}
	}
	if ok {
		return text
	}
	var b strings.Builder
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRuneInString(text[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, text[i])
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < 0x80 && !unicode.IsPrint(r):
			fmt.Fprintf(&b, `\x%02x`, r)
		case !unicode.IsPrint(r):
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
		i += size
	}
	return b.String()
}

// cut shortens clean text to at most w cells; what was longer ends in "…".
func cut(text string, w int) string {
	if width(text) <= w {
		return text
	}
	if w <= 0 {
		return ""
	}
	end, used := 0, 0
	for i, r := range text {
		rw := width(string(r))
		if used+rw > w-1 {
			break
		}
		used += rw
		end = i + utf8.RuneLen(r)
	}
	return text[:end] + "…"
}

// cutLeft shortens clean text from its beginning.
func cutLeft(text string, w int) string {
	if width(text) <= w {
		return text
	}
	for i := range text {
		if width(text[i:]) <= w-1 {
			return "…" + text[i:]
		}
	}
	return cut("…", w)
}

// pad fills clean text up to w cells, or cuts it.
func pad(text string, w int) string {
	text = cut(text, w)
	return text + strings.Repeat(" ", max(0, w-width(text)))
}

// padLeft is pad with the spaces first.
func padLeft(text string, w int) string {
	text = cut(text, w)
	return strings.Repeat(" ", max(0, w-width(text))) + text
}

// fit makes a line exactly w cells wide.
func (l line) fit(w int) line {
	out := line{selected: l.selected}
	left := w
	for _, s := range l.spans {
		if left == 0 {
			break
		}
		text := cut(s.text, left)
		left -= width(text)
		out.add(s.style, text)
	}
	if left > 0 {
		out.add(plain, strings.Repeat(" ", left))
	}
	return out
}

// wrap breaks clean text into at most limit lines of w cells.
func wrap(text string, w, limit int) []string {
	var out []string
	for text != "" && w > 0 {
		if len(out) == limit-1 || width(text) <= w {
			return append(out, cut(text, w))
		}
		part := strings.TrimSuffix(cut(text, w+1), "…")
		if i := strings.LastIndexByte(part, ' '); i > w/2 {
			part = part[:i]
		}
		if part == "" {
			break
		}
		out = append(out, part)
		text = strings.TrimLeft(text[len(part):], " ")
	}
	return out
}

// size writes a number of bytes in at most seven cells, in units of 1000.
func size(n int64) string {
	if n < 1000 {
		return fmt.Sprint(n, " B")
	}
	f := float64(n)
	for _, unit := range []string{"kB", "MB", "GB", "TB", "PB"} {
		f /= 1000
		if f < 99.95 {
			return fmt.Sprintf("%.1f %s", f, unit)
		}
		if f < 999.5 {
			return fmt.Sprintf("%.0f %s", f, unit)
		}
	}
	return fmt.Sprintf("%.0f EB", f/1000)
}

// count writes a number in at most five cells.
func count(n int) string {
	switch {
	case n < 10000:
		return fmt.Sprint(n)
	case n < 999500:
		return fmt.Sprintf("%.0fk", float64(n)/1e3)
	}
	return fmt.Sprintf("%.1fM", float64(n)/1e6)
}

// gauge draws part of whole as a bar of w cells.
func gauge(part, whole int64, w int) string {
	if whole <= 0 || part <= 0 {
		return strings.Repeat(" ", w)
	}
	eighths := int(float64(min(part, whole)) / float64(whole) * float64(8*w))
	text := strings.Repeat("█", eighths/8)
	if rest := eighths % 8; rest > 0 {
		text += string([]rune(" ▏▎▍▌▋▊▉")[rest])
	}
	return pad(text, w)
}
