package sys

import "golang.org/x/sys/unix"

// Renameat2 renames with flags (unix.RENAME_NOREPLACE, _EXCHANGE, _WHITEOUT).
func Renameat2(olddir int, oldname string, newdir int, newname string, flags uint) error {
	return retry(func() error { return unix.Renameat2(olddir, oldname, newdir, newname, flags) })
}

// Mkdirat makes a directory.
func Mkdirat(dirfd int, name string, mode uint32) error {
	return retry(func() error { return unix.Mkdirat(dirfd, name, mode) })
}

// Mknodat makes a file of any type; dev counts for devices only.
func Mknodat(dirfd int, name string, mode uint32, dev uint64) error {
	return retry(func() error { return unix.Mknodat(dirfd, name, mode, int(dev)) })
}

// Symlinkat makes a symbolic link with the given target.
func Symlinkat(target string, dirfd int, name string) error {
	return retry(func() error { return unix.Symlinkat(target, dirfd, name) })
}

// Unlinkat removes a name; flags is 0 or unix.AT_REMOVEDIR.
func Unlinkat(dirfd int, name string, flags int) error {
	return retry(func() error { return unix.Unlinkat(dirfd, name, flags) })
}

// Linkat makes a hard link to oldname of olddir without following a symlink.
func Linkat(olddir int, oldname string, newdir int, newname string) error {
	return retry(func() error { return unix.Linkat(olddir, oldname, newdir, newname, 0) })
}

// LinkFD gives the open file fd (O_PATH, O_TMPFILE or ordinary) a name. It goes
// through /proc/self/fd, which needs no capability, unlike AT_EMPTY_PATH.
func LinkFD(fd, newdir int, newname string) error {
	return retry(func() error {
		return unix.Linkat(unix.AT_FDCWD, procFD(fd), newdir, newname, unix.AT_SYMLINK_FOLLOW)
	})
}

// Readlinkat reads the target of a symlink; an empty name means dirfd itself,
// an O_PATH descriptor of the link.
func Readlinkat(dirfd int, name string) (string, error) {
	for size := 256; ; size *= 2 {
		buf := make([]byte, size)
		var n int
		err := retry(func() (err error) {
			n, err = unix.Readlinkat(dirfd, name, buf)
			return err
		})
		if err != nil {
			return "", err
		}
		if n < size {
			return string(buf[:n]), nil
		}
		if size > 1<<16 {
			return "", unix.ENAMETOOLONG
		}
	}
}
