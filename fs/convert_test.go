package fs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/sys"
	"github.com/unionfs-go/unionfs/whiteout"
)

// An upper with the marks of AUFS is obeyed, and its directories are in the
// kernel's form once they were looked at.
func TestForeignUpperIsObeyedAndConverted(t *testing.T) {
	b := newBed(t, "file gone 1\nfile kept 2\ndir d\nfile d/below 3\ndir o\nfile o/below 4\ndir again\nfile again/below 5\n")
	buildTree(t, b.upper, "file "+whiteout.OCIName("gone")+"\ndir o\nfile o/"+whiteout.OpaqueName+"\nfile o/new n\n"+
		"dir again\nfile "+whiteout.OCIName("again")+"\ndir d\nfile d/"+whiteout.OCIName("below")+"\n"+
		"file "+whiteout.OCIName("full")+" content\n")
	for round := range 2 {
		u := b.open(t)
		f := u.f
		if f.foreign != true {
			t.Fatal("the upper is not taken for a foreign one")
		}
		for path, want := range map[string]error{
			"gone": unix.ENOENT, "kept": nil, "d/below": unix.ENOENT, "o/below": unix.ENOENT, "o/new": nil,
			"again/below": unix.ENOENT, whiteout.OCIName("full"): nil,
		} {
			dir, name := f.root, path
			if before, after, ok := strings.Cut(path, "/"); ok {
				n, _, err := f.lookup(f.root, before)
				must(t, err)
				dir, name = n, after
			}
			if _, _, err := f.lookup(dir, name); err != want {
				t.Errorf("round %d: %s: %v, want %v", round, path, err, want)
			}
		}
		if _, _, err := f.create(f.root, whiteout.OCIName("x"), &newObject{mode: unix.S_IFREG | 0o644}); err != unix.EINVAL {
			t.Errorf("a name that would be a mark: %v", err)
		}
		u.close(t)
	}
	for _, old := range []string{whiteout.OCIName("gone"), "o/" + whiteout.OpaqueName, "d/" + whiteout.OCIName("below"), whiteout.OCIName("again")} {
		if _, err := os.Lstat(filepath.Join(b.upper, old)); !os.IsNotExist(err) {
			t.Errorf("%s is still there: %v", old, err)
		}
	}
	var st unix.Stat_t
	must(t, unix.Lstat(filepath.Join(b.upper, "gone"), &st))
	if !whiteout.IsDevice(st.Mode, st.Rdev) {
		t.Error("gone is no whiteout of the kernel's form")
	}
	for _, dir := range []string{"o", "again"} {
		fd, err := unix.Open(filepath.Join(b.upper, dir), unix.O_PATH|unix.O_DIRECTORY, 0)
		must(t, err)
		m, err := whiteout.ReadOwnMarks(fd, "", true, b.ns)
		_ = sys.Close(fd)
		if err != nil || m.Opacity != whiteout.OpaqueDir {
			t.Errorf("%s is not opaque: %+v, %v", dir, m, err)
		}
	}
}
