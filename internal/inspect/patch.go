package inspect

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// MaxPatch is the size, in bytes, up to which files are compared line by line.
const MaxPatch = 4 << 20

// WritePatch writes the changes from a to b, as Compare lists them, as a patch
// in git's format. Files that are no text, or larger than MaxPatch, are named
// only. Owners, times and attributes have no place in it.
func WritePatch(w io.Writer, a, b View, changes []Change) error {
	for _, c := range changes {
		if err := patchOne(w, a, b, c); err != nil {
			return err
		}
	}
	return nil
}

func patchOne(w io.Writer, a, b View, c Change) error {
	old, now := c.Old, c.New
	if c.Kind == Deleted && old.IsDir() {
		return patchDeletedDir(w, a, old.Node, c.Path)
	}
	if c.Kind == Copied || !patchable(old) && !patchable(now) {
		return nil
	}
	if old.isDir() && !now.isDir() {
		if err := patchDeletedDir(w, a, old.Node, c.Path); err != nil {
			return err
		}
	}
	from := c.Path
	if c.From != "" {
		from = c.From
	}
	if patchable(old) && patchable(now) && old.Type() != now.Type() || old != nil && now != nil && patchable(old) != patchable(now) {
		// Another type is one file gone and another one there.
		if err := patchFile(w, a, b, old, nil, from, c.Path); err != nil {
			return err
		}
		old = nil
	}
	return patchFile(w, a, b, old, now, from, c.Path)
}

// patchDeletedDir writes that all files at and below a directory are gone.
func patchDeletedDir(w io.Writer, a View, n Node, path string) error {
	for c := range a.Model.Children(n) {
		v, ok := a.Model.At(c, a.Layer)
		if !ok {
			continue
		}
		sub := strings.TrimSuffix(path, "/") + "/" + a.Model.Name(c)
		err := error(nil)
		if v.IsDir() {
			err = patchDeletedDir(w, a, c, sub)
		} else {
			err = patchFile(w, a, a, &v, nil, sub, sub)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (v *Version) isDir() bool { return v != nil && v.IsDir() }

// patchable tells whether git would keep the object.
func patchable(v *Version) bool {
	return v != nil && (v.IsFile() || v.Type() == unix.S_IFLNK)
}

func patchFile(w io.Writer, a, b View, old, now *Version, from, to string) error {
	if !patchable(old) {
		old = nil
	}
	if !patchable(now) {
		now = nil
	}
	nameA, nameB := quotePath("a"+from), quotePath("b"+to)
	var head bytes.Buffer
	fmt.Fprintf(&head, "diff --git %s %s\n", nameA, nameB)
	switch {
	case old == nil && now == nil:
		return nil
	case old == nil:
		fmt.Fprintf(&head, "new file mode %s\n", gitMode(now))
		nameA = "/dev/null"
	case now == nil:
		fmt.Fprintf(&head, "deleted file mode %s\n", gitMode(old))
		nameB = "/dev/null"
	default:
		if x, y := gitMode(old), gitMode(now); x != y {
			fmt.Fprintf(&head, "old mode %s\nnew mode %s\n", x, y)
		}
		if from != to {
			fmt.Fprintf(&head, "rename from %s\nrename to %s\n", quotePath(from[1:]), quotePath(to[1:]))
		}
	}
	ta, textA, err := patchText(a.Model, old)
	if err != nil {
		return err
	}
	tb, textB, err := patchText(b.Model, now)
	if err != nil {
		return err
	}
	lines := bytes.Count(head.Bytes(), []byte("\n"))
	var body bytes.Buffer
	if !textA || !textB {
		fmt.Fprintf(&body, "Binary files %s and %s differ\n", nameA, nameB)
	} else if !bytes.Equal(ta, tb) {
		if old != nil && now != nil && gitMode(old) == gitMode(now) {
			fmt.Fprintf(&body, "index 0000000..0000000 %s\n", gitMode(now)) // a link is told from a file by it
		}
		fmt.Fprintf(&body, "--- %s\n+++ %s\n", nameA, nameB)
		if err := writeUnified(&body, ta, tb); err != nil {
			return err
		}
	}
	if body.Len() == 0 && lines == 1 {
		return nil // only what a patch cannot say
	}
	if _, err := w.Write(head.Bytes()); err != nil {
		return err
	}
	_, err = w.Write(body.Bytes())
	return err
}

func gitMode(v *Version) string {
	switch {
	case v.Type() == unix.S_IFLNK:
		return "120000"
	case v.Mode&0o111 != 0:
		return "100755"
	}
	return "100644"
}

// patchText reads the text of a file, or the target of a link; text is false
// for what is none or too large.
func patchText(m *Model, v *Version) (data []byte, text bool, err error) {
	switch {
	case v == nil:
		return nil, true, nil
	case v.Type() == unix.S_IFLNK:
		target, err := m.Readlink(*v)
		return []byte(target), true, err
	case v.Size > MaxPatch || v.Dangling:
		return nil, false, nil
	}
	f, err := m.Open(*v)
	if err != nil {
		return nil, false, err
	}
	defer f.Close()
	data = make([]byte, v.Size)
	n, err := readFull(f, data, 0)
	if err != nil {
		return nil, false, fmt.Errorf("read %s of layer %d: %w", m.Path(v.Node), v.Layer, err)
	}
	data = data[:n]
	return data, IsText(data), nil
}

// IsText tells, as git does, whether the beginning of a file looks like text:
// no zero byte is in it.
func IsText(data []byte) bool {
	return bytes.IndexByte(data[:min(len(data), 8000)], 0) < 0
}

// quotePath writes a path as git does: in C quotes where it holds anything odd.
func quotePath(path string) string {
	if !strings.ContainsFunc(path, func(r rune) bool { return r < ' ' || r == '"' || r == '\\' || r >= 0x7f }) {
		return path
	}
	var b strings.Builder
	b.WriteByte('"')
	for _, c := range []byte(path) {
		switch {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < ' ' || c >= 0x7f:
			b.WriteString(`\` + fmt.Sprintf("%03s", strconv.FormatUint(uint64(c), 8)))
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}
