package stack

import (
	"errors"
	"io"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/sys"
	"github.com/unionfs-go/unionfs/whiteout"
)

// DirOptions says how a directory is read as a layer. The zero value reads what
// a privileged mount would.
type DirOptions struct {
	// Namespace is where redirect, metacopy and origin are looked for.
	Namespace whiteout.Namespace
	// FDs bounds the directory descriptors kept open; nil is a cache of its own.
	FDs *sys.FDCache
	// NoClone opens the directory in place instead of through a private
	// read-only copy of its mount.
	NoClone bool
}

// defaultFDs is how many directory descriptors a layer of its own keeps open.
const defaultFDs = 256

// DirLayer is a layer that is a directory on disk. It is read through
// descriptors only, one name at a time and never through a symlink, so that
// nothing in it can lead outside.
type DirLayer struct {
	path    string
	ns      whiteout.Namespace
	fds     *sys.FDCache
	rootFD  int
	literal bool // names beginning with ".wh." are ordinary; immutable
	// own is the namespace the layer is known to be written in, if literal.
	own  whiteout.Namespace
	root *dirObject
}

var _ Layer = (*DirLayer)(nil)

// OpenDir opens the directory at path as a layer. Errors are errno values:
// ENOTDIR, ENOENT, EACCES. The caller closes the layer.
func OpenDir(path string, opt DirOptions) (*DirLayer, error) {
	fd, err := openRoot(path, opt.NoClone)
	if err != nil {
		return nil, err
	}
	l, err := NewDirLayer(fd, path, opt)
	if err != nil {
		_ = sys.Close(fd)
		return nil, err
	}
	return l, nil
}

func openRoot(path string, noClone bool) (int, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil || noClone {
		return fd, err
	}
	clone, err := sys.CloneReadOnly(path)
	if err != nil {
		return fd, nil // no right to clone mounts: read it where it is
	}
	_ = sys.Close(fd)
	return clone, nil
}

// NewDirLayer makes a layer of the open directory rootFD, which it owns from
// then on unless an error is returned. name is what messages call it.
func NewDirLayer(rootFD int, name string, opt DirOptions) (*DirLayer, error) {
	l := &DirLayer{path: name, ns: opt.Namespace, fds: opt.FDs, rootFD: rootFD}
	if l.fds == nil {
		l.fds = sys.NewFDCache(defaultFDs)
	}
	l.own, l.literal = whiteout.DetectNamespace(rootFD)
	var st unix.Statx_t
	if err := sys.Statx(rootFD, "", &st); err != nil {
		return nil, err
	}
	marks, err := l.readMarks(rootFD, "", true)
	if err != nil && !errors.Is(err, unix.EINVAL) {
		return nil, err
	}
	// The kernel merges layer roots whatever their xattrs say
	// (fs/overlayfs/super.c:ovl_get_root); only the OCI sentinel counts here.
	marks.Redirect = ""
	if marks.Opacity == whiteout.OpaqueDir {
		marks.Opacity = whiteout.Transparent
	}
	l.root = &dirObject{leaf: leaf{layer: l, attr: AttrOf(&st), marks: marks}}
	if err := l.markSentinel(rootFD, "", l.root); err != nil {
		return nil, err
	}
	return l, nil
}

// readMarks reads the marks of one object. In a layer that is known to be
// written in one namespace only that one counts; a redirect or a metacopy mark
// must be in the mount's, since the other could have been set by anybody.
func (l *DirLayer) readMarks(dirfd int, name string, isDir bool) (whiteout.Marks, error) {
	if !l.literal {
		return whiteout.ReadMarks(dirfd, name, isDir, l.ns)
	}
	m, err := whiteout.ReadOwnMarks(dirfd, name, isDir, l.own)
	if l.own != l.ns {
		m.Redirect, m.HasMetacopy = "", false
	}
	return m, err
}

// Root returns the root directory.
func (l *DirLayer) Root() Dir { return l.root }

// Name returns the path the layer was opened by.
func (l *DirLayer) Name() string { return l.path }

// RootFD is the descriptor (O_PATH) of the root; the layer owns it.
func (l *DirLayer) RootFD() int { return l.rootFD }

// Literal tells whether names beginning with ".wh." are ordinary in the layer.
func (l *DirLayer) Literal() bool { return l.literal }

// Close closes the root and the descriptors of directories in the cache.
func (l *DirLayer) Close() error {
	l.fds.Purge()
	return sys.Close(l.rootFD)
}

