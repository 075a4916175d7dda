package tui

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden screens anew")

func TestUpdateIsOff(t *testing.T) {
	if *update {
		t.Error("the golden screens were written, not compared; run without -update")
	}
}

// TestScreens compares whole screens with testdata/NAME-WxH.txt.
func TestScreens(t *testing.T) {
	m := webModel(t)
	for name, keys := range map[string]string{
		"start":     "",
		"all-open":  "* j * j * G g",
		"changes":   "m * - * c",
		"hidden":    "w / 'app.conf enter j",
		"by-size":   "s",
		"by-waste":  "w s s *",
		"view-one":  "]",
		"layers":    "1 j",
		"attrs":     "a * j j *",
		"detail":    "/ 'app.conf enter 3 j",
		"text":      "/ 'app.conf enter enter",
		"binary":    "/ 'bin/app enter enter",
		"diff":      "/ 'app.conf enter d",
		"zoom":      "/ 'app.conf enter z",
		"help":      "?",
		"search":    "/ 'index",
		"nothing":   "/ 'absent enter",
		"extract":   "x",
		"non-ascii": "/ '日本 enter",
		"escape":    "/ 'evil enter",
	} {
		for _, d := range []struct{ w, h int }{{80, 24}, {120, 40}} {
			t.Run(fmt.Sprintf("%s-%dx%d", name, d.w, d.h), func(t *testing.T) {
				s := newSession(t, m, d.w, d.h).keys(keys)
				golden(t, s.Plain())
			})
		}
	}
}

func golden(t *testing.T, lines []string) {
	t.Helper()
	_, name, _ := strings.Cut(t.Name(), "/")
	path := filepath.Join("testdata", name+".txt")
	got := strings.Join(lines, "\n") + "\n"
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; write it with -update", err)
	}
	if got != string(want) {
		t.Errorf("the screen differs from %s\ngot\n%s\nwant\n%s", path, got, want)
	}
}
