package pack

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/stack"
	"github.com/unionfs-go/unionfs/whiteout"
)

// checkPatterns finds malformed patterns before anything is written.
func checkPatterns(opt Options) error {
	for _, list := range [][]string{opt.Include, opt.Exclude} {
		for _, p := range list {
			if _, err := path.Match(cleanPattern(p), ""); err != nil || cleanPattern(p) == "" {
				return fmt.Errorf("%w: %q is not a pattern of a path below the root", ErrInput, p)
			}
		}
	}
	return nil
}

func cleanPattern(p string) string { return strings.Trim(path.Clean("/"+p), "/") }

// choosy tells whether only a part of the upper is wanted.
func (w *walker) choosy() bool { return len(w.opt.Include)+len(w.opt.Exclude) > 0 }

// chosen tells whether the layer may have an entry for a path.
func (w *walker) chosen(p string) bool {
	if !w.choosy() {
		return true
	}
	for _, x := range w.opt.Exclude {
		if covers(cleanPattern(x), p) {
			return false
		}
	}
	for _, i := range w.opt.Include {
		if covers(cleanPattern(i), p) {
			return true
		}
	}
	return len(w.opt.Include) == 0
}

// leadsToChosen tells whether a path may be chosen or lie above what may.
func (w *walker) leadsToChosen(p string) bool {
	if !w.choosy() || w.chosen(p) {
		return true
	}
	for _, x := range w.opt.Exclude {
		if covers(cleanPattern(x), p) {
			return false
		}
	}
	for _, i := range w.opt.Include {
		// The first names of the pattern match the path.
		names := strings.Split(cleanPattern(i), "/")
		if n := strings.Count(p, "/") + 1; n < len(names) && covers(strings.Join(names[:n], "/"), p) {
			return true
		}
	}
	return false
}

// covers tells whether a pattern matches a path or one above it.
func covers(pattern, p string) bool {
	n := strings.Count(pattern, "/") + 1
	parts := strings.SplitN(p, "/", n+1)
	if len(parts) < n {
		return false
	}
	ok, err := path.Match(pattern, strings.Join(parts[:n], "/"))
	return err == nil && ok
}

// unchanged tells whether a file need not be written, since the one below is
// the same; file is its path. The first pass of Write does not ask: it only looks for names.
func (w *walker) unchanged(d *dir, file string, h *tar.Header, typ uint32, e stack.Entry) (bool, error) {
	if !w.opt.DropUnchanged || w.tw == nil && !w.dry || len(d.below) == 0 || !d.delta {
		return false, nil
	}
	top := e.Top()
	if a := top.Object.Attr(); top.Layer != 0 || a.Nlink > 1 {
		return false, nil
	}
	reals, err := w.lower.Find(d.below, stack.Search{Name: path.Base(file)})
	if err != nil || len(reals) == 0 {
		return false, err
	}
	if a := reals[0].Object.Attr(); a.Nlink > 1 {
		return false, nil
	}
	old, oldType, err := w.header("", reals[0].Object)
	if err != nil || oldType != typ || !sameAttrs(h, old) || !h.ModTime.Equal(old.ModTime) {
		return false, err
	}
	if h.Devmajor != old.Devmajor || h.Devminor != old.Devminor {
		return false, nil
	}
	below := stack.Entry{Reals: reals}
	switch typ {
	case unix.S_IFREG:
		return sameData(e, below)
	case unix.S_IFLNK:
		a, err := linkTarget(e)
		if err != nil {
			return false, err
		}
		b, err := linkTarget(below)
		return a == b, err
	}
	return true, nil
}

// sameData compares the data of two files. One that changes meanwhile is not
// the same.
func sameData(a, b stack.Entry) (bool, error) {
	da, db := a.Data().Object, b.Data().Object
	x, y := da.Attr(), db.Attr()
	if x.Size != y.Size {
		return false, nil
	}
	if x.Dev == y.Dev && x.Ino == y.Ino && len(a.Reals) > 1 {
		return true, nil // a metadata-only copy: it is the file below
	}
	fa, err := da.Open()
	if err != nil {
		return false, err
	}
	defer fa.Close() //nolint:errcheck // only read
	fb, err := db.Open()
	if err != nil {
		return false, err
	}
	defer fb.Close() //nolint:errcheck // only read
	bufA, bufB := make([]byte, 128<<10), make([]byte, 128<<10)
	for off := int64(0); off < x.Size; off += int64(len(bufA)) {
		n := min(x.Size-off, int64(len(bufA)))
		for _, one := range []struct {
			f   stack.File
			buf []byte
		}{{fa, bufA[:n]}, {fb, bufB[:n]}} {
			if m, err := one.f.ReadAt(one.buf, off); m < len(one.buf) {
				if errors.Is(err, io.EOF) {
					return false, nil
				}
				return false, err
			}
		}
		if !bytes.Equal(bufA[:n], bufB[:n]) {
			return false, nil
		}
	}
	m, err := moved(fa, &x)
	return !m, err
}

// change is an entry as Options.Visit sees it.
func (w *walker) change(h *tar.Header) Change {
	name := strings.Trim(path.Clean("/"+h.Name), "/")
	c := Change{Kind: "A", Path: "/" + name, Size: h.Size}
	dir, base := path.Split(name)
	switch kind, victim := whiteout.ParseOCIName(base); kind {
	case whiteout.Deletes:
		return Change{Kind: "D", Path: "/" + dir + victim}
	case whiteout.MakesOpaque:
		return Change{Kind: "O", Path: path.Clean("/" + dir)}
	case whiteout.Plain, whiteout.Reserved:
	}
	if w.opt.Full || w.opt.LowersUnknown || len(w.lower.Layers()) == 0 {
		return c
	}
	if _, err := w.lower.Walk(name); err == nil || name == "" {
		c.Kind = "C"
	}
	return c
}
