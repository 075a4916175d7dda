package fs

import (
	"slices"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/stack"
	"github.com/unionfs-go/unionfs/internal/sys"
)

const attrCapability = "security.capability"

// setAttr is SETATTR.
func (f *FS) setAttr(n *node, in *fuse.SetAttrIn) (stack.Attr, error) {
	var none stack.Attr
	if err := f.enterChange(); err != nil {
		return none, err
	}
	defer f.leaveChange()
	w := wantMeta
	size, resize := in.GetSize()
	if resize {
		if n.isDir() {
			return none, unix.EISDIR
		}
		if size > maxSize {
			return none, unix.EFBIG
		}
		w = want{data: true, size: int64(size)}
	}
	if same, a, err := f.sameTimes(n, in); same || err != nil {
		return a, err
	}
	if err := f.copyUp(n, w); err != nil {
		return none, err
	}
	if resize {
		// With the writeback cache the kernel keeps the mtime, and sends it
		// along where the truncation changes it.
		keep := f.writeback.Load() && in.Valid&fuse.FATTR_MTIME == 0
		if err := f.truncate(n, int64(size), keep); err != nil {
			return none, err
		}
	}
	f.treeMu.RLock()
	defer f.treeMu.RUnlock()
	n.mu.Lock()
	defer n.mu.Unlock()
	err := f.at(n, func(p place) error { return f.applyAttr(n, p, in) })
	if err != nil {
		return none, err
	}
	return f.attrLocked(n)
}

// sameTimes recognises the SETATTR by which the writeback cache writes back a
// ctime that it keeps itself, after an unlink say: it repeats the mtime and is no
// reason to copy anything up (fs/fuse/inode.c:fuse_write_inode).
func (f *FS) sameTimes(n *node, in *fuse.SetAttrIn) (same bool, a stack.Attr, err error) {
	const times = fuse.FATTR_MTIME | fuse.FATTR_CTIME
	if n.isUpper() || in.Valid&^(fuse.FATTR_FH|fuse.FATTR_LOCKOWNER) != times {
		return false, a, nil
	}
	if a, err = f.getAttr(n); err != nil {
		return false, a, err
	}
	return a.Mtime == stack.Time{Sec: int64(in.Mtime), Nsec: in.Mtimensec}, a, nil
}

// maxSize is the largest file size (MAX_LFS_FILESIZE).
const maxSize = 1<<63 - 1

// applyAttr changes the attributes of an upper object, in an order in which
// none undoes another: the owner first, for chown clears set-user-ID; the times
// last.
//
// Preconditions: n.mu is held for writing; p is n's place.
func (f *FS) applyAttr(n *node, p place, in *fuse.SetAttrIn) error {
	// An empty SETATTR comes before a write to a file with capabilities, whoever
	// writes, or with set-id bits, when the writer may not keep those. With a
	// ctime (which is only sent with the writeback cache), or for what cannot be
	// written, it is a chown that changes nothing, and that drops set-id bits for everybody.
	said := in.Valid &^ (fuse.FATTR_FH | fuse.FATTR_LOCKOWNER)
	write := said == 0 && n.typ == unix.S_IFREG
	kill := in.Valid&fuse.FATTR_KILL_SUIDGID != 0 || said == 0 || said == fuse.FATTR_CTIME
	if !n.isDir() && (said == fuse.FATTR_CTIME || said == 0) {
		if err := f.mayDropSetID(n, p, &in.Caller, write); err != nil {
			return err
		}
	}
	uid, setUID := in.GetUID()
	gid, setGID := in.GetGID()
	if setUID || setGID {
		u, g := -1, -1
		if setUID {
			u = int(uid)
		}
		if setGID {
			g = int(gid)
		}
		if err := f.chown(n, p, u, g); err != nil {
			return err
		}
	}
	mode, setMode := in.GetMode()
	if setMode && n.typ != unix.S_IFLNK {
		if err := f.chmod(n, p, mode); err != nil {
			return err
		}
	}
	if kill && !n.isDir() {
		if err := f.killPriv(n, p, setMode || write && in.Caller.Uid == 0, &in.Caller); err != nil {
			return err
		}
	}
	ts, ok := timesOf(in)
	if !ok {
		return nil
	}
	if in.Valid&fuse.FATTR_MTIME != 0 {
		n.mtime.Store(0)
		if in.Valid&fuse.FATTR_MTIME_NOW == 0 {
			n.mtime.Store(unix.TimespecToNsec(ts[1]))
		}
	}
	return sys.Utimensat(p.fd, p.name, &ts)
}