// markSentinel makes d opaque when it holds the AUFS sentinel. name is d's name
// in dirfd, or "" for dirfd itself.
func (l *DirLayer) markSentinel(dirfd int, name string, d *dirObject) error {
	if l.literal || d.marks.Opacity == whiteout.OpaqueDir {
		return nil
	}
	path := whiteout.OpaqueName
	if name != "" {
		path = name + "/" + path
	}
	var st unix.Statx_t
	switch err := sys.Statx(dirfd, path, &st); err {
	case nil:
		d.marks.Opacity = whiteout.OpaqueDir
	case unix.ENOENT, unix.EACCES, unix.ENAMETOOLONG:
	default:
		return err
	}
	return nil
}

// leaf is an object of a DirLayer that is no directory.
type leaf struct {
	layer  *DirLayer
	parent *dirObject // nil for the root
	name   string
	attr   Attr
	marks  whiteout.Marks
}

// dirObject is a directory of a DirLayer.
type dirObject struct {
	leaf
	slot sys.Slot // the directory's own O_PATH descriptor

	aufsOnce sync.Once
	aufs     map[string]struct{} // names that AUFS whiteouts delete; set by aufsOnce
	aufsErr  error               // set by aufsOnce
}

var (
	_ Object = (*leaf)(nil)
	_ Dir    = (*dirObject)(nil)
)

func (o *leaf) Attr() Attr            { return o.attr }
func (o *leaf) Marks() whiteout.Marks { return o.marks }

// at calls f with a directory descriptor and a name that reach the object; the
// name is "" for the layer's root. Both are valid only during the call.
func (o *leaf) at(f func(dirfd int, name string) error) error {
	if o.parent == nil {
		return f(o.layer.rootFD, "")
	}
	fd, err := o.parent.acquire()
	if err != nil {
		return err
	}
	defer o.parent.release()
	return f(fd, o.name)
}

// acquire returns the directory's descriptor until release. Directories above
// it whose descriptors were given up are opened again on the way, one name at a
// time.
func (d *dirObject) acquire() (int, error) {
	if d.parent == nil {
		return d.layer.rootFD, nil
	}
	if fd, ok := d.layer.fds.Try(&d.slot); ok {
		return fd, nil
	}
	return d.layer.fds.Acquire(&d.slot, func() (int, error) {
		pfd, err := d.parent.acquire()
		if err != nil {
			return -1, err
		}
		defer d.parent.release()
		return sys.Openat(pfd, d.name, unix.O_PATH|unix.O_DIRECTORY, 0)
	})
}

func (d *dirObject) release() {
	if d.parent != nil {
		d.layer.fds.Release(&d.slot)
	}
}

func (o *leaf) Readlink() (target string, err error) {
	if o.attr.Type() != unix.S_IFLNK {
		return "", unix.EINVAL
	}
	err = o.at(func(dirfd int, name string) error {
		target, err = sys.Readlinkat(dirfd, name)
		return err
	})
	return target, err
}

func (o *leaf) Open() (File, error) {
	if o.attr.Type() != unix.S_IFREG {
		return nil, unix.EINVAL // opening a fifo or a device would have effects
	}
	fd := -1
	err := o.at(func(dirfd int, name string) (err error) {
		fd, err = openData(dirfd, name)
		return err
	})
	if err != nil {
		return nil, err
	}
	return fdFile(fd), nil
}

// openData opens a regular file for reading, without touching its access time
// where this process may ask for that.
func openData(dirfd int, name string) (int, error) {
	fd, err := sys.Openat(dirfd, name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOATIME, 0)
	if err == unix.EPERM {
		fd, err = sys.Openat(dirfd, name, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	}
	return fd, err
}

func (o *leaf) Xattrs() (names []string, err error) {
	err = o.at(func(dirfd int, name string) error {
		names, err = sys.ListXattrs(dirfd, name)
		return err
	})
	return names, err
}

func (o *leaf) Xattr(attr string) (v []byte, err error) {
	err = o.at(func(dirfd int, name string) error {
		v, err = sys.ReadXattr(dirfd, name, attr)
		return err
	})
	return v, err
}

func (o *leaf) Handle() (h []byte, err error) {
	err = o.at(func(dirfd int, name string) error {
		h, err = OriginHandle(dirfd, name, sys.FSUUID(o.layer.rootFD), false)
		return err
	})
	return h, err
}

// fdFile is an open descriptor as a File.
type fdFile int

func (f fdFile) FD() (int, bool) { return int(f), true }
func (f fdFile) Close() error    { return sys.Close(int(f)) }

func (f fdFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := sys.Pread(int(f), p, off)
	if err == nil && n < len(p) {
		err = io.EOF
	}
	return n, err
}
