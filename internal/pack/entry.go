package pack

import (
	"archive/tar"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/stack"
)

// maxHeader bounds the extended header of one entry, which common readers
// refuse beyond a megabyte (archive/tar: maxSpecialFileSize).
const maxHeader = 1<<20 - 64<<10

// writeMark writes a whiteout or the opaque mark into d.
func (w *walker) writeMark(d *dir, name string) error {
	if err := w.needDir(d); err != nil {
		return err
	}
	w.counts.Entries++
	return w.writeHeader(&tar.Header{
		Typeflag: tar.TypeReg, Name: d.join(name), Mode: 0o600, ModTime: time.Unix(0, 0),
	})
}

// needDir writes the headers of d and its parents that were not yet.
func (w *walker) needDir(d *dir) error {
	if d.written {
		return nil
	}
	return w.writeDir(d)
}

func (w *walker) writeDir(d *dir) error {
	if d.written {
		return nil
	}
	if d.parent != nil {
		if err := w.needDir(d.parent); err != nil {
			return err
		}
	}
	d.written = true
	h, _, err := w.header(d.path, d.attrs)
	if err != nil {
		return pathError(d.path, err)
	}
	h.Typeflag = tar.TypeDir
	h.Name = d.path + "/"
	if d.path == "" {
		h.Name = "./"
	}
	w.counts.Entries++
	w.counts.Dirs++
	return w.writeHeader(h)
}

// tries bounds how often something that changes is read again.
const tries = 20

// file writes one object that is no directory.
func (w *walker) file(d *dir, name string, e stack.Entry) error {
	path := d.join(name)
	if err := w.noteIndexed(d, name, e.Top().Object); err != nil {
		return pathError(path, err)
	}
	for try := 0; ; try++ {
		done, err := w.tryFile(d, path, e)
		if done || err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, errRetry) {
			return err
		}
		if try == tries {
			return pathError(path, fmt.Errorf("%w, %d times over; hold writes back or try later", ErrChanged, tries))
		}
		if try > 0 {
			time.Sleep(time.Duration(try) * time.Millisecond)
		}
		e, err = w.lookup(d, name)
		switch {
		case errors.Is(err, unix.ENOENT):
			return w.vanished(d, name)
		case err != nil:
			return w.lookupError(path, err)
		case e.IsDir():
			return w.child(d, name) // replaced by a directory meanwhile
		}
	}
}

// errRetry: the object changed before anything of it was written.
var errRetry = errors.New("changed")

func (w *walker) tryFile(d *dir, path string, e stack.Entry) (done bool, err error) {
	h, typ, err := w.header(path, e.Top().Object)
	if err != nil {
		return false, pathError(path, err)
	}
	if typ == unix.S_IFSOCK {
		w.counts.Skipped++
		w.notice("%s: a socket cannot be in an image and is left out", path)
		return true, nil
	}
	same, err := w.unchanged(d, path, h, typ, e)
	if err != nil {
		return false, pathError(path, err)
	}
	if same {
		w.counts.Unchanged++
		w.counts.UnchangedBytes += e.Top().Object.Attr().Size
		return true, nil
	}
	if err := w.needDir(d); err != nil {
		return true, err
	}
	h.Name = path
	if l := w.linkTo(e.Top().Object); l != nil {
		h.Typeflag, h.Linkname = tar.TypeLink, l.path
		w.counts.Entries++
		w.counts.Links++
		return true, w.writeHeader(h)
	}
	switch typ {
	case unix.S_IFREG:
		h.Typeflag = tar.TypeReg
		err = w.regular(path, h, e)
	case unix.S_IFLNK:
		h.Typeflag = tar.TypeSymlink
		if h.Linkname, err = linkTarget(e); err == nil {
			w.counts.Symlinks++
			err = w.writeHeader(h)
		}
	case unix.S_IFCHR, unix.S_IFBLK, unix.S_IFIFO:
		h.Typeflag = deviceFlag(typ)
		w.counts.Devices++
		err = w.writeHeader(h)
	default:
		return true, pathError(path, fmt.Errorf("%w: unknown file type %#o", ErrInput, typ))
	}
	if err != nil {
		return false, pathError(path, err)
	}
	w.counts.Entries++
	w.rememberLink(e.Top().Object, path)
	return true, nil
}

func deviceFlag(typ uint32) byte {
	switch typ {
	case unix.S_IFCHR:
		return tar.TypeChar
	case unix.S_IFBLK:
		return tar.TypeBlock
	}
	return tar.TypeFifo
}

