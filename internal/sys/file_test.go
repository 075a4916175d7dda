package sys

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func openDirFD(t *testing.T, dir string) int {
	t.Helper()
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(t, err)
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

func TestOpensNeverLeave(t *testing.T) {
	base := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(base, "in/d"), 0o755))
	for name, content := range map[string]string{"secret": "out", "in/secret": "in", "in/d/f": "f"} {
		must(t, os.WriteFile(filepath.Join(base, name), []byte(content), 0o644))
	}
	for name, target := range map[string]string{"up": "../secret", "abs": "/etc/passwd", "near": "d/f", "magic": "/proc/self/root"} {
		must(t, os.Symlink(target, filepath.Join(base, "in", name)))
	}
	fd := openDirFD(t, filepath.Join(base, "in"))
	for _, c := range []struct {
		path string
		want error
	}{{"d/f", nil}, {"near", nil}, {"up", unix.EXDEV}, {"abs", unix.EXDEV}, {"magic/etc", unix.EXDEV}, {"../secret", unix.EXDEV}, {"d/../secret", nil}} {
		got, err := OpenBeneath(fd, c.path, unix.O_RDONLY, 0)
		if err == nil {
			_ = unix.Close(got)
		}
		if err != c.want {
			t.Errorf("OpenBeneath(%s): %v, want %v", c.path, err, c.want)
		}
	}
	for _, path := range []string{"/secret", "../secret", "up"} {
		got, err := OpenInRoot(fd, path, unix.O_RDONLY, 0)
		if err != nil {
			t.Errorf("OpenInRoot(%s): %v", path, err)
			continue
		}
		buf := make([]byte, 8)
		n, _ := Pread(got, buf, 0)
		_ = unix.Close(got)
		if string(buf[:n]) != "in" {
			t.Errorf("OpenInRoot(%s) leads to %q", path, buf[:n])
		}
	}
	if got, err := Openat(fd, "near", unix.O_RDONLY, 0); err != unix.ELOOP {
		t.Errorf("Openat of a symlink: %d, %v, want ELOOP", got, err)
	}
	if got, err := OpenInMount(fd, "near", unix.O_RDONLY); err != unix.ELOOP {
		t.Errorf("OpenInMount of a symlink: %d, %v, want ELOOP", got, err)
	}
}

func TestReadDirReturnsEveryNameOnce(t *testing.T) {
	dir := t.TempDir()
	want := map[string]bool{}
	for i := range 700 { // more than one buffer
		n := fmt.Sprintf("%d%s", i, strings.Repeat("n", 80))
		must(t, os.WriteFile(filepath.Join(dir, n), nil, 0o600))
		want[n] = true
	}
	ents, err := ReadDir(openDirFD(t, dir), "")
	must(t, err)
	for _, e := range ents {
		if !want[e.Name] {
			t.Errorf("%q is listed twice, or is not there", e.Name)
		}
		delete(want, e.Name)
	}
	if len(want) != 0 {
		t.Errorf("%d names were not listed", len(want))
	}
}

func FuzzAppendDirents(f *testing.F) {
	f.Add([]byte("12345678" + "12345678" + "\x18\x00" + "\x08" + "name\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, e := range appendDirents(nil, b) {
			if strings.ContainsRune(e.Name, 0) || e.Name == "." || e.Name == ".." {
				t.Errorf("name %q", e.Name)
			}
		}
	})
}

func TestRemoveTree(t *testing.T) {
	base := t.TempDir()
	outside := filepath.Join(base, "outside")
	must(t, os.WriteFile(outside, nil, 0o644))
	tree := filepath.Join(base, "tree")
	must(t, os.MkdirAll(filepath.Join(tree, "a/b/c"), 0o755))
	must(t, os.Symlink(outside, filepath.Join(tree, "a/l")))
	must(t, os.Symlink(base, filepath.Join(tree, "a/b/up")))
	must(t, unix.Mkfifo(filepath.Join(tree, "a/p"), 0o644))
	must(t, os.Chmod(filepath.Join(tree, "a/b"), 0))
	must(t, RemoveTree(tree))
	if _, err := os.Lstat(tree); !os.IsNotExist(err) {
		t.Errorf("the tree is still there: %v", err)
	}
	if _, err := os.Lstat(outside); err != nil {
		t.Errorf("what a link points to was removed: %v", err)
	}
	if err := RemoveTree(tree); err != nil {
		t.Errorf("removing nothing: %v", err)
	}
}

func TestAttributesThroughAPathDescriptor(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	must(t, os.WriteFile(path, nil, 0o644))
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(fd)
	ts := [2]unix.Timespec{{Sec: -5, Nsec: 7}, {Sec: 1 << 32, Nsec: 999999999}}
	must(t, Chmodat(fd, "", 0o4711))
	must(t, Utimensat(fd, "", &ts))
	var st unix.Statx_t
	must(t, Statx(fd, "", &st))
	if st.Mode&0o7777 != 0o4711 || st.Atime.Sec != -5 || st.Atime.Nsec != 7 || st.Mtime.Sec != 1<<32 || st.Mtime.Nsec != 999999999 {
		t.Errorf("mode %#o, times %v %v", st.Mode, st.Atime, st.Mtime)
	}
	rw, err := Reopen(fd, unix.O_RDWR)
	must(t, err)
	defer unix.Close(rw)
	if n, err := Pwrite(rw, []byte("data"), 1<<20); n != 4 || err != nil {
		t.Errorf("Pwrite: %d, %v", n, err)
	}
	if start, _, err := SeekData(rw, 0); err != nil || start == 0 {
		t.Logf("no holes here: data at %d, %v", start, err)
	}
	buf := make([]byte, 10)
	if n, err := Pread(rw, buf, 1<<20); n != 4 || err != nil || string(buf[:4]) != "data" {
		t.Errorf("Pread at the end: %d, %v, %q", n, err, buf)
	}
	must(t, LinkFD(fd, openDirFD(t, dir), "g"))
	if fi, err := os.Stat(filepath.Join(dir, "g")); err != nil || fi.Size() != 1<<20+4 {
		t.Errorf("a link through the descriptor: %v, %v", fi, err)
	}
}

func TestReadlinkOfALongTarget(t *testing.T) {
	dir := t.TempDir()
	fd := openDirFD(t, dir)
	for _, n := range []int{1, 255, 256, 257, 4000} {
		target := strings.Repeat("t", n)
		name := fmt.Sprint(n)
		must(t, Symlinkat(target, fd, name))
		if got, err := Readlinkat(fd, name); err != nil || got != target {
			t.Errorf("a target of %d bytes: %d, %v", n, len(got), err)
		}
		l, err := Openat(fd, name, unix.O_PATH, 0)
		must(t, err)
		if got, err := Readlinkat(l, ""); err != nil || got != target {
			t.Errorf("by descriptor: %d bytes, %v", len(got), err)
		}
		_ = unix.Close(l)
	}
}
