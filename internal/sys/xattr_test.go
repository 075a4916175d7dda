package sys

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// eachXattrWay runs f with the *xattrat system calls and with what replaces
// them on older kernels.
func eachXattrWay(t *testing.T, f func(t *testing.T, dir string, fd int)) {
	for _, old := range []bool{false, true} {
		t.Run(fmt.Sprintf("old kernel %v", old), func(t *testing.T) {
			was := noXattrat.Load()
			noXattrat.Store(old || was)
			t.Cleanup(func() { noXattrat.Store(was) })
			dir := t.TempDir()
			if err := unix.Setxattr(dir, "user.probe", nil, 0); err != nil {
				t.Skipf("no attributes in %s: %v", dir, err)
			}
			must(t, unix.Removexattr(dir, "user.probe"))
			fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
			must(t, err)
			t.Cleanup(func() { _ = unix.Close(fd) })
			f(t, dir, fd)
		})
	}
}

func TestXattrOfEveryKindOfPlace(t *testing.T) {
	eachXattrWay(t, func(t *testing.T, dir string, fd int) {
		must(t, os.WriteFile(filepath.Join(dir, "f"), nil, 0o644))
		path, err := unix.Open(filepath.Join(dir, "f"), unix.O_PATH|unix.O_CLOEXEC, 0)
		must(t, err)
		defer unix.Close(path)
		open, err := unix.Open(filepath.Join(dir, "f"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		must(t, err)
		defer unix.Close(open)
		for _, p := range []struct {
			what string
			fd   int
			name string
		}{{"a name", fd, "f"}, {"an O_PATH descriptor", path, ""}, {"a descriptor", open, ""}, {"a directory", fd, ""}} {
			for _, size := range []int{0, 1, 255, 256, 257, 2000} {
				v := bytes.Repeat([]byte{'v'}, size)
				must(t, Setxattrat(p.fd, p.name, "user.a", v, 0))
				if got, err := ReadXattr(p.fd, p.name, "user.a"); err != nil || !bytes.Equal(got, v) {
					t.Errorf("%s: %d bytes come back as %d, %v", p.what, size, len(got), err)
				}
				if n, err := Getxattrat(p.fd, p.name, "user.a", nil); err != nil || n != size {
					t.Errorf("%s: size %d, %v, want %d", p.what, n, err, size)
				}
			}
			if _, err := Getxattrat(p.fd, p.name, "user.a", make([]byte, 10)); err != unix.ERANGE {
				t.Errorf("%s: a small buffer: %v, want ERANGE", p.what, err)
			}
			if err := Setxattrat(p.fd, p.name, "user.a", nil, unix.XATTR_CREATE); err != unix.EEXIST {
				t.Errorf("%s: create again: %v, want EEXIST", p.what, err)
			}
			if err := Setxattrat(p.fd, p.name, "user.b", nil, unix.XATTR_REPLACE); err != unix.ENODATA {
				t.Errorf("%s: replace nothing: %v, want ENODATA", p.what, err)
			}
			if names, err := ListXattrs(p.fd, p.name); err != nil || !slices.Contains(names, "user.a") {
				t.Errorf("%s: listed %q, %v", p.what, names, err)
			}
			must(t, Removexattrat(p.fd, p.name, "user.a"))
			if err := Removexattrat(p.fd, p.name, "user.a"); err != unix.ENODATA {
				t.Errorf("%s: remove again: %v, want ENODATA", p.what, err)
			}
			if _, err := ReadXattr(p.fd, p.name, "user.a"); err != unix.ENODATA {
				t.Errorf("%s: read after remove: %v, want ENODATA", p.what, err)
			}
		}
	})
}

func TestXattrErrors(t *testing.T) {
	eachXattrWay(t, func(t *testing.T, dir string, fd int) {
		if _, err := ReadXattr(fd, "nothing", "user.a"); err != unix.ENOENT {
			t.Errorf("read of a missing name: %v", err)
		}
		if _, err := ListXattrs(fd, "nothing"); err != unix.ENOENT {
			t.Errorf("list of a missing name: %v", err)
		}
		if err := Setxattrat(fd, "nothing", "user.a", nil, 0); err != unix.ENOENT {
			t.Errorf("set on a missing name: %v", err)
		}
		if err := Setxattrat(fd, "", "nonsense", nil, 0); err != unix.EOPNOTSUPP {
			t.Errorf("an attribute without namespace: %v", err)
		}
		for _, bad := range [][2]string{{"a\x00b", "user.a"}, {"", "user.\x00"}} {
			if err := Setxattrat(fd, bad[0], bad[1], nil, 0); err != unix.EINVAL {
				t.Errorf("set %q of %q: %v, want EINVAL", bad[1], bad[0], err)
			}
			if _, err := Getxattrat(fd, bad[0], bad[1], nil); err != unix.EINVAL {
				t.Errorf("get %q of %q: %v, want EINVAL", bad[1], bad[0], err)
			}
			if err := Removexattrat(fd, bad[0], bad[1]); err != unix.EINVAL {
				t.Errorf("remove %q of %q: %v, want EINVAL", bad[1], bad[0], err)
			}
		}
	})
}

func TestXattrOfASymlinkIsItsOwn(t *testing.T) {
	eachXattrWay(t, func(t *testing.T, dir string, fd int) {
		must(t, os.WriteFile(filepath.Join(dir, "f"), nil, 0o644))
		must(t, os.Symlink("f", filepath.Join(dir, "l")))
		must(t, Setxattrat(fd, "f", "user.a", []byte("file"), 0))
		if v, err := ReadXattr(fd, "l", "user.a"); err == nil {
			t.Errorf("the link leads to %q", v)
		}
		if err := Setxattrat(fd, "l", "trusted.a", []byte("link"), 0); err != nil {
			t.Skipf("cannot set trusted attributes: %v", err)
		}
		if names, err := ListXattrs(fd, "l"); err != nil || !slices.Contains(names, "trusted.a") || slices.Contains(names, "user.a") {
			t.Errorf("the link lists %q, %v", names, err)
		}
		if names, err := ListXattrs(fd, "f"); err != nil || slices.Contains(names, "trusted.a") {
			t.Errorf("the file lists %q, %v", names, err)
		}
		must(t, Removexattrat(fd, "l", "trusted.a"))
	})
}

// TestListXattrsOfMany: more names than the first buffer takes.
func TestListXattrsOfMany(t *testing.T) {
	eachXattrWay(t, func(t *testing.T, dir string, fd int) {
		var want []string
		for i := range 20 {
			n := fmt.Sprintf("user.%d%s", i, strings.Repeat("x", 60))
			if err := Setxattrat(fd, "", n, nil, 0); err != nil {
				t.Skipf("only %d attributes fit: %v", i, err)
			}
			want = append(want, n)
		}
		got, err := ListXattrs(fd, "")
		got = slices.DeleteFunc(got, func(n string) bool { return !strings.HasPrefix(n, "user.") })
		slices.Sort(got)
		slices.Sort(want)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("listed %d names, %v, want %d", len(got), err, len(want))
		}
	})
}

func TestSplitNames(t *testing.T) {
	for in, want := range map[string][]string{
		"": nil, "a\x00": {"a"}, "a\x00bc\x00": {"a", "bc"}, "a": {"a"}, "a\x00b": {"a", "b"}, "\x00a\x00": {"a"},
	} {
		if got := splitNames([]byte(in)); !slices.Equal(got, want) {
			t.Errorf("splitNames(%q) = %q, want %q", in, got, want)
		}
	}
}
