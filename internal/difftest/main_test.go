package difftest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	if IsWorker() {
		if err := RunWorker(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "difftest worker:", err)
		}
		return
	}
	m.Run()
	if dir := unionfsDir; dir != "" {
		if err := os.RemoveAll(dir); err != nil {
			fmt.Fprintln(os.Stderr, "difftest:", err)
		}
	}
}

// needRoot skips where kernel overlayfs cannot be mounted.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to mount kernel overlayfs")
	}
	if err := overlayWorks(); err != nil {
		t.Skipf("kernel overlayfs cannot be mounted here: %v", err)
	}
}

var overlayWorks = sync.OnceValue(func() error {
	dir, err := os.MkdirTemp("", "difftest")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary directory of the test
	d := Dirs{Layers: []string{filepath.Join(dir, "l")}, Upper: filepath.Join(dir, "u"), Work: filepath.Join(dir, "w"), Mnt: filepath.Join(dir, "m")}
	for _, p := range []string{d.Layers[0], d.Upper, d.Work, d.Mnt} {
		if err := os.Mkdir(p, 0o755); err != nil {
			return err
		}
	}
	m, err := Kernel{}.Mount(d)
	if err != nil {
		return err
	}
	return m.Unmount()
})

// tempDir is a directory that other users can enter.
func tempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "difftest")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// unionfsDir is removed when all tests are done.
var unionfsDir string

// unionfsBinary builds the command once per test run; UNIONFS_BINARY names one
// that is built already.
var unionfsBinary = sync.OnceValues(func() (string, error) {
	if p := os.Getenv("UNIONFS_BINARY"); p != "" {
		return p, nil
	}
	dir, err := os.MkdirTemp("", "difftest-bin")
	if err != nil {
		return "", err
	}
	unionfsDir = dir
	out := filepath.Join(dir, "unionfs")
	return out, BuildUnionfs(".", out, raceEnabled)
})

// unionfs is the target under test with the given mount options. With
// UNIONFS_BINARY=kernel it is kernel overlayfs: then the tests test themselves.
func unionfs(t testing.TB, options string) Target {
	t.Helper()
	if os.Getenv("UNIONFS_BINARY") == "kernel" {
		return Kernel{Options: options}
	}
	if err := unix.Access("/dev/fuse", unix.R_OK|unix.W_OK); err != nil {
		t.Skip("needs /dev/fuse")
	}
	bin, err := unionfsBinary()
	if err != nil {
		t.Fatal(err)
	}
	if options == "" {
		options = "allow_other"
	}
	return Daemon{Label: "unionfs", Command: bin, Args: []string{"mount", "--foreground"}, Options: options, Ready: "msg=mounted"}
}

// daemon is unionfs as a Daemon.
func daemon(t testing.TB, options string) Daemon {
	t.Helper()
	d, ok := unionfs(t, options).(Daemon)
	if !ok {
		t.Skip("needs unionfs as the target")
	}
	return d
}

// start makes a started runner that is closed at the end of the test.
func start(t testing.TB, oracle, subject Target, known []Known) *Runner {
	t.Helper()
	r := &Runner{Oracle: oracle, Subject: subject, Known: known, Dir: tempDir(t)}
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// fuseOverlayfs is the peer, or a skip.
func fuseOverlayfs(t testing.TB) Daemon {
	t.Helper()
	d, err := FuseOverlayfs()
	if err != nil {
		t.Skip("needs fuse-overlayfs")
	}
	if _, err := exec.LookPath("fusermount3"); err != nil {
		t.Skip("needs fusermount3")
	}
	return d
}
