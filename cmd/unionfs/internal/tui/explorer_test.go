package tui

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode"

	"charm.land/lipgloss/v2"

	"github.com/unionfs-go/unionfs/internal/inspect"
)

func TestHelpFitsTheScreenAndNamesEveryKey(t *testing.T) {
	s := newSession(t, webModel(t), 80, 24).keys("?")
	screen := strings.Join(s.Plain(), "\n")
	if strings.Contains(screen, "…") {
		t.Errorf("a line of the help is cut:\n%s", screen)
	}
	for _, b := range bindings() {
		if b.help != "" && !strings.Contains(screen, b.help) {
			t.Errorf("the help does not show %q:\n%s", b.help, screen)
		}
	}
	s.keys("j")
	s.must("All layers")
}

func TestKeysHaveOneMeaning(t *testing.T) {
	seen := map[string]bool{}
	for _, b := range bindings() {
		for _, k := range b.keys {
			if seen[k] {
				t.Errorf("%q is bound twice", k)
			}
			seen[k] = true
		}
	}
}

// TestEveryScreenIsWholeAndHarmless presses keys at random, at many sizes: each
// line has the width of the screen and no control character.
func TestEveryScreenIsWholeAndHarmless(t *testing.T) {
	m := webModel(t)
	var keys []string
	for _, b := range bindings() {
		for _, k := range b.keys {
			if k != "x" && k != "ctrl+e" && k != "q" { // extracting writes, quitting ends
				keys = append(keys, k)
			}
		}
	}
	keys = append(keys, "esc", "esc", "t", "'", "s", "app", "backspace", "ctrl+w", "b")
	rng := rand.New(rand.NewPCG(1, 2))
	s := newSession(t, m, 80, 24)
	for range 3000 {
		if rng.IntN(20) == 0 {
			s.Resize(1+rng.IntN(130), 1+rng.IntN(45))
		}
		k := keys[rng.IntN(len(keys))]
		switch rng.IntN(12) {
		case 0:
			s.Click(rng.IntN(s.width), rng.IntN(s.height))
		case 1:
			s.Wheel(rng.IntN(s.width), rng.IntN(s.height), rng.IntN(7)-3)
		default:
			s.Key(k, strings.Trim(k, "+"))
		}
		s.work()
		screen := s.screen()
		if len(screen) != s.height && s.height >= minHeight {
			t.Fatalf("after %q: %d lines at %dx%d", k, len(screen), s.width, s.height)
		}
		for _, l := range screen {
			text := l.plain()
			if w := lipgloss.Width(text); w != s.width {
				t.Fatalf("after %q: %d cells at %dx%d: %q", k, w, s.width, s.height, text)
			}
			if strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Fatalf("after %q: control characters in %q", k, text)
			}
		}
	}
}

func TestSumsAgreeWithTheWaste(t *testing.T) {
	m := webModel(t)
	w, err := m.Waste(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s := m.Sums(0)
	if s.Hidden[inspect.Root] != w.Reclaimable || s.Shown[inspect.Root] != w.Live {
		t.Errorf("sums: %d shown, %d hidden; waste: %d and %d", s.Shown[inspect.Root], s.Hidden[inspect.Root], w.Live, w.Reclaimable)
	}
}

// TestSearchGoesInTheOrderOfTheTree compares the steps of n with the rows of the
// tree that is all open, in every order and state of the tree.
func TestSearchGoesInTheOrderOfTheTree(t *testing.T) {
	s := newSession(t, webModel(t), 80, 24)
	for _, state := range []string{"", "s", "w", "s", "m", "]", "s", "m"} {
		s.keys(state)
		s.tree.openBelow(inspect.Root)
		s.tree.show(s.tree.lens)
		match := matcher(s.m, "a")
		var want []inspect.Node
		for _, r := range s.tree.rows {
			if r.version == noVersion && match(r.node) {
				want = append(want, r.node)
			}
		}
		for _, direction := range []int{1, -1} {
			if direction < 0 {
				slices.Reverse(want)
			}
			from := want[len(want)-1]
			for i, n := range want {
				r := scan(context.Background(), &s.tree.lens, from, direction, match)
				rank := i + 1
				if direction < 0 {
					rank = len(want) - i
				}
				if r.node != n || r.rank != rank || r.total != len(want) {
					t.Fatalf("%q: step %d is %s (%d of %d), want %s (%d of %d)", state, i, s.m.Path(r.node), r.rank, r.total, s.m.Path(n), rank, len(want))
				}
				from = n
			}
		}
	}
}

func TestRowsStayRightWhenDirectoriesOpenAndClose(t *testing.T) {
	s := newSession(t, webModel(t), 80, 24).keys("w")
	rng := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		i := rng.IntN(len(s.tree.rows))
		s.tree.set(i, !s.tree.open[s.tree.rows[i].node])
		if want := s.tree.below(nil, inspect.Root, 0); !slices.Equal(s.tree.rows, want) {
			t.Fatalf("rows %v, want %v", s.tree.rows, want)
		}
	}
}

