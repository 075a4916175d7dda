package stack

import (
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/sys"
)

// onFilesystems runs f with a directory on each filesystem whose handles are
// understood; xfs and btrfs are made in files.
func onFilesystems(t *testing.T, f func(t *testing.T, dir string)) {
	t.Run("tmp", func(t *testing.T) { f(t, t.TempDir()) })
	t.Run("ext4", func(t *testing.T) { f(t, loopMount(t, 64, "mkfs.ext4", "-q")) })
	t.Run("xfs", func(t *testing.T) { f(t, loopMount(t, 300, "mkfs.xfs", "-q")) })
	t.Run("btrfs", func(t *testing.T) { f(t, loopMount(t, 128, "mkfs.btrfs", "-q")) })
	t.Run("tmpfs", func(t *testing.T) {
		mnt := t.TempDir()
		if err := unix.Mount("tmpfs", mnt, "tmpfs", 0, ""); err != nil {
			t.Skipf("cannot mount tmpfs: %v", err)
		}
		t.Cleanup(func() { must(t, unix.Unmount(mnt, 0)) })
		f(t, mnt)
	})
}

// loopMount makes a filesystem in a sparse file of so many MiB and mounts it.
func loopMount(t *testing.T, mib int64, mkfs ...string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	if _, err := exec.LookPath(mkfs[0]); err != nil {
		t.Skipf("%s is not installed", mkfs[0])
	}
	dir := t.TempDir()
	img, mnt := filepath.Join(dir, "img"), filepath.Join(dir, "mnt")
	must(t, os.WriteFile(img, nil, 0o600))
	must(t, os.Truncate(img, mib<<20))
	must(t, os.Mkdir(mnt, 0o755))
	if out, err := exec.Command(mkfs[0], append(mkfs[1:], img)...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", mkfs[0], err, out)
	}
	if out, err := exec.Command("mount", "-o", "loop", img, mnt).CombinedOutput(); err != nil {
		t.Skipf("cannot mount a loop device: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", mnt).CombinedOutput(); err != nil {
			t.Errorf("unmount %s: %v: %s", mnt, err, out)
		}
	})
	return mnt
}

// TestOriginHandleIsTheKernels lets the kernel copy objects up and compares the
// handles that it stores.
func TestOriginHandleIsTheKernels(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("the kernel's overlayfs needs root")
	}
	onFilesystems(t, func(t *testing.T, base string) {
		for _, d := range []string{"l", "l/dir", "u", "w"} {
			must(t, os.Mkdir(filepath.Join(base, d), 0o755))
		}
		must(t, os.WriteFile(filepath.Join(base, "l/file"), []byte("x"), 0o644))
		must(t, os.WriteFile(filepath.Join(base, "l/hard1"), []byte("x"), 0o644))
		must(t, os.Link(filepath.Join(base, "l/hard1"), filepath.Join(base, "l/hard2")))
		must(t, os.Symlink("file", filepath.Join(base, "l/link")))
		t.Run("kernel", func(t *testing.T) {
			mnt := mountOverlay(t, func(set func(key, value string)) {
				set("lowerdir+", filepath.Join(base, "l"))
				set("upperdir", filepath.Join(base, "u"))
				set("workdir", filepath.Join(base, "w"))
				set("index", "on")
			})
			for _, n := range []string{"file", "hard1", "dir"} {
				must(t, os.Chmod(mnt+n, 0o700))
			}
			must(t, os.Lchown(mnt+"link", 1, 1))
		})
		l, err := OpenDir(filepath.Join(base, "l"), DirOptions{})
		must(t, err)
		defer l.Close()
		for _, n := range []string{"file", "hard1", "dir", "link"} {
			compareOrigin(t, base, l, n)
		}
		compareIndex(t, base, l)
	})
}

