package tarlayer

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/stack"
	"github.com/unionfs-go/unionfs/whiteout"
)

// ent is one entry of a tar that a test makes.
type ent struct {
	tar.Header
	body string
}

func file1(name, body string) ent {
	return ent{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(body))}, body}
}

func dir1(name string) ent {
	return ent{tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755}, ""}
}

func sym1(name, to string) ent {
	return ent{tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: to, Mode: 0o777}, ""}
}

func hard1(name, to string) ent {
	return ent{tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: to, Mode: 0o644}, ""}
}

func node1(typ byte, name string, major, minor int64) ent {
	return ent{tar.Header{Typeflag: typ, Name: name, Mode: 0o600, Devmajor: major, Devminor: minor}, ""}
}
func (e ent) mode(m int64) ent { e.Mode = m; return e }

// tarBytes makes a tar of entries.
func tarBytes(t testing.TB, ents ...ent) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, e := range ents {
		if e.ModTime.IsZero() && e.Typeflag != tar.TypeXGlobalHeader {
			e.ModTime = time.Unix(1000, 0)
		}
		if err := w.WriteHeader(&e.Header); err != nil {
			t.Fatalf("header %q: %v", e.Name, err)
		}
		if _, err := io.WriteString(w, e.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// testOptions are options with a cache of the test's own, whose log the test
// gets.
func testOptions(t testing.TB) Options {
	return Options{
		CacheDir: t.TempDir(),
		Spans:    NewSpanCache(8 << 20),
		Log:      func(f string, a ...any) { t.Logf(f, a...) },
	}
}

func openBytes(t testing.TB, b []byte, opt Options) (*Layer, error) {
	t.Helper()
	l, err := OpenReaderAt(context.Background(), bytes.NewReader(b), int64(len(b)), t.Name(), opt)
	if err == nil {
		t.Cleanup(func() { _ = l.Close() })
	}
	return l, err
}

func mustOpen(t testing.TB, b []byte) *Layer {
	t.Helper()
	l, err := openBytes(t, b, testOptions(t))
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	return l
}

func writeTemp(t testing.TB, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "blob")
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// walkLayer calls f with every name of a layer, in order; o is nil for a
// whiteout.
func walkLayer(t testing.TB, l stack.Layer, f func(path string, o stack.Object)) {
	t.Helper()
	var walk func(path string, d stack.Dir)
	walk = func(path string, d stack.Dir) {
		ents, err := d.ReadDir()
		if err != nil {
			t.Fatalf("readdir %q: %v", path, err)
		}
		sort.Slice(ents, func(i, j int) bool { return ents[i].Name < ents[j].Name })
		for _, e := range ents {
			p := path + e.Name
			o, presence, err := d.Lookup(e.Name)
			if err != nil {
				t.Fatalf("lookup %q: %v", p, err)
			}
			if e.Whiteout && presence == stack.WhitedOut {
				f(p, nil)
				continue
			}
			if e.Whiteout {
				continue // beside an object of a directory layer
			}
			if presence != stack.Present {
				t.Fatalf("lookup %q: %v, though listed", p, presence)
			}
			a := o.Attr()
			if e.Ino != a.Ino || e.Dev != a.Dev || e.Type != 0 && e.Type != a.Type() {
				t.Errorf("%q is listed as %+v but is %+v", p, e, a)
			}
			f(p, o)
			if sub, ok := o.(stack.Dir); ok {
				walk(p+"/", sub)
			}
		}
	}
	f("", l.Root())
	walk("", l.Root())
}

// shortTree describes a layer, one line for each name: "dir a", "file a/b
// hello", "link c -> d", "whiteout e", "opaque a". Names of one inode that are
// not the first are "hard NAME = FIRST".
func shortTree(t testing.TB, l stack.Layer) string {
	t.Helper()
	var b strings.Builder
	firsts := make(map[uint64]string)
	walkLayer(t, l, func(path string, o stack.Object) {
		if o == nil {
			fmt.Fprintf(&b, "whiteout %s\n", path)
			return
		}
		a := o.Attr()
		if first, ok := firsts[a.Ino]; ok && !a.IsDir() {
			fmt.Fprintf(&b, "hard %s = %s\n", path, first)
			return
		}
		firsts[a.Ino] = path
		switch a.Type() {
		case unix.S_IFDIR:
			if path != "" {
				fmt.Fprintf(&b, "dir %s %o\n", path, a.Mode&0o7777)
			}
			if o.Marks().Opacity == whiteout.OpaqueDir {
				fmt.Fprintf(&b, "opaque %s\n", path)
			}
		case unix.S_IFREG:
			fmt.Fprintf(&b, "file %s %s\n", path, readAll(t, o))
		case unix.S_IFLNK:
			to, err := o.Readlink()
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&b, "link %s -> %s\n", path, to)
		default:
			fmt.Fprintf(&b, "node %s %o %d:%d\n", path, a.Mode, unix.Major(a.Rdev), unix.Minor(a.Rdev))
		}
	})
	return b.String()
}

// fullTree describes everything that a layer tells of its objects.
func fullTree(t testing.TB, l stack.Layer) string {
	t.Helper()
	var b strings.Builder
	walkLayer(t, l, func(path string, o stack.Object) {
		if o == nil {
			fmt.Fprintf(&b, "%q whiteout\n", path)
			return
		}
		a := o.Attr()
		size, nlink := a.Size, a.Nlink
		if a.IsDir() {
			size, nlink = 0, 0 // filesystems differ
		}
		fmt.Fprintf(&b, "%q %o %d:%d size=%d nlink=%d rdev=%d mtime=%d.%09d %+v", path, a.Mode, a.UID, a.GID, size, nlink, a.Rdev,
			a.Mtime.Sec, a.Mtime.Nsec, o.Marks())
		names, err := o.Xattrs()
		if err != nil {
			t.Fatal(err)
		}
		sort.Strings(names)
		for _, n := range names {
			v, err := o.Xattr(n)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&b, " %s=%q", n, v)
		}
		switch a.Type() {
		case unix.S_IFREG:
			fmt.Fprintf(&b, " %x", sha256.Sum256(readAll(t, o)))
		case unix.S_IFLNK:
			to, err := o.Readlink()
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&b, " -> %q", to)
		}
		b.WriteByte('\n')
	})
	return b.String()
}

