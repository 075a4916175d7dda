package tarlayer

import (
	"archive/tar"
	"strings"
	"testing"
)

const (
	chr  = tar.TypeChar
	fifo = tar.TypeFifo
)

// treeCases is the corpus of hard cases: what a tar holds and the tree it
// stands for.
var treeCases = []struct {
	name string
	ents []ent
	want string
}{
	{"nothing", nil, ""},
	{
		"ways to write names",
		[]ent{dir1("./"), dir1("./a/"), file1("/a/b", "1"), file1("a//c", "2"), file1("a/x/../d", "3"), file1("./e", "4")},
		"dir a 755|file a/b 1|file a/c 2|file a/d 3|file e 4",
	},
	{"missing parents are implied", []ent{file1("a/b/c", "x")}, "dir a 755|dir a/b 755|file a/b/c x"},
	{"implied parents get their attributes later", []ent{file1("a/b", "x"), dir1("a").mode(0o700)}, "dir a 700|file a/b x"},
	{"whiteout", []ent{dir1("a"), file1("a/.wh.b", "")}, "dir a 755|whiteout a/b"},
	{"whiteout in a missing directory", []ent{file1("a/.wh.b", "")}, "dir a 755|whiteout a/b"},
	{"whiteout then a new directory", []ent{file1(".wh.a", ""), dir1("a"), file1("a/b", "x")}, "dir a 755|opaque a|file a/b x"},
	{"new directory then whiteout", []ent{dir1("a"), file1("a/b", "x"), file1(".wh.a", "")}, "dir a 755|opaque a|file a/b x"},
	{"whiteout and file", []ent{file1("a", "x"), file1(".wh.a", "")}, "file a x"},
	{"whiteout and symlink", []ent{file1(".wh.a", ""), sym1("a", "b")}, "link a -> b"},
	{"nested whiteouts", []ent{file1(".wh.foo", ""), file1("foo/.wh.bar", "")}, "dir foo 755|opaque foo|whiteout foo/bar"},
	{"opaque first", []ent{dir1("a"), file1("a/.wh..wh..opq", ""), file1("a/b", "x")}, "dir a 755|opaque a|file a/b x"},
	{"opaque after children", []ent{dir1("a"), file1("a/b", "x"), file1("a/.wh..wh..opq", "")}, "dir a 755|opaque a|file a/b x"},
	{"opaque before its directory", []ent{file1("a/.wh..wh..opq", ""), dir1("a").mode(0o711)}, "dir a 711|opaque a"},
	{"opaque root", []ent{file1(".wh..wh..opq", ""), dir1("./"), file1("a", "x")}, "opaque |file a x"},
	{"opaque in a directory that becomes a file", []ent{file1("a/.wh..wh..opq", ""), file1("a", "x")}, "file a x"},
	{"hardlinked whiteouts", []ent{file1(".wh.a", ""), hard1(".wh.b", ".wh.a")}, "whiteout a|whiteout b"},
	{"kernel whiteout", []ent{node1(chr, "a", 0, 0), file1("b", "x"), node1(chr, "b", 0, 0)}, "whiteout a|whiteout b"},
	{"aufs bookkeeping", []ent{file1(".wh..wh.aufs", ""), dir1(".wh..wh.plnk"), file1(".wh..wh.plnk/1.2", "x"), file1(".wh..opq", ""), file1("a", "y")}, "file a y"},
	{"last of two files wins", []ent{file1("a", "1"), file1("a", "2")}, "file a 2"},
	{"file over directory", []ent{file1("a/b", "1"), file1("a/c/d", "1"), file1("a", "2")}, "file a 2"},
	{"directory over file", []ent{file1("a", "1"), dir1("a"), file1("a/b", "2")}, "dir a 755|file a/b 2"},
	{"directory over file over directory", []ent{file1("a/old", "1"), file1("a", "1"), dir1("a"), file1("a/b", "2")}, "dir a 755|file a/b 2"},
	{"directory over directory keeps children", []ent{dir1("a"), file1("a/b", "1"), dir1("a").mode(0o1777)}, "dir a 1777|file a/b 1"},
	{"symlink over directory", []ent{file1("a/b", "1"), dir1("c"), sym1("a", "c"), file1("a/d", "2")}, "link a -> c|dir c 755|file c/d 2"},
	{"directory over symlink", []ent{dir1("c"), sym1("a", "c"), dir1("a"), file1("a/d", "2")}, "dir a 755|file a/d 2|dir c 755"},
	{"symlinked parent", []ent{dir1("usr/bin"), sym1("bin", "usr/bin"), file1("bin/sh", "x")}, "link bin -> usr/bin|dir usr 755|dir usr/bin 755|file usr/bin/sh x"},
	{"absolute symlinked parent", []ent{dir1("usr/bin"), sym1("bin", "/usr/bin"), file1("bin/sh", "x")}, "link bin -> /usr/bin|dir usr 755|dir usr/bin 755|file usr/bin/sh x"},
	{"symlinked parent that climbs out", []ent{sym1("a", "../../../b"), file1("a/c", "x")}, "link a -> ../../../b|dir b 755|file b/c x"},
	{"dangling symlinked parent", []ent{sym1("lib", "usr/lib"), file1("lib/x", "1")}, "link lib -> usr/lib|dir usr 755|dir usr/lib 755|file usr/lib/x 1"},
	{"chain of symlinked parents", []ent{sym1("a", "b"), sym1("b", "./c/../d"), dir1("d"), dir1("c"), file1("a/x", "1")}, "link a -> b|link b -> ./c/../d|dir c 755|dir d 755|file d/x 1"},
	{"whiteout through a symlink", []ent{dir1("u"), sym1("a", "u"), file1("a/.wh.x", "")}, "link a -> u|dir u 755|whiteout u/x"},
	{"parent replaced while in use", []ent{file1("a/1", "1"), sym1("a", "b"), file1("a/2", "2")}, "link a -> b|dir b 755|file b/2 2"},
	{"hard link", []ent{file1("a", "x"), hard1("b", "a"), hard1("d/c", "/b")}, "file a x|hard b = a|dir d 755|hard d/c = a"},
	{"hard link before its target", []ent{hard1("b", "d/a"), file1("d/a", "x")}, "file b x|dir d 755|hard d/a = b"},
	{"hard links before their target in a chain", []ent{hard1("1", "2"), hard1("2", "3"), file1("3", "x")}, "file 1 x|hard 2 = 1|hard 3 = 1"},
	{"hard link before its target, replaced", []ent{hard1("b", "a"), file1("b", "new"), file1("a", "x")}, "file a x|file b new"},
	{"hard link to a symlink", []ent{sym1("a", "nowhere"), hard1("b", "a")}, "link a -> nowhere|hard b = a"},
	{"hard link over a symlinked parent", []ent{file1("u/a", "x"), sym1("s", "u"), hard1("b", "s/a")}, "file b x|link s -> u|dir u 755|hard u/a = b"},
	{"hard link keeps what is replaced", []ent{file1("a", "old"), hard1("b", "a"), file1("a", "new")}, "file a new|file b old"},
	{"hard link to itself", []ent{file1("a", "x"), hard1("a", "a")}, "file a x"},
	{"device, fifo", []ent{node1(chr, "null", 1, 3), node1(tar.TypeBlock, "sda", 8, 0), node1(fifo, "p", 0, 0)}, "node null 20600 1:3|node p 10600 0:0|node sda 60600 8:0"},
	{"global header is skipped", []ent{{Header: tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"path": "evil", "comment": "c"}}}, file1("a", "x")}, "file a x"},
	{"names not in UTF-8 and with newlines", []ent{file1("\xff\xfe\n", "x")}, "file \xff\xfe\n x"},
	{"mode bits", []ent{dir1("t").mode(0o1777), dir1("s").mode(0o6755)}, "dir s 6755|dir t 1777"},
}

