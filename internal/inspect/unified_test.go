package inspect

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestUnifiedDiffShape(t *testing.T) {
	var b bytes.Buffer
	must(t, writeUnified(&b, []byte("1\n2\n3\n4\n5\n6\n7\n8\n9\n"), []byte("1\n2\n3\n4\nfive\n6\n7\n8\n9\nten")))
	want := "@@ -2,8 +2,9 @@\n 2\n 3\n 4\n-5\n+five\n 6\n 7\n 8\n 9\n+ten\n\\ No newline at end of file\n"
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

// TestEditsRebuildBothTexts checks the edits of random texts, small and beyond
// the limit of the search.
func TestEditsRebuildBothTexts(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for i := range 300 {
		n := rng.IntN(30)
		if i == 0 {
			n = 2000
		}
		a, b := randomLines(rng, n), randomLines(rng, n)
		var backA, backB []byte
		for _, e := range lineEdits(splitLines(a), splitLines(b)) {
			if e.op != '+' {
				backA = append(backA, e.line...)
			}
			if e.op != '-' {
				backB = append(backB, e.line...)
			}
		}
		if !bytes.Equal(a, backA) || !bytes.Equal(b, backB) {
			t.Fatalf("edits from %q to %q rebuild %q and %q", a, b, backA, backB)
		}
	}
}

func randomLines(rng *rand.Rand, n int) []byte {
	var b []byte
	for range n {
		b = fmt.Appendf(b, "%d\n", rng.IntN(6))
	}
	return b
}

func TestGitAppliesThePatch(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("git is not installed")
	}
	old := "one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|"
	m := model(t, `
==
file dir/text data=`+strings.NewReplacer("two", "2", "eleven|", "").Replace(old)+`
file dir/new data=hello
link dir/link to=there
wh gone
wh dir/file
file tofile data=x|
file "odd data=1|
file run data=y| mode=0755
==
file dir/text data=`+old+`
link dir/link to=here
file gone/a/b data=1|
file gone/c data=2|
file dir/file data=3|
dir tofile
file tofile/in data=z|
file run data=y|
`)
	a, b := View{m, 1}, View{m, 0}
	changes, err := Compare(context.Background(), a, b)
	must(t, err)
	var patch bytes.Buffer
	must(t, WritePatch(&patch, a, b, changes))

	dir := t.TempDir()
	must(t, m.Extract(context.Background(), Root, 1, dir, ExtractOptions{}))
	cmd := exec.Command("git", "apply", "--unsafe-paths", "-")
	cmd.Dir, cmd.Stdin = dir, &patch
	text := patch.String()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s\n%s", err, out, text)
	}
	want := t.TempDir()
	must(t, m.Extract(context.Background(), Root, 0, want, ExtractOptions{}))
	if out, err := exec.Command("diff", "-r", "--no-dereference", dir, want).CombinedOutput(); err != nil {
		t.Errorf("after the patch: %s\n%s", out, text)
	}
	if fi, err := os.Stat(filepath.Join(dir, "run")); err != nil || fi.Mode()&0o100 == 0 {
		t.Errorf("run is not executable: %v", err)
	}
}
