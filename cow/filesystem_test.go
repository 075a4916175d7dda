package cow

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// onFilesystems runs f with a directory on the filesystem of the temporary
// directory, on tmpfs, and, as root, on xfs with reflinks and on btrfs.
func onFilesystems(t *testing.T, f func(t *testing.T, dir string)) {
	t.Run("tmp", func(t *testing.T) { f(t, sharedTemp(t, os.TempDir())) })
	t.Run("tmpfs", func(t *testing.T) {
		var st unix.Statfs_t
		if err := unix.Statfs("/dev/shm", &st); err != nil || st.Type != unix.TMPFS_MAGIC {
			t.Skip("/dev/shm is no tmpfs")
		}
		f(t, sharedTemp(t, "/dev/shm"))
	})
	t.Run("xfs", func(t *testing.T) { f(t, loopMount(t, 300, "mkfs.xfs", "-q", "-m", "reflink=1")) })
	t.Run("btrfs", func(t *testing.T) { f(t, loopMount(t, 128, "mkfs.btrfs", "-q")) })
}

// sharedTemp is t.TempDir below base, and open to other users.
func sharedTemp(t *testing.T, base string) string {
	t.Helper()
	dir, err := os.MkdirTemp(base, "cowtest-")
	if err != nil {
		t.Skipf("cannot make a directory: %v", err)
	}
	t.Cleanup(func() {
		if err := os.Remove(dir); err != nil {
			t.Error(err)
		}
	})
	must(t, os.Chmod(dir, 0o755))
	return dir
}

// loopMount makes a filesystem in a sparse file of so many MiB and mounts it.
func loopMount(t *testing.T, mib int64, mkfs ...string) string {
	t.Helper()
	needRoot(t)
	if _, err := exec.LookPath(mkfs[0]); err != nil {
		t.Skipf("%s is not installed", mkfs[0])
	}
	dir := t.TempDir()
	img, mnt := filepath.Join(dir, "img"), filepath.Join(dir, "mnt")
	must(t, os.WriteFile(img, nil, 0o600))
	must(t, os.Truncate(img, mib<<20))
	must(t, os.Mkdir(mnt, 0o755))
	run(t, mkfs[0], append(mkfs[1:], img)...)
	if out, err := exec.Command("mount", "-o", "loop", img, mnt).CombinedOutput(); err != nil {
		t.Skipf("cannot mount a loop device: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if err := exec.Command("umount", mnt).Run(); err != nil {
			t.Errorf("unmount %s: %v", mnt, err)
		}
	})
	return mnt
}

// smallTmpfs mounts a tmpfs of so many KiB.
func smallTmpfs(t *testing.T, kib int) string {
	t.Helper()
	needRoot(t)
	mnt := t.TempDir()
	if err := unix.Mount("tmpfs", mnt, "tmpfs", 0, fmt.Sprintf("size=%dk", kib)); err != nil {
		t.Skipf("cannot mount tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(mnt, 0); err != nil {
			t.Errorf("unmount %s: %v", mnt, err)
		}
	})
	return mnt
}
