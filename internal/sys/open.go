package sys

import (
	"errors"

	"golang.org/x/sys/unix"
)

// resolveBeneath confines a walk to the directory it starts in: no "..", no
// absolute symlink, no magic link of /proc.
const resolveBeneath = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS

// retries bounds how often an interrupted or raced call is tried again.
const retries = 128

// retry calls f until it returns something other than EINTR.
func retry(f func() error) error {
	for {
		err := f()
		if err != unix.EINTR {
			return err
		}
	}
}

// Openat opens one name of dirfd. The last component is never followed when it
// is a symlink (O_NOFOLLOW) and O_CLOEXEC is added. name must be one component.
// The caller owns the returned descriptor.
func Openat(dirfd int, name string, flags int, mode uint32) (int, error) {
	for {
		fd, err := unix.Openat(dirfd, name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_LARGEFILE, mode)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// OpenBeneath opens a relative path of any length below dirfd without ever
// leaving it: symlinks inside are followed only while they stay beneath
// (openat2 RESOLVE_BENEATH). The caller owns the returned descriptor.
func OpenBeneath(dirfd int, path string, flags int, mode uint32) (int, error) {
	return openat2(dirfd, path, flags, mode, resolveBeneath)
}

// OpenInRoot opens path as if dirfd were the root directory: absolute symlinks
// and ".." stay inside (openat2 RESOLVE_IN_ROOT). The caller owns the
// returned descriptor.
func OpenInRoot(dirfd int, path string, flags int, mode uint32) (int, error) {
	return openat2(dirfd, path, flags, mode, unix.RESOLVE_IN_ROOT|unix.RESOLVE_NO_MAGICLINKS)
}

func openat2(dirfd int, path string, flags int, mode uint32, resolve uint64) (int, error) {
	how := unix.OpenHow{
		Flags:   uint64(flags | unix.O_CLOEXEC | unix.O_LARGEFILE),
		Resolve: resolve,
	}
	if flags&(unix.O_CREAT|unix.O_TMPFILE) != 0 {
		how.Mode = uint64(mode)
	}
	if flags&unix.O_PATH != 0 {
		how.Flags &^= unix.O_LARGEFILE
	}
	var fd int
	var err error
	for range retries {
		fd, err = unix.Openat2(dirfd, path, &how)
		// EAGAIN: something moved while ".." was resolved (openat2(2)).
		if err != unix.EINTR && err != unix.EAGAIN {
			return fd, err
		}
	}
	return -1, err
}

// Reopen opens the object behind fd (which may be an O_PATH descriptor) once
// more with other flags, through /proc/self/fd. It works for unlinked files.
// The caller owns the returned descriptor.
func Reopen(fd, flags int) (int, error) {
	for {
		nfd, err := unix.Open(procFD(fd), flags&^unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_LARGEFILE, 0)
		if err != unix.EINTR {
			return nfd, err
		}
	}
}

// Close closes fd; EINTR counts as closed, as close(2) says for Linux.
func Close(fd int) error {
	err := unix.Close(fd)
	if errors.Is(err, unix.EINTR) {
		return nil
	}
	return err
}

// Dup duplicates fd with O_CLOEXEC. The caller owns the returned descriptor.
func Dup(fd int) (int, error) {
	return unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
}

// procFD is the path of an open descriptor of this process.
func procFD(fd int) string {
	var buf [32]byte
	b := append(buf[:0], "/proc/self/fd/"...)
	return string(appendInt(b, fd))
}

func appendInt(b []byte, n int) []byte {
	if n >= 10 {
		b = appendInt(b, n/10)
	}
	return append(b, byte('0'+n%10))
}
