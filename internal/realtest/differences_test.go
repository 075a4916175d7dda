package realtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/difftest"
)

// needMounts skips where FUSE or root is missing.
func needMounts(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to mount kernel overlayfs")
	}
	if err := unix.Access("/dev/fuse", unix.R_OK|unix.W_OK); err != nil {
		t.Skip("needs /dev/fuse")
	}
}

// write makes a file with its directories.
func (b *lab) write(name, text string) {
	b.t.Helper()
	err := os.MkdirAll(filepath.Dir(b.path(name)), 0o755)
	if err == nil {
		err = os.WriteFile(b.path(name), []byte(text), 0o644)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// TestOpenForWritingAloneCopiesNothing shows a difference of docs/semantics.md:
// the kernel copies a lower file up when it is opened for writing, unionfs when
// it is first written.
func TestOpenForWritingAloneCopiesNothing(t *testing.T) {
	needMounts(t)
	b := newLab(t)
	b.write("lower/file", "text")
	dirs := difftest.Dirs{Layers: []string{b.path("lower")}, Upper: b.mkdir("kupper"), Work: b.mkdir("kwork"), Mnt: b.mkdir("kmnt")}
	km, err := difftest.Kernel{}.Mount(dirs)
	if err != nil {
		t.Skipf("kernel overlayfs cannot be mounted here: %v", err)
	}
	defer func() {
		if err := km.Unmount(); err != nil {
			t.Error(err)
		}
	}()
	mnt, upper := b.mkdir("mnt"), b.mkdir("upper")
	b.mount(mnt, "--upper", upper, b.path("lower"))
	for _, c := range []struct {
		mnt, upper string
		atOpen     bool
	}{{dirs.Mnt, dirs.Upper, true}, {mnt, upper, false}} {
		f, err := os.OpenFile(filepath.Join(c.mnt, "file"), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Lstat(filepath.Join(c.upper, "file")); (err == nil) != c.atOpen {
			t.Errorf("%s: after the open the upper's file: %v, want it there: %v", c.mnt, err, c.atOpen)
		}
		if _, err := f.WriteString("T"); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if text, err := os.ReadFile(filepath.Join(c.upper, "file")); err != nil || string(text) != "Text" {
			t.Errorf("%s: after the write the upper's file is %q, %v", c.mnt, text, err)
		}
	}
	b.unionfs("umount", mnt)
}

// asUser runs its script as the user nobody, in a mount namespace where
// everybody may open /dev/fuse.
const asUser = `set -e
mknod -m 666 fuse c 10 229
mount --bind fuse /dev/fuse
rm fuse
cd home
HOME=$PWD exec setpriv --reuid nobody --regid nogroup --clear-groups bash -e -c "$1" user
`

// TestPlainUserRenamesALowerDirectory shows a difference of docs/semantics.md:
// the kernel refuses redirect_dir to plain users. Hard links stay together too.
func TestPlainUserRenamesALowerDirectory(t *testing.T) {
	needMounts(t)
	for _, tool := range []string{"unshare", "setpriv", "fusermount3", "getfattr"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("needs %s", tool)
		}
	}
	b := newLab(t)
	for dir := b.dir; dir != "/tmp" && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if filepath.Dir(dir) == os.TempDir() {
			break
		}
	}
	b.write("home/lower/dir/file", "text\n")
	if err := os.Link(b.path("home/lower/dir/file"), b.path("home/lower/dir/link")); err != nil {
		t.Fatal(err)
	}
	b.run("chown", "-R", "nobody:nogroup", b.path("home"))
	out := b.run("unshare", "--mount", "--propagation", "private", "bash", "-c", asUser, "root", `
mkdir upper mnt
../bin mount --upper upper lower mnt
trap '../bin umount mnt' EXIT
mv --no-copy mnt/dir mnt/moved 2>/dev/null || perl -e 'rename("mnt/dir", "mnt/moved") or die "rename: $!"'
echo more >>mnt/moved/file
cat mnt/moved/link
stat -c %h mnt/moved/link
getfattr --only-values -n user.overlay.redirect upper/moved
`)
	if want := "text\nmore\n2\ndir"; out != want {
		t.Errorf("printed %q, want %q", out, want)
	}
}
