package sys

import "golang.org/x/sys/unix"

// Chmodat sets the permission bits of name in dirfd; an empty name means the
// object behind dirfd, which may be O_PATH. It never follows a symlink and
// must not be called for one (Linux has no symlink modes).
func Chmodat(dirfd int, name string, mode uint32) error {
	if name == "" {
		return retry(func() error { return unix.Chmod(procFD(dirfd), mode) })
	}
	err := retry(func() error {
		return unix.Fchmodat(dirfd, name, mode, unix.AT_SYMLINK_NOFOLLOW)
	})
	if err == unix.EOPNOTSUPP || err == unix.ENOSYS {
		// Before fchmodat2 (Linux 6.6): through an O_PATH descriptor.
		fd, oerr := Openat(dirfd, name, unix.O_PATH, 0)
		if oerr != nil {
			return oerr
		}
		defer Close(fd) //nolint:errcheck // O_PATH: nothing to lose
		return Chmodat(fd, "", mode)
	}
	return err
}

// Chownat sets owner and group without following a symlink; -1 leaves one as
// it is. An empty name means the object behind dirfd.
func Chownat(dirfd int, name string, uid, gid int) error {
	flags := unix.AT_SYMLINK_NOFOLLOW
	if name == "" {
		flags |= unix.AT_EMPTY_PATH
	}
	return retry(func() error { return unix.Fchownat(dirfd, name, uid, gid, flags) })
}

// Utimensat sets access and modification time in nanoseconds, without
// following a symlink; unix.UTIME_OMIT and UTIME_NOW count. An empty name
// means the object behind dirfd, which may be O_PATH.
func Utimensat(dirfd int, name string, ts *[2]unix.Timespec) error {
	flags := unix.AT_SYMLINK_NOFOLLOW
	if name == "" {
		flags |= unix.AT_EMPTY_PATH
	}
	err := retry(func() error { return unix.UtimesNanoAt(dirfd, name, ts[:], flags) })
	if err == unix.EINVAL && name == "" {
		// Before Linux 5.8 utimensat knew no AT_EMPTY_PATH.
		return retry(func() error { return unix.UtimesNanoAt(unix.AT_FDCWD, procFD(dirfd), ts[:], 0) })
	}
	return err
}
