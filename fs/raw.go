package fs

import (
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/stack"
)

// raw answers the kernel's requests: it finds the nodes of a request, calls the
// operation of FS, and turns the result into the wire form. It holds no state.
//
// Requests that are answered ENOSYS on purpose, once, so that the kernel never
// sends them again: OPEN (but for io=passthrough) and OPENDIR (the kernel then
// opens without asking and caches data and directories), FLUSH, ACCESS (permissions are the kernel's
// business, by default_permissions), and locks, which stay in the kernel.
type raw struct {
	fuse.RawFileSystem // SetDebug, String, Init, OnUnmount; every request is below
	f                  *FS
}

var _ fuse.RawFileSystem = (*raw)(nil)

func newRaw(f *FS) *raw {
	return &raw{RawFileSystem: fuse.NewDefaultRawFileSystem(), f: f}
}

// String is the name of the filesystem in /proc/mounts, after "fuse.".
func (r *raw) String() string { return "unionfs" }

// stale answers a request for a node that the kernel should not know any more.
const stale = fuse.Status(unix.ESTALE)

// dir finds the directory of a request. The kernel asks for nothing else, but a
// request for another object must do no harm.
func (r *raw) dir(id uint64) (*node, fuse.Status) {
	n := r.f.nodes.get(id)
	switch {
	case n == nil:
		return nil, stale
	case !n.isDir():
		return nil, fuse.ENOTDIR
	}
	return n, fuse.OK
}

// Lookup answers LOOKUP. A name that is not there is a negative entry, which the
// kernel keeps.
func (r *raw) Lookup(_ <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	r.f.msgs.count(opLookup)
	dir, s := r.dir(h.NodeId)
	if s != fuse.OK {
		return s
	}
	n, a, err := r.f.lookup(dir, name)
	if err == unix.ENOENT { //nolint:errorlint // errno values are never wrapped here
		out.NodeId = 0
		out.EntryValid = forever
		return fuse.OK
	}
	if err != nil {
		return r.f.toStatus(err)
	}
	fillEntry(out, n, &a)
	return fuse.OK
}

// Forget answers FORGET and BATCH_FORGET, which have no reply.
func (r *raw) Forget(id, nlookup uint64) {
	r.f.msgs.count(opForget)
	r.f.forget(id, nlookup)
}

// GetAttr answers GETATTR.
func (r *raw) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	r.f.msgs.count(opGetattr)
	n := r.f.nodes.get(in.NodeId)
	if n == nil {
		return stale
	}
	a, err := r.f.getAttr(n)
	return r.attrOut(out, &a, err)
}

func (r *raw) attrOut(out *fuse.AttrOut, a *stack.Attr, err error) fuse.Status {
	if err != nil {
		return r.f.toStatus(err)
	}
	out.AttrValid, out.AttrValidNsec = forever, 0
	fillAttr(&out.Attr, a)
	return fuse.OK
}

// SetAttr answers SETATTR.
func (r *raw) SetAttr(_ <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	r.f.msgs.count(opSetattr)
	n := r.f.nodes.get(in.NodeId)
	if n == nil {
		return stale
	}
	a, err := r.f.setAttr(n, in)
	return r.attrOut(out, &a, err)
}

// Statx answers STATX, which the kernel sends when the birth time is asked for.
func (r *raw) Statx(_ <-chan struct{}, in *fuse.StatxIn, out *fuse.StatxOut) fuse.Status {
	r.f.msgs.count(opStatx)
	n := r.f.nodes.get(in.NodeId)
	if n == nil {
		return stale
	}
	a, err := r.f.getAttr(n)
	if err != nil {
		return r.f.toStatus(err)
	}
	fillStatx(out, &a)
	return fuse.OK
}

// make answers the requests that make a new object.
func (r *raw) make(h *fuse.InHeader, name string, o *newObject, out *fuse.EntryOut) fuse.Status {
	dir, s := r.dir(h.NodeId)
	if s != fuse.OK {
		return s
	}
	o.owner = h.Owner
	n, a, err := r.f.create(dir, name, o)
	if err != nil {
		return r.f.toStatus(err)
	}
	fillEntry(out, n, &a)
	return fuse.OK
}

// Mknod answers MKNOD.
func (r *raw) Mknod(_ <-chan struct{}, in *fuse.MknodIn, name string, out *fuse.EntryOut) fuse.Status {
	r.f.msgs.count(opMknod)
	return r.make(&in.InHeader, name, &newObject{mode: in.Mode, umask: in.Umask, rdev: realDev(in.Rdev)}, out)
}

