package sys

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// backingMap is struct fuse_backing_map of <linux/fuse.h>.
type backingMap struct {
	fd      int32
	flags   uint32
	padding uint64
}

const (
	fuseDevIocBackingOpen  = 0x4010e501 // _IOW(229, 1, struct fuse_backing_map)
	fuseDevIocBackingClose = 0x4004e502 // _IOW(229, 2, uint32_t)
)

// OpenBacking registers the file behind fd (which may be O_PATH, and can be
// closed afterwards) with the FUSE connection of dev, as one that the kernel can
// read and write itself. EPERM: no CAP_SYS_ADMIN in the initial user namespace.
// ELOOP: the file's filesystem is stacked itself.
func OpenBacking(dev, fd int) (int32, error) {
	m := backingMap{fd: int32(fd)}
	for {
		id, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(dev), fuseDevIocBackingOpen, uintptr(unsafe.Pointer(&m)))
		switch errno {
		case 0:
			return int32(id), nil
		case unix.EINTR:
			continue
		}
		return 0, errno
	}
}

// CloseBacking ends what OpenBacking began. Descriptors that are open keep the
// file.
func CloseBacking(dev int, id int32) error {
	v := uint32(id)
	return retry(func() error {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(dev), fuseDevIocBackingClose, uintptr(unsafe.Pointer(&v)))
		if errno != 0 {
			return errno
		}
		return nil
	})
}
