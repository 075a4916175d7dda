package stack

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/sys"
)

func TestManyLayers(t *testing.T) {
	base := t.TempDir()
	var dirs []string
	for i := range MaxLayers {
		d := filepath.Join(base, fmt.Sprint(i))
		must(t, os.MkdirAll(filepath.Join(d, "d"), 0o755))
		must(t, os.WriteFile(filepath.Join(d, "d", fmt.Sprintf("f%d", i)), []byte(fmt.Sprint(i)), 0o644))
		must(t, os.WriteFile(filepath.Join(d, "d", "same"), []byte(fmt.Sprint(i)), 0o644))
		dirs = append(dirs, d)
	}
	fds := sys.NewFDCache(16)
	s := openStack(t, dirs, DirOptions{FDs: fds})
	d, err := s.Walk("d")
	must(t, err)
	if len(d.Reals) != MaxLayers {
		t.Errorf("d merges %d directories", len(d.Reals))
	}
	ents, err := ReadDir(d.Reals)
	must(t, err)
	if len(ents) != MaxLayers+1 {
		t.Errorf("d lists %d names, want %d", len(ents), MaxLayers+1)
	}
	for _, c := range [][2]string{{"same", "=0"}, {"f0", "=0"}, {fmt.Sprintf("f%d", MaxLayers-1), fmt.Sprintf("=%d", MaxLayers-1)}} {
		e, err := s.Lookup(d, c[0])
		must(t, err)
		if got := describe(t, e); got != c[1] {
			t.Errorf("%s is %s, want %s", c[0], got, c[1])
		}
	}
	if n := fds.Open(); n > 16 {
		t.Errorf("%d descriptors are open, more than the cache may hold", n)
	}
}

// TestDeepPath walks a path that is longer than any system call takes.
func TestDeepPath(t *testing.T) {
	const depth = 40
	base := t.TempDir()
	name := strings.Repeat("n", 200)
	fd, err := unix.Open(base, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(t, err)
	for range depth {
		must(t, sys.Mkdirat(fd, name, 0o755))
		next, err := sys.Openat(fd, name, unix.O_PATH|unix.O_DIRECTORY, 0)
		must(t, err)
		must(t, unix.Close(fd))
		fd = next
	}
	f, err := sys.Openat(fd, "file", unix.O_CREAT|unix.O_WRONLY, 0o644)
	must(t, err)
	_, err = sys.Pwrite(f, []byte("deep"), 0)
	must(t, err)
	must(t, sys.Setxattrat(fd, "file", "user.k", []byte("v"), 0))
	must(t, unix.Close(f))
	must(t, unix.Close(fd))
	t.Cleanup(func() { must(t, sys.RemoveTree(filepath.Join(base, name))) })

	for _, cached := range []int{1, 3, 100} {
		s := openStack(t, []string{base}, DirOptions{FDs: sys.NewFDCache(cached)})
		e, err := s.Walk(strings.Repeat(name+"/", depth) + "file")
		if err != nil {
			t.Errorf("with %d descriptors: %v", cached, err)
			continue
		}
		if got := describe(t, e); got != "=deep" {
			t.Errorf("with %d descriptors the file holds %s", cached, got)
		}
		if v, err := e.Top().Object.Xattr("user.k"); err != nil || string(v) != "v" {
			t.Errorf("with %d descriptors the attribute is %q, %v", cached, v, err)
		}
	}
}

// TestNothingLeadsOut: neither a symlink that is there from the start nor one
// that takes the place of a directory later is ever followed.
func TestNothingLeadsOut(t *testing.T) {
	outside := t.TempDir()
	must(t, os.WriteFile(filepath.Join(outside, "secret"), []byte("x"), 0o644))
	dirs := buildLayers(t, `
		==
		link abs ->`+outside+`
		link up ->../../../../../../..
		link self ->self
		file d/sub/secret =inside
		file e/f/x =other`)
	s := openStack(t, dirs, DirOptions{NoClone: true, FDs: sys.NewFDCache(1)})
	for _, p := range []string{"abs/secret", "up/etc", "self/x", "abs/."} {
		want := error(unix.ENOTDIR)
		if p == "abs/." {
			want = nil // the link itself
		}
		if _, err := s.Walk(p); err != want {
			t.Errorf("Walk(%s): %v, want %v", p, err, want)
		}
	}
	sub, err := s.Walk("d/sub")
	must(t, err)
	must(t, os.Rename(filepath.Join(dirs[0], "d"), filepath.Join(dirs[0], "gone")))
	must(t, os.Symlink(outside, filepath.Join(dirs[0], "d")))
	must(t, os.Symlink(outside, filepath.Join(outside, "sub")))
	_, err = s.Walk("e/f/x") // takes the place of d's descriptors in the cache
	must(t, err)
	if o, err := s.Lookup(sub, "secret"); err == nil {
		t.Errorf("a directory that became a symlink leads to %s", describe(t, o))
	}
	if ents, err := ReadDir(sub.Reals); err == nil {
		t.Errorf("a directory that became a symlink lists %v", ents)
	}
	// The same for the last part: a file that becomes a symlink.
	f, err := s.Walk("gone/sub/secret")
	must(t, err)
	must(t, os.Remove(filepath.Join(dirs[0], "gone/sub/secret")))
	must(t, os.Symlink(filepath.Join(outside, "secret"), filepath.Join(dirs[0], "gone/sub/secret")))
	if file, err := f.Top().Object.Open(); err == nil {
		_ = file.Close()
		t.Error("a file that became a symlink is opened through it")
	}
}

func TestOpenRefusesOtherTypes(t *testing.T) {
	s := openStack(t, buildLayers(t, "==\nfifo p\nlink l ->p\ndir d"), userOptions)
	for _, p := range []string{"p", "l", "d"} {
		e, err := s.Walk(p)
		must(t, err)
		if f, err := e.Top().Object.Open(); err != unix.EINVAL {
			t.Errorf("Open of %s: %v, %v, want EINVAL", p, f, err)
		}
		if _, err := e.Top().Object.Readlink(); (err == unix.EINVAL) != (p != "l") {
			t.Errorf("Readlink of %s: %v", p, err)
		}
	}
}

// TestMountsInALayerDoNotShow: what is mounted inside a layer, before it is
// opened or later, is no part of it. It works in a mount namespace of its own.
func TestMountsInALayerDoNotShow(t *testing.T) {
	dirs := buildLayers(t, "==\nfile early/x =1\nfile late/x =1")
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // for good: the thread ends with its namespace
		if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
			t.Logf("not run: cannot make a mount namespace: %v", err)
			return
		}
		if err := mountsInALayer(t, dirs[0]); err != nil {
			t.Error(err)
		}
	}()
	<-done
}

