package cow

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/sys"
	"github.com/unionfs-go/unionfs/whiteout"
)

func TestWorkdirInUseIsRefused(t *testing.T) {
	p, other := newPlace(t, os.TempDir()), newPlace(t, os.TempDir())
	w := p.open(t, WorkdirOptions{})
	for _, c := range []struct {
		work  string
		upper int
	}{{p.workDir, p.upper}, {p.workDir, other.upper}, {other.workDir, p.upper}} {
		if _, err := OpenWorkdir(c.work, c.upper, WorkdirOptions{}); !errors.Is(err, ErrInUse) || !errors.Is(err, unix.EBUSY) {
			t.Errorf("second use: %v", err)
		}
	}
	must(t, w.Close())
	must(t, p.open(t, WorkdirOptions{}).Close())
}

func TestWorkdirOnOtherFilesystemIsRefused(t *testing.T) {
	p := newPlace(t, os.TempDir())
	mnt := smallTmpfs(t, 1024)
	if _, err := OpenWorkdir(mnt, p.upper, WorkdirOptions{}); !errors.Is(err, ErrOtherFilesystem) {
		t.Errorf("other filesystem: %v", err)
	}
	bind := t.TempDir()
	must(t, unix.Mount(p.workDir, bind, "", unix.MS_BIND, ""))
	defer unix.Unmount(bind, 0) //nolint:errcheck // a failure fails the removal of the directory
	if _, err := OpenWorkdir(bind, p.upper, WorkdirOptions{}); !errors.Is(err, ErrOtherFilesystem) {
		t.Errorf("other mount of the same filesystem: %v", err)
	}
}

func TestMissingWorkdirIsRefused(t *testing.T) {
	p := newPlace(t, os.TempDir())
	if _, err := OpenWorkdir(p.workDir+"/none", p.upper, WorkdirOptions{}); !errors.Is(err, unix.ENOENT) {
		t.Errorf("missing: %v", err)
	}
	must(t, os.WriteFile(p.workDir+"/file", nil, 0o600))
	if _, err := OpenWorkdir(p.workDir+"/file", p.upper, WorkdirOptions{}); !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("a file: %v", err)
	}
	must(t, os.Symlink(p.dir, p.workDir+"/work"))
	if _, err := OpenWorkdir(p.workDir, p.upper, WorkdirOptions{}); err == nil {
		t.Error("work/ is a symlink, and was followed")
	}
}

func TestLeftoversAreRemoved(t *testing.T) {
	p := newPlace(t, os.TempDir())
	keep := filepath.Join(p.lowerDir, "keep")
	must(t, os.WriteFile(keep, []byte("k"), 0o600))
	must(t, os.MkdirAll(p.workDir+"/work/#1/a/b", 0o700))
	must(t, os.Symlink(p.lowerDir, p.workDir+"/work/#1/a/link"))
	must(t, os.Symlink(p.lowerDir, p.workDir+"/work/link"))
	must(t, os.WriteFile(p.workDir+"/work/odd", nil, 0o400))
	must(t, os.Mkdir(p.workDir+"/index", 0o700))
	must(t, os.WriteFile(p.workDir+"/index/00fb", nil, 0o600))
	must(t, os.WriteFile(p.workDir+"/index/#2", nil, 0o600))
	must(t, os.WriteFile(p.workDir+"/mine", nil, 0o600))
	must(t, os.Chmod(p.workDir+"/work/#1/a/b", 0))
	must(t, os.Chmod(p.workDir+"/work/#1/a", 0))
	w := p.open(t, WorkdirOptions{Index: true})
	p.wantClean(t)
	for _, path := range []string{keep, p.workDir + "/index/00fb", p.workDir + "/mine"} {
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	}
	must(t, w.Close())
}

func TestTempsInheritNoACL(t *testing.T) {
	p := newPlace(t, os.TempDir())
	if err := sys.Setxattrat(unix.AT_FDCWD, p.workDir, aclDefault, acl(), 0); err != nil {
		t.Skipf("no ACLs here: %v", err)
	}
	must(t, makeFile(words, 0o644, nil)(p.lower, "o"))
	want, err := fingerprint(p.lower, "o")
	must(t, err)
	w := p.open(t, WorkdirOptions{Namespace: namespace()})
	must(t, copyObject(w, object{}, p.lower, p.upper))
	if got, err := fingerprint(p.upper, "o"); err != nil || got != want {
		t.Errorf("copy is\n%s(%v), want\n%s", got, err, want)
	}
}

