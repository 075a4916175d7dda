package stack

import (
	"io"

	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/whiteout"
)

// Time is a point in time as a filesystem stores it; Sec may be negative.
type Time struct {
	Sec  int64
	Nsec uint32
}

// Attr is what stat tells of one object of one layer.
type Attr struct {
	Dev     uint64 // device on which Ino is unique
	Ino     uint64
	Size    int64
	Blocks  uint64 // 512-byte units
	Rdev    uint64
	Mode    uint32 // type and permission bits
	Nlink   uint32
	UID     uint32
	GID     uint32
	Blksize uint32
	Atime   Time
	Mtime   Time
	Ctime   Time
	Btime   Time // zero where unknown
}

// Type is the file type part of the mode (unix.S_IFREG and so on).
func (a *Attr) Type() uint32 { return a.Mode & unix.S_IFMT }

// IsDir tells whether the object is a directory.
func (a *Attr) IsDir() bool { return a.Type() == unix.S_IFDIR }

// AttrOf converts what statx reported.
func AttrOf(st *unix.Statx_t) Attr {
	return Attr{
		Dev:     unix.Mkdev(st.Dev_major, st.Dev_minor),
		Ino:     st.Ino,
		Size:    int64(st.Size),
		Blocks:  st.Blocks,
		Rdev:    unix.Mkdev(st.Rdev_major, st.Rdev_minor),
		Mode:    uint32(st.Mode),
		Nlink:   st.Nlink,
		UID:     st.Uid,
		GID:     st.Gid,
		Blksize: st.Blksize,
		Atime:   Time{st.Atime.Sec, st.Atime.Nsec},
		Mtime:   Time{st.Mtime.Sec, st.Mtime.Nsec},
		Ctime:   Time{st.Ctime.Sec, st.Ctime.Nsec},
		Btime:   Time{st.Btime.Sec, st.Btime.Nsec},
	}
}

// Presence is the answer of one layer about one name.
type Presence uint8

// The answers.
const (
	Absent    Presence = iota // the layer says nothing about the name
	Present                   // the layer has an object under the name
	WhitedOut                 // the layer deletes the name from the layers below
)

// Layer is one read-only tree. Its methods may be called concurrently.
type Layer interface {
	// Root is the layer's root directory.
	Root() Dir
	// Name is what messages call the layer: a path or an image reference.
	Name() string
	// Close releases the layer. No object of it may be used afterwards.
	Close() error
}

// Object is one inode of one layer. It is immutable and its methods may be
// called concurrently. Errors are errno values.
type Object interface {
	// Attr returns the attributes as they were when the object was looked up.
	Attr() Attr
	// Marks returns what the object's attributes say about the union.
	Marks() whiteout.Marks
	// Readlink returns the target of a symlink; EINVAL for anything else.
	Readlink() (string, error)
	// Open opens a regular file's own data (of a metacopy file: nothing but
	// holes). The caller closes it.
	Open() (File, error)
	// Xattrs lists the names of the stored extended attributes, marks included.
	Xattrs() ([]string, error)
	// Xattr returns one stored attribute. ENODATA: not there.
	Xattr(attr string) ([]byte, error)
	// Handle is the object's file handle in the form that the kernel stores as
	// origin (see OriginHandle). ENOTSUP: the layer has no such handles.
	Handle() ([]byte, error)
}

// Dir is the Object of a directory.
type Dir interface {
	Object
	// Lookup returns the object under one name. Whiteouts, and the names that
	// are marks in this layer, are reported as such, never as objects. The
	// object of a directory implements Dir.
	Lookup(name string) (Object, Presence, error)
	// ReadDir lists the directory without "." and ".." and without mark
	// names, whiteouts included, in the layer's order.
	ReadDir() ([]Dirent, error)
}

// Dirent is one entry of one layer's directory.
type Dirent struct {
	Name     string
	Ino      uint64
	Dev      uint64
	Type     uint32 // S_IF* type; 0 where the layer does not know without a lookup
	Whiteout bool   // the name is deleted from the layers below
}

// File is a regular file of a layer, opened for reading.
type File interface {
	io.ReaderAt
	io.Closer
	// FD is the open descriptor of the data, where the file has one of its own.
	FD() (fd int, ok bool)
}
