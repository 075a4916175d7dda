package tarlayer

import (
	"crypto/sha256"
	"io"
	"sort"

	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/stack"
	"github.com/unionfs-go/unionfs/whiteout"
)

// object is one inode of a layer that is no directory.
type object struct {
	l   *Layer
	ino uint32
}

// dir is a directory of a layer.
type dir struct{ object }

var (
	_ stack.Object  = object{}
	_ stack.Implier = (*dir)(nil)
	_ stack.File    = (*file)(nil)
)

// inode returns the object's record; objects are only made of ones that exist.
func (o object) inode() inode {
	n, err := o.l.cached.inodes.at(o.ino)
	if err != nil {
		return inode{mode: unix.S_IFREG} // cannot be
	}
	return n
}

func (o object) Attr() stack.Attr {
	n := o.inode()
	t := stack.Time{Sec: n.mtime, Nsec: n.nsec}
	a := stack.Attr{
		Dev: o.l.dev, Ino: uint64(o.ino), Mode: uint32(n.mode), Nlink: n.nlink, UID: n.uid, GID: n.gid,
		Blksize: 4096, Atime: t, Mtime: t, Ctime: t,
	}
	switch n.typ() {
	case unix.S_IFREG:
		a.Size = n.size
		a.Blocks = (uint64(n.size) + 511) / 512
		if n.has(flagSparse) {
			a.Blocks = o.l.dataBlocks(&n)
		}
	case unix.S_IFLNK:
		a.Size = n.size
	case unix.S_IFCHR, unix.S_IFBLK:
		a.Rdev = n.data
	}
	return a
}

// dataBlocks counts the blocks of a sparse file that are not holes.
func (l *Layer) dataBlocks(n *inode) uint64 {
	m, err := l.cached.sparseMap(n)
	if err != nil {
		return 0
	}
	blocks := uint64(0)
	for i := range m.len() {
		blocks += (uint64(m.at(i).length) + 511) / 512
	}
	return blocks
}

func (o object) Marks() whiteout.Marks {
	n := o.inode()
	m := whiteout.Marks{HasACL: n.has(flagACL), HasCaps: n.has(flagCaps), HasOther: n.has(flagOther)}
	if n.has(flagOpaque) {
		m.Opacity = whiteout.OpaqueDir
	}
	return m
}

func (o object) Readlink() (string, error) {
	n := o.inode()
	if n.typ() != unix.S_IFLNK {
		return "", unix.EINVAL
	}
	target, err := o.l.cached.target(&n)
	if err != nil {
		return "", o.l.eio("read a symlink", err)
	}
	return target, nil
}

func (o object) Xattrs() ([]string, error) {
	n := o.inode()
	var names []string
	err := o.l.cached.eachXattr(&n, func(name, _ []byte) bool {
		names = append(names, o.l.ns.Escape(string(name)))
		return true
	})
	if err != nil {
		return nil, o.l.eio("read attributes", err)
	}
	return names, nil
}

func (o object) Xattr(attr string) ([]byte, error) {
	n := o.inode()
	var found []byte
	err := o.l.cached.eachXattr(&n, func(name, value []byte) bool {
		if o.l.ns.Escape(string(name)) != attr {
			return true
		}
		found = append([]byte{}, value...)
		return false
	})
	if err != nil {
		return nil, o.l.eio("read attributes", err)
	}
	if found == nil {
		return nil, unix.ENODATA
	}
	return found, nil
}

// Handle tells the tar by its DiffID and the object by its number in the index,
// which follows from the tar alone.
func (o object) Handle() ([]byte, error) {
	sum := sha256.Sum256([]byte(o.l.cached.diffID))
	return stack.LayerHandle([16]byte(sum[:16]), uint64(o.ino)), nil
}

func (o object) Open() (stack.File, error) {
	n := o.inode()
	if n.typ() != unix.S_IFREG {
		return nil, unix.EINVAL
	}
	f := &file{l: o.l, size: n.size, data: int64(n.data)}
	if n.has(flagSparse) {
		m, err := o.l.cached.sparseMap(&n)
		if err != nil {
			return nil, o.l.eio("open", err)
		}
		f.sparse, f.data = m, -1
	}
	return f, nil
}

// object returns the object of an inode number of the index.
func (l *Layer) object(ino uint32) (stack.Object, error) {
	n, err := l.cached.inodes.at(ino)
	if err != nil {
		return nil, l.eio("look a name up", err)
	}
	if n.isDir() {
		return &dir{object{l, ino}}, nil
	}
	return object{l, ino}, nil
}

// Implied tells whether the tar only names things in the directory.
func (d *dir) Implied() bool { n := d.inode(); return n.has(flagImplied) }

func (d *dir) Lookup(name string) (stack.Object, stack.Presence, error) {
	n := d.inode()
	ino, found, err := d.l.cached.find(&n, name)
	switch {
	case err != nil:
		return nil, stack.Absent, d.l.eio("look a name up", err)
	case !found:
		return nil, stack.Absent, nil
	case ino == 0:
		return nil, stack.WhitedOut, nil
	}
	o, err := d.l.object(ino)
	if err != nil {
		return nil, stack.Absent, err
	}
	return o, stack.Present, nil
}

func (d *dir) ReadDir() ([]stack.Dirent, error) {
	x := d.l.cached.index
	n := d.inode()
	from, to, err := x.children(&n)
	if err != nil {
		return nil, d.l.eio("read a directory", err)
	}
	out := make([]stack.Dirent, 0, to-from)
	for i := from; i < to; i++ {
		name, ino := x.dent(i)
		if ino == 0 {
			out = append(out, stack.Dirent{Name: string(name), Whiteout: true})
			continue
		}
		c, err := x.inodes.at(ino)
		if err != nil {
			return nil, d.l.eio("read a directory", err)
		}
		out = append(out, stack.Dirent{Name: string(name), Ino: uint64(ino), Dev: d.l.dev, Type: c.typ()})
	}
	return out, nil
}

// file is a regular file, opened.
type file struct {
	l      *Layer
	size   int64
	data   int64     // offset of its data in the stream, -1 of a sparse file
	sparse sparseMap // of a sparse file
}

// FD tells that the data have no descriptor of their own.
func (f *file) FD() (int, bool) { return -1, false }

// Close does nothing.
func (f *file) Close() error { return nil }

func (f *file) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, unix.EINVAL
	}
	if off >= f.size {
		return 0, io.EOF
	}
	want := min(int64(len(p)), f.size-off)
	var err error
	if f.data >= 0 {
		err = f.l.readStream(p[:want], f.data+off)
	} else {
		err = f.readSparse(p[:want], off)
	}
	if err != nil {
		return 0, err
	}
	if want < int64(len(p)) {
		return int(want), io.EOF
	}
	return int(want), nil
}

// readSparse fills p with zeros and what fragments there are.
func (f *file) readSparse(p []byte, off int64) error {
	clear(p)
	end := off + int64(len(p))
	first := sort.Search(f.sparse.len(), func(i int) bool {
		g := f.sparse.at(i)
		return g.off+g.length > off
	})
	for i := first; i < f.sparse.len(); i++ {
		g := f.sparse.at(i)
		if g.off >= end {
			break
		}
		from, to := max(g.off, off), min(g.off+g.length, end)
		if err := f.l.readStream(p[from-off:to-off], g.data+from-g.off); err != nil {
			return err
		}
	}
	return nil
}
