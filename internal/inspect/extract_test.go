package inspect

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestExtractKeepsLinksAndOverwritesNothing(t *testing.T) {
	m := model(t, `
==
file d/new data=new mode=0640
wh d/old
==
file d/one data=1 mode=04755
hard d/two to=d/one
link d/link to=/etc/passwd
file d/old data=old
`)
	n, _ := m.Find("/d")
	dir := t.TempDir()
	must(t, m.Extract(context.Background(), n, 0, dir, ExtractOptions{}))
	if got := names(t, filepath.Join(dir, "d")); !slices.Equal(got, []string{"link", "new", "one", "two"}) {
		t.Errorf("extracted %v", got)
	}
	one, err := os.Stat(filepath.Join(dir, "d/one"))
	must(t, err)
	two, err := os.Stat(filepath.Join(dir, "d/two"))
	must(t, err)
	if !os.SameFile(one, two) || one.Mode() != 0o755 || one.ModTime().Unix() != 1000 {
		t.Errorf("one has mode %v, time %v; same as two: %v", one.Mode(), one.ModTime(), os.SameFile(one, two))
	}
	if target, err := os.Readlink(filepath.Join(dir, "d/link")); err != nil || target != "/etc/passwd" {
		t.Errorf("link leads to %q: %v", target, err)
	}
	if err := m.Extract(context.Background(), n, 0, dir, ExtractOptions{}); err == nil {
		t.Error("what was there was overwritten")
	}
	own := t.TempDir()
	must(t, m.Extract(context.Background(), n, 1, own, ExtractOptions{Own: true}))
	if got := names(t, filepath.Join(own, "d")); !slices.Equal(got, []string{"link", "old", "one", "two"}) {
		t.Errorf("of the lower layer alone: %v", got)
	}
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	ents, err := os.ReadDir(dir)
	must(t, err)
	var out []string
	for _, e := range ents {
		out = append(out, e.Name())
	}
	return out
}
