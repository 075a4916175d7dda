package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/unionfs-go/unionfs/mountinfo"
)

// TestMain makes the test binary a worker when it is started as one.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "worker" {
		if err := Worker(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// testWorker is the command line of a worker.
func testWorker(t *testing.T) []string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return []string{exe, "worker"}
}

// tinyScale does everything once or a few times.
func tinyScale() Scale {
	return Scale{
		Name: "tiny", ReadTree: "src", WriteTree: "src", BigMiB: 1, Loops: 10, Files: 5, Ops: 10, SyncOps: 2, Inserts: 2,
		DirSizes: []int{10}, Layers: []int{2}, Clients: []int{2}, Known: []int{20}, Packages: []string{"math"},
	}
}

// tinyData is a data folder with a small go set.
func tinyData(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	src := filepath.Join(dir, "go", "src")
	if err := os.MkdirAll(src, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := makeFiles(filepath.Join(src, "files"), 20); err != nil {
		t.Fatal(err)
	}
	return dir
}

// tinyOptions are the options of a run in a directory that must be empty at the
// end.
func tinyOptions(t *testing.T) Options {
	t.Helper()
	dir := t.TempDir()
	t.Cleanup(func() { assertNothingLeft(t, dir) })
	return Options{Dir: dir, Data: tinyData(t), Worker: testWorker(t), Rounds: 2, Scale: tinyScale(), Seed: 1}
}

func assertNothingLeft(t *testing.T, dir string) {
	t.Helper()
	left, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range left {
		t.Errorf("%s was left behind", filepath.Join(dir, e.Name()))
	}
	table, err := mountinfo.Mounts()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range table {
		if strings.HasPrefix(m.Mountpoint, dir) {
			t.Errorf("%s is still mounted", m.Mountpoint)
		}
	}
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting overlayfs and dropping caches need root")
	}
}
