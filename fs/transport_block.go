package fs

import (
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/sys"
)

const (
	// bigData is from how many bytes on data is copied by a goroutine of its
	// own.
	bigData = 128<<10 + 1
	// bigCopyUp is the size in bytes from which on the same goes for a file
	// that has to be copied up first.
	bigCopyUp = 64 << 10
)

// mayBlock guesses, from memory alone, whether a request may take long: it waits
// for the disk, copies much, or waits for a thaw. A wrong guess costs time, but
// for the last reason, which must not be missed: every request that goes through
// FS.gate is here (see uring).
func (f *FS) mayBlock(req []byte) bool {
	h := sys.View[fuse.InHeader](req)
	if h == nil {
		return false
	}
	switch h.Opcode {
	case codeFsync, codeFsyncdir, codeStatfs, codeFallocate, codeCopyFileRange, codeCopyRange64, codeLseek:
		return true
	case codeRead:
		in := sys.View[fuse.ReadIn](req)
		return in != nil && in.Size >= bigData
	case codeWrite:
		return f.freezing.Load() > 0 || len(req) >= bigData || f.bigCopyUp(h.NodeId)
	case codeSetattr:
		return f.freezing.Load() > 0 || f.bigCopyUp(h.NodeId)
	case codeOpen:
		in := sys.View[fuse.OpenIn](req)
		return in != nil && in.Flags&(unix.O_ACCMODE|unix.O_TRUNC) != 0 &&
			(f.freezing.Load() > 0 || f.bigCopyUp(h.NodeId))
	case codeLink:
		in := sys.View[fuse.LinkIn](req)
		return f.freezing.Load() > 0 || in != nil && f.bigCopyUp(in.Oldnodeid)
	case codeSymlink, codeMknod, codeMkdir, codeUnlink, codeRmdir, codeRename, codeRename2, codeCreate,
		codeTmpfile, codeSetxattr, codeRemovexattr, codeIoctl:
		return f.freezing.Load() > 0
	}
	return false
}

// bigCopyUp tells whether changing a node copies up much data.
func (f *FS) bigCopyUp(id uint64) bool {
	n := f.nodes.get(id)
	if n == nil || n.typ != unix.S_IFREG || n.upper.Load() == fullUpper {
		return false
	}
	return n.lowerData().Attr().Size >= bigCopyUp
}
