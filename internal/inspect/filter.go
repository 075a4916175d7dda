package inspect

import (
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrFilter is wrapped by errors about expressions that cannot be understood.
var ErrFilter = errors.New("bad expression")

// Filter is an expression about versions, as find takes it.
type Filter struct {
	terms []term
	// AnyState: the expression says in which state versions are to be, so that
	// all have to be asked and not only those that show.
	AnyState bool
	// Layers: it speaks of layers, so that other versions than the topmost one
	// may be meant.
	Layers bool
}

type term struct {
	not   bool
	match func(m *Model, v *Version) (bool, error)
}

// ParseFilter understands an expression: words that must all hold, each
// perhaps with "!" before it.
//
//	name:GLOB  path:GLOB     a part of a path, or all of it; a word without ":" is a name
//	size>10M                 also < >= <= =; k M G T are decimal, Ki Mi Gi Ti binary
//	mode:suid                sgid, sticky, setid, writable (by everybody), or octal digits
//	owner:UID[:GID]          group:GID
//	type:f                   d l c b p s
//	layer:N                  the layer that the version is in
//	state:visible            hidden, deleted, overwritten, whiteout
//	xattr:TEXT               an attribute with TEXT in its name; cap is security.capability
func ParseFilter(words []string) (*Filter, error) {
	f := &Filter{}
	for _, text := range words {
		for _, word := range strings.Fields(text) {
			t, err := f.parse(word)
			if err != nil {
				return nil, fmt.Errorf("%q: %w", word, err)
			}
			f.terms = append(f.terms, t)
		}
	}
	return f, nil
}

// Match tells whether a version meets the expression. Errors are those of
// reading attributes.
func (f *Filter) Match(m *Model, v *Version) (bool, error) {
	for _, t := range f.terms {
		ok, err := t.match(m, v)
		if err != nil || ok == t.not {
			return false, err
		}
	}
	return true, nil
}

func (f *Filter) parse(word string) (t term, err error) {
	word, t.not = strings.CutPrefix(word, "!")
	if rest, ok := strings.CutPrefix(word, "size"); ok && rest != "" && strings.ContainsRune("<>=", rune(rest[0])) {
		t.match, err = sizeTerm(rest)
		return t, err
	}
	key, value, ok := strings.Cut(word, ":")
	if !ok {
		key, value = "name", word
	}
	if value == "" {
		return t, fmt.Errorf("nothing to look for: %w", ErrFilter)
	}
	switch key {
	case "name", "path":
		t.match, err = globTerm(key, value)
	case "size":
		t.match, err = sizeTerm("=" + value)
	case "mode":
		t.match, err = modeTerm(value)
	case "owner", "group":
		t.match, err = ownerTerm(key, value)
	case "type":
		t.match, err = typeTerm(value)
	case "layer":
		f.Layers = true
		t.match, err = layerTerm(value)
	case "state":
		f.AnyState = true
		t.match, err = stateTerm(value)
	case "xattr":
		t.match = xattrTerm(value)
	default:
		err = fmt.Errorf("no term %s: %w", key, ErrFilter)
	}
	return t, err
}

type match = func(m *Model, v *Version) (bool, error)

// plain is a term that reads nothing.
func plain(f func(v *Version) bool) match {
	return func(_ *Model, v *Version) (bool, error) { return f(v), nil }
}

func globTerm(key, glob string) (match, error) {
	if _, err := path.Match(glob, ""); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFilter, err)
	}
	return func(m *Model, v *Version) (bool, error) {
		subject := m.Name(v.Node)
		if key == "path" {
			subject = m.Path(v.Node)
			if strings.HasPrefix(subject, strings.TrimSuffix(glob, "/")+"/") {
				return true, nil // all below a directory
			}
		}
		return path.Match(glob, subject)
	}, nil
}

func sizeTerm(s string) (match, error) {
	op, rest := splitOp(s)
	n, err := ParseSize(rest)
	if err != nil {
		return nil, err
	}
	return plain(func(v *Version) bool { return v.IsFile() && compareOp(op, float64(v.Size), float64(n)) }), nil
}

// splitOp takes a comparison off the beginning of s.
func splitOp(s string) (op, rest string) {
	for _, op := range []string{">=", "<=", "!=", "==", ">", "<", "="} {
		if rest, ok := strings.CutPrefix(s, op); ok {
			return op, rest
		}
	}
	return "", s
}

func compareOp(op string, a, b float64) bool {
	switch op {
	case ">":
		return a > b
	case "<":
		return a < b
	case ">=":
		return a >= b
	case "<=":
		return a <= b
	case "!=":
		return a != b
	}
	return a == b
}

