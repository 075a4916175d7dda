package fs

import (
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/sys"
)

// read is READ: it fills p from off and returns how much there was.
func (f *FS) read(n *node, p []byte, off int64) (int, error) {
	if n.typ != unix.S_IFREG {
		return 0, unix.EINVAL
	}
	for {
		if n.upper.Load() == fullUpper {
			fd, done, err := f.upperData(n, false)
			if err != nil {
				return 0, err
			}
			defer done()
			return sys.Pread(fd, p, off)
		}
		fd, done, ok, err := f.lowerFD(n)
		if n.upper.Load() == fullUpper {
			// Copied up between the two questions.
			if err == nil && ok {
				done()
			}
			continue
		}
		if err != nil {
			return 0, err
		}
		if !ok {
			return n.readLower(p, off)
		}
		defer done()
		return sys.Pread(fd, p, off)
	}
}

// write is WRITE. The file is copied up by the first one. When data that the
// kernel held back cannot be written, nobody shall go on reading it.
func (f *FS) write(n *node, in *fuse.WriteIn, data [][]byte) (uint32, error) {
	c, err := f.writeData(n, in, data)
	if err != nil && in.WriteFlags&fuse.WRITE_CACHE != 0 {
		f.notify.staleData(n.id)
	}
	return c, err
}

func (f *FS) writeData(n *node, in *fuse.WriteIn, data [][]byte) (uint32, error) {
	if n.typ != unix.S_IFREG {
		return 0, unix.EINVAL
	}
	if err := f.enterChange(); err != nil {
		return 0, err
	}
	defer f.leaveChange()
	if err := f.copyUp(n, wantData); err != nil {
		return 0, err
	}
	if in.WriteFlags&fuse.WRITE_KILL_SUIDGID != 0 {
		if err := f.dropPriv(n, &in.Caller); err != nil {
			return 0, err
		}
	}
	fd, done, err := f.upperData(n, true)
	if err != nil {
		return 0, err
	}
	defer done()
	if in.WriteFlags&fuse.WRITE_CACHE != 0 {
		return f.writeBack(n, fd, data, int64(in.Offset))
	}
	total, err := writeAll(fd, data, int64(in.Offset))
	return uint32(total), err
}

// writeBack writes what the kernel's page cache held back. The write(2) or the
// mapping that it comes from is past, and so is what that did to the file's
// attributes: the mtime is the kernel's, and capabilities set since then stay,
// though a write drops them.
func (f *FS) writeBack(n *node, fd int, data [][]byte, off int64) (uint32, error) {
	if !n.maybeXat.Load() {
		total, err := writeAll(fd, data, off)
		if err == nil {
			err = n.keepMtime(fd)
		}
		return uint32(total), err
	}
	// Against a change of the capabilities meanwhile; the data goes to the
	// upper's page cache and takes no time.
	n.mu.RLock()
	defer n.mu.RUnlock()
	caps, cerr := sys.ReadXattr(fd, "", attrCapability)
	total, err := writeAll(fd, data, off)
	if err == nil && cerr == nil {
		err = sys.Setxattrat(fd, "", attrCapability, caps, 0)
	}
	if err == nil {
		err = n.keepMtime(fd)
	}
	return uint32(total), err
}

// writeAll writes the pieces of one request. An error after some bytes is a
// short write, as write(2) has it.
func writeAll(fd int, data [][]byte, off int64) (total int, err error) {
	for _, b := range data {
		c, err := sys.Pwrite(fd, b, off+int64(total))
		total += c
		if err != nil && total == 0 {
			return 0, err
		}
		if err != nil {
			return total, nil
		}
	}
	return total, nil
}

// keepMtime undoes what writing back did to the mtime. With the writeback cache
// the mtime is the kernel's: it sends a new one after the data that changed it,
// or has sent it before, and then it must not be lost.
func (n *node) keepMtime(fd int) error {
	ns := n.mtime.Load()
	if ns == 0 {
		return nil
	}
	return sys.Utimensat(fd, "", &[2]unix.Timespec{{Nsec: unix.UTIME_OMIT}, nsecToTimespec(ns)})
}

// nsecToTimespec converts nanoseconds since 1970, which may be negative.
func nsecToTimespec(ns int64) unix.Timespec {
	const second = 1e9
	sec, rest := ns/second, ns%second
	if rest < 0 {
		sec, rest = sec-1, rest+second
	}
	return unix.Timespec{Sec: sec, Nsec: rest}
}

// dropPriv is killPriv for a caller without locks.
func (f *FS) dropPriv(n *node, who *fuse.Caller) error {
	f.treeMu.RLock()
	defer f.treeMu.RUnlock()
	n.mu.Lock()
	defer n.mu.Unlock()
	return f.at(n, func(p place) error { return f.killPriv(n, p, false, who) })
}

