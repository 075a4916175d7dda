package stack

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestRedirects(t *testing.T) {
	runLayerCases(t, []layerCase{
		{what: "relative", layers: `
			==
			dir new t.redirect=old
			file new/a =1
			dev old
			==
			file old/b =2`, want: `new/ new/a=1 new/b=2`},
		{what: "the name below does not merge", layers: `
			==
			dir new t.redirect=old
			dev old
			==
			file old/b =2
			file new/c =2`, want: `new/ new/b=2`},
		{what: "absolute", layers: `
			==
			dir x/new t.redirect=/y/old
			dev y
			==
			file y/old/b =2
			file x/new/c =2`, want: `x/ x/new/ x/new/b=2`},
		{what: "to a file ends the merge", layers: `
			==
			dir new t.redirect=/old
			file new/a =1
			dev old
			==
			file old =2
			==
			file old/b =3`, want: `new/ new/a=1`},
		{what: "through a file ends the merge", layers: `
			==
			dir new t.redirect=/f/old
			file new/a =1
			==
			file f =2
			==
			file f/old/b =3`, want: `new/ new/a=1 f=2`},
		{what: "through a link ends the merge", layers: `
			==
			dir new t.redirect=/l/old
			file new/a =1
			dev real
			==
			link l ->real
			file real/old/b =2`, want: `new/ new/a=1 l->real`},
		{what: "through a whiteout ends the merge", layers: `
			==
			dir new t.redirect=/p/old
			file new/a =1
			==
			dev p
			==
			file p/old/b =3`, want: `new/ new/a=1`},
		{what: "to nothing", layers: "==\ndir new t.redirect=/no/where\nfile new/a =1\n==\nfile new/b =2", want: `new/ new/a=1`},
		{what: "is skipped by a layer that lacks the place", layers: `
			==
			dir new t.redirect=/p/old
			dev p
			==
			file q =2
			==
			file p/old/b =3`, want: `new/ new/b=3 q=2`},
		{what: "renamed twice in two layers", layers: `
			==
			dir c t.redirect=b
			dev b
			==
			dir b t.redirect=a
			file b/two =2
			dev a
			==
			file a/three =3`, want: `c/ c/three=3 c/two=2`},
		{what: "relative, then absolute", layers: `
			==
			dir d/c t.redirect=b
			dev d/b
			==
			dir d/b t.redirect=/e/a
			file d/b/two =2
			dev e
			==
			file e/a/three =3
			file d/b/wrong =3`, want: `d/ d/c/ d/c/three=3 d/c/two=2`},
		{what: "absolute, then relative", layers: `
			==
			dir c t.redirect=/d/b
			dev d
			==
			dir d/b t.redirect=a
			file d/b/two =2
			==
			file d/a/three =3
			file d/b/wrong =3`, want: `c/ c/three=3 c/two=2`},
		{what: "absolute through a redirected directory", layers: `
			==
			dir c t.redirect=/d/b
			dev d
			==
			dir d t.redirect=old
			file d/b/two =2
			dev old
			==
			file old/b/three =3
			file d/b/wrong =3`, want: `c/ c/three=3 c/two=2`},
		{what: "absolute through an absolutely redirected directory", layers: `
			==
			dir c t.redirect=/p/d/b
			dev p
			==
			dir p/d t.redirect=/q/old
			file p/d/b/two =2
			dev q
			==
			file q/old/b/three =3
			file p/d/b/wrong =3`, want: `c/ c/three=3 c/two=2`},
		{what: "absolute through a redirected directory that lacks the rest", layers: `
			==
			dir c t.redirect=/d/b
			file c/one =1
			dev d
			==
			dir d t.redirect=old
			dev old
			==
			file old/b/three =3
			file d/b/wrong =3`, want: `c/ c/one=1 c/three=3`},
		{
			what: "absolute through two redirected directories", layers: `
			==
			dir c t.redirect=/d/e/b
			dev d
			==
			dir d t.redirect=dd
			dir d/e t.redirect=ee
			file d/e/b/two =2
			==
			dir dd/ee/b t.redirect=bb
			file dd/ee/b/three =3
			dev d
			==
			file dd/ee/bb/four =4
			file d/e/b/wrong =4
			==
			file dd/ee/bb/five =5`, want: `c/ c/two=2 c/three=3 c/four=4 c/five=5 dd/ dd/ee/ dd/ee/b/ dd/ee/b/three=3 dd/ee/b/four=4 dd/ee/b/five=5 dd/ee/bb/ dd/ee/bb/four=4 dd/ee/bb/five=5`,
			notKernel: "it refuses directories that are seen under two paths",
		},
		{what: "absolute through an opaque directory ends below that layer", layers: `
			==
			dir c t.redirect=/d/b
			dev d
			==
			dir d t.opaque=y
			file d/b/two =2
			==
			file d/b/wrong =3`, want: `c/ c/two=2`},
		{what: "absolute from below an opaque directory goes on", layers: `
			==
			dir c t.redirect=/d/b
			dev d
			dev q
			==
			dir d t.opaque=y
			dir d/b t.redirect=/q/old
			file d/b/two =2
			==
			file q/old/three =3`, want: `c/ c/two=2 c/three=3`},
		{what: "opaque and redirected", layers: `
			==
			dir c t.redirect=/d t.opaque=y
			file c/one =1
			dev d
			==
			file d/wrong =2`, want: `c/ c/one=1`},
		{what: "children follow", layers: `
			==
			dir new t.redirect=/old
			dir new/sub2 t.redirect=sub
			dev new/sub
			dev old
			==
			file old/sub/deep/x =2
			file old/y =2`, want: `new/ new/sub2/ new/sub2/deep/ new/sub2/deep/x=2 new/y=2`},
	})
}

