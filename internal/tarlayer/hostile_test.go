package tarlayer

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

func TestHostileTarsAreRefused(t *testing.T) {
	long := strings.Repeat("n", 256)
	for _, c := range []struct {
		name string
		ents []ent
	}{
		{"climbs out", []ent{file1("../etc/passwd", "x")}},
		{"climbs out later", []ent{file1("a/../../b", "x")}},
		{"absolute and climbs out", []ent{file1("/../b", "x")}},
		{"root is a file", []ent{file1(".", "x")}},
		{"hard link climbs out", []ent{hard1("a", "../../etc/shadow")}},
		{"hard link to nothing", []ent{hard1("a", "b")}},
		{"hard link to itself only", []ent{hard1("a", "a")}},
		{"hard links in a ring", []ent{hard1("a", "b"), hard1("b", "a")}},
		{"hard link to a directory", []ent{dir1("d"), hard1("a", "d")}},
		{"hard link to the root", []ent{hard1("a", "/")}},
		{"hard link to what a whiteout deletes", []ent{file1(".wh.b", ""), hard1("a", "b")}},
		{"hard link through a ring of symlinks", []ent{sym1("s", "s"), hard1("a", "s/b")}},
		{"symlink loop as parent", []ent{sym1("a", "b"), sym1("b", "a"), file1("a/x", "1")}},
		{"symlink to itself as parent", []ent{sym1("a", "a"), file1("a/x", "1")}},
		{"file as parent", []ent{file1("a", "1"), file1("a/b", "2")}},
		{"device as parent", []ent{node1(chr, "a", 1, 3), file1("a/b", "2")}},
		{"empty symlink", []ent{sym1("a", "")}},
		{"symlink of 5000 bytes", []ent{sym1("a", strings.Repeat("x/", 2500))}},
		{"part of 256 bytes", []ent{file1("a/"+long+"/b", "x")}},
		{"symlinked parent with a part of 256 bytes", []ent{sym1("a", long), file1("a/b", "x")}},
		{"whiteout of nothing", []ent{file1("a/.wh.", "")}},
		{"whiteout of dot", []ent{file1("a/.wh..", "")}},
		{"whiteout of dot dot", []ent{file1("a/.wh...", "")}},
		{"below a whiteout", []ent{file1("a/.wh.b/c", "x")}},
		{"below an opaque mark", []ent{file1("a/.wh..wh..opq/c", "x")}},
		{"unknown type", []ent{{Header: tar.Header{Typeflag: 'Q', Name: "q"}}}},
		{"owner out of range", []ent{{Header: tar.Header{Typeflag: tar.TypeReg, Name: "q", Uid: 1 << 33}}}},
		{"device out of range", []ent{node1(chr, "a", 1<<21-1, 1)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := openBytes(t, tarBytes(t, c.ents...), testOptions(t))
			if !errors.Is(err, ErrInvalid) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestLimits(t *testing.T) {
	many := []ent{}
	for i := range 50 {
		many = append(many, file1(fmt.Sprint("file", i), ""))
	}
	attr := file1("a", "")
	attr.PAXRecords = map[string]string{"SCHILY.xattr.user.a": strings.Repeat("v", 1000)}
	zeros := file1("zeros", strings.Repeat("\x00", 20<<20))
	var links []ent
	for i := range 30 {
		links = append(links, sym1(fmt.Sprint("s", i), strings.TrimSuffix(strings.Repeat(fmt.Sprint("s", i+1, "/"), 50), "/")))
	}
	links = append(links, dir1("s30"), file1("s0/x", ""))
	for _, c := range []struct {
		name   string
		blob   []byte
		limits Limits
	}{
		{"entries", tarBytes(t, many...), Limits{Entries: 60}},
		{"implied entries", tarBytes(t, file1(strings.Repeat("d/", 50)+"f", "")), Limits{Entries: 60}},
		{"depth", tarBytes(t, file1(strings.Repeat("d/", 50)+"f", "")), Limits{Depth: 40}},
		{"depth by default", tarBytes(t, file1(strings.Repeat("d/", 1100)+"f", "")), Limits{}},
		{"path", tarBytes(t, file1(strings.Repeat("dddd/", 20)+"f", "")), Limits{PathBytes: 90}},
		{"path by default", tarBytes(t, file1(strings.Repeat("dddd/", 10000)+"f", "")), Limits{}},
		{"names", tarBytes(t, many...), Limits{NameBytes: 200}},
		{"attributes", tarBytes(t, attr), Limits{XattrBytes: 900}},
		{"gzip bomb", gzipped(t, 9, tarBytes(t, zeros)), Limits{StreamBytes: 10 << 20}},
		{"zstd bomb", zstdFrames(t, zstd.SpeedFastest, tarBytes(t, zeros))[0], Limits{StreamBytes: 10 << 20}},
		{"zstd window", zstdFrames(t, zstd.SpeedDefault, mixedTar(t, 20))[0], Limits{WindowBytes: 1 << 20}},
		{"spool", oneBlockGzip(t, tarBytes(t, zeros)), Limits{SpoolBytes: 50}},
		{"symlinks in symlinks", tarBytes(t, links...), Limits{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			opt := testOptions(t)
			opt.Limits = c.limits
			if _, err := openBytes(t, c.blob, opt); !errors.Is(err, ErrLimit) {
				t.Errorf("%v", err)
			}
			if n, err := Usage(opt.CacheDir); n != 0 || err != nil {
				t.Errorf("%d bytes are left in the cache: %v", n, err)
			}
		})
	}
}

// sparseHeader is a PAX sparse file of format 0.1 with the given map.
func sparseHeader(size, sparseMap, data string) []byte {
	rec := func(k, v string) string {
		n := len(k) + len(v) + 3
		for len(fmt.Sprint(n))+len(k)+len(v)+3 != n {
			n++
		}
		return fmt.Sprintf("%d %s=%s\n", n, k, v)
	}
	pax := rec("GNU.sparse.major", "0") + rec("GNU.sparse.minor", "1") + rec("GNU.sparse.size", size) + rec("GNU.sparse.map", sparseMap) +
		rec("GNU.sparse.numblocks", fmt.Sprint((strings.Count(sparseMap, ",")+1)/2))
	return append(append(rawHeader("x", 'x', len(pax)), padded(pax)...), append(rawHeader("f", '0', len(data)), padded(data)...)...)
}

func padded(s string) []byte { return append([]byte(s), make([]byte, -len(s)&511)...) }

func rawHeader(name string, typ byte, size int) []byte {
	h := make([]byte, tarBlock)
	copy(h, name)
	copy(h[100:], "0000644\x000000000\x000000000\x00")
	copy(h[124:], fmt.Sprintf("%011o\x00%011o\x00", size, 0))
	h[156] = typ
	copy(h[257:], "ustar\x0000")
	sum := 8 * int(' ')
	for i, c := range h {
		if i < 148 || i >= 156 {
			sum += int(c)
		}
	}
	copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
	return h
}

func TestSparseMaps(t *testing.T) {
	const data = "0123456789"
	for _, c := range []struct{ size, sparseMap, want string }{
		{"20", "0,5,10,5", "01234\x00\x00\x00\x00\x0056789\x00\x00\x00\x00\x00"},
		{"12", "2,0,2,10", "\x00\x00" + data},
		{"4611686018427387904", "0,10", ""}, // 4 EiB of zeros do no harm
		{"20", "0,5,3,5", "bad"},
		{"20", "10,5,0,5", "bad"},
		{"20", "0,50", "bad"},
		{"2000", "0,1500", "bad"},
		{"20", "0,-5", "bad"},
		{"20", "0", "bad"},
		{"9223372036854775807", "9223372036854775806,10", "bad"},
	} {
		t.Run(c.size+" "+c.sparseMap, func(t *testing.T) {
			b := append(sparseHeader(c.size, c.sparseMap, data), make([]byte, 1024)...)
			l, err := openBytes(t, b, testOptions(t))
			if c.want == "bad" {
				if !errors.Is(err, ErrInvalid) {
					t.Errorf("%v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			o, _, err := l.Root().Lookup("f")
			if err != nil {
				t.Fatal(err)
			}
			if c.want != "" {
				if got := string(readAll(t, o)); got != c.want {
					t.Errorf("%q", got)
				}
				return
			}
			f, err := o.Open()
			if err != nil {
				t.Fatal(err)
			}
			var got [8]byte
			if n, err := f.ReadAt(got[:], 1<<61); n != 8 || err != nil || got != [8]byte{} {
				t.Errorf("%q, %v", got[:n], err)
			}
		})
	}
}

// TestReadAtEnds pins the contract of io.ReaderAt.
func TestReadAtEnds(t *testing.T) {
	l := mustOpen(t, tarBytes(t, file1("f", "hello"), file1("empty", "")))
	o, _, err := l.Root().Lookup("f")
	if err != nil {
		t.Fatal(err)
	}
	f, err := o.Open()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		off  int64
		n    int
		want string
		err  error
	}{{0, 5, "hello", nil}, {1, 2, "el", nil}, {3, 5, "lo", io.EOF}, {5, 1, "", io.EOF}, {1 << 60, 1, "", io.EOF}, {-1, 1, "", unix.EINVAL}} {
		b := make([]byte, c.n)
		n, err := f.ReadAt(b, c.off)
		if string(b[:n]) != c.want || err != c.err { //nolint:errorlint // the very value is promised
			t.Errorf("%d at %d: %q, %v", c.n, c.off, b[:n], err)
		}
	}
	if _, ok := f.FD(); ok {
		t.Error("a file in a tar has no descriptor of its own")
	}
	d, _, err := mustOpen(t, tarBytes(t, dir1("d"))).Root().Lookup("d")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Open(); err != unix.EINVAL { //nolint:errorlint // errno values are promised
		t.Errorf("open of a directory: %v", err)
	}
}

// TestGzipHeaders: optional fields are skipped, endless ones refused.
func TestGzipHeaders(t *testing.T) {
	plain := tarBytes(t, file1("a", "x"))
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	w.Name, w.Comment, w.Extra = "name", "comment", bytes.Repeat([]byte("e"), 65535)
	if _, err := w.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	sameText(t, shortTree(t, mustOpen(t, buf.Bytes())), "file a x\n")
	endless := append([]byte{0x1f, 0x8b, 8, gzName, 0, 0, 0, 0, 0, 0}, bytes.Repeat([]byte("n"), 1<<20)...)
	if _, err := openBytes(t, endless, testOptions(t)); !errors.Is(err, ErrInvalid) {
		t.Errorf("%v", err)
	}
}