// compareOrigin compares the origin that the kernel stored on an upper object
// with the handle of the lower object, and that with its inode number.
func compareOrigin(t *testing.T, base string, l *DirLayer, name string) {
	t.Helper()
	buf := make([]byte, 256)
	n, err := unix.Lgetxattr(filepath.Join(base, "u", name), "trusted.overlay.origin", buf)
	if err != nil {
		t.Errorf("the kernel stored no origin on %s: %v", name, err)
		return
	}
	o, _, err := l.Root().Lookup(name)
	must(t, err)
	h, err := o.Handle()
	if err != nil || string(h) != string(buf[:n]) {
		t.Errorf("handle of %s is %x, %v, the kernel's is %x", name, h, err, buf[:n])
		return
	}
	var fs unix.Statfs_t
	must(t, sys.Fstatfs(l.RootFD(), &fs))
	if ino, ok := HandleIno(h, fs.Type); !ok || ino != o.Attr().Ino {
		t.Errorf("handle %x of %s speaks of inode %d, %v, want %d", h, name, ino, ok, o.Attr().Ino)
	}
}

// compareIndex compares the names in the hardlink index and the marks on the
// upper's root and on the index.
func compareIndex(t *testing.T, base string, l *DirLayer) {
	t.Helper()
	hard, _, err := l.Root().Lookup("hard1")
	must(t, err)
	h, err := hard.Handle()
	must(t, err)
	if _, err := os.Lstat(filepath.Join(base, "w/index", hex.EncodeToString(h))); err != nil {
		t.Errorf("index entry of a hard link: %v", err)
	}
	root, err := l.Root().Handle()
	must(t, err)
	upper, err := unix.Open(filepath.Join(base, "u"), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(upper)
	if got, err := sys.ReadXattr(upper, "", "trusted.overlay.origin"); err != nil || string(got) != string(root) {
		t.Errorf("origin of the upper is %x, %v, want %x", got, err, root)
	}
	up, err := OriginHandle(upper, "", sys.FSUUID(upper), true)
	must(t, err)
	index, err := unix.Open(filepath.Join(base, "w/index"), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(index)
	if got, err := sys.ReadXattr(index, "", "trusted.overlay.upper"); err != nil || string(got) != string(up) {
		t.Errorf("upper mark of the index is %x, %v, want %x", got, err, up)
	}
}

func TestHandleInoRefuses(t *testing.T) {
	good, err := hex.DecodeString("00fb1d0001" + "00112233445566778899aabbccddeeff" + "0c00000001000000")
	must(t, err)
	if ino, ok := HandleIno(good, unix.EXT4_SUPER_MAGIC); !ok || ino != 12 {
		t.Fatalf("ext4 handle: %d, %v", ino, ok)
	}
	change := func(i int, v byte) []byte {
		h := append([]byte(nil), good...)
		h[i] = v
		return h
	}
	for what, h := range map[string][]byte{
		"empty": nil, "short": good[:20], "no fid": append(change(2, 21)[:21:21], nil...),
		"version": change(0, 1), "magic": change(1, 0), "length": change(2, 28), "type": change(4, 2),
		"trailing byte": append(change(2, 30), 0),
	} {
		if ino, ok := HandleIno(h, unix.EXT4_SUPER_MAGIC); ok {
			t.Errorf("%s: inode %d", what, ino)
		}
	}
	for _, magic := range []int64{unix.TMPFS_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.NFS_SUPER_MAGIC, 0} {
		if ino, ok := HandleIno(good, magic); ok {
			t.Errorf("on %#x: inode %d", magic, ino)
		}
	}
}

// FuzzHandleIno: no bytes that somebody wrote into an attribute do any harm.
func FuzzHandleIno(f *testing.F) {
	f.Add([]byte{0, 0xfb, 21, 0, 1}, int64(unix.EXT4_SUPER_MAGIC))
	f.Fuzz(func(t *testing.T, h []byte, magic int64) {
		if ino, ok := HandleIno(h, magic); !ok && ino != 0 {
			t.Errorf("no inode, but %d", ino)
		}
	})
}

func TestHandleWithoutFilesystemSupport(t *testing.T) {
	fd, err := unix.Open("/proc/self", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(fd)
	h, err := OriginHandle(fd, "", [16]byte{}, false)
	if err != unix.ENOTSUP && err != nil {
		t.Errorf("handle of an object of /proc: %x, %v, want ENOTSUP or a handle", h, err)
	}
	if _, err := OriginHandle(fd, fmt.Sprint("no", "thing"), [16]byte{}, false); err != unix.ENOENT {
		t.Errorf("handle of a missing name: %v, want ENOENT", err)
	}
}