func TestMetacopy(t *testing.T) {
	runLayerCases(t, []layerCase{
		{what: "same name", layers: "==\nfile f t.metacopy=\n==\nfile f =data", want: `f=data`},
		{
			what: "chain", layers: "==\nfile f t.metacopy=\n==\nfile f t.metacopy=\n==\nfile f t.metacopy=\n==\nfile f =data\n==\nfile f =wrong",
			want: `f=data`,
		},
		{what: "renamed", layers: "==\nfile g t.metacopy= t.redirect=f\ndev f\n==\nfile f =data\nfile g =wrong", want: `g=data`},
		{what: "moved", layers: "==\nfile x/g t.metacopy= t.redirect=/d/f\ndev d\n==\nfile d/f =data\nfile x/g =wrong", want: `x/ x/g=data`},
		{what: "renamed in two layers", layers: `
			==
			file h t.metacopy= t.redirect=/g
			dev g
			==
			file g t.metacopy= t.redirect=/d/f
			dev d
			==
			file d/f =data
			file g =wrong`, want: `h=data`},
		{what: "in a renamed directory", layers: `
			==
			dir new t.redirect=old
			file new/f t.metacopy=
			dev old
			==
			file old/f =data`, want: `new/ new/f=data`},
		{what: "without data", layers: "==\nfile f t.metacopy=\nfile g =1\n==\nfile g =2", want: `f!EIO g=1`},
		{what: "over a directory", layers: "==\nfile f t.metacopy=\n==\nfile f/x =2\n==\nfile f =3", want: `f!EIO`},
		{what: "over a link", layers: "==\nfile f t.metacopy=\n==\nlink f ->g\n==\nfile f =3", want: `f!EIO`},
		{what: "over a whiteout", layers: "==\nfile f t.metacopy=\n==\ndev f\n==\nfile f =3", want: `f!EIO`},
		{what: "a layer between that lacks it", layers: "==\nfile f t.metacopy=\n==\nfile g =1\n==\nfile f =3", want: `f=3 g=1`},
		{what: "a redirect of a file with data counts for nothing", layers: "==\nfile f =top t.redirect=/g\n==\nfile g =2", want: `f=top g=2`},
		{what: "of another namespace", layers: "==\nfile f =own u.metacopy=\n==\nfile f =data", want: `f=own`},
	})
}

func TestRootlessMarks(t *testing.T) {
	dirs := buildLayers(t, `
		==
		dir new u.redirect=/old
		file new/m u.metacopy=
		dir d u.opaque=y
		file d/x =1
		file .wh.old =
		==
		file old/m =data
		file d/y =2`)
	s := openStack(t, dirs, userOptions)
	if got, want := dumpStack(t, s), tidy(`new/ new/m=data d/ d/x=1`); got != want {
		t.Errorf("the union shows\n%s\nwant\n%s", got, want)
	}
}

// TestUntrustedRedirectIsNotFollowed: what any user could have written counts
// only in a mount of his own.
func TestUntrustedRedirectIsNotFollowed(t *testing.T) {
	dirs := buildLayers(t, "==\ndir new u.redirect=/secret\n==\nfile secret/x =2")
	s := openStack(t, dirs, DirOptions{NoClone: true})
	if got, want := dumpStack(t, s), tidy(`new/ secret/ secret/x=2`); got != want {
		t.Errorf("the union shows\n%s\nwant\n%s", got, want)
	}
}

func TestRedirectThatLeadsOutIsRefused(t *testing.T) {
	for _, r := range []string{"..", "../x", "/../x", "/a/../../x", "a/b", "/"} {
		s := openStack(t, buildLayers(t, "==\ndir d u.redirect="+r+"\n==\nfile x =1"), userOptions)
		if _, err := s.Walk("d"); err != unix.EINVAL {
			t.Errorf("redirect %q: %v, want EINVAL", r, err)
		}
	}
}