// ParseSize understands a number of bytes with a unit: k, M, G and T are powers
// of 1000, Ki, Mi, Gi and Ti powers of 1024; a B may follow.
func ParseSize(s string) (int64, error) {
	number := strings.TrimRightFunc(s, func(r rune) bool { return r != '.' && (r < '0' || r > '9') })
	unit := strings.ToLower(strings.TrimSpace(s[len(number):]))
	factor := float64(1)
	if unit != "" && unit != "b" {
		power := strings.IndexByte("kmgt", unit[0]) + 1
		base := float64(1000)
		switch strings.TrimSuffix(unit[1:], "b") {
		case "":
		case "i":
			base = 1024
		default:
			power = 0
		}
		if power == 0 {
			return 0, fmt.Errorf("%q is no unit of size (k, M, G, Ki, Mi, Gi): %w", s[len(number):], ErrFilter)
		}
		for range power {
			factor *= base
		}
	}
	n, err := strconv.ParseFloat(number, 64)
	if err != nil || n*factor > 1<<62 {
		return 0, fmt.Errorf("%q is no size: %w", s, ErrFilter)
	}
	return int64(n * factor), nil
}

func modeTerm(value string) (match, error) {
	bits := map[string]uint32{
		"suid": unix.S_ISUID, "sgid": unix.S_ISGID, "sticky": unix.S_ISVTX, "setid": unix.S_ISUID | unix.S_ISGID, "writable": 0o002,
	}
	if want, ok := bits[value]; ok {
		return plain(func(v *Version) bool {
			// A link's mode says nothing, nor does a directory's set-group-ID.
			if v.Type() == unix.S_IFLNK || v.IsDir() && (value == "suid" || value == "sgid" || value == "setid") {
				return false
			}
			return v.Mode&want != 0
		}), nil
	}
	n, err := strconv.ParseUint(value, 8, 12)
	if err != nil {
		return nil, fmt.Errorf("a mode is suid, sgid, setid, sticky, writable or octal digits: %w", ErrFilter)
	}
	return plain(func(v *Version) bool { return v.Mode&0o7777 == uint32(n) }), nil
}

func ownerTerm(key, value string) (match, error) {
	uid, gid, both := strings.Cut(value, ":")
	if key == "group" {
		uid, gid, both = "", value, true
	}
	u, uerr := strconv.ParseUint(uid, 10, 32)
	g, gerr := strconv.ParseUint(gid, 10, 32)
	if uid != "" && uerr != nil || both && gerr != nil {
		return nil, fmt.Errorf("an owner is UID or UID:GID, in numbers: %w", ErrFilter)
	}
	return plain(func(v *Version) bool {
		return !v.Whiteout && (uid == "" || uint64(v.UID) == u) && (!both || uint64(v.GID) == g)
	}), nil
}

func typeTerm(value string) (match, error) {
	types := map[string]uint32{
		"f": unix.S_IFREG, "d": unix.S_IFDIR, "l": unix.S_IFLNK, "c": unix.S_IFCHR, "b": unix.S_IFBLK, "p": unix.S_IFIFO, "s": unix.S_IFSOCK,
	}
	want, ok := types[value]
	if !ok {
		return nil, fmt.Errorf("a type is one of f d l c b p s: %w", ErrFilter)
	}
	return plain(func(v *Version) bool { return v.Type() == want }), nil
}

func layerTerm(value string) (match, error) {
	n, err := strconv.Atoi(value)
	if err != nil {
		return nil, fmt.Errorf("a layer is a number, 0 is the top: %w", ErrFilter)
	}
	return plain(func(v *Version) bool { return v.Layer == n }), nil
}

func stateTerm(value string) (match, error) {
	switch value {
	case "visible":
		return plain((*Version).Visible), nil
	case "whiteout":
		return plain(func(v *Version) bool { return v.Whiteout }), nil
	case "hidden":
		return func(m *Model, v *Version) (bool, error) { return m.Hidden(v), nil }, nil
	case "deleted", "overwritten":
		return func(m *Model, v *Version) (bool, error) {
			return m.Hidden(v) && (m.at(v.Node, v.Until) < 0) == (value == "deleted"), nil
		}, nil
	}
	return nil, fmt.Errorf("a state is visible, hidden, deleted, overwritten or whiteout: %w", ErrFilter)
}

func xattrTerm(value string) match {
	if value == "cap" {
		value = "security.capability"
	}
	return func(m *Model, v *Version) (bool, error) {
		if v.Whiteout || !v.HasXattr {
			return false, nil
		}
		list, err := m.Xattrs(*v)
		if err != nil {
			return false, err
		}
		for _, x := range list {
			if strings.Contains(x.Name, value) {
				return true, nil
			}
		}
		return false, nil
	}
}
