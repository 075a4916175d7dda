package tarlayer

import (
	"archive/tar"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/stack"
)

// owned1 is a directory with attributes that are easy to know again.
func owned1(name string, uid int) ent {
	return ent{tar.Header{
		Typeflag: tar.TypeDir, Name: name, Mode: 0o2751, Uid: uid, Gid: uid + 1, ModTime: time.Unix(5000, 0),
		PAXRecords: map[string]string{"SCHILY.xattr.user.of": name},
	}, ""}
}

// stacked opens tars as a stack, top first.
func stacked(t *testing.T, tars ...[]byte) *stack.Stack {
	t.Helper()
	var layers []stack.Layer
	for _, b := range tars {
		l, err := openBytes(t, b, testOptions(t))
		if err != nil {
			t.Fatal(err)
		}
		layers = append(layers, l)
	}
	return stack.New(layers)
}

func TestImpliedParentsTakeAttributesFromBelow(t *testing.T) {
	s := stacked(t,
		tarBytes(t, file1("a/b/new", "1"), file1("own/x", ""), owned1("own", 9), file1("hidden/y", ""), file1(".wh.hidden", "")),
		tarBytes(t, file1("a/b/other", "")),
		tarBytes(t, owned1("./", 1), owned1("a", 3), owned1("a/b", 5), owned1("own", 7), owned1("hidden", 11)),
	)
	for path, want := range map[string]struct{ uid, mode uint32 }{
		"": {1, 0o2751}, "a": {3, 0o2751}, "a/b": {5, 0o2751}, "own": {9, 0o2751}, "hidden": {0, 0o755},
	} {
		e, err := s.Walk(path)
		if err != nil {
			t.Fatalf("%q: %v", path, err)
		}
		o := e.Top().Object
		a := o.Attr()
		if a.UID != want.uid || a.Mode != unix.S_IFDIR|want.mode {
			t.Errorf("%q: owner %d, mode %o; want %d, %o", path, a.UID, a.Mode, want.uid, want.mode)
		}
		names, err := o.Xattrs()
		if err != nil {
			t.Fatal(err)
		}
		if has := len(names) == 1; has != (want.uid != 0) || o.Marks().HasOther != has {
			t.Errorf("%q: attributes %v, marks %+v", path, names, o.Marks())
		}
		if want.uid != 0 && a.Mtime.Sec != 5000 {
			t.Errorf("%q: time %d", path, a.Mtime.Sec)
		}
	}
	for _, path := range []string{"a/b/new", "a/b/other", "own/x", "hidden/y"} {
		if _, err := s.Walk(path); err != nil {
			t.Errorf("%q: %v", path, err)
		}
	}
}

func TestImpliedParentIsPlainWithoutOneBelow(t *testing.T) {
	s := stacked(t, tarBytes(t, file1("a/f", "")), tarBytes(t, file1("a/g", "")))
	for _, path := range []string{"", "a"} {
		e, err := s.Walk(path)
		if err != nil {
			t.Fatal(err)
		}
		if a := e.Top().Object.Attr(); a.Mode != unix.S_IFDIR|0o755 || a.UID != 0 || len(e.Reals) != 2 {
			t.Errorf("%q: %+v", path, a)
		}
	}
}
