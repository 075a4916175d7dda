package sys

import (
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The *xattrat system calls of Linux 6.13; older kernels answer ENOSYS and the
// same is done through /proc/self/fd, which costs a longer path walk.
const (
	sysSetxattrat    = 463
	sysGetxattrat    = 464
	sysListxattrat   = 465
	sysRemovexattrat = 466
)

// noXattrat is set once when the kernel lacks the *xattrat calls.
var noXattrat atomic.Bool

// xattrArgs is struct xattr_args of <linux/xattr.h> on a 64-bit machine. The
// value is a typed pointer, so that the runtime follows it when a stack moves.
type xattrArgs struct {
	value unsafe.Pointer
	size  uint32
	flags uint32
}

// xattrPath is the path form of (dirfd, name) for kernels without *xattrat:
// the last component of it is not followed by the l*xattr calls, so for an
// empty name the magic link itself has to be followed by the plain calls.
func xattrPath(dirfd int, name string) (path string, follow bool) {
	if name == "" {
		return procFD(dirfd), true
	}
	return procFD(dirfd) + "/" + name, false
}

// byPath tells whether a *xattrat call that ended with err is to be done again
// through /proc/self/fd: on kernels without these calls, and for an O_PATH
// descriptor itself, which they refuse with EBADF (fs/xattr.c, as of Linux
// 6.18).
func byPath(name string, err error) bool {
	if err == unix.ENOSYS {
		noXattrat.Store(true)
		return true
	}
	return err == unix.EBADF && name == ""
}

func xattrFlags(name string) uintptr {
	if name == "" {
		return unix.AT_EMPTY_PATH | unix.AT_SYMLINK_NOFOLLOW
	}
	return unix.AT_SYMLINK_NOFOLLOW
}

// Getxattrat reads attribute attr of name in dirfd into buf and returns its
// size; with an empty buf only the size is returned. ERANGE: buf is too
// small; ENODATA: no such attribute. An empty name means dirfd itself, which
// may be O_PATH. Symlinks are not followed.
func Getxattrat(dirfd int, name, attr string, buf []byte) (int, error) {
	if !noXattrat.Load() {
		n, err := getxattrat(dirfd, name, attr, buf)
		if !byPath(name, err) {
			return n, err
		}
	}
	path, follow := xattrPath(dirfd, name)
	for {
		var n int
		var err error
		if follow {
			n, err = unix.Getxattr(path, attr, buf)
		} else {
			n, err = unix.Lgetxattr(path, attr, buf)
		}
		if err != unix.EINTR {
			return n, err
		}
	}
}

func getxattrat(dirfd int, name, attr string, buf []byte) (int, error) {
	p, err := unix.BytePtrFromString(name)
	if err != nil {
		return 0, err
	}
	a, err := unix.BytePtrFromString(attr)
	if err != nil {
		return 0, err
	}
	args := xattrArgs{size: uint32(len(buf))}
	if len(buf) > 0 {
		args.value = unsafe.Pointer(unsafe.SliceData(buf))
	}
	for {
		n, _, errno := unix.Syscall6(sysGetxattrat, uintptr(dirfd), uintptr(unsafe.Pointer(p)),
			xattrFlags(name), uintptr(unsafe.Pointer(a)), uintptr(unsafe.Pointer(&args)), unsafe.Sizeof(args))
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
			continue
		}
		return 0, errno
	}
}

// ReadXattr returns the whole value of an attribute, whatever its size (the
// kernel's bound is 64 KiB). ENODATA: no such attribute.
func ReadXattr(dirfd int, name, attr string) ([]byte, error) {
	var small [256]byte
	n, err := Getxattrat(dirfd, name, attr, small[:])
	if err == nil {
		return append([]byte(nil), small[:n]...), nil
	}
	for range retries {
		if err != unix.ERANGE {
			return nil, err
		}
		if n, err = Getxattrat(dirfd, name, attr, nil); err != nil {
			return nil, err
		}
		buf := make([]byte, n+1)
		if n, err = Getxattrat(dirfd, name, attr, buf); err == nil {
			return buf[:n], nil
		}
	}
	return nil, err
}

