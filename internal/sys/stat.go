package sys

import "golang.org/x/sys/unix"

// StatMask is what every attribute reader asks of statx: the basic fields and
// the birth time.
const StatMask = unix.STATX_BASIC_STATS | unix.STATX_BTIME

// Statx reads the attributes of name in dirfd without following a symlink.
// An empty name means dirfd itself, which may be an O_PATH descriptor.
func Statx(dirfd int, name string, st *unix.Statx_t) error {
	flags := unix.AT_SYMLINK_NOFOLLOW | unix.AT_NO_AUTOMOUNT
	if name == "" {
		flags |= unix.AT_EMPTY_PATH
	}
	return retry(func() error { return unix.Statx(dirfd, name, flags, StatMask, st) })
}

// Fstatfs reads the filesystem statistics of fd, which may be O_PATH.
func Fstatfs(fd int, st *unix.Statfs_t) error {
	return retry(func() error { return unix.Fstatfs(fd, st) })
}

// Dev is the device number that stat(2) would report for st.
func Dev(st *unix.Statx_t) uint64 {
	return unix.Mkdev(st.Dev_major, st.Dev_minor)
}
