package sys

import "golang.org/x/sys/unix"

// OpenInMount opens one name of dirfd like Openat, but fails with EXDEV where
// something is mounted on the name (openat2 RESOLVE_NO_XDEV) and with ELOOP
// for a symlink. The caller owns the returned descriptor.
func OpenInMount(dirfd int, name string, flags int) (int, error) {
	return openat2(dirfd, name, flags|unix.O_NOFOLLOW, 0,
		resolveBeneath|unix.RESOLVE_NO_SYMLINKS|unix.RESOLVE_NO_XDEV)
}

// Parent opens the directory above the directory dirfd. It crosses no mount
// (EXDEV). The caller owns the returned descriptor.
func Parent(dirfd, flags int) (int, error) {
	return openat2(dirfd, "..", flags|unix.O_DIRECTORY, 0, unix.RESOLVE_NO_XDEV|unix.RESOLVE_NO_MAGICLINKS)
}

// MountID is the number of the mount that fd was opened through; 0 where the
// kernel (before Linux 5.8) does not tell.
func MountID(fd int) (uint64, error) {
	var st unix.Statx_t
	err := retry(func() error {
		return unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &st)
	})
	if err != nil || st.Mask&unix.STATX_MNT_ID == 0 {
		return 0, err
	}
	return st.Mnt_id, nil
}

// TryLock takes an exclusive flock(2) on the open file fd (not O_PATH) without
// waiting. EWOULDBLOCK: another open file description holds it. The lock ends
// when the last duplicate of fd is closed.
func TryLock(fd int) error {
	return retry(func() error { return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) })
}
