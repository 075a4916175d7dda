package fs

import (
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// The requests about the content of files and directories.

// Open answers OPEN, see raw: only with io=passthrough are opens of any interest.
func (r *raw) Open(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	r.f.msgs.count(opOpen)
	if !r.f.passthrough {
		return fuse.ENOSYS
	}
	n := r.f.nodes.entry(in.NodeId)
	if n == nil || n.successor.Load() != nil {
		return stale
	}
	return r.f.toStatus(r.f.open(n, in, out))
}

// OpenDir answers OPENDIR, see raw.
func (r *raw) OpenDir(<-chan struct{}, *fuse.OpenIn, *fuse.OpenOut) fuse.Status {
	r.f.msgs.count(opOpendir)
	return fuse.ENOSYS
}

// Release answers RELEASE, which is sent where opens are.
func (r *raw) Release(_ <-chan struct{}, in *fuse.ReleaseIn) {
	r.f.msgs.count(opRelease)
	if n := r.f.nodes.entry(in.NodeId); n != nil {
		r.f.release(n)
	}
}

// ReleaseDir is not sent by a kernel that opens without asking.
func (r *raw) ReleaseDir(*fuse.ReleaseIn) { r.f.msgs.count(opRelease) }

// Flush answers FLUSH, see raw: every write has reached the upper's page cache
// when it is answered.
func (r *raw) Flush(<-chan struct{}, *fuse.FlushIn) fuse.Status {
	r.f.msgs.count(opFlush)
	return fuse.ENOSYS
}

// Read answers READ.
func (r *raw) Read(_ <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	r.f.msgs.count(opRead)
	n := r.f.nodes.get(in.NodeId)
	if n == nil {
		return nil, stale
	}
	c, err := r.f.read(n, buf, int64(in.Offset))
	if err != nil {
		return nil, r.f.toStatus(err)
	}
	return fuse.ReadResultData(buf[:c]), fuse.OK
}

// Write is WRITE in one piece.
func (r *raw) Write(cancel <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	return r.Writev(cancel, in, [][]byte{data})
}

// Writev answers WRITE.
func (r *raw) Writev(_ <-chan struct{}, in *fuse.WriteIn, data [][]byte) (uint32, fuse.Status) {
	r.f.msgs.count(opWrite)
	n := r.f.nodes.get(in.NodeId)
	if n == nil {
		return 0, stale
	}
	c, err := r.f.write(n, in, data)
	return c, r.f.toStatus(err)
}

// Lseek answers LSEEK.
func (r *raw) Lseek(_ <-chan struct{}, in *fuse.LseekIn, out *fuse.LseekOut) fuse.Status {
	r.f.msgs.count(opLseek)
	n := r.f.nodes.get(in.NodeId)
	if n == nil {
		return stale
	}
	pos, err := r.f.lseek(n, int64(in.Offset), int(in.Whence))
	out.Offset = uint64(pos)
	return r.f.toStatus(err)
}

// CopyFileRange answers COPY_FILE_RANGE.
func (r *raw) CopyFileRange(_ <-chan struct{}, in *fuse.CopyFileRangeIn) (uint32, fuse.Status) {
	r.f.msgs.count(opCopyRange)
	src, dst := r.f.nodes.get(in.NodeId), r.f.nodes.get(in.NodeIdOut)
	if src == nil || dst == nil {
		return 0, stale
	}
	c, err := r.f.copyFileRange(src, dst, in)
	return c, r.f.toStatus(err)
}

// Fallocate answers FALLOCATE.
func (r *raw) Fallocate(_ <-chan struct{}, in *fuse.FallocateIn) fuse.Status {
	r.f.msgs.count(opFallocate)
	n := r.f.nodes.get(in.NodeId)
	if n == nil {
		return stale
	}
	return r.f.toStatus(r.f.fallocate(n, in))
}

// Fsync answers FSYNC.
func (r *raw) Fsync(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	r.f.msgs.count(opFsync)
	n := r.f.nodes.get(in.NodeId)
	if n == nil {
		return stale
	}
	const fdatasync = 1 // FUSE_FSYNC_FDATASYNC
	return r.f.toStatus(r.f.fsync(n, in.FsyncFlags&fdatasync != 0))
}

// FsyncDir answers FSYNCDIR.
func (r *raw) FsyncDir(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	r.f.msgs.count(opFsync)
	n := r.f.nodes.get(in.NodeId)
	if n == nil {
		return stale
	}
	return r.f.toStatus(r.f.fsyncDir(n))
}

// Ioctl answers IOCTL.
func (r *raw) Ioctl(_ <-chan struct{}, in *fuse.IoctlIn, inbuf []byte, _ *fuse.IoctlOut, outbuf []byte) fuse.Status {
	r.f.msgs.count(opIoctl)
	n := r.f.nodes.get(in.NodeId)
	if n == nil {
		return stale
	}
	return r.f.toStatus(r.f.ioctl(n, in.Cmd, inbuf, outbuf))
}

// ReadDir answers READDIR.
func (r *raw) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	r.f.msgs.count(opReaddir)
	n := r.f.nodes.get(in.NodeId)
	if n == nil {
		return stale
	}
	return r.f.toStatus(r.f.readDir(n, in.Offset, out))
}

