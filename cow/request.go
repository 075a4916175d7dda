package cow

import (
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/whiteout"
)

// Meta is the metadata that an object keeps over copy-up.
type Meta struct {
	Mode  uint32 // type and permission bits
	UID   uint32
	GID   uint32
	Rdev  uint64 // of a device
	Size  int64  // of a regular file, in bytes
	Atime unix.Timespec
	Mtime unix.Timespec
	// Flags are the file's FS_IOC_GETFLAGS flags, 0 where unknown. Immutable
	// and append-only become the protattr mark, which the filesystem has to
	// obey; noatime and sync are set on the copy (fs/overlayfs/copy_up.c:
	// ovl_copy_fileattr). Others are dropped.
	Flags uint32
}

func (m *Meta) typ() uint32 { return m.Mode & unix.S_IFMT }

// DataSource is the content of a regular file. The caller keeps it open for as
// long as the call that was given it runs.
type DataSource interface {
	io.ReaderAt
	// FD is an open, readable descriptor of the content, where there is one:
	// then reflinks, copy_file_range and the file's own holes are used.
	FD() (fd int, ok bool)
}

// Source is the object that is copied up. Nothing here writes to it.
type Source struct {
	Meta Meta
	// Link is the target of a symlink.
	Link string
	// Data is the content of a regular file; nil where none is wanted, that is
	// for Request.Metacopy and for Request.DataLimit 0.
	Data DataSource
	// Xattrs lists the stored attributes; marks are left out here. Nil: none.
	Xattrs func() ([]string, error)
	// Xattr reads one of them; ENODATA leaves it out.
	Xattr func(attr string) ([]byte, error)
	// Origin is the source's file handle for the origin mark; no mark is
	// written where it is empty.
	Origin []byte
}

// Request is one copy-up. It must not change while a Prepared made of it is in
// use.
type Request struct {
	Source
	// Namespace is where the marks go.
	Namespace whiteout.Namespace
	// ParentFD is the directory in the upper, which may be O_PATH, and Name the
	// free name in it. CopyUp publishes there; Prepare uses Name for messages.
	ParentFD int
	Name     string
	// DataLimit is how many bytes of data are wanted: the copy is that long, or
	// as long as the source where that is less. -1: all.
	DataLimit int64
	// Metacopy copies no data of a regular file: the copy has the full size, as
	// a hole, and the metacopy mark.
	Metacopy bool
	// Redirect is the redirect mark of a directory or metacopy file, or "".
	Redirect string
	// Opaque gives a directory the opaque mark.
	Opaque bool
	// Impure gives the parent directory the impure mark before publishing, as
	// the kernel does for an object with an origin. Callers that know it to be
	// marked leave it false.
	Impure bool
	// Volatile leaves out fsync.
	Volatile bool
	// IndexName, when set, publishes as index/IndexName first, and then as a
	// second link in the parent directory.
	IndexName string
	// NlinkMark is the nlink mark that the index entry is published with ("L+0")
	// and NlinkAfter the one it gets, as well as may be, once it has its name
	// ("U+0"); empty for none (fs/overlayfs/copy_up.c: ovl_link_up).
	NlinkMark  string
	NlinkAfter string
	// Cancel is polled while data is copied; its error ends the copy-up. It may
	// be nil.
	Cancel func() error
}

// dataSize is the size that the copy's data gets.
func (r *Request) dataSize() int64 {
	if r.DataLimit >= 0 {
		return min(r.DataLimit, r.Meta.Size)
	}
	return r.Meta.Size
}

// check refuses requests that would lose something silently.
func (r *Request) check() error {
	switch t := r.Meta.typ(); {
	case t == unix.S_IFREG && r.Meta.Size < 0:
		return fmt.Errorf("copy up %q: size %d: %w", r.Name, r.Meta.Size, unix.EINVAL)
	case t == unix.S_IFREG && !r.Metacopy && r.Data == nil && r.dataSize() > 0:
		return fmt.Errorf("copy up %q: %d bytes wanted and no data given: %w", r.Name, r.dataSize(), unix.EINVAL)
	case t == unix.S_IFCHR && whiteout.IsDevice(r.Meta.Mode, r.Meta.Rdev):
		return fmt.Errorf("copy up %q: it is a whiteout: %w", r.Name, unix.EINVAL)
	case t == unix.S_IFDIR && r.IndexName != "":
		return fmt.Errorf("copy up %q: a directory has no hard links to index: %w", r.Name, unix.EINVAL)
	}
	return nil
}
