package fs

import (
	"errors"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// toStatus turns an error into the status sent to the kernel. It is the only
// such place. ENOSYS never leaves by accident: the kernel would stop sending
// the operation for the life of the mount. An error without errno is EIO.
func (f *FS) toStatus(err error) fuse.Status {
	if err == nil {
		return fuse.OK
	}
	errno, ok := err.(syscall.Errno) //nolint:errorlint // the fast path of what errors.As does next
	if !ok && !errors.As(err, &errno) {
		f.log.Error("operation failed", "err", err)
		return fuse.EIO
	}
	if errno == unix.ENOSYS {
		return fuse.Status(unix.EOPNOTSUPP)
	}
	return fuse.Status(errno)
}