func TestVolatileMark(t *testing.T) {
	p := newPlace(t, os.TempDir())
	mark := filepath.Join(p.workDir, "work", "incompat", "volatile")
	w := p.open(t, WorkdirOptions{Volatile: true})
	if _, err := os.Stat(mark + "/dirty"); err != nil {
		t.Errorf("the kernel's mark: %v", err)
	}
	w.closeFDs() // as a kill does
	for _, volatile := range []bool{false, true} {
		_, err := OpenWorkdir(p.workDir, p.upper, WorkdirOptions{Volatile: volatile})
		if !errors.Is(err, ErrVolatile) || !strings.Contains(fmt.Sprint(err), mark) {
			t.Errorf("after a crash: %v", err)
		}
	}
	must(t, os.RemoveAll(mark))
	w = p.open(t, WorkdirOptions{Volatile: true})
	must(t, w.Close())
	w = p.open(t, WorkdirOptions{})
	must(t, w.Close())
	must(t, os.MkdirAll(p.workDir+"/work/incompat/future", 0o700))
	if _, err := OpenWorkdir(p.workDir, p.upper, WorkdirOptions{}); !errors.Is(err, ErrIncompatible) {
		t.Errorf("unknown feature: %v", err)
	}
}

func TestRemoveTreeOfAnyDepthWithFewDescriptors(t *testing.T) {
	p := newPlace(t, os.TempDir())
	const depth = 800
	fd, err := sys.Dup(p.upper)
	must(t, err)
	for range depth {
		must(t, sys.Mkdirat(fd, "a-rather-long-directory-name", 0o700))
		must(t, sys.Mknodat(fd, "f", unix.S_IFREG|0o600, 0))
		next, err := sys.Openat(fd, "a-rather-long-directory-name", unix.O_PATH|unix.O_DIRECTORY, 0)
		must(t, err)
		must(t, unix.Close(fd))
		fd = next
	}
	must(t, unix.Close(fd))
	var old unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &old))
	few := old
	few.Cur = 64
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &few))
	err = RemoveTree(p.upper, "a-rather-long-directory-name")
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &old))
	must(t, err)
	if p.exists("a-rather-long-directory-name") {
		t.Error("still there")
	}
	must(t, RemoveTree(p.upper, "a-rather-long-directory-name"))
}

func TestRemoveTreeStopsAtMount(t *testing.T) {
	p := newPlace(t, os.TempDir())
	mnt := filepath.Join(p.upperDir, "d", "mnt")
	must(t, os.MkdirAll(mnt, 0o700))
	must(t, os.WriteFile(p.lowerDir+"/keep", nil, 0o600))
	if err := unix.Mount(p.lowerDir, mnt, "", unix.MS_BIND, ""); err != nil {
		t.Skipf("cannot mount: %v", err)
	}
	err := RemoveTree(p.upper, "d")
	must(t, unix.Unmount(mnt, 0))
	if !errors.Is(err, unix.EXDEV) {
		t.Errorf("want EXDEV, got %v", err)
	}
	if _, err := os.Stat(p.lowerDir + "/keep"); err != nil {
		t.Error(err)
	}
}

// TestKernelTakesOver mounts what was written here with kernel overlayfs.
func TestKernelTakesOver(t *testing.T) {
	needRoot(t)
	p := newPlace(t, os.TempDir())
	must(t, makeFile(words, 0o644, nil)(p.lower, "o"))
	must(t, makeFile(words, 0o644, nil)(p.lower, "gone"))
	must(t, os.MkdirAll(p.lowerDir+"/dir/sub", 0o755))
	w := p.open(t, WorkdirOptions{Namespace: whiteout.Trusted})
	must(t, copyObject(w, object{request: func(r *Request) { r.Metacopy = true }}, p.lower, p.upper))
	must(t, w.Whiteout(p.upper, "gone", whiteout.Device))
	must(t, w.Whiteout(p.upper, "dir", whiteout.Device))
	must(t, w.Close())
	mnt := t.TempDir()
	opts := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s,metacopy=on", p.lowerDir, p.upperDir, p.workDir)
	if err := unix.Mount("overlay", mnt, "overlay", 0, opts); err != nil {
		t.Skipf("no kernel overlayfs: %v", err)
	}
	defer unix.Unmount(mnt, 0) //nolint:errcheck // a failure fails the removal of the directory
	want, err := os.ReadFile(p.lowerDir + "/o")
	must(t, err)
	if got, err := os.ReadFile(mnt + "/o"); string(got) != string(want) {
		t.Errorf("metacopy file in the kernel: %d bytes, %v", len(got), err)
	}
	ents, err := os.ReadDir(mnt)
	must(t, err)
	if len(ents) != 1 {
		t.Errorf("the kernel shows %v", ents)
	}
}
