package image

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/sys"
)

// needRoot skips a test that makes mounts, devices and foreign owners.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: kernel overlay mounts, devices, foreign owners")
	}
}

func needTool(t *testing.T, names ...string) {
	t.Helper()
	for _, n := range names {
		if _, err := exec.LookPath(n); err != nil {
			t.Skipf("needs the tool %s", n)
		}
	}
}

// shell runs a script in dir.
func shell(t *testing.T, dir, script string) {
	t.Helper()
	cmd := exec.Command("bash", "-ec", script)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("script failed: %v\n%s", err, out)
	}
}

func command(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// overlay mounts the kernel's overlay until the test ends or the returned
// function is called.
func overlay(t *testing.T, mnt, opts string) (unmount func()) {
	t.Helper()
	if err := os.MkdirAll(mnt, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("overlay", mnt, "overlay", 0, opts); err != nil {
		t.Skipf("the kernel's overlay cannot be mounted here with %s: %v", opts, err)
	}
	done := false
	unmount = func() {
		if !done {
			done = true
			if err := unix.Unmount(mnt, 0); err != nil {
				t.Errorf("unmount %s: %v", mnt, err)
			}
		}
	}
	t.Cleanup(unmount)
	return unmount
}

// snapshot describes a tree, one line for each path, sockets left out: all that
// a layer can carry. Of the root only owner and mode count.
func snapshot(t *testing.T, root string) []string {
	t.Helper()
	var lines []string
	first := make(map[uint64]string)
	err := filepath.WalkDir(root, func(p string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		line, err := describe(root, p, first)
		if line != "" {
			lines = append(lines, line)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(lines)
	return lines
}

func describe(root, p string, first map[uint64]string) (string, error) {
	var st unix.Statx_t
	if err := sys.Statx(unix.AT_FDCWD, p, &st); err != nil {
		return "", err
	}
	rel := strings.TrimPrefix(p[len(root):], "/")
	typ := uint32(st.Mode) & unix.S_IFMT
	line := fmt.Sprintf("%q mode=%o owner=%d:%d", rel, st.Mode, st.Uid, st.Gid)
	switch typ {
	case unix.S_IFSOCK:
		return "", nil
	case unix.S_IFREG:
		b, err := os.ReadFile(p)
		if err != nil {
			return "", err
		}
		line += fmt.Sprintf(" size=%d sum=%.8x", len(b), sha256.Sum256(b))
	case unix.S_IFLNK:
		target, err := os.Readlink(p)
		if err != nil {
			return "", err
		}
		line += fmt.Sprintf(" target=%q", target)
	case unix.S_IFCHR, unix.S_IFBLK:
		line += fmt.Sprintf(" dev=%d:%d", st.Rdev_major, st.Rdev_minor)
	}
	if rel != "" {
		line += fmt.Sprintf(" mtime=%d", st.Mtime.Sec)
	}
	if typ != unix.S_IFDIR {
		if name, ok := first[st.Ino]; ok {
			line += " same as " + name
		} else {
			first[st.Ino] = rel
		}
	}
	names, err := sys.ListXattrs(unix.AT_FDCWD, p)
	if err != nil {
		return "", err
	}
	slices.Sort(names)
	for _, n := range names {
		if strings.HasPrefix(n, "trusted.overlay.") || n == "security.selinux" {
			continue
		}
		v, err := sys.ReadXattr(unix.AT_FDCWD, p, n)
		if err != nil {
			return "", err
		}
		line += fmt.Sprintf(" %s=%x", n, v)
	}
	return line, nil
}

// sameTrees compares two snapshots line by line.
func sameTrees(t *testing.T, what string, got, want []string) {
	t.Helper()
	a, b := make(map[string]bool), make(map[string]bool)
	for _, l := range got {
		a[l] = true
	}
	for _, l := range want {
		b[l] = true
	}
	for _, l := range want {
		if !a[l] {
			t.Errorf("%s: missing %s", what, l)
		}
	}
	for _, l := range got {
		if !b[l] {
			t.Errorf("%s: unwanted %s", what, l)
		}
	}
}
