package sys

import (
	"golang.org/x/sys/unix"
)

// RemoveTree removes path and everything below it without following symlinks or
// leaving its filesystem by a mount. Directories that the owner may not read
// or change are opened up first. A path that is not there is no error.
func RemoveTree(path string) error {
	err := removeAt(unix.AT_FDCWD, path, maxTreeDepth)
	if err == unix.ENOENT {
		return nil
	}
	return err
}

// RemoveAt is RemoveTree for one name of dirfd.
func RemoveAt(dirfd int, name string) error {
	err := removeAt(dirfd, name, maxTreeDepth)
	if err == unix.ENOENT {
		return nil
	}
	return err
}

// maxTreeDepth bounds the descriptors that removing a tree holds open.
const maxTreeDepth = 4096

func removeAt(dirfd int, name string, depth int) error {
	err := Unlinkat(dirfd, name, 0)
	if err != unix.EISDIR && err != unix.EPERM {
		return err
	}
	if err := Unlinkat(dirfd, name, unix.AT_REMOVEDIR); err != unix.ENOTEMPTY && err != unix.EACCES {
		return err
	}
	if depth == 0 {
		return unix.ELOOP
	}
	fd, err := Openat(dirfd, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err == unix.EACCES {
		if err := Chmodat(dirfd, name, 0o700); err != nil {
			return err
		}
		fd, err = Openat(dirfd, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	}
	if err != nil {
		return err
	}
	defer Close(fd) //nolint:errcheck // only read
	if err := emptyDir(fd, depth-1); err != nil {
		return err
	}
	return Unlinkat(dirfd, name, unix.AT_REMOVEDIR)
}

func emptyDir(fd, depth int) error {
	ents, err := readDirents(fd)
	if err != nil {
		return err
	}
	opened := false
	for _, e := range ents {
		err := removeAt(fd, e.Name, depth)
		if err == unix.EACCES && !opened {
			// The directory itself may not be changed by its owner.
			opened = true
			if err = Chmodat(fd, "", 0o700); err == nil {
				err = removeAt(fd, e.Name, depth)
			}
		}
		if err != nil && err != unix.ENOENT {
			return err
		}
	}
	return nil
}