func readAll(t testing.TB, o stack.Object) []byte {
	t.Helper()
	f, err := o.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.NewSectionReader(f, 0, o.Attr().Size+1))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// sameText fails with the lines that differ.
func sameText(t testing.TB, got, want string) {
	t.Helper()
	if got == want {
		return
	}
	count := make(map[string]int)
	for _, l := range strings.SplitAfter(want, "\n") {
		count[l]++
	}
	for _, l := range strings.SplitAfter(got, "\n") {
		count[l]--
	}
	for l, n := range count {
		if n > 0 {
			t.Errorf("missing: %s", l)
		}
		if n < 0 {
			t.Errorf("too much: %s", l)
		}
	}
	if !t.Failed() {
		t.Errorf("lines are in another order:\n%s\nwant:\n%s", got, want)
	}
}

func gzipped(t testing.TB, level int, parts ...[]byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	for _, p := range parts {
		w, err := gzip.NewWriterLevel(&buf, level)
		if err != nil {
			t.Fatal(err)
		}
		w.Name = "a name"
		if _, err := w.Write(p); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return buf.Bytes()
}

var mixedTars sync.Map // of what mixedTar made

// mixedTar is a tar of about as many megabytes whose content compresses in
// different ways: text, noise, zeros, small files. It must not be changed.
func mixedTar(t testing.TB, megabytes int) []byte {
	t.Helper()
	if b, ok := mixedTars.Load(megabytes); ok {
		return b.([]byte) //nolint:forcetypeassert // stored below
	}
	b := makeMixedTar(t, megabytes)
	mixedTars.Store(megabytes, b)
	return b
}

func makeMixedTar(t testing.TB, megabytes int) []byte {
	t.Helper()
	rng := rand.New(rand.NewSource(1))
	words := strings.Fields("the layer of a tree is read from the middle of its blob and never unpacked whatever size it has")
	var ents []ent
	for i := range megabytes * 2 {
		var b []byte
		switch i % 4 {
		case 0:
			for len(b) < 900<<10 {
				b = append(append(b, words[rng.Intn(len(words))]...), byte(' '+rng.Intn(20)))
			}
		case 1:
			b = make([]byte, 300<<10)
			rng.Read(b)
		case 2:
			b = make([]byte, 700<<10)
		default:
			for len(b) < 100<<10 {
				b = fmt.Appendf(b, "%x %d\n", rng.Intn(1000), rng.Intn(50))
			}
		}
		ents = append(ents, file1(fmt.Sprintf("d%d/f%d", i%7, i), string(b)), file1(fmt.Sprintf("small/%d", i), fmt.Sprint("small ", i)))
	}
	return tarBytes(t, ents...)
}

// pipeThrough runs a tool as a filter, or skips the test without it.
func pipeThrough(t testing.TB, in []byte, tool string, args ...string) []byte {
	t.Helper()
	path, err := exec.LookPath(tool)
	if err != nil {
		t.Skipf("%s is not installed", tool)
	}
	cmd := exec.Command(path, args...)
	cmd.Stdin = bytes.NewReader(in)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v", tool, err)
	}
	return out
}
