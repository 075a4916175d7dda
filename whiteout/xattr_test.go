package whiteout

import (
	"strings"
	"testing"
)

var namespaces = [...]Namespace{Trusted, User}

func TestAttrNamesAreTheKernels(t *testing.T) {
	for m, want := range map[Mark]string{
		Opaque: "opaque", Redirect: "redirect", Origin: "origin", Impure: "impure", Nlink: "nlink",
		Upper: "upper", UUID: "uuid", Metacopy: "metacopy", Protattr: "protattr", XWhiteout: "whiteout",
	} {
		for _, ns := range namespaces {
			if got := ns.Attr(m); got != ns.String()+".overlay."+want {
				t.Errorf("mark %d in %s is %q", m, ns, got)
			}
		}
	}
}

func TestEscape(t *testing.T) {
	for _, c := range []struct {
		ns         Namespace
		attr, want string
	}{
		{Trusted, "trusted.overlay.opaque", "trusted.overlay.overlay.opaque"},
		{Trusted, "trusted.overlay.overlay.opaque", "trusted.overlay.overlay.overlay.opaque"},
		{Trusted, "trusted.overlay.", "trusted.overlay.overlay."},
		{Trusted, "trusted.overlay", "trusted.overlay"},
		{Trusted, "trusted.overlayfs.x", "trusted.overlayfs.x"},
		{Trusted, "trusted.md5", "trusted.md5"},
		{Trusted, "user.overlay.opaque", "user.overlay.opaque"},
		{Trusted, "security.capability", "security.capability"},
		{User, "user.overlay.opaque", "user.overlay.overlay.opaque"},
		{User, "trusted.overlay.opaque", "trusted.overlay.opaque"},
		{User, "user.mime", "user.mime"},
		{User, "", ""},
	} {
		if got := c.ns.Escape(c.attr); got != c.want {
			t.Errorf("%s.Escape(%q) = %q, want %q", c.ns, c.attr, got, c.want)
		}
	}
}

func TestUnescapeHidesTheOwnMarks(t *testing.T) {
	for _, ns := range namespaces {
		for m := Mark(0); m < numMarks; m++ {
			if shown, ok := ns.Unescape(ns.Attr(m)); ok {
				t.Errorf("%s shows its own mark %s as %q", ns, ns.Attr(m), shown)
			}
		}
	}
	for _, c := range []struct {
		ns         Namespace
		attr, want string // "" is hidden
	}{
		{Trusted, "trusted.overlay.overlay.opaque", "trusted.overlay.opaque"},
		{Trusted, "trusted.overlay.overlay.overlay.x", "trusted.overlay.overlay.x"},
		{Trusted, "trusted.overlay.unknown", ""},
		{Trusted, "trusted.overlay.", ""},
		{Trusted, "user.overlay.opaque", "user.overlay.opaque"},
		{User, "user.overlay.overlay.opaque", "user.overlay.opaque"},
		{User, "trusted.overlay.opaque", "trusted.overlay.opaque"},
		{Trusted, "user.fuseoverlayfs.opaque", ""},
		{User, "user.fuseoverlayfs.origin", ""},
		{User, "user.mime", "user.mime"},
	} {
		got, ok := c.ns.Unescape(c.attr)
		if ok != (c.want != "") || ok && got != c.want {
			t.Errorf("%s.Unescape(%q) = %q, %v, want %q", c.ns, c.attr, got, ok, c.want)
		}
	}
}

// FuzzEscape: what a user sets is listed under the same name, and can never be
// taken for a mark of the mount itself.
func FuzzEscape(f *testing.F) {
	for _, s := range []string{
		"", "user.x", "trusted.overlay.opaque", "user.overlay.overlay.", "trusted.overlay.overlay.overlay.x",
		"user.fuseoverlayfs.opaque", "security.capability", "trusted.overlay.\xff",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, attr string) {
		for _, ns := range namespaces {
			stored := ns.Escape(attr)
			if strings.HasPrefix(attr, fuseOverlayfsPrefix) {
				if _, ok := ns.Unescape(stored); ok {
					t.Errorf("%s shows %q", ns, stored)
				}
				continue
			}
			if got, ok := ns.Unescape(stored); !ok || got != attr {
				t.Errorf("%s: %q is stored as %q and listed as %q, %v", ns, attr, stored, got, ok)
			}
			for m := Mark(0); m < numMarks; m++ {
				if stored == ns.Attr(m) {
					t.Errorf("%s: a user's %q would be the mark %q", ns, attr, stored)
				}
			}
		}
	})
}

// FuzzUnescape: no two stored attributes are listed under one name.
func FuzzUnescape(f *testing.F) {
	f.Add("user.overlay.overlay.opaque")
	f.Add("trusted.overlay.x")
	f.Fuzz(func(t *testing.T, stored string) {
		for _, ns := range namespaces {
			if shown, ok := ns.Unescape(stored); ok && ns.Escape(shown) != stored {
				t.Errorf("%s: %q is listed as %q, which is stored as %q", ns, stored, shown, ns.Escape(shown))
			}
		}
	})
}

func TestIsMarkAndInterprets(t *testing.T) {
	for _, c := range []struct {
		attr                  string
		mark, inTrust, inUser bool
	}{
		{"trusted.overlay.opaque", true, true, false},
		{"user.overlay.opaque", true, false, true},
		{"trusted.overlay.whiteout", true, true, false},
		{"user.overlay.whiteout", true, false, true},
		{"trusted.overlay.redirect", true, true, false},
		{"user.overlay.redirect", true, false, true},
		{"trusted.overlay.metacopy", true, true, false},
		{"user.overlay.metacopy", true, false, true},
		{"user.overlay.origin", true, false, true},
		{"trusted.overlay.future", true, true, false},
		{"trusted.overlay.overlay.opaque", false, false, false},
		{"user.overlay.overlay.opaque", false, false, false},
		{"user.fuseoverlayfs.opaque", true, true, true},
		{"user.fuseoverlayfs.anything", true, true, true},
		{"user.mime", false, false, false},
		{"security.capability", false, false, false},
		{"trusted.overlay", false, false, false},
		{"", false, false, false},
	} {
		if got := IsMark(c.attr); got != c.mark {
			t.Errorf("IsMark(%q) = %v", c.attr, got)
		}
		if got := Trusted.Interprets(c.attr); got != c.inTrust {
			t.Errorf("Trusted.Interprets(%q) = %v", c.attr, got)
		}
		if got := User.Interprets(c.attr); got != c.inUser {
			t.Errorf("User.Interprets(%q) = %v", c.attr, got)
		}
	}
}

// FuzzInterprets: a mount takes nothing for a mark that is none in either
// namespace, and hides nothing that it does not take for a mark.
func FuzzInterprets(f *testing.F) {
	f.Add("trusted.overlay.opaque")
	f.Add("user.overlay.overlay.x")
	f.Fuzz(func(t *testing.T, attr string) {
		for _, ns := range namespaces {
			if ns.Interprets(attr) && !IsMark(attr) {
				t.Errorf("%s interprets %q, which is no mark", ns, attr)
			}
			if _, shown := ns.Unescape(attr); !shown && !ns.Interprets(attr) {
				t.Errorf("%s hides %q but copies it up as an ordinary attribute", ns, attr)
			}
		}
	})
}
