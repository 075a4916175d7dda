package sys

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// fuseDev is the device that FUSE requests are read from.
const fuseDev = "/dev/fuse"

// fuseDevIocClone is FUSE_DEV_IOC_CLONE, _IOR(229, 0, uint32_t), of <linux/fuse.h>.
const fuseDevIocClone = 0x8004e500

// OpenFuse opens /dev/fuse for a new mount. The caller owns the descriptor.
func OpenFuse() (int, error) {
	return Openat(unix.AT_FDCWD, fuseDev, unix.O_RDWR, 0)
}

// CloneFuse opens a second, non-blocking descriptor of the FUSE connection of
// fd. Requests are shared between both; one that was read from a descriptor
// must be answered on the same one. The caller owns the descriptor.
func CloneFuse(fd int) (int, error) {
	c, err := Openat(unix.AT_FDCWD, fuseDev, unix.O_RDWR|unix.O_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	old := uint32(fd)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(c), fuseDevIocClone, uintptr(unsafe.Pointer(&old))); errno != 0 {
		_ = Close(c)
		return -1, errno
	}
	return c, nil
}

// Read reads once, without retrying EINTR, and may block.
func Read(fd int, p []byte) (int, error) {
	return result(unix.Syscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p))))
}

// Write writes once, without retrying EINTR, and may block.
func Write(fd int, p []byte) (int, error) {
	return result(unix.Syscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p))))
}

// ReadNow is Read for a descriptor that does not block: the Go scheduler is not
// told of the system call, which saves most of the price of a short one.
func ReadNow(fd int, p []byte) (int, error) {
	return result(unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p))))
}

// WriteNow is Write for what does not block, see ReadNow.
func WriteNow(fd int, p []byte) (int, error) {
	return result(unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p))))
}

// Yield lets another thread run on this CPU, if one waits for it.
func Yield() { _, _, _ = unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0) }

func result(n, _ uintptr, errno unix.Errno) (int, error) {
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// MapBuffer returns size bytes of zeroed memory outside of the Go heap, which
// take up no memory until they are touched. UnmapBuffer gives them back.
func MapBuffer(size int) ([]byte, error) {
	return unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
}

// UnmapBuffer gives back what MapBuffer returned.
func UnmapBuffer(p []byte) { _ = unix.Munmap(p) }

// View is the start of b as a T, in place: T must hold no pointers. It is nil
// when b is too short or not aligned for a T.
func View[T any](b []byte) *T {
	var t T
	p := unsafe.Pointer(unsafe.SliceData(b))
	if uintptr(len(b)) < unsafe.Sizeof(t) || uintptr(p)%unsafe.Alignof(t) != 0 {
		return nil
	}
	return (*T)(p)
}

// ViewSlice is b as a slice of as many T as fit, see View.
func ViewSlice[T any](b []byte) []T {
	p := View[T](b)
	if p == nil {
		return nil
	}
	return unsafe.Slice(p, len(b)/int(unsafe.Sizeof(*p)))
}
