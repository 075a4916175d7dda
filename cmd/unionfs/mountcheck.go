package main

import (
	"errors"
	iofs "io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/mountopt"
	"github.com/unionfs-go/unionfs/internal/sys"
	"github.com/unionfs-go/unionfs/mountinfo"
)

const fuseDevice = "/dev/fuse"

// fuseRdev is the device number of /dev/fuse (Documentation/admin-guide/devices.txt).
var fuseRdev = unix.Mkdev(10, 229)

// checkFuse makes sure that something can be mounted at all. direct: this
// process has the right to mount and opens the device itself; else fusermount3
// does.
func checkFuse(device string, direct bool) error {
	var st unix.Stat_t
	err := unix.Stat(device, &st)
	if err == nil && (st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != fuseRdev) {
		return refusef("%s is not the FUSE device; remove it and run: mknod -m 666 %[1]s c 10 229", device)
	}
	if err != nil {
		return refusef("%s is not there (%w); run modprobe fuse as root, or start the container with --device %[1]s", device, err)
	}
	if direct {
		fd, err := unix.Open(device, unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err == nil {
			return sys.Close(fd)
		}
		return refusef("%s cannot be opened (%w); run modprobe fuse as root, or start the container with --device %[1]s", device, err)
	}
	// fusermount3 opens the device with the rights of its caller.
	if err := unix.Faccessat(unix.AT_FDCWD, device, unix.R_OK|unix.W_OK, unix.AT_EACCESS); err != nil {
		return refusef("%s cannot be opened (%w); run as root: chmod 666 %[1]s", device, err)
	}
	if _, err := findFusermount(); err == nil {
		return nil
	}
	return refusef("fusermount3 is not installed, which users other than root need to mount; install the package fuse3, " +
		"or mount in a user namespace: unshare --user --map-root-user --mount")
}

// resolveMountpoint finds the directory to mount on.
func resolveMountpoint(table mountinfo.Table, path string) (string, error) {
	abs, err := table.Resolve(path)
	if errors.Is(err, iofs.ErrNotExist) {
		return "", refusef("mountpoint %s does not exist; make it: mkdir -p %[1]s", path)
	}
	var info iofs.FileInfo
	if err == nil {
		info, err = statLive(abs)
	}
	if errors.Is(err, unix.ENOTCONN) {
		return "", refusef("mountpoint %s has a mount whose daemon is dead; remove it: unionfs umount %[1]s", path)
	}
	if err != nil {
		return "", refusef("mountpoint %s cannot be reached: %w", path, err)
	}
	if !info.IsDir() {
		return "", refusef("mountpoint %s is not a directory", path)
	}
	return abs, nil
}

// statLive is os.Stat, but it also fails with ENOTCONN on a FUSE mount whose
// daemon is dead and whose attributes the kernel still remembers.
func statLive(path string) (iofs.FileInfo, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return nil, &iofs.PathError{Op: "statfs", Path: path, Err: err}
	}
	return os.Stat(path)
}

// checker compares the directories of a mount with each other and with what is
// mounted. Directories are compared by their place in their filesystem, so that
// bind mounts hide nothing.
type checker struct {
	table mountinfo.Table
	plan  *mountPlan
}

// contains tells whether directory b is a or lies in it.
func (c *checker) contains(a, b string) bool {
	pa, ok := c.table.Place(a)
	pb, ok2 := c.table.Place(b)
	return ok && ok2 && pa.Contains(pb)
}

// checkUpper refuses an upper that is one of the lowers, or in one, or has one
// in it (fs/overlayfs/super.c: ovl_check_overlapping_layers), one that cannot be
// written, and one that the kernel's overlayfs uses.
func (c *checker) checkUpper() error {
	upper := c.plan.upper
	if upper == "" {
		return nil
	}
	hint := ""
	if c.plan.req.opts.Ephemeral {
		hint = "; set TMPDIR to a directory outside the layers"
	}
	for _, l := range c.plan.lowers.Layers {
		if l.Blob != "" {
			if c.contains(upper, filepath.Dir(l.Blob)) {
				return refusef("layer %s is inside upper directory %s; take an upper outside of all layers", l.Blob, upper)
			}
			continue
		}
		in, around := c.contains(l.Dir, upper), c.contains(upper, l.Dir)
		switch {
		case in && around:
			return refusef("%s is both the upper directory and a layer; take an empty directory as upper", upper)
		case in:
			return refusef("upper directory %s is inside layer %s; take one outside of all layers%s", upper, l.Dir, hint)
		case around:
			return refusef("layer %s is inside upper directory %s; take an upper outside of all layers", l.Dir, upper)
		}
	}
	if err := unix.Faccessat(unix.AT_FDCWD, upper, unix.W_OK, unix.AT_EACCESS); err != nil {
		return refusef("upper directory %s cannot be written (%w); take another, or mount with --read-only", upper, err)
	}
	return c.checkKernelUse("upper directory", upper)
}