func wantText(s string) string {
	if s == "" {
		return ""
	}
	return strings.ReplaceAll(s, "|", "\n") + "\n"
}

func TestHardCases(t *testing.T) {
	for _, c := range treeCases {
		t.Run(c.name, func(t *testing.T) {
			sameText(t, shortTree(t, mustOpen(t, tarBytes(t, c.ents...))), wantText(c.want))
		})
	}
}

func TestLongNamesAreRead(t *testing.T) {
	part := strings.Repeat("n", 255)
	long := strings.Repeat(part+"/", 15) + part
	for _, format := range []tar.Format{tar.FormatPAX, tar.FormatGNU} {
		e, s := file1(long, "x"), sym1("s", long[:4000])
		e.Format, s.Format = format, format
		got := shortTree(t, mustOpen(t, tarBytes(t, e, s)))
		for _, want := range []string{"file " + long + " x\n", "link s -> " + long[:4000] + "\n"} {
			if !strings.Contains(got, want) {
				t.Errorf("%v: a name of %d bytes is not there", format, len(long))
			}
		}
	}
}

// TestInodeNumbers pins what the union relies on: numbers by first appearance
// from 1 on, without gaps, the same each time.
func TestInodeNumbers(t *testing.T) {
	b := tarBytes(t, file1("z/gone", "1"), file1("a", "2"), file1("z", "3"), hard1("b", "a"), dir1("d"))
	for range 2 {
		l := mustOpen(t, b)
		got := ""
		for _, name := range []string{"a", "b", "d", "z"} {
			o, _, err := l.Root().Lookup(name)
			if err != nil {
				t.Fatal(err)
			}
			a := o.Attr()
			if a.Dev>>63 != 1 {
				t.Errorf("%s: device %x could be one of the system", name, a.Dev)
			}
			got += name + string(rune('0'+a.Ino)) + string(rune('0'+a.Nlink)) + " "
		}
		if got != "a22 b22 d42 z31 " {
			t.Errorf("name, inode, links: %s", got)
		}
	}
	if a, b := mustOpen(t, b).Root().Attr(), mustOpen(t, b).Root().Attr(); a.Ino != 1 || a.Dev == b.Dev || a.Nlink != 3 {
		t.Errorf("roots %+v, %+v", a, b)
	}
}