// ReadDirPlus answers READDIRPLUS.
func (r *raw) ReadDirPlus(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	r.f.msgs.count(opReaddirplus)
	n := r.f.nodes.get(in.NodeId)
	if n == nil {
		return stale
	}
	return r.f.toStatus(r.f.readDirPlus(n, in.Offset, out))
}

// GetXAttr answers GETXATTR.
func (r *raw) GetXAttr(_ <-chan struct{}, h *fuse.InHeader, attr string, dest []byte) (uint32, fuse.Status) {
	r.f.msgs.count(opGetxattr)
	n := r.f.nodes.get(h.NodeId)
	if n == nil {
		return 0, stale
	}
	size, err := r.f.getXattr(n, attr, dest)
	return uint32(size), r.f.toStatus(err)
}

// ListXAttr answers LISTXATTR.
func (r *raw) ListXAttr(_ <-chan struct{}, h *fuse.InHeader, dest []byte) (uint32, fuse.Status) {
	r.f.msgs.count(opListxattr)
	n := r.f.nodes.get(h.NodeId)
	if n == nil {
		return 0, stale
	}
	size, err := r.f.listXattr(n, h.Uid, dest)
	return uint32(size), r.f.toStatus(err)
}

// SetXAttr answers SETXATTR.
func (r *raw) SetXAttr(_ <-chan struct{}, in *fuse.SetXAttrIn, attr string, data []byte) fuse.Status {
	r.f.msgs.count(opSetxattr)
	n := r.f.nodes.get(in.NodeId)
	if n == nil {
		return stale
	}
	return r.f.toStatus(r.f.setXattr(n, in, attr, data))
}

// RemoveXAttr answers REMOVEXATTR.
func (r *raw) RemoveXAttr(_ <-chan struct{}, h *fuse.InHeader, attr string) fuse.Status {
	r.f.msgs.count(opRemovexattr)
	n := r.f.nodes.get(h.NodeId)
	if n == nil {
		return stale
	}
	return r.f.toStatus(r.f.removeXattr(n, attr))
}

// GetLk is not sent: locks are the kernel's.
func (r *raw) GetLk(<-chan struct{}, *fuse.LkIn, *fuse.LkOut) fuse.Status { return fuse.ENOSYS }

// SetLk is not sent: locks are the kernel's.
func (r *raw) SetLk(<-chan struct{}, *fuse.LkIn) fuse.Status { return fuse.ENOSYS }

// SetLkw is not sent: locks are the kernel's.
func (r *raw) SetLkw(<-chan struct{}, *fuse.LkIn) fuse.Status { return fuse.ENOSYS }

// readlink is READLINK.
func (f *FS) readlink(n *node) (target string, err error) {
	if n.typ != unix.S_IFLNK {
		return "", unix.EINVAL
	}
	f.treeMu.RLock()
	defer f.treeMu.RUnlock()
	n.mu.RLock()
	defer n.mu.RUnlock()
	if !n.isUpper() {
		return n.lower[0].Object.Readlink()
	}
	err = f.at(n, func(p place) (err error) {
		target, err = readlinkAt(p)
		return err
	})
	return target, err
}
