package image

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// validSignal tells whether name, without SIG, is a signal; RTMIN+N counts.
func validSignal(name string) bool {
	if base, _, ok := strings.Cut(name, "+"); ok || name == "RTMIN" || name == "RTMAX" {
		return base == "RTMIN" || name == "RTMIN" || name == "RTMAX"
	}
	if base, _, ok := strings.Cut(name, "-"); ok {
		return base == "RTMAX"
	}
	return unix.SignalNum("SIG"+name) != 0
}

// lexer reads words in Dockerfile syntax: quotes, backslashes and variables, as
// BuildKit's shell lexer does it for ENV and LABEL.
type lexer struct {
	in  string
	pos int
	env func(string) (string, bool)
}

var errQuote = errors.New("a quote is not closed")

// splitWords splits at blanks outside quotes; quotes are removed, variables
// replaced.
func splitWords(s string, env func(string) (string, bool)) ([]string, error) {
	l := &lexer{in: s, env: env}
	var out []string
	for {
		l.blanks()
		if l.pos == len(l.in) {
			return out, nil
		}
		w, err := l.word(true)
		if err != nil {
			return nil, err
		}
		out = append(out, w)
	}
}

// expand is splitWords for a text that is one word whatever its blanks.
func expand(s string, env func(string) (string, bool)) (string, error) {
	l := &lexer{in: s, env: env}
	return l.word(false)
}

// keyValues reads KEY=VALUE..., or the old form KEY VALUE.
func keyValues(s string, env func(string) (string, bool)) ([][2]string, error) {
	first := s
	if i := strings.IndexAny(s, " \t"); i >= 0 {
		first = s[:i]
	}
	if !strings.Contains(first, "=") {
		key, rest := s, ""
		if i := strings.IndexAny(s, " \t"); i >= 0 {
			key, rest = s[:i], strings.TrimSpace(s[i:])
		}
		if rest == "" {
			return nil, fmt.Errorf("%q has no value: write KEY=VALUE", key)
		}
		v, err := expand(rest, env)
		return [][2]string{{key, v}}, err
	}
	words, err := splitWords(s, env)
	if err != nil {
		return nil, err
	}
	var out [][2]string
	for _, w := range words {
		k, v, ok := strings.Cut(w, "=")
		if !ok || k == "" {
			return nil, fmt.Errorf("%q is not KEY=VALUE; quote blanks in a value", w)
		}
		out = append(out, [2]string{k, v})
	}
	return out, nil
}

func (l *lexer) blanks() {
	for l.pos < len(l.in) && (l.in[l.pos] == ' ' || l.in[l.pos] == '\t') {
		l.pos++
	}
}

// word reads to the next blank, or to the end where blanks do not count.
func (l *lexer) word(stop bool) (string, error) {
	var b strings.Builder
	for l.pos < len(l.in) {
		c := l.in[l.pos]
		switch {
		case stop && (c == ' ' || c == '\t'):
			return b.String(), nil
		case c == '\'':
			end := strings.IndexByte(l.in[l.pos+1:], '\'')
			if end < 0 {
				return "", errQuote
			}
			b.WriteString(l.in[l.pos+1 : l.pos+1+end])
			l.pos += end + 2
		case c == '"':
			if err := l.quoted(&b); err != nil {
				return "", err
			}
		case c == '\\':
			l.pos++
			if l.pos < len(l.in) {
				b.WriteByte(l.in[l.pos])
				l.pos++
			}
		case c == '$':
			if err := l.variable(&b); err != nil {
				return "", err
			}
		default:
			b.WriteByte(c)
			l.pos++
		}
	}
	return b.String(), nil
}

// quoted reads a double-quoted part; a backslash counts before ", $ and \.
func (l *lexer) quoted(b *strings.Builder) error {
	l.pos++
	for l.pos < len(l.in) {
		switch c := l.in[l.pos]; c {
		case '"':
			l.pos++
			return nil
		case '\\':
			if l.pos+1 < len(l.in) && strings.IndexByte(`"$\`, l.in[l.pos+1]) >= 0 {
				l.pos++
			}
			b.WriteByte(l.in[l.pos])
			l.pos++
		case '$':
			if err := l.variable(b); err != nil {
				return err
			}
		default:
			b.WriteByte(c)
			l.pos++
		}
	}
	return errQuote
}

func nameByte(c byte, first bool) bool {
	return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || !first && c >= '0' && c <= '9'
}

// variable reads $NAME, ${NAME}, ${NAME:-default} or ${NAME:+other}.
func (l *lexer) variable(b *strings.Builder) error {
	l.pos++
	if l.pos < len(l.in) && l.in[l.pos] == '{' {
		return l.braced(b)
	}
	start := l.pos
	for l.pos < len(l.in) && nameByte(l.in[l.pos], l.pos == start) {
		l.pos++
	}
	if l.pos == start {
		b.WriteByte('$')
		return nil
	}
	v, _ := l.env(l.in[start:l.pos])
	b.WriteString(v)
	return nil
}

func (l *lexer) braced(b *strings.Builder) error {
	end := strings.IndexByte(l.in[l.pos:], '}')
	if end < 0 {
		return errors.New("${ is not closed by }")
	}
	text := l.in[l.pos+1 : l.pos+end]
	l.pos += end + 1
	name, op, other := text, "", ""
	if i := strings.IndexByte(text, ':'); i >= 0 {
		name, other = text[:i], text[i+1:]
		if other != "" {
			op, other = other[:1], other[1:]
		}
	}
	for i := range len(name) {
		if !nameByte(name[i], i == 0) {
			return fmt.Errorf("${%s} is not a variable", text)
		}
	}
	v, set := l.env(name)
	set = set && v != ""
	switch {
	case name == "" || name != text && op != "-" && op != "+":
		return fmt.Errorf("${%s} is not supported: use ${NAME}, ${NAME:-WORD} or ${NAME:+WORD}", text)
	case op == "-" && !set, op == "+" && set:
		v = other
	case op == "+":
		v = ""
	}
	b.WriteString(v)
	return nil
}
