package pack

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestOnlyWhatIsChosen(t *testing.T) {
	needRoot(t)
	const opaque = "setfattr -n trusted.overlay.opaque -v y "
	const lower = "mkdir -p etc/app var/log opt d; echo 1 >etc/app/old; touch var/log/{a,b} opt/{1..70} opt/keep d/f; chmod 700 etc"
	const upper = "mkdir -p -m 755 etc/app var/log opt/sub tmp; echo 2 >etc/app/conf; echo 2 >etc/hosts; mknod etc/app/old c 0 0; " +
		"mknod var/log/a c 0 0; echo x >var/log/c; echo >opt/sub/f; echo >opt/keep; " + opaque + "opt; echo >tmp/t; mknod d c 0 0"
	low := tree(t, lower)
	up := tree(t, "umask 022; "+upper)
	cases := []struct {
		name             string
		include, exclude []string
		want             string
		absent           string
	}{
		{"one directory", []string{"/etc/app"}, nil, "etc/ etc/app/ etc/app/.wh.old etc/app/conf", ""},
		{"one file", []string{"etc/hosts"}, nil, "etc/ etc/hosts", ""},
		{"a pattern of two names", []string{"*/app"}, nil, "etc/ etc/app/ etc/app/.wh.old etc/app/conf", ""},
		{"without a directory", []string{"etc", "var"}, []string{"etc/app", "var/*/c"}, "etc/ etc/hosts var/ var/log/ var/log/.wh.a", ""},
		{"a deletion is left out", []string{"var", "d"}, []string{"var/log/a"}, ".wh.d var/ var/log/ var/log/c", ""},
		{"nothing", []string{"none"}, nil, "", ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, list := packed(t, open(t, up, low), Options{Include: c.include, Exclude: c.exclude})
			if got := names(list); got != c.want {
				t.Errorf("layer %q, want %q", got, c.want)
			}
		})
	}
	// A directory that is not chosen keeps its attributes on the way to one that is.
	_, list := packed(t, open(t, up, low), Options{Include: []string{"etc/hosts"}})
	if list[0].Mode != 0o700 {
		t.Errorf("etc has mode %o", list[0].Mode)
	}
	// An opaque directory does not delete what is not to be touched.
	_, list = packed(t, open(t, up, low), Options{Include: []string{"opt"}, Exclude: []string{"opt/keep", "opt/3*"}})
	if got := names(list); strings.Contains(got, "opq") || strings.Contains(got, "keep") || strings.Contains(got, ".wh.3") ||
		!strings.Contains(got, "opt/.wh.70 ") || !strings.HasSuffix(got, "opt/sub/ opt/sub/f") {
		t.Errorf("layer %q", got)
	}
	for _, bad := range []string{"[", "/", ""} {
		if _, err := Plan(context.Background(), open(t, up, low), Options{Exclude: []string{bad}}); !errors.Is(err, ErrInput) {
			t.Errorf("pattern %q: %v", bad, err)
		}
	}
}

func TestUnchangedFilesAreDropped(t *testing.T) {
	needRoot(t)
	low := tree(t, "echo 1 >a; echo 1 >data; echo 1 >mode; echo 1 >time; echo 1 >xattr; ln -s x link; ln -s y other; echo 1 >two; ln two three; mkdir d; echo 1 >d/f; touch -hd 2001-01-01 * d/f")
	up := tree(t, "cp -a "+low+"/. .; touch -r "+low+" .; echo 2 >data; touch -r a data; chmod 600 mode; touch -d 2002-01-01 time; setfattr -n user.x -v 1 xattr; rm other; ln -s z other; touch -hd 2001-01-01 other; cp -a a new")
	res, list := packed(t, open(t, up, low), Options{DropUnchanged: true})
	if got, want := names(list), "data mode new other three time two xattr"; got != want {
		t.Errorf("layer %q, want %q", got, want)
	}
	if c := res.Counts; c.Unchanged != 3 || c.UnchangedBytes != 5 {
		t.Errorf("%d files with %d bytes left out", c.Unchanged, c.UnchangedBytes)
	}
	plan, err := Plan(context.Background(), open(t, up, low), Options{DropUnchanged: true})
	if err != nil || plan.Counts != res.Counts {
		t.Errorf("planned %+v, written %+v, %v", plan.Counts, res.Counts, err)
	}
	_, all := packed(t, open(t, up, low), Options{})
	if len(all) != len(list)+4 { // the three, and the directory of one
		t.Errorf("%s", names(all))
	}
}

func TestAFullLayerIsTheUnion(t *testing.T) {
	needRoot(t)
	low := tree(t, "mkdir -p a/s d; echo 1 >a/s/f; echo 2 >d/g; echo 3 >gone; chmod 750 .")
	up := tree(t, "mkdir b; setfattr -n trusted.overlay.redirect -v a b; mknod a c 0 0; mknod gone c 0 0; mkdir d; echo 4 >d/h; chmod 700 .")
	_, list := packed(t, open(t, up, low), Options{Full: true})
	if got, want := names(list), "./ b/ b/s/ b/s/f d/ d/g d/h"; got != want {
		t.Errorf("layer %q, want %q", got, want)
	}
	if list[0].Mode != 0o700 {
		t.Errorf("the root has mode %o", list[0].Mode)
	}
}

func TestPlanTellsEachChange(t *testing.T) {
	needRoot(t)
	low := tree(t, "mkdir d o; touch d/x d/y o/{1..70}; echo >f")
	up := tree(t, "mkdir d o; mknod d/x c 0 0; echo 22 >d/y; echo 1 >n; setfattr -n trusted.overlay.opaque -v y o")
	var got []string
	visit := func(c Change) { got = append(got, c.Kind+" "+c.Path) }
	if _, err := Plan(context.Background(), open(t, up, low), Options{Visit: visit}); err != nil {
		t.Fatal(err)
	}
	want := []string{"C /d", "D /d/x", "C /d/y", "A /n", "C /o", "O /o"}
	if !slices.Equal(got, want) {
		t.Errorf("changes %q, want %q", got, want)
	}
}