func mountsInALayer(t *testing.T, dir string) error {
	// Shared propagation is the hard case: a clone must not get later mounts.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", filepath.Join(dir, "early"), "tmpfs", 0, ""); err != nil {
		return err
	}
	l, err := OpenDir(dir, DirOptions{})
	if err != nil {
		return err
	}
	defer l.Close()
	if err := unix.Mount("tmpfs", filepath.Join(dir, "late"), "tmpfs", 0, ""); err != nil {
		return err
	}
	s := New([]Layer{l})
	if got, want := dumpStack(t, s), tidy("early/ early/x=1 late/ late/x=1"); got != want {
		return fmt.Errorf("a layer with mounts in it shows\n%s\nwant\n%s", got, want)
	}
	fd, err := sys.Openat(l.RootFD(), "new", unix.O_CREAT|unix.O_WRONLY, 0o644)
	if err != unix.EROFS {
		return fmt.Errorf("a file in a layer can be created: %d, %w", fd, err)
	}
	return nil
}

func TestOpenDirErrors(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "f"), nil, 0o644))
	for path, want := range map[string]error{"f": unix.ENOTDIR, "nothing": unix.ENOENT, "f/x": unix.ENOTDIR} {
		if l, err := OpenDir(filepath.Join(dir, path), DirOptions{}); err != want {
			t.Errorf("OpenDir(%s): %v, %v, want %v", path, l, err, want)
		}
	}
}

// TestCloseLeavesNoDescriptor counts what is open before and after.
func TestCloseLeavesNoDescriptor(t *testing.T) {
	dirs := buildLayers(t, "==\nfile a/b/c/d/x =1\nfile e/f/x =1\n==\nfile a/b/y =2")
	before := countFDs(t)
	t.Run("use", func(t *testing.T) {
		s := openStack(t, dirs, DirOptions{})
		dumpStack(t, s)
		if countFDs(t) == before {
			t.Error("nothing is open while layers are in use: the count is wrong")
		}
	})
	if after := countFDs(t); after != before {
		t.Errorf("%d descriptors are open after Close, %d were before", after, before)
	}
}

func countFDs(t *testing.T) int {
	t.Helper()
	ents, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(ents)
}

// TestConcurrentLookups is for the race detector, and for descriptors that are
// closed while in use.
func TestConcurrentLookups(t *testing.T) {
	text := ""
	for l := range 3 {
		text += "==\n"
		for i := range 8 {
			text += fmt.Sprintf("file d%d/e/f%d =%d%d\nfile d%d/.wh.g%d =\n", i, l, l, i, i, l)
		}
	}
	s := openStack(t, buildLayers(t, text), DirOptions{NoClone: true, FDs: sys.NewFDCache(2)})
	var reals []Entry
	for i := range 8 {
		e, err := s.Walk(fmt.Sprintf("d%d/e", i))
		must(t, err)
		reals = append(reals, e)
	}
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for n := range 60 {
				i := (w + n) % 8
				e, err := s.Lookup(reals[i], fmt.Sprintf("f%d", n%3))
				if err != nil {
					t.Errorf("lookup: %v", err)
					return
				}
				if got, want := describe(t, e), fmt.Sprintf("=%d%d", n%3, i); got != want {
					t.Errorf("content %s, want %s", got, want)
				}
				if ents, err := ReadDir(reals[i].Reals); err != nil || len(ents) != 3 {
					t.Errorf("listing: %v, %v", ents, err)
				}
			}
		}()
	}
	wg.Wait()
}

func TestAttrOf(t *testing.T) {
	dirs := buildLayers(t, "==\nfile f =12345")
	path := filepath.Join(dirs[0], "f")
	must(t, unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{{Sec: -1, Nsec: 5}, {Sec: -86400, Nsec: 999999999}}, 0))
	must(t, os.Chmod(path, 0o640|os.ModeSetuid))
	var st unix.Stat_t
	must(t, unix.Lstat(path, &st))
	e, err := openStack(t, dirs, userOptions).Walk("f")
	must(t, err)
	a := e.Top().Object.Attr()
	if a.Dev != st.Dev || a.Ino != st.Ino || a.Size != 5 || a.Mode != st.Mode || a.UID != st.Uid || a.GID != st.Gid ||
		int64(a.Nlink) != int64(st.Nlink) || a.Blocks != uint64(st.Blocks) {
		t.Errorf("attributes %+v, stat says %+v", a, st)
	}
	if a.Atime != (Time{-1, 5}) || a.Mtime != (Time{-86400, 999999999}) || a.Ctime != (Time{st.Ctim.Sec, uint32(st.Ctim.Nsec)}) {
		t.Errorf("times %v %v %v", a.Atime, a.Mtime, a.Ctime)
	}
}
