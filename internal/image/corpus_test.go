package image

import (
	"archive/tar"
	"bytes"
	"strings"
	"testing"
	"time"
)

// The hard cases that layers of the wild hold. An entry is a line of text:
//
//	file NAME [CONTENT]   dir NAME   sym NAME TARGET   link NAME TARGET
//	chr NAME MAJOR:MINOR  fifo NAME  global            wh NAME (a whiteout file)
//
// and the tree that comes out is lines too, as describeTree makes them.
type hardCase struct {
	name string
	tar  string
	want string // "" with err
	err  string // part of the message
}

var hardCases = []hardCase{
	{name: "explicit whiteout", tar: "dir d\nwh d/.wh.x\nfile d/y 1", want: "d/ d/x! d/y=1"},
	{name: "opaque before children", tar: "dir d\nwh d/.wh..wh..opq\nfile d/y 1", want: "d/opaque d/y=1"},
	{name: "opaque after children", tar: "dir d\nfile d/y 1\nwh d/.wh..wh..opq", want: "d/opaque d/y=1"},
	{name: "opaque root", tar: "wh .wh..wh..opq\nfile y 1", want: "y=1 ROOT-OPAQUE"},
	{name: "whiteout then file", tar: "wh .wh.f\nfile f 1", want: "f=1"},
	{name: "file then whiteout", tar: "file f 1\nwh .wh.f", want: "f=1"},
	{name: "whiteout then directory", tar: "wh .wh.d\ndir d\nfile d/x 1", want: "d/opaque d/x=1"},
	{name: "directory then whiteout", tar: "dir d\nfile d/x 1\nwh .wh.d", want: "d/opaque d/x=1"},
	{name: "whiteout then implied directory", tar: "wh .wh.d\nfile d/x 1", want: "d/opaque d/x=1"},
	{name: "whiteout then symlink", tar: "wh .wh.l\nsym l t", want: "l->t"},
	{name: "nested delete", tar: "wh .wh.foo\nwh foo/.wh.bar", want: "foo/opaque"},
	{name: "whiteout alone", tar: "wh a/b/.wh.c", want: "a/ a/b/ a/b/c!"},
	{name: "whiteout of nothing", tar: "wh .wh.", err: "whiteout of nothing"},
	{name: "whiteout of dot-dot", tar: "wh .wh...", err: "whiteout of nothing"},
	{name: "aufs bookkeeping", tar: "dir .wh..wh.plnk\nfile .wh..wh.aufs x\nfile f 1", want: "f=1"},
	{name: "last duplicate wins", tar: "file f 1\nfile f 2\ndir d\nfile d 3", want: "d=3 f=2"},
	{name: "file becomes directory", tar: "file d 1\ndir d\nfile d/x 2", want: "d/ d/x=2"},
	{name: "directory twice keeps its children", tar: "dir d\nfile d/x 1\ndir d", want: "d/ d/x=1"},
	{name: "directory with children becomes a file", tar: "dir d\nfile d/x 1\nfile d 2", want: "d=2"},
	{name: "missing parents", tar: "file a/b/c 1", want: "a/ a/b/ a/b/c=1"},
	{name: "names with dots and slashes", tar: "file ./a 1\nfile /b 2\nfile c/../d 3\nfile //e//f 4\ndir ./g/.", want: "a=1 b=2 d=3 e/ e/f=4 g/"},
	{name: "names that lead up", tar: "file ../../up 1\nfile a/../../../x 2", want: "up=1 x=2"},
	{name: "hardlink", tar: "file a 1\nlink b a", want: "a=1 b=1@a"},
	{name: "hardlink before its target", tar: "link b a\nlink c b\nfile a 1", want: "a=1 b=1@a c=1@a"},
	{name: "hardlink to a symlink", tar: "sym a t\nlink b a", want: "a->t b->t@a"},
	{name: "hardlink by an absolute name", tar: "file d/a 1\nlink b /d/a", want: "b=1 d/ d/a=1@b"},
	{name: "hardlink to itself", tar: "file a 1\nlink ./a a", want: "a=1"},
	{name: "hardlink to a lower file", tar: "link b nowhere", err: "not in the layer"},
	{name: "hardlink to a whiteout", tar: "wh .wh.a\nlink b a", err: "not in the layer"},
	{name: "hardlink to a directory", tar: "dir d\nlink b d", err: "hard link to the directory"},
	{name: "hardlink to outside", tar: "link b ../../../../etc/passwd", err: "not in the layer"},
	{name: "parent is a symlink inside", tar: "dir usr/bin\nsym bin usr/bin\nfile bin/x 1", want: "bin->usr/bin usr/ usr/bin/ usr/bin/x=1"},
	{name: "parent is an absolute symlink", tar: "dir usr/bin\nsym bin /usr/bin\nfile bin/x 1", want: "bin->/usr/bin usr/ usr/bin/ usr/bin/x=1"},
	{name: "parent is a symlink that leads up", tar: "dir in\nsym out ../../../../in\nfile out/x 1", want: "in/ in/x=1 out->../../../../in"},
	{name: "parent is a symlink to outside", tar: "sym out /tmp\nfile out/x 1", err: "dangling"},
	{name: "file over a symlink", tar: "file t 1\nsym l t\nfile l 2", want: "l=2 t=1"},
	{name: "symlink swapped under an open parent", tar: "dir a\nfile a/x 1\ndir b\nfile a 2\nsym a b\nfile a/y 3", want: "a->b b/ b/y=3"},
	{name: "parent is a file", tar: "file a 1\nfile a/b 2", err: "no directory"},
	{name: "device", tar: "chr null 1:3", want: "null:1:3"},
	{name: "device that would be a whiteout", tar: "chr zero 0:0\nfile f 1", want: "f=1"},
	{name: "fifo", tar: "fifo p", want: "p|"},
	{name: "global header", tar: "global\nfile f 1", want: "f=1"},
	{name: "root as a file", tar: "file . 1", err: "root of a layer"},
	{name: "empty layer", tar: "", want: ""},
	{name: "long and strange names", tar: "file " + strings.Repeat("n", 255) + " 1\nfile lat\xe9 2", want: "lat\xe9=2 " + strings.Repeat("n", 255) + "=1"},
}

// buildTar makes the tar of a case.
func buildTar(t testing.TB, text string) []byte {
	t.Helper()
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for line := range strings.Lines(text) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 3)
		for len(f) < 3 {
			f = append(f, "")
		}
		h := &tar.Header{Name: f[1], Mode: 0o644, ModTime: time.Unix(1e9, 0)}
		body := ""
		switch f[0] {
		case "file", "wh":
			h.Typeflag, body = tar.TypeReg, f[2]
		case "dir":
			h.Typeflag, h.Mode = tar.TypeDir, 0o755
		case "sym":
			h.Typeflag, h.Linkname = tar.TypeSymlink, f[2]
		case "link":
			h.Typeflag, h.Linkname = tar.TypeLink, f[2]
		case "fifo":
			h.Typeflag = tar.TypeFifo
		case "chr":
			h.Typeflag = tar.TypeChar
			major, minor, _ := strings.Cut(f[2], ":")
			h.Devmajor, h.Devminor = int64(major[0]-'0'), int64(minor[0]-'0')
		case "global":
			h = &tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "git"}}
		default:
			t.Fatalf("unknown entry %q", line)
		}
		h.Size = int64(len(body))
		if err := tw.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write([]byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}
