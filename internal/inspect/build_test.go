package inspect

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestEveryViewShowsWhatTheStackShows(t *testing.T) {
	m := model(t, `
== top
file keep/new data=x
wh gone
dir re
file re/two data=2
opq re
file wasdir data=now
== middle
file gone/b data=b
file re/one data=11
link swap to=keep
dir wasdir mode=0700
file wasdir/in data=in
== bottom
file keep/old data=old
file gone/a data=aaa
file re/zero data=0
file re/two data=old2
dir swap
file swap/in data=in
hard swap/hard to=swap/in
wh nothing
`)
	for view := range m.Len() {
		if got, want := show(m, view), showStack(t, m.Stack(view), view); got != want {
			t.Errorf("view %d: model\n%sstack\n%s", view, got, want)
		}
	}
}

// TestRandomStacksAgreeWithTheUnionRule makes stacks of directories with all
// marks at random and compares every view with package stack.
func TestRandomStacksAgreeWithTheUnionRule(t *testing.T) {
	for seed := range uint64(40) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 1))
			base := t.TempDir()
			var dirs []string
			for i := range 2 + rng.IntN(3) {
				dir := filepath.Join(base, fmt.Sprint(i))
				must(t, unix.Mkdir(dir, 0o755))
				dirs = append(dirs, dir)
				fill(t, rng, dir, "", 0)
			}
			m := dirModel(t, dirs...)
			for view := range m.Len() {
				if got, want := withoutDangling(m, view), showStack(t, m.Stack(view), view); got != want {
					t.Fatalf("view %d: model\n%sstack\n%s", view, got, want)
				}
			}
		})
	}
}

// withoutDangling is show, with metacopy files that have no data as showStack
// has them.
func withoutDangling(m *Model, view int) string {
	out := ""
	var walk func(n Node)
	walk = func(n Node) {
		for c := range m.Children(n) {
			v, ok := m.At(c, view)
			switch {
			case !ok:
			case v.Dangling:
				out += m.Path(c) + " dangling\n"
			default:
				out += showLine(m.Path(c), v.Mode, v.Size, v.Layer) + "\n"
				if v.IsDir() {
					walk(c)
				}
			}
		}
	}
	walk(Root)
	return out
}

// fill makes objects with random names and marks.
func fill(t *testing.T, rng *rand.Rand, layer, dir string, depth int) {
	names := []string{"a", "b", "c"}
	for _, name := range names {
		path := filepath.Join(dir, name)
		switch k := rng.IntN(12); {
		case k < 3:
		case k < 4:
			put(t, layer, "wh", path, "")
		case k < 6 || depth == 3:
			content := fmt.Sprint(rng.IntN(1000))
			if rng.IntN(4) == 0 {
				put(t, layer, "file", path, "", "metacopy", "", "redirect", redirect(rng))
			} else {
				put(t, layer, "file", path, content)
			}
		default:
			var marks []string
			switch rng.IntN(6) {
			case 0:
				marks = []string{"opaque", "y"}
			case 1, 2:
				marks = []string{"redirect", redirect(rng)}
			}
			put(t, layer, "dir", path, "", marks...)
			fill(t, rng, layer, path, depth+1)
		}
	}
}

func redirect(rng *rand.Rand) string {
	names := []string{"a", "b", "c"}
	switch rng.IntN(3) {
	case 0:
		return "/" + names[rng.IntN(3)]
	case 1:
		return "/" + names[rng.IntN(3)] + "/" + names[rng.IntN(3)]
	}
	return names[rng.IntN(3)]
}

func TestBuildRefusesNoLayersAndEndsWithItsContext(t *testing.T) {
	if _, err := Build(context.Background(), nil); err == nil {
		t.Error("no layers make a model")
	}
	m := model(t, "==\nfile a data=1")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Build(ctx, []Source{{Layer: m.Stack(0).Layers()[0]}}); err == nil {
		t.Error("a cancelled build succeeds")
	}
}

func TestImpliedDirectoriesHaveTheAttributesOfThoseBelow(t *testing.T) {
	m := model(t, `
==
file top/sub/new data=1
==
file top/sub/middle data=1
==
dir top mode=0700 uid=5
dir top/sub mode=01777
`)
	for view := range m.Len() {
		if got, want := show(m, view), showStack(t, m.Stack(view), view); got != want {
			t.Errorf("view %d: model\n%sstack\n%s", view, got, want)
		}
	}
	n, _ := m.Find("/top")
	v, _ := m.At(n, 0)
	if v.Mode&0o7777 != 0o700 || v.UID != 5 || !v.Implied || v.Layer != 0 {
		t.Errorf("/top is %+v", v)
	}
	changes, err := Compare(context.Background(), View{m, 1}, View{m, 0})
	must(t, err)
	checkChanges(t, changes, "C /top", "C /top/sub", "A /top/sub/new")
}

func TestFollowStaysInsideAndEnds(t *testing.T) {
	m := model(t, "==\nlink abs to=/dir/file\nlink rel to=dir/../dir/file\nlink up to=../../dir\nlink loop to=loop\nlink lost to=/none\nfile dir/file data=1\nlink dir/back to=../rel")
	for path, want := range map[string]string{"/abs": "/dir/file", "/rel": "/dir/file", "/up": "/dir", "/dir/back": "/dir/file", "/loop": "", "/lost": ""} {
		n, _ := m.Find(path)
		v, _ := m.At(n, 0)
		got, err := m.Follow(v, 0)
		if (err != nil) != (want == "") || err == nil && m.Path(got.Node) != want {
			t.Errorf("%s leads to %s, %v; want %q", path, m.Path(got.Node), err, want)
		}
	}
}