// Mkdir answers MKDIR.
func (r *raw) Mkdir(_ <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	r.f.msgs.count(opMkdir)
	mode := in.Mode&0o7777 | unix.S_IFDIR
	return r.make(&in.InHeader, name, &newObject{mode: mode, umask: in.Umask}, out)
}

// Symlink answers SYMLINK.
func (r *raw) Symlink(_ <-chan struct{}, h *fuse.InHeader, target, name string, out *fuse.EntryOut) fuse.Status {
	r.f.msgs.count(opSymlink)
	return r.make(h, name, &newObject{mode: unix.S_IFLNK | 0o777, target: target}, out)
}

// Create answers CREATE. There is no handle: opens cost no message here.
func (r *raw) Create(_ <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	r.f.msgs.count(opCreate)
	mode := in.Mode&0o7777 | unix.S_IFREG
	if s := r.make(&in.InHeader, name, &newObject{mode: mode, umask: in.Umask}, &out.EntryOut); s != fuse.OK {
		return s
	}
	return r.opened(out)
}

// opened answers the opening half of CREATE and TMPFILE.
func (r *raw) opened(out *fuse.CreateOut) fuse.Status {
	out.OpenOut = fuse.OpenOut{OpenFlags: fuse.FOPEN_KEEP_CACHE}
	if !r.f.passthrough {
		return fuse.OK
	}
	n := r.f.nodes.entry(out.NodeId)
	if n == nil {
		return stale
	}
	return r.f.toStatus(r.f.enterOpen(n, &out.OpenOut))
}

// Tmpfile answers TMPFILE.
func (r *raw) Tmpfile(_ <-chan struct{}, in *fuse.CreateIn, out *fuse.CreateOut) fuse.Status {
	r.f.msgs.count(opTmpfile)
	dir, s := r.dir(in.NodeId)
	if s != fuse.OK {
		return s
	}
	o := &newObject{mode: in.Mode&0o7777 | unix.S_IFREG, umask: in.Umask, owner: in.Owner}
	n, a, err := r.f.tmpfile(dir, o)
	if err != nil {
		return r.f.toStatus(err)
	}
	fillEntry(&out.EntryOut, n, &a)
	return r.opened(out)
}

// Link answers LINK.
func (r *raw) Link(_ <-chan struct{}, in *fuse.LinkIn, name string, out *fuse.EntryOut) fuse.Status {
	r.f.msgs.count(opLink)
	dir, s := r.dir(in.NodeId)
	if s != fuse.OK {
		return s
	}
	n := r.f.nodes.get(in.Oldnodeid)
	if n == nil {
		return stale
	}
	a, err := r.f.link(n, dir, name)
	if err != nil {
		return r.f.toStatus(err)
	}
	fillEntry(out, n, &a)
	return fuse.OK
}

// Unlink answers UNLINK.
func (r *raw) Unlink(_ <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	r.f.msgs.count(opUnlink)
	return r.remove(h, name, false)
}

// Rmdir answers RMDIR.
func (r *raw) Rmdir(_ <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	r.f.msgs.count(opRmdir)
	return r.remove(h, name, true)
}

func (r *raw) remove(h *fuse.InHeader, name string, rmdir bool) fuse.Status {
	dir, s := r.dir(h.NodeId)
	if s != fuse.OK {
		return s
	}
	return r.f.toStatus(r.f.remove(dir, name, rmdir))
}

// Rename answers RENAME and RENAME2.
func (r *raw) Rename(_ <-chan struct{}, in *fuse.RenameIn, oldName, newName string) fuse.Status {
	r.f.msgs.count(opRename)
	from, s := r.dir(in.NodeId)
	if s != fuse.OK {
		return s
	}
	to, s := r.dir(in.Newdir)
	if s != fuse.OK {
		return s
	}
	return r.f.toStatus(r.f.rename(from, oldName, to, newName, in.Flags))
}

// Readlink answers READLINK.
func (r *raw) Readlink(_ <-chan struct{}, h *fuse.InHeader) ([]byte, fuse.Status) {
	r.f.msgs.count(opReadlink)
	n := r.f.nodes.get(h.NodeId)
	if n == nil {
		return nil, stale
	}
	target, err := r.f.readlink(n)
	return []byte(target), r.f.toStatus(err)
}

// Access answers ACCESS, which a mount with default_permissions does not send.
func (r *raw) Access(<-chan struct{}, *fuse.AccessIn) fuse.Status {
	r.f.msgs.count(opAccess)
	return fuse.ENOSYS
}

// StatFs answers STATFS.
func (r *raw) StatFs(_ <-chan struct{}, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	r.f.msgs.count(opStatfs)
	return r.f.toStatus(r.f.statFS(out))
}
