package fs

import (
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/stack"
	"github.com/unionfs-go/unionfs/internal/sys"
)

// forever is a cache timeout in seconds: the mount owns its layers, so what the
// kernel knows stays true until it changes it itself.
const forever = 1 << 40

// attrOf reads a node's attributes as the union shows them.
//
// Preconditions: f.treeMu is held; n.mu is not.
func (f *FS) attrOf(n *node) (stack.Attr, error) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return f.attrLocked(n)
}

// attrLocked is attrOf for a caller that holds n.mu.
//
// Preconditions: f.treeMu and n.mu are held.
func (f *FS) attrLocked(n *node) (a stack.Attr, err error) {
	if n.isUpper() {
		err = f.at(n, func(p place) error {
			var st unix.Statx_t
			if err := sys.Statx(p.fd, p.name, &st); err != nil {
				return err
			}
			a = stack.AttrOf(&st)
			return nil
		})
		if err != nil {
			return a, err
		}
		if n.upper.Load() == metaUpper && len(n.lower) > 0 {
			// The blocks are those of the data (ovl_getattr).
			a.Blocks = n.lower[len(n.lower)-1].Object.Attr().Blocks
		}
	} else {
		a = n.lower[0].Object.Attr()
	}
	f.unionAttr(n, &a)
	f.own.show(n.over.Load(), &a)
	return a, nil
}

// unionAttr puts what belongs to the union in the place of what the layer says.
//
// Preconditions: n.mu is held, or n is not yet shared.
func (f *FS) unionAttr(n *node, a *stack.Attr) {
	a.Ino = n.ino.Load()
	switch {
	case n.dir != nil && n.merges():
		// Counting the subdirectories of a merge is not worth it; 1 tells find
		// and others not to rely on the count (ovl_getattr).
		a.Nlink = 1
	case n.hard != nil:
		a.Nlink = uint32(max(n.hard.nlink, 0))
	case len(n.links) == 0 && n != f.root:
		if n.orphan == 0 {
			a.Nlink = 0
		}
	}
}

// fillAttr is the wire form of attributes.
func fillAttr(out *fuse.Attr, a *stack.Attr) {
	*out = fuse.Attr{
		Ino:       a.Ino,
		Size:      uint64(a.Size),
		Blocks:    a.Blocks,
		Atime:     uint64(a.Atime.Sec),
		Mtime:     uint64(a.Mtime.Sec),
		Ctime:     uint64(a.Ctime.Sec),
		Atimensec: a.Atime.Nsec,
		Mtimensec: a.Mtime.Nsec,
		Ctimensec: a.Ctime.Nsec,
		Mode:      a.Mode,
		Nlink:     a.Nlink,
		Owner:     fuse.Owner{Uid: a.UID, Gid: a.GID},
		Rdev:      wireDev(a.Rdev),
		Blksize:   a.Blksize,
	}
}

// wireDev is the 32-bit form of a device number that FUSE carries
// (new_encode_dev of <linux/kdev_t.h>).
func wireDev(dev uint64) uint32 {
	major, minor := unix.Major(dev), unix.Minor(dev)
	return minor&0xff | major<<8 | (minor&^0xff)<<12
}

// realDev is the inverse of wireDev.
func realDev(dev uint32) uint64 {
	return unix.Mkdev((dev&0xfff00)>>8, dev&0xff|(dev>>12)&0xfff00)
}

// fillEntry answers a request that made or found a node.
func fillEntry(out *fuse.EntryOut, n *node, a *stack.Attr) {
	out.NodeId = n.id
	out.Generation = 0
	out.EntryValid = forever
	out.AttrValid = forever
	out.EntryValidNsec, out.AttrValidNsec = 0, 0
	fillAttr(&out.Attr, a)
}

// getAttr is GETATTR.
func (f *FS) getAttr(n *node) (stack.Attr, error) {
	f.treeMu.RLock()
	defer f.treeMu.RUnlock()
	return f.attrOf(n)
}

// fillStatx is the wire form for STATX, which the kernel sends when the birth
// time is asked for.
func fillStatx(out *fuse.StatxOut, a *stack.Attr) {
	out.AttrValid = forever
	sx := &out.Statx
	sx.Mask = unix.STATX_BASIC_STATS
	if a.Btime != (stack.Time{}) {
		sx.Mask |= unix.STATX_BTIME
	}
	sx.Blksize = a.Blksize
	sx.Nlink = a.Nlink
	sx.Uid, sx.Gid = a.UID, a.GID
	sx.Mode = uint16(a.Mode)
	sx.Ino = a.Ino
	sx.Size = uint64(a.Size)
	sx.Blocks = a.Blocks
	sx.Atime = sxTime(a.Atime)
	sx.Btime = sxTime(a.Btime)
	sx.Ctime = sxTime(a.Ctime)
	sx.Mtime = sxTime(a.Mtime)
	sx.RdevMajor, sx.RdevMinor = unix.Major(a.Rdev), unix.Minor(a.Rdev)
}

func sxTime(t stack.Time) fuse.SxTime {
	return fuse.SxTime{Sec: uint64(t.Sec), Nsec: t.Nsec}
}