// fsync is FSYNC. What is only in the layers below is on disk already.
func (f *FS) fsync(n *node, dataOnly bool) error {
	if f.cfg.Volatile || !n.isUpper() || n.typ != unix.S_IFREG {
		return nil
	}
	fd, done, err := f.upperData(n, false)
	if err != nil {
		return err
	}
	defer done()
	if dataOnly {
		return sys.Fdatasync(fd)
	}
	return sys.Fsync(fd)
}

// fsyncDir is FSYNCDIR.
func (f *FS) fsyncDir(n *node) error {
	if f.cfg.Volatile || !n.isUpper() || !n.isDir() {
		return nil
	}
	fd, err := f.openUpperDir(n)
	if err != nil {
		return err
	}
	defer sys.Close(fd) //nolint:errcheck // fsync has reported
	return sys.Fsync(fd)
}

func (f *FS) openUpperDir(n *node) (int, error) {
	f.treeMu.RLock()
	defer f.treeMu.RUnlock()
	p, err := f.enter(n)
	if err != nil {
		return -1, err
	}
	defer f.leave(p)
	return sys.Openat(p.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
}

// fallocate is FALLOCATE with its modes (punch hole, zero range, keep size and
// so on), which the upper's filesystem carries out or refuses.
func (f *FS) fallocate(n *node, in *fuse.FallocateIn) error {
	if n.typ != unix.S_IFREG {
		return unix.ENODEV
	}
	if err := f.enterChange(); err != nil {
		return err
	}
	defer f.leaveChange()
	if err := f.copyUp(n, wantData); err != nil {
		return err
	}
	fd, done, err := f.upperData(n, true)
	if err != nil {
		return err
	}
	defer done()
	if err := sys.Fallocate(fd, in.Mode, int64(in.Offset), int64(in.Length)); err != nil || !f.writeback.Load() {
		return err
	}
	return n.keepMtime(fd)
}

// withData calls fn with a descriptor of n's current data; ok is false where the
// layer has none.
func (f *FS) withData(n *node, fn func(fd int) error) (ok bool, err error) {
	if n.upper.Load() == fullUpper {
		fd, done, err := f.upperData(n, false)
		if err != nil {
			return true, err
		}
		defer done()
		return true, fn(fd)
	}
	fd, done, ok, err := f.lowerFD(n)
	if err != nil || !ok {
		return ok, err
	}
	defer done()
	return true, fn(fd)
}

// lseek is LSEEK: the kernel asks for SEEK_DATA and SEEK_HOLE only.
func (f *FS) lseek(n *node, off int64, whence int) (pos int64, err error) {
	if n.typ != unix.S_IFREG {
		return 0, unix.EINVAL
	}
	if f.writeback.Load() {
		// What the kernel has not written back yet would look like a hole, and
		// a program that copies data only would lose it.
		if err := f.notify.flushData(n.id); err != nil {
			return 0, err
		}
	}
	ok, err := f.withData(n, func(fd int) (err error) {
		pos, err = unix.Seek(fd, off, whence)
		return err
	})
	if err != nil || ok {
		return pos, err
	}
	// A layer without descriptors: all data, then the hole at the end.
	size := n.lowerData().Attr().Size
	switch {
	case off < 0 || off >= size:
		return 0, unix.ENXIO
	case whence == unix.SEEK_DATA:
		return off, nil
	}
	return size, nil
}

// copyFileRange is COPY_FILE_RANGE inside the mount. EOPNOTSUPP makes the kernel
// copy by itself.
func (f *FS) copyFileRange(src, dst *node, in *fuse.CopyFileRangeIn) (n uint32, err error) {
	if src.typ != unix.S_IFREG || dst.typ != unix.S_IFREG {
		return 0, unix.EINVAL
	}
	if err := f.enterChange(); err != nil {
		return 0, err
	}
	defer f.leaveChange()
	if err := f.copyUp(dst, wantData); err != nil {
		return 0, err
	}
	out, done, err := f.upperData(dst, true)
	if err != nil {
		return 0, err
	}
	defer done()
	ok, err := f.withData(src, func(fd int) error {
		c, err := sys.CopyRange(out, int64(in.OffOut), fd, int64(in.OffIn), int64(in.Len))
		n = uint32(c)
		return err
	})
	if !ok || err == unix.EXDEV || err == unix.EINVAL && src != dst {
		return 0, unix.EOPNOTSUPP
	}
	if err == nil && f.writeback.Load() {
		err = dst.keepMtime(out)
	}
	return n, err
}
