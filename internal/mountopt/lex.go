package mountopt

import (
	"fmt"
	"strings"
)

// option is one element of an option string. value still has its escapes.
type option struct {
	name     string
	value    string
	hasValue bool
}

// text is the option as a user would recognise it.
func (o option) text() string {
	if !o.hasValue {
		return o.name
	}
	return o.name + "=" + Unescape(o.value)
}

// lex cuts an option string into options. Empty elements are skipped.
func lex(s string) ([]option, error) {
	var out []option
	for len(s) > 0 {
		o, rest, err := lexOne(s)
		if err != nil {
			return nil, err
		}
		s = rest
		if o.name != "" {
			out = append(out, o)
		}
	}
	return out, nil
}

// lexOne cuts the first option off s; rest begins after the comma.
func lexOne(s string) (o option, rest string, err error) {
	eq := strings.IndexAny(s, "=,")
	if eq < 0 {
		return option{name: s}, "", nil
	}
	o.name = s[:eq]
	if s[eq] == ',' {
		return o, s[eq+1:], nil
	}
	if o.name == "" {
		return o, "", fmt.Errorf("option %q has no name", s)
	}
	o.hasValue = true
	s = s[eq+1:]
	if strings.HasPrefix(s, `"`) {
		end := indexUnescaped(s[1:], '"')
		if end < 0 {
			return o, "", fmt.Errorf("option %s: the quote is not closed", o.name)
		}
		o.value, s = s[1:1+end], s[end+2:]
		if s != "" && s[0] != ',' {
			return o, "", fmt.Errorf("option %s: text after the closing quote", o.name)
		}
		return o, strings.TrimPrefix(s, ","), nil
	}
	end := indexUnescaped(s, ',')
	if end < 0 {
		o.value = s
		return o, "", nil
	}
	o.value = s[:end]
	return o, s[end+1:], nil
}

// indexUnescaped is where c stands in s without a backslash before it, or -1.
func indexUnescaped(s string, c byte) int {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case c:
			return i
		}
	}
	return -1
}

// Unescape removes the backslashes of escapes.
func Unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// SplitLayers cuts a lowerdir value at its unescaped colons and removes the
// escapes. An empty element is returned as "".
func SplitLayers(value string) []string {
	var out []string
	for {
		end := indexUnescaped(value, ':')
		if end < 0 {
			return append(out, Unescape(value))
		}
		out = append(out, Unescape(value[:end]))
		value = value[end+1:]
	}
}

// escape puts a backslash before every character of special, and before
// backslashes and a leading quote.
func escape(s, special string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' || strings.IndexByte(special, s[i]) >= 0 || i == 0 && s[i] == '"' {
			b.WriteByte('\\')
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// JoinLayers makes the lowerdir value that SplitLayers takes apart again.
func JoinLayers(layers []string) string {
	out := make([]string, len(layers))
	for i, l := range layers {
		out[i] = escape(l, ",:")
	}
	return strings.Join(out, ":")
}
