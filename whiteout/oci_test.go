package whiteout

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestParseOCIName(t *testing.T) {
	for _, c := range []struct {
		name   string
		kind   NameKind
		victim string
	}{
		{"", Plain, ""},
		{"file", Plain, ""},
		{".wh", Plain, ""},
		{".whatever", Plain, ""},
		{"x.wh.file", Plain, ""},
		{".WH.file", Plain, ""},
		{".wh.file", Deletes, "file"},
		{".wh..hidden", Deletes, ".hidden"},
		{".wh....", Deletes, "..."},
		{".wh.a.wh.b", Deletes, "a.wh.b"},
		{".wh. ", Deletes, " "},
		{".wh.\n", Deletes, "\n"},
		{".wh..wh", Deletes, ".wh"},
		{".wh..wh..opq", MakesOpaque, ""},
		{".wh.", Reserved, ""},
		{".wh..", Reserved, ""},
		{".wh...", Reserved, ""},
		{".wh..opq", Reserved, ""},
		{".wh..wh.", Reserved, ""},
		{".wh..wh.plnk", Reserved, ""},
		{".wh..wh.aufs", Reserved, ""},
		{".wh..wh..opqx", Reserved, ""},
	} {
		kind, victim := ParseOCIName(c.name)
		if kind != c.kind || victim != c.victim {
			t.Errorf("ParseOCIName(%q) = %d, %q, want %d, %q", c.name, kind, victim, c.kind, c.victim)
		}
	}
}

// FuzzParseOCIName: a name is plain exactly when it can be in a layer, and what
// a whiteout deletes is a name from which the same whiteout follows.
func FuzzParseOCIName(f *testing.F) {
	for _, s := range []string{"", "a", ".wh.", ".wh.a", ".wh..", ".wh...", ".wh..wh..opq", ".wh..opq", ".wh..wh.x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		kind, victim := ParseOCIName(name)
		if (kind == Plain) != Representable(name) {
			t.Errorf("%q: kind %d, but Representable is %v", name, kind, Representable(name))
		}
		if kind != Deletes {
			if victim != "" {
				t.Errorf("%q: kind %d with victim %q", name, kind, victim)
			}
			return
		}
		if OCIName(victim) != name {
			t.Errorf("%q deletes %q, whose whiteout is %q", name, victim, OCIName(victim))
		}
		if victim == "" || victim == "." || victim == ".." || !Representable(victim) {
			t.Errorf("%q deletes %q, which no layer can hold", name, victim)
		}
	})
}

// FuzzOCIName: every name that a layer can hold can be deleted, but for the one
// that fuse-overlayfs took.
func FuzzOCIName(f *testing.F) {
	f.Add("a")
	f.Add(".opq")
	f.Add(".wh.a")
	f.Fuzz(func(t *testing.T, name string) {
		if name == "" || name == "." || name == ".." || name == ".opq" || !Representable(name) {
			return
		}
		if kind, victim := ParseOCIName(OCIName(name)); kind != Deletes || victim != name {
			t.Errorf("whiteout of %q is read as kind %d of %q", name, kind, victim)
		}
	})
}

func TestIsDevice(t *testing.T) {
	for _, c := range []struct {
		mode uint32
		rdev uint64
		want bool
	}{
		{unix.S_IFCHR, 0, true},
		{unix.S_IFCHR | 0o777, 0, true},
		{unix.S_IFCHR, unix.Mkdev(0, 1), false},
		{unix.S_IFCHR, unix.Mkdev(1, 0), false},
		{unix.S_IFBLK, 0, false},
		{unix.S_IFREG, 0, false},
		{unix.S_IFLNK, 0, false},
		{unix.S_IFIFO, 0, false},
	} {
		if got := IsDevice(c.mode, c.rdev); got != c.want {
			t.Errorf("IsDevice(%#o, %#x) = %v", c.mode, c.rdev, got)
		}
	}
}

func TestValidRedirect(t *testing.T) {
	for _, c := range []struct {
		r    string
		want bool
	}{
		{"name", true},
		{"/a", true},
		{"/a/b c/d", true},
		{".wh.x", true},
		{"...", true},
		{"/..a/.b", true},
		{strings.Repeat("a", 255), true},
		{"/" + strings.Repeat("a", maxRedirect-1), true},
		{"/" + strings.Repeat("a", maxRedirect), false},
		{"", false},
		{".", false},
		{"..", false},
		{"/", false},
		{"//", false},
		{"//a", false},
		{"/a/", false},
		{"/a//b", false},
		{"/a/./b", false},
		{"/a/../b", false},
		{"/..", false},
		{"a/b", false},
		{"../a", false},
		{"a\x00b", false},
		{"/a\x00", false},
	} {
		if got := ValidRedirect(c.r); got != c.want {
			t.Errorf("ValidRedirect(%.40q) = %v", c.r, got)
		}
	}
}

// FuzzValidRedirect: what is believed names something below the root, whatever
// way it is split.
func FuzzValidRedirect(f *testing.F) {
	for _, s := range []string{"a", "/a/b", "..", "/../x", "/a//b", "a\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, r string) {
		if !ValidRedirect(r) {
			return
		}
		parts := strings.Split(strings.TrimPrefix(r, "/"), "/")
		if r[0] != '/' && len(parts) != 1 {
			t.Errorf("relative redirect %q has %d parts", r, len(parts))
		}
		for _, p := range parts {
			if p == "" || p == "." || p == ".." || strings.ContainsRune(p, 0) {
				t.Errorf("redirect %q has the part %q", r, p)
			}
		}
	})
}

func TestStyleAndNamespaceNames(t *testing.T) {
	if Device.String() != "device" || Xattr.String() != "xattr" {
		t.Errorf("styles are called %s and %s", Device, Xattr)
	}
	if Trusted.String() != "trusted" || User.String() != "user" {
		t.Errorf("namespaces are called %s and %s", Trusted, User)
	}
}