// Setxattrat sets an attribute; flags is 0, unix.XATTR_CREATE or
// unix.XATTR_REPLACE. An empty name means dirfd itself.
func Setxattrat(dirfd int, name, attr string, value []byte, flags int) error {
	if !noXattrat.Load() {
		err := setxattrat(dirfd, name, attr, value, flags)
		if !byPath(name, err) {
			return err
		}
	}
	path, follow := xattrPath(dirfd, name)
	return retry(func() error {
		if follow {
			return unix.Setxattr(path, attr, value, flags)
		}
		return unix.Lsetxattr(path, attr, value, flags)
	})
}

func setxattrat(dirfd int, name, attr string, value []byte, flags int) error {
	p, err := unix.BytePtrFromString(name)
	if err != nil {
		return err
	}
	a, err := unix.BytePtrFromString(attr)
	if err != nil {
		return err
	}
	args := xattrArgs{size: uint32(len(value)), flags: uint32(flags)}
	if len(value) > 0 {
		args.value = unsafe.Pointer(unsafe.SliceData(value))
	}
	for {
		_, _, errno := unix.Syscall6(sysSetxattrat, uintptr(dirfd), uintptr(unsafe.Pointer(p)),
			xattrFlags(name), uintptr(unsafe.Pointer(a)), uintptr(unsafe.Pointer(&args)), unsafe.Sizeof(args))
		switch errno {
		case 0:
			return nil
		case unix.EINTR:
			continue
		}
		return errno
	}
}

// Removexattrat removes an attribute. An empty name means dirfd itself.
func Removexattrat(dirfd int, name, attr string) error {
	if !noXattrat.Load() {
		err := removexattrat(dirfd, name, attr)
		if !byPath(name, err) {
			return err
		}
	}
	path, follow := xattrPath(dirfd, name)
	return retry(func() error {
		if follow {
			return unix.Removexattr(path, attr)
		}
		return unix.Lremovexattr(path, attr)
	})
}

func removexattrat(dirfd int, name, attr string) error {
	p, err := unix.BytePtrFromString(name)
	if err != nil {
		return err
	}
	a, err := unix.BytePtrFromString(attr)
	if err != nil {
		return err
	}
	for {
		_, _, errno := unix.Syscall6(sysRemovexattrat, uintptr(dirfd), uintptr(unsafe.Pointer(p)),
			xattrFlags(name), uintptr(unsafe.Pointer(a)), 0, 0)
		switch errno {
		case 0:
			return nil
		case unix.EINTR:
			continue
		}
		return errno
	}
}

// ListXattrs returns the attribute names of name in dirfd, as the kernel lists
// them to this process (trusted.* only with CAP_SYS_ADMIN). A filesystem
// without attributes has none: ENOTSUP is an empty list.
func ListXattrs(dirfd int, name string) ([]string, error) {
	var small [512]byte
	buf := small[:]
	for range retries {
		n, err := listxattr(dirfd, name, buf)
		switch err {
		case nil:
			return splitNames(buf[:n]), nil
		case unix.ENOTSUP:
			return nil, nil
		case unix.ERANGE:
			if n, err = listxattr(dirfd, name, nil); err != nil {
				return nil, err
			}
			buf = make([]byte, n+256)
		default:
			return nil, err
		}
	}
	return nil, unix.ERANGE
}

func listxattr(dirfd int, name string, buf []byte) (int, error) {
	if !noXattrat.Load() {
		n, err := listxattrat(dirfd, name, buf)
		if !byPath(name, err) {
			return n, err
		}
	}
	path, follow := xattrPath(dirfd, name)
	for {
		var n int
		var err error
		if follow {
			n, err = unix.Listxattr(path, buf)
		} else {
			n, err = unix.Llistxattr(path, buf)
		}
		if err != unix.EINTR {
			return n, err
		}
	}
}

func listxattrat(dirfd int, name string, buf []byte) (int, error) {
	p, err := unix.BytePtrFromString(name)
	if err != nil {
		return 0, err
	}
	for {
		n, _, errno := unix.Syscall6(sysListxattrat, uintptr(dirfd), uintptr(unsafe.Pointer(p)),
			xattrFlags(name), uintptr(unsafe.Pointer(unsafe.SliceData(buf))), uintptr(len(buf)), 0)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
			continue
		}
		return 0, errno
	}
}

func splitNames(b []byte) []string {
	var names []string
	for len(b) > 0 {
		i := 0
		for i < len(b) && b[i] != 0 {
			i++
		}
		if i > 0 {
			names = append(names, string(b[:i]))
		}
		if i == len(b) {
			break
		}
		b = b[i+1:]
	}
	return names
}