// checkWork refuses a workdir that does not fit the upper.
func (c *checker) checkWork() error {
	upper, work := c.plan.upper, c.plan.work
	switch {
	case c.contains(upper, work) && c.contains(work, upper):
		return refusef("%s is both upper directory and workdir; take two directories", work)
	case c.contains(upper, work):
		return refusef("workdir %s is inside upper directory %s; take one beside it", work, upper)
	case c.contains(work, upper):
		return refusef("upper directory %s is inside workdir %s; take a workdir beside it", upper, work)
	}
	for _, l := range c.plan.lowers.Layers {
		if l.Blob != "" {
			continue
		}
		if c.contains(l.Dir, work) || c.contains(work, l.Dir) {
			return refusef("workdir %s and layer %s overlap; take a workdir outside of all layers", work, l.Dir)
		}
	}
	mu, _ := c.table.Covering(upper)
	mw, _ := c.table.Covering(work)
	if mu.ID != mw.ID {
		return refusef("workdir %s is on another filesystem or mount (%s) than upper directory %s (%s); take one beside the upper",
			work, mw.Mountpoint, upper, mu.Mountpoint)
	}
	if err := unix.Faccessat(unix.AT_FDCWD, work, unix.W_OK|unix.X_OK, unix.AT_EACCESS); err != nil {
		return refusef("workdir %s cannot be written: %w", work, err)
	}
	return c.checkKernelUse("workdir", work)
}

// checkKernelUse refuses a directory that is upper or workdir of an overlayfs
// mount of the kernel. That of another unionfs is found by its lock.
func (c *checker) checkKernelUse(what, dir string) error {
	for i := range c.table {
		m := &c.table[i]
		if m.FSType != "overlay" {
			continue
		}
		for _, option := range []string{"upperdir", "workdir"} {
			value, ok := m.Option(option)
			used := mountopt.Unescape(value)
			if !ok || !filepath.IsAbs(used) {
				continue
			}
			if full, err := filepath.EvalSymlinks(used); err == nil {
				used = full
			}
			if c.contains(used, dir) || c.contains(dir, used) {
				return refusef("%s %s is in use: it is %s of the overlay mounted on %s; unmount that first", what, dir, option, m.Mountpoint)
			}
		}
	}
	return nil
}

// checkMountpoint refuses a mountpoint through which the filesystem would come
// back to itself. The layers are open before the mount, so that mounting on a
// layer is harmless; a mountpoint below one would be walked into, unless the
// layer is read through a private copy of its mount, as root has it.
func (c *checker) checkMountpoint() error {
	mnt := c.plan.mountpoint
	for _, d := range []struct{ what, path string }{{"upper directory", c.plan.upper}, {"workdir", c.plan.work}} {
		if d.path != "" && c.contains(d.path, mnt) && (d.path != mnt || d.what == "workdir") {
			return refusef("mountpoint %s is inside %s %s: the mount would contain itself; take one outside, or %[3]s itself",
				mnt, d.what, d.path)
		}
	}
	for _, l := range c.plan.lowers.Layers {
		if l.Blob != "" || !c.contains(l.Dir, mnt) || c.contains(mnt, l.Dir) {
			continue
		}
		fd, err := sys.CloneReadOnly(l.Dir)
		if err != nil {
			return refusef("mountpoint %s is inside layer %s: the mount would contain itself; "+
				"take one outside of it, or %[2]s itself (only root can mount inside a layer)", mnt, l.Dir)
		}
		_ = sys.Close(fd) // O_PATH: nothing to lose
	}
	return nil
}
