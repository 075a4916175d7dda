package sys

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// Dirent is one raw directory entry: Type is a DT_* value, which some
// filesystems leave at DT_UNKNOWN.
type Dirent struct {
	Name string
	Ino  uint64
	Type uint8
}

const direntHeader = 19 // offsetof(struct linux_dirent64, d_name)

// ReadDir reads the whole directory name of dirfd ("" is dirfd itself, which
// may be O_PATH) without "." and "..", in the filesystem's order.
func ReadDir(dirfd int, name string) ([]Dirent, error) {
	if name == "" {
		name = "."
	}
	fd, err := Openat(dirfd, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	defer Close(fd) //nolint:errcheck // only read
	return readDirents(fd)
}

func readDirents(fd int) ([]Dirent, error) {
	var out []Dirent
	buf := make([]byte, 32<<10)
	for {
		n, err := unix.Getdents(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, err
		}
		if n == 0 {
			return out, nil
		}
		out = appendDirents(out, buf[:n])
	}
}

func appendDirents(out []Dirent, b []byte) []Dirent {
	for len(b) >= direntHeader {
		reclen := int(binary.NativeEndian.Uint16(b[16:]))
		if reclen < direntHeader || reclen > len(b) {
			return out
		}
		name := b[direntHeader:reclen]
		for i, c := range name {
			if c == 0 {
				name = name[:i]
				break
			}
		}
		if s := string(name); s != "." && s != ".." {
			out = append(out, Dirent{Name: s, Ino: binary.NativeEndian.Uint64(b), Type: b[18]})
		}
		b = b[reclen:]
	}
	return out
}