func TestFindBelowAnUpper(t *testing.T) {
	s := openStack(t, buildLayers(t, `
		==
		file f =1
		file d/a =1
		file m u.metacopy= u.redirect=/deep/data
		==
		file f =2
		file old/b =2
		file deep/data =2
		==
		file d =3`), userOptions)
	roots := s.Root().Reals
	for _, c := range []struct {
		what string
		q    Search
		want string // layers of the answer, or the error
	}{
		{"a file", Search{Name: "f"}, "0"},
		{"below a directory there is a file", Search{Name: "f", DirAbove: true}, ""},
		{"a directory above", Search{Name: "d", DirAbove: true}, "0"},
		{"a directory above, redirected", Search{Name: "x", DirAbove: true, Redirect: "old"}, "1"},
		{"a directory above, redirected far", Search{Name: "x", DirAbove: true, Redirect: "/deep"}, "1"},
		{"data for a metacopy file", Search{Name: "f", DataAbove: true}, "0"},
		{"data for a redirected metacopy file", Search{Name: "x", DataAbove: true, Redirect: "/old/b"}, "1"},
		{"data through another metacopy file", Search{Name: "m", DataAbove: true}, "0 1"},
		{"data that a directory cannot have", Search{Name: "d", DataAbove: true}, "input/output error"},
		{"data that is nowhere", Search{Name: "x", DataAbove: true}, "input/output error"},
		{"nothing", Search{Name: "x"}, ""},
	} {
		reals, err := s.Find(roots, c.q)
		got := ""
		if err != nil {
			got = err.Error()
		} else {
			var layers []string
			for _, r := range reals {
				layers = append(layers, fmt.Sprint(r.Layer))
			}
			got = strings.Join(layers, " ")
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.what, got, c.want)
		}
	}
}

// TestRandomLayersAgainstTheKernel compares random stacks of marked layers with
// what the kernel's overlayfs makes of them.
func TestRandomLayersAgainstTheKernel(t *testing.T) {
	seeds := 120
	compared := 0
	for seed := range seeds {
		text := randomLayers(rand.New(rand.NewPCG(uint64(seed), 1)))
		ok := t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			dirs := buildLayers(t, text)
			want := kernelListing(dumpDir(t, mountKernel(t, dirs)))
			if strings.Contains(want, "!ESTALE") || strings.Contains(want, "!ELOOP") {
				return // a directory that is seen under two paths; the kernel refuses one
			}
			compared++
			if got := dumpStack(t, openStack(t, dirs, DirOptions{NoClone: true})); got != want {
				t.Errorf("layers\n%s\nthe union shows\n%s\nthe kernel\n%s", text, got, want)
			}
		})
		if !ok {
			break // one at a time: the text of a case is long
		}
	}
	t.Logf("%d of %d stacks were compared", compared, seeds)
}

// kernelListing drops the whiteouts that the kernel lists, but does not find,
// where one layer takes part.
func kernelListing(dump string) string {
	var out []string
	for _, line := range strings.Split(dump, "\n") {
		if !strings.HasSuffix(line, "!ENOENT") {
			out = append(out, line)
		}
	}
	return strings.Join(out, "\n")
}

func randomLayers(r *rand.Rand) string {
	name := func() string { return string(rune('a' + r.IntN(3))) }
	redirect := func() string {
		if r.IntN(3) == 0 {
			return name()
		}
		s := ""
		for range 1 + r.IntN(3) {
			s += "/" + name()
		}
		return s
	}
	var out strings.Builder
	// dir writes the objects of one directory; depth is what may follow below.
	var dir func(path string, layer, depth int)
	dir = func(path string, layer, depth int) {
		for _, n := range []string{"a", "b", "c"} {
			p := path + n
			switch k := r.IntN(10); {
			case k < 2:
			case k == 2:
				fmt.Fprintf(&out, "dev %s\n", p)
			case k == 3:
				fmt.Fprintf(&out, "file %s =%d\n", p, layer)
			case k == 4:
				fmt.Fprintf(&out, "file %s t.metacopy=", p)
				if r.IntN(2) == 0 {
					fmt.Fprintf(&out, " t.redirect=%s", redirect())
				}
				out.WriteByte('\n')
			case k == 5 && r.IntN(2) == 0:
				fmt.Fprintf(&out, "link %s ->a\n", p)
			case depth > 0:
				fmt.Fprintf(&out, "dir %s", p)
				if r.IntN(5) < 2 {
					fmt.Fprintf(&out, " t.redirect=%s", redirect())
				}
				if r.IntN(8) == 0 {
					out.WriteString(" t.opaque=y")
				}
				out.WriteByte('\n')
				dir(p+"/", layer, depth-1)
			default:
				fmt.Fprintf(&out, "file %s =%d\n", p, layer)
			}
		}
	}
	for layer := range 3 + r.IntN(2) {
		out.WriteString("==\n")
		dir("", layer, 2)
	}
	return out.String()
}