// linkTarget is the target of a symlink, which rootless tools may keep as the
// data of a regular file.
func linkTarget(e stack.Entry) (string, error) {
	o := e.Top().Object
	a := o.Attr()
	if a.Type() == unix.S_IFLNK {
		return o.Readlink()
	}
	f, err := e.Data().Object.Open()
	if err != nil {
		return "", err
	}
	defer f.Close() //nolint:errcheck // only read
	buf := make([]byte, min(a.Size, 1<<16))
	n, err := f.ReadAt(buf, 0)
	if n == len(buf) {
		err = nil
	}
	return string(buf[:n]), err
}

// linkTo returns the entry that an object is another name of, if that was
// written.
func (w *walker) linkTo(o stack.Object) *link {
	a := o.Attr()
	if a.Nlink < 2 {
		return nil
	}
	key := inode{a.Dev, a.Ino}
	l := w.links[key]
	if l == nil {
		return nil
	}
	if l.left--; l.left == 0 {
		delete(w.links, key)
	}
	return l
}

func (w *walker) rememberLink(o stack.Object, path string) {
	a := o.Attr()
	if a.Nlink < 2 {
		return
	}
	left := a.Nlink - 1
	if m := o.Marks(); m.HasNlink {
		left = 1<<32 - 1 // the union has more names than the layer
	}
	w.links[inode{a.Dev, a.Ino}] = &link{path, left}
}

// header makes the header of an object but for its name and what depends on its
// type. typ is the type it has in the image.
func (w *walker) header(path string, o stack.Object) (*tar.Header, uint32, error) {
	a := o.Attr()
	h := &tar.Header{
		Uid: int(a.UID), Gid: int(a.GID), Mode: int64(a.Mode & 0o7777),
		ModTime: w.modTime(a.Mtime),
	}
	typ, rdev := a.Type(), a.Rdev
	xattrs, override, err := w.xattrs(path, o)
	if err != nil {
		return nil, 0, err
	}
	if override != nil {
		h.Uid, h.Gid, h.Mode = int(override.UID), int(override.GID), int64(override.Mode)
		if override.Type != 0 {
			typ, rdev = override.Type, override.Rdev
		}
	}
	if typ == unix.S_IFCHR || typ == unix.S_IFBLK {
		h.Devmajor, h.Devminor = int64(unix.Major(rdev)), int64(unix.Minor(rdev))
	}
	if typ == unix.S_IFLNK {
		h.Mode = 0o777
		if override == nil && w.opt.OverrideStat && a.UID != 0 && int(a.UID) == os.Geteuid() {
			// A symlink can hold no attribute: what a plain user made is root's,
			// as the mount shows it.
			h.Uid, h.Gid = 0, 0
		}
	}
	if len(xattrs) > 0 {
		h.PAXRecords = make(map[string]string, len(xattrs))
		size := 0
		for k, v := range xattrs {
			h.PAXRecords["SCHILY.xattr."+k] = v
			size += len(k) + len(v) + 40
		}
		if size > maxHeader {
			return nil, 0, fmt.Errorf("%w: its extended attributes are larger than readers of layers accept", ErrInput)
		}
	}
	return h, typ, nil
}

// modTime is the time that is written: cut to seconds and clamped.
func (w *walker) modTime(t stack.Time) time.Time {
	nsec := int64(0)
	if w.opt.Nanoseconds {
		nsec = int64(t.Nsec)
	}
	m := time.Unix(t.Sec, nsec)
	if ts := w.opt.Timestamp; ts != nil && m.After(*ts) {
		m = *ts
		if !w.opt.Nanoseconds {
			m = time.Unix(ts.Unix(), 0)
		}
	}
	return m
}

func (w *walker) writeHeader(h *tar.Header) error {
	if w.opt.Visit != nil && (w.tw != nil || w.dry) {
		w.opt.Visit(w.change(h))
	}
	if w.tw == nil {
		return nil
	}
	if w.opt.Nanoseconds && h.ModTime.Nanosecond() != 0 {
		h.Format = tar.FormatPAX
	}
	if err := w.tw.WriteHeader(h); err != nil {
		return pathError(h.Name, err)
	}
	return nil
}

// sameDir tells whether two directories would be the same entry of a layer.
func (w *walker) sameDir(a, b stack.Object, ignoreTime bool) (bool, error) {
	ha, _, err := w.header("", a)
	if err != nil {
		return false, err
	}
	hb, _, err := w.header("", b)
	if err != nil {
		return false, err
	}
	return sameAttrs(ha, hb) && (ignoreTime || ha.ModTime.Equal(hb.ModTime)), nil
}

// sameAttrs compares owners, modes and extended attributes.
func sameAttrs(ha, hb *tar.Header) bool {
	if ha.Uid != hb.Uid || ha.Gid != hb.Gid || ha.Mode != hb.Mode || len(ha.PAXRecords) != len(hb.PAXRecords) {
		return false
	}
	for k, v := range ha.PAXRecords {
		if old, ok := hb.PAXRecords[k]; !ok || old != v {
			return false
		}
	}
	return true
}
