package sys

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// CloneReadOnly makes a private, detached copy of the mount under the
// directory path and opens the directory in it, read-only and noatime: what
// the kernel's overlayfs does with each lower (fs/overlayfs/super.c:
// ovl_get_layers, clone_private_mount). No later mount below path is visible
// through it, and nothing can be written through it by mistake. It needs
// CAP_SYS_ADMIN; callers fall back to a plain O_PATH open on any error. The
// caller owns the returned descriptor.
func CloneReadOnly(path string) (int, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return -1, err
	}
	attr := unix.MountAttr{
		Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOATIME, Attr_clr: unix.MOUNT_ATTR__ATIME,
		// A copy of a shared mount would be its peer and get every later mount.
		Propagation: unix.MS_PRIVATE,
	}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		_ = Close(fd)
		return -1, err
	}
	return fd, nil
}

// fsuuid2 is struct fsuuid2 of <linux/fs.h>.
type fsuuid2 struct {
	len  uint8
	uuid [16]uint8
}

const fsIocGetFSUUID = 0x80111500 // _IOR(0x15, 0, struct fsuuid2)

// btrfs answers only its own request (<linux/btrfs.h>): the UUID stands at
// offset 16 of struct btrfs_ioctl_fs_info_args.
const (
	btrfsIocFSInfo  = 0x8400941f // _IOR(0x94, 31, struct btrfs_ioctl_fs_info_args)
	btrfsFSInfoSize = 1024
	btrfsFSInfoUUID = 16
)

// FSUUID returns the UUID of the filesystem that the directory dirfd is on
// (super_block.s_uuid), or zeros where there is none or the kernel (before
// Linux 6.9) does not tell.
func FSUUID(dirfd int) (uuid [16]byte) {
	fd, err := Openat(dirfd, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return uuid
	}
	defer Close(fd) //nolint:errcheck // only read
	var arg fsuuid2
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), fsIocGetFSUUID, uintptr(unsafe.Pointer(&arg)))
	if errno == 0 && arg.len == 16 {
		return arg.uuid
	}
	var info [btrfsFSInfoSize]byte
	var st unix.Statfs_t
	if Fstatfs(fd, &st) == nil && st.Type == unix.BTRFS_SUPER_MAGIC {
		if _, err := Ioctl(fd, btrfsIocFSInfo, info[:]); err == nil {
			copy(uuid[:], info[btrfsFSInfoUUID:])
		}
	}
	return uuid
}

// Ioctl performs an ioctl whose argument is the buffer arg, which the kernel
// may read and write. arg must be at least as large as the command says.
func Ioctl(fd int, cmd uint32, arg []byte) (int, error) {
	var p unsafe.Pointer
	if len(arg) > 0 {
		p = unsafe.Pointer(unsafe.SliceData(arg))
	}
	for {
		n, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(cmd), uintptr(p))
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
			continue
		}
		return 0, errno
	}
}