// mayDropSetID refuses to drop the set-id bits of somebody else's file for a
// chown that changes nothing (fs/attr.c:setattr_prepare, after notify_change has
// made a change of mode of it). Where it may be a write as well, whoever can
// write the file may.
func (f *FS) mayDropSetID(n *node, p place, who *fuse.Caller, write bool) error {
	a, err := f.shownAt(n, p)
	if err != nil {
		return err
	}
	if who.Uid == 0 || f.own.unchecked() || who.Uid == a.UID || a.Mode&(unix.S_ISUID|unix.S_ISGID) == 0 {
		return nil
	}
	if write && (a.Mode&unix.S_IWOTH != 0 || a.Mode&unix.S_IWGRP != 0 && inGroup(who, a.GID)) {
		return nil
	}
	return unix.EPERM
}

// killPriv drops set-user-ID, set-group-ID and file capabilities, as writing,
// truncating and chown do (fs/inode.c:__file_remove_privs,
// FUSE_HANDLE_KILLPRIV_V2). keepMode leaves the mode, which was just set.
//
// Preconditions: n.mu is held for writing; p is n's place.
func (f *FS) killPriv(n *node, p place, keepMode bool, who *fuse.Caller) error {
	if n.isDir() || n.typ == unix.S_IFLNK {
		return nil
	}
	if n.maybeXat.Load() {
		stored, _ := f.storedXattr(attrCapability)
		err := sys.Removexattrat(p.fd, p.name, stored)
		if err != nil && err != unix.ENODATA && err != unix.EOPNOTSUPP && err != unix.EPERM {
			return err
		}
	}
	if keepMode {
		return nil
	}
	a, err := f.shownAt(n, p)
	if err != nil {
		return err
	}
	drop := uint32(unix.S_ISUID)
	if a.Mode&unix.S_ISGID != 0 && (a.Mode&unix.S_IXGRP != 0 || !inGroup(who, a.GID)) {
		drop |= unix.S_ISGID
	}
	if a.Mode&drop == 0 {
		return nil
	}
	return f.chmod(n, p, a.Mode&^drop&0o7777)
}

// inGroup tells whether the caller may keep set-group-ID on a file of the group
// (fs/inode.c:in_group_or_capable).
func inGroup(who *fuse.Caller, gid uint32) bool {
	return who.Uid == 0 || who.Gid == gid || slices.Contains(sys.Groups(who.Pid), gid)
}

// timesOf reads the times that a SETATTR sets. Seconds may be negative.
func timesOf(in *fuse.SetAttrIn) (ts [2]unix.Timespec, ok bool) {
	ts[0].Nsec, ts[1].Nsec = unix.UTIME_OMIT, unix.UTIME_OMIT
	if in.Valid&fuse.FATTR_ATIME != 0 {
		ok = true
		ts[0] = unix.Timespec{Sec: int64(in.Atime), Nsec: int64(in.Atimensec)}
		if in.Valid&fuse.FATTR_ATIME_NOW != 0 {
			ts[0] = unix.Timespec{Nsec: unix.UTIME_NOW}
		}
	}
	if in.Valid&fuse.FATTR_MTIME != 0 {
		ok = true
		ts[1] = unix.Timespec{Sec: int64(in.Mtime), Nsec: int64(in.Mtimensec)}
		if in.Valid&fuse.FATTR_MTIME_NOW != 0 {
			ts[1] = unix.Timespec{Nsec: unix.UTIME_NOW}
		}
	}
	return ts, ok
}

// truncate sets the size of an upper file; with keepTime its mtime stays.
func (f *FS) truncate(n *node, size int64, keepTime bool) error {
	if n.typ != unix.S_IFREG {
		return unix.EINVAL
	}
	fd, done, err := f.upperData(n, true)
	if err != nil {
		return err
	}
	defer done()
	if !keepTime {
		return sys.Ftruncate(fd, size)
	}
	restore, err := keepTimes(place{fd: fd})
	if err != nil {
		return err
	}
	if err := sys.Ftruncate(fd, size); err != nil {
		return err
	}
	return restore()
}
