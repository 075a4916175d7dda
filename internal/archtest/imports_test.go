package archtest

import (
	"slices"
	"strings"
	"testing"
)

// everything stands for "may import any package of this module".
const everything = "*"

// allowed is the table of docs/architecture.md: package -> packages of this
// module that its production files may import. Test files may import anything.
var allowed = map[string][]string{
	"internal/sys":      {},
	"internal/control":  {},
	"internal/mountopt": {},
	"mountinfo":         {},
	"whiteout":          {"internal/sys"},
	"internal/stack":    {"internal/sys", "whiteout"},
	"internal/tarlayer": {"internal/stack", "whiteout"},
	"cow":               {"internal/sys", "whiteout"},
	"fs":                {"internal/stack", "cow", "whiteout", "internal/sys"},
	"internal/pack":     {"internal/stack", "whiteout", "internal/sys"},
	"internal/image":    {"internal/pack", "internal/tarlayer", "internal/stack", "whiteout", "internal/sys"},
	"internal/inspect":  {"internal/stack", "internal/image", "internal/tarlayer", "whiteout"},
	"bench":             {"mountinfo", "internal/mountopt"},

	"cmd/unionfs":                    {everything},
	"cmd/unionfs/internal/demoimage": {},
	"cmd/unionfs/internal/tui":       {"internal/inspect"},

	// Packages that only tests import.
	"internal/archtest": {},
	"internal/difftest": {everything},
	"internal/realtest": {},
	"scripts/testgate":  {},
}

// testOnly are the packages that no production file may import.
var testOnly = []string{"internal/archtest", "internal/difftest", "internal/realtest", "scripts/testgate"}

func TestImportsFollowTheTable(t *testing.T) {
	for _, f := range load(t).production() {
		may, known := allowed[f.pkg]
		if !known {
			t.Errorf("%s: package %s is not in the table of internal/archtest and docs/architecture.md", f.name, f.pkg)
			continue
		}
		for _, imported := range f.imports() {
			inner, ours := strings.CutPrefix(imported, modulePath+"/")
			if !ours {
				continue
			}
			if slices.Contains(testOnly, inner) && f.pkg != inner {
				t.Errorf("%s imports %s, which is for tests only", f.name, inner)
			}
			if !slices.Contains(may, inner) && !slices.Contains(may, everything) {
				t.Errorf("%s: package %s must not import %s", f.name, f.pkg, inner)
			}
		}
	}
}

// places says where a third-party package may be imported: the import path or
// a prefix of it -> packages, or everything below a "dir/...".
var places = map[string][]string{
	"github.com/hanwen/go-fuse/v2":           {"fs"},
	"github.com/klauspost/compress":          {"internal/tarlayer", "internal/pack", "internal/image"},
	"github.com/spf13/pflag":                 {"cmd/..."},
	"github.com/opencontainers/go-digest":    {"internal/...", "cmd/..."},
	"github.com/opencontainers/image-spec":   {"internal/...", "cmd/..."},
	"github.com/moby/sys/mountinfo":          {"mountinfo", "cmd/..."},
	"github.com/moby/sys/userns":             {"internal/sys", "cmd/..."},
	"oras.land/oras-go/v2":                   {"internal/image"},
	"charm.land/bubbletea/v2":                {"cmd/unionfs/internal/tui"},
	"charm.land/lipgloss/v2":                 {"cmd/unionfs/internal/tui"},
	"charm.land/bubbles/v2":                  {"cmd/unionfs/internal/tui"},
	"golang.org/x/sys":                       {"..."},
	"golang.org/x/term":                      {"cmd/..."},
	"github.com/google/go-containerregistry": {}, // tests only
	"github.com/hanwen/go-fuse/v2/posixtest": {}, // tests only
}

func TestThirdPartyPackagesStayInTheirPlaces(t *testing.T) {
	for _, f := range load(t).production() {
		for _, imported := range f.imports() {
			if imported == modulePath || strings.HasPrefix(imported, modulePath+"/") || standard(imported) {
				continue
			}
			where, known := placesOf(imported)
			switch {
			case imported == "C":
				t.Errorf("%s uses cgo; unionfs is a static binary without it", f.name)
			case !known:
				t.Errorf("%s imports %s, which is not a dependency chosen in docs/architecture.md", f.name, imported)
			case !slices.ContainsFunc(where, func(place string) bool { return within(f.pkg, place) }):
				t.Errorf("%s imports %s, which only %v may", f.name, imported, where)
			}
		}
	}
}

// standard tells whether an import path is of the standard library: its first
// element has no dot.
func standard(importPath string) bool {
	first, _, _ := strings.Cut(importPath, "/")
	return !strings.Contains(first, ".") && first != "C"
}

// placesOf finds the longest entry of places that covers an import path.
func placesOf(importPath string) ([]string, bool) {
	best, found := "", false
	for prefix := range places {
		if (importPath == prefix || strings.HasPrefix(importPath, prefix+"/")) && len(prefix) > len(best) {
			best, found = prefix, true
		}
	}
	return places[best], found
}

// within tells whether a package is the place, or below a place that ends in
// "...".
func within(pkg, place string) bool {
	if prefix, below := strings.CutSuffix(place, "..."); below {
		return strings.HasPrefix(pkg+"/", prefix)
	}
	return pkg == place
}

func TestTableHelpers(t *testing.T) {
	for _, c := range []struct {
		pkg, place string
		want       bool
	}{
		{"fs", "fs", true},
		{"fs/inner", "fs", false},
		{"cmd/unionfs", "cmd/...", true},
		{"cmdline", "cmd/...", false},
		{"whiteout", "...", true},
	} {
		if got := within(c.pkg, c.place); got != c.want {
			t.Errorf("within(%q, %q) = %v", c.pkg, c.place, got)
		}
	}
	if where, known := placesOf("github.com/hanwen/go-fuse/v2/posixtest"); !known || len(where) != 0 {
		t.Errorf("posixtest may be imported from %v, known %v; want nowhere", where, known)
	}
	if _, known := placesOf("example.org/unknown"); known {
		t.Error("an unknown module has a place")
	}
	if !standard("io/fs") || standard("golang.org/x/sys/unix") || standard("C") {
		t.Error("standard tells the standard library wrongly")
	}
}