func TestEnterViewsTheVersionOfTheRow(t *testing.T) {
	s := newSession(t, webModel(t), 80, 24).keys("w / 'app.conf enter j j enter")
	s.must("/etc/app.conf in layer 2, 10 B", "1 listen 80")
	s.keys("q d") // the lowest version against the one above
	s.must("layer 2 against layer 1", "+root /srv")
}

func TestDetailComparesMarkedVersions(t *testing.T) {
	s := newSession(t, webModel(t), 80, 24).keys("/ 'app.conf enter 3 G v g d")
	s.must("layer 2 against layer 0", "-listen 80", "+listen 8080", "differ in: content, mode")
}

func TestEnterFollowsLinks(t *testing.T) {
	s := newSession(t, webModel(t), 80, 24).keys("g enter")
	if r, _ := s.tree.selected(); s.m.Path(r.node) != "/usr/bin" {
		t.Errorf("the link /bin leads to %s", s.m.Path(r.node))
	}
}

func TestExtractWritesWhatIsSelected(t *testing.T) {
	dir := t.TempDir()
	s := newSession(t, webModel(t), 80, 24).keys("w / 'index.html enter j x ctrl+u '" + dir + " enter")
	s.must("extracted /srv/index.html of layer 1")
	got, err := os.ReadFile(filepath.Join(dir, "index.html"))
	if err != nil || string(got) != "<p>old</p>\n" {
		t.Errorf("got %q, %v", got, err)
	}
	s.keys("x ctrl+u '" + dir + " enter")
	s.must("file exists")
}

func TestPathIsCopied(t *testing.T) {
	s := newSession(t, webModel(t), 80, 24).keys("/ 'passwd enter y")
	if s.copied != "/etc/passwd" {
		t.Errorf("copied %q", s.copied)
	}
}

func TestMouseSelectsOpensAndScrolls(t *testing.T) {
	s := newSession(t, webModel(t), 80, 24)
	a := s.areas()
	s.Click(5, a[paneTree].y+1)
	s.work()
	s.must("▸ etc/")
	s.Click(5, a[paneTree].y+1)
	s.work()
	s.must("▾ etc/", "app.conf")
	s.Click(5, a[paneLayers].y+3)
	s.work()
	s.must("Layer 2 and below", "▶ Layers")
	s.Click(2, a[paneTree].y+1) // the sign alone
	s.work()
	s.must("▸ etc/")
	before := s.tree.list.cursor
	s.Wheel(5, a[paneTree].y, 3)
	if s.tree.list.cursor != before {
		t.Error("the wheel moved the cursor of a list that is visible as a whole")
	}
}

func TestStaleResultsAreLeftOut(t *testing.T) {
	s := newSession(t, webModel(t), 80, 24)
	s.Key("j", "j")
	old := s.takeTasks()
	s.Key("G", "G")
	s.work()
	for _, task := range old {
		s.Done(task())
	}
	s.work()
	s.must("/var")
}

func TestKeysWaitForTheDetail(t *testing.T) {
	s := newSession(t, webModel(t), 80, 24).keys("/ 'app.conf enter k")
	s.Key("j", "j")
	s.Key("d", "d")
	s.work()
	s.must("layer 1 against layer 0")
	s.keys("q")
	for _, k := range []string{"/", "h", "t", "m", "l", "enter"} {
		s.Key(k, strings.TrimSuffix(k, "enter"))
	}
	s.must("All layers") // nothing is found yet
	s.work()
	s.must("/srv/index.html", "1 of 1")
}

func TestTextIsCutByCells(t *testing.T) {
	for _, c := range []struct {
		text string
		w    int
		want string
	}{
		{"abc", 3, "abc"}, {"abcd", 3, "ab…"}, {"日本語", 5, "日本…"}, {"日本語", 4, "日…"}, {"日本", 4, "日本"}, {"a", 0, ""},
	} {
		if got := cut(c.text, c.w); got != c.want {
			t.Errorf("cut(%q, %d) = %q, want %q", c.text, c.w, got, c.want)
		}
	}
	for in, want := range map[string]string{"a\x1bb": `a\x1bb`, "\xff": `\xff`, "é": "é", "a\u202eb": `a\u202eb`} {
		if got := clean(in); got != want {
			t.Errorf("clean(%q) = %q, want %q", in, got, want)
		}
	}
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1000: "1.0 kB", 99_949: "99.9 kB", 99_951: "100 kB", 999_600: "1.0 MB"} {
		if got := size(n); got != want || len(got) > 7 {
			t.Errorf("size(%d) = %q, want %q", n, got, want)
		}
	}
}
