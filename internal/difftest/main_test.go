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
	for i := len(atEnd) - 1; i >= 0; i-- {
		if err := atEnd[i](); err != nil {
			fmt.Fprintln(os.Stderr, "difftest:", err)
		}
	}
}

// atEnd is done after all tests, last first.
var atEnd []func() error

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
	dir, err := os.MkdirTemp(memoryDisk(), "difftest")
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
	atEnd = append(atEnd, func() error { return os.RemoveAll(dir) })
	out := filepath.Join(dir, "unionfs")
	return out, BuildUnionfs(".", out, raceEnabled)
})

// unionfs is the target under test with the given mount options. With
// UNIONFS_BINARY=kernel it is kernel overlayfs: then the tests test themselves.
// UNIONFS_DIFF_OPTIONS adds mount options to all tests.
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
	if more := os.Getenv("UNIONFS_DIFF_OPTIONS"); more != "" {
		options += "," + more
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

// start makes a runner with the workers that all tests share.
func start(t testing.TB, oracle, subject Target, known []Known) *Runner {
	t.Helper()
	r := &Runner{Oracle: oracle, Subject: subject, Known: known, Dir: tempDir(t)}
	var err error
	if r.a, err = sharedWorkers(&workersA); err == nil {
		r.b, err = sharedWorkers(&workersB)
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// workersA and workersB act on the oracle and on the subject.
var workersA, workersB *Workers

// sharedWorkers starts workers, or gives those that are there and well.
func sharedWorkers(w **Workers) (*Workers, error) {
	if *w != nil && (*w).Well() {
		return *w, nil
	}
	n, err := StartWorkers()
	if err != nil {
		return nil, err
	}
	*w = n
	atEnd = append(atEnd, n.Stop)
	return n, nil
}

// memoryDisk is an ext4 in memory for the trees of the tests, or "" for the
// usual temporary directory where that cannot be had. Every unmount of an overlay
// syncs its upper's whole filesystem, which other programs keep busy.
var memoryDisk = sync.OnceValue(func() string {
	dir, err := mountMemoryDisk()
	if err != nil {
		return ""
	}
	return dir
})

func mountMemoryDisk() (string, error) {
	var st unix.Statfs_t
	if err := unix.Statfs("/dev/shm", &st); err != nil {
		return "", err
	}
	const size = 3 << 30 // sparse: what is not used takes no memory
	if st.Bavail*uint64(st.Bsize) < 2*size {
		return "", unix.ENOSPC
	}
	img, err := os.CreateTemp("/dev/shm", "difftest-*.img")
	if err != nil {
		return "", err
	}
	defer os.Remove(img.Name()) //nolint:errcheck // the loop device keeps it
	if err := firstError(img.Truncate(size), img.Close()); err != nil {
		return "", err
	}
	if err := exec.Command("mkfs.ext4", "-q", "-O", "^has_journal", img.Name()).Run(); err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", "difftest-disk")
	if err != nil {
		return "", err
	}
	if err := exec.Command("mount", "-o", "loop", img.Name(), dir).Run(); err != nil {
		return "", firstError(err, os.Remove(dir))
	}
	atEnd = append(atEnd, func() error {
		return firstError(unix.Unmount(dir, 0), os.Remove(dir))
	})
	return dir, os.Chmod(dir, 0o755)
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
