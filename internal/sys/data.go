package sys

import (
	"golang.org/x/sys/unix"
)

// Clone makes dst share all data of src (FICLONE). EOPNOTSUPP, EXDEV or EINVAL
// mean that the filesystem cannot.
func Clone(dst, src int) error {
	return retry(func() error { return unix.IoctlFileClone(dst, src) })
}

// CopyRange copies up to n bytes between two files at the given offsets with
// copy_file_range(2) and returns how many were copied; 0 is end of file.
func CopyRange(dst int, dstOff int64, src int, srcOff, n int64) (int64, error) {
	for {
		so, do := srcOff, dstOff
		c, err := unix.CopyFileRange(src, &so, dst, &do, int(min(n, 1<<30)), 0)
		if err != unix.EINTR {
			return int64(c), err
		}
	}
}

// SeekData returns the extent [start, end) of data at or after off. ENXIO:
// there is only a hole up to the end of the file. A filesystem without
// SEEK_DATA reports everything as data (lseek(2)).
func SeekData(fd int, off int64) (start, end int64, err error) {
	if start, err = unix.Seek(fd, off, unix.SEEK_DATA); err != nil {
		return 0, 0, err
	}
	end, err = unix.Seek(fd, start, unix.SEEK_HOLE)
	return start, end, err
}

// Pread reads up to len(p) bytes at off; a short count means end of file.
func Pread(fd int, p []byte, off int64) (int, error) {
	total := 0
	for total < len(p) {
		n, err := unix.Pread(fd, p[total:], off+int64(total))
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return total, err
		}
		if n == 0 {
			break
		}
		total += n
	}
	return total, nil
}

// Pwrite writes all of p at off, or returns the count written and the error.
func Pwrite(fd int, p []byte, off int64) (int, error) {
	total := 0
	for total < len(p) {
		n, err := unix.Pwrite(fd, p[total:], off+int64(total))
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return total, err
		}
		total += n
	}
	return total, nil
}

// Fsync flushes fd's data and metadata.
func Fsync(fd int) error { return retry(func() error { return unix.Fsync(fd) }) }

// Fdatasync flushes fd's data.
func Fdatasync(fd int) error { return retry(func() error { return unix.Fdatasync(fd) }) }

// Syncfs flushes the filesystem that fd is on. fd must not be O_PATH.
func Syncfs(fd int) error { return retry(func() error { return unix.Syncfs(fd) }) }

// Fallocate is fallocate(2).
func Fallocate(fd int, mode uint32, off, n int64) error {
	return retry(func() error { return unix.Fallocate(fd, mode, off, n) })
}

// Ftruncate sets the size of an open file.
func Ftruncate(fd int, size int64) error {
	return retry(func() error { return unix.Ftruncate(fd, size) })
}
