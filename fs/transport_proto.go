package fs

import (
	"bytes"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/sys"
)

// Opcodes of requests (enum fuse_opcode of <linux/fuse.h>).
const (
	codeLookup        = 1
	codeForget        = 2
	codeGetattr       = 3
	codeSetattr       = 4
	codeSymlink       = 6
	codeMknod         = 8
	codeMkdir         = 9
	codeUnlink        = 10
	codeRmdir         = 11
	codeRename        = 12
	codeLink          = 13
	codeOpen          = 14
	codeRead          = 15
	codeWrite         = 16
	codeStatfs        = 17
	codeFsync         = 20
	codeSetxattr      = 21
	codeGetxattr      = 22
	codeRemovexattr   = 24
	codeFsyncdir      = 30
	codeCreate        = 35
	codeInterrupt     = 36
	codeIoctl         = 39
	codeBatchForget   = 42
	codeFallocate     = 43
	codeRename2       = 45
	codeLseek         = 46
	codeCopyFileRange = 47
	codeTmpfile       = 51
	codeStatx         = 52
	codeCopyRange64   = 53
)

// outHeader is the size of struct fuse_out_header, with which a reply begins.
const outHeader = 16

// protocol answers requests in their wire form. The frequent ones are decoded
// in place, without an allocation; go-fuse does the others.
type protocol struct {
	f     *FS
	raw   *raw
	other *fuse.ProtocolServer
	plain bool // leave all to go-fuse, which prints them

	agreed uint64 // what both sides can do (fuse.CAP_...); set by init
}

// newProtocol makes the protocol of a mount; caps are asked for besides those of
// fuseOptions.
func newProtocol(f *FS, m *MountOptions, caps uint64) *protocol {
	r := newRaw(f)
	opts := f.fuseOptions(m)
	opts.ExtraCapabilities |= caps
	return &protocol{f: f, raw: r, other: fuse.NewProtocolServer(r, opts), plain: m.Debug}
}

// serve answers one request, in one piece, and returns the size of the reply in
// out, or 0 when there is none to send. A handler that fails is answered EIO.
func (p *protocol) serve(req, out []byte) (size int) {
	h := sys.View[fuse.InHeader](req)
	if h == nil {
		p.f.log.Error("the kernel sent a request that is too short", "bytes", len(req))
		return 0
	}
	defer func() {
		if v := recover(); v != nil {
			size = finish(h, out, p.f.panicked(v), 0)
		}
	}()
	if h.Opcode == codeInterrupt {
		// No request waits for anything but the disk, so none is cut short.
		// ENOSYS makes the kernel stop asking (fs/fuse/dev.c:fuse_dev_do_write).
		return finish(h, out, fuse.ENOSYS, 0)
	}
	if !p.plain && h.TotalExtlen == 0 {
		if size, done := p.hot(h, req, out); done {
			return size
		}
	}
	return p.cold([][]byte{req}, [][]byte{out})
}

// cold leaves a request to go-fuse.
func (p *protocol) cold(req, out [][]byte) int {
	n, status := p.other.HandleRequest(req, out)
	if status == fuse.OK {
		return n
	}
	// It did not understand the request, which must be answered all the same.
	h := sys.View[fuse.InHeader](req[0])
	if h == nil || len(req[0]) == 0 {
		return 0
	}
	return finish(h, out[0], fuse.EIO, 0)
}

// finish writes the header of a reply, whose body of the given size is in place,
// and returns the size of the whole. Errors have no body.
func finish(h *fuse.InHeader, out []byte, s fuse.Status, body int) int {
	if s != fuse.OK {
		body = 0
	}
	o := sys.View[fuse.OutHeader](out)
	*o = fuse.OutHeader{Length: uint32(outHeader + body), Status: -int32(s), Unique: h.Unique}
	return outHeader + body
}

// bodyOf is the cleared body of a reply.
func bodyOf[T any](out []byte) *T {
	b := sys.View[T](out[outHeader:])
	var zero T
	*b = zero
	return b
}

// Sizes of bodies (<linux/fuse.h>).
const (
	entrySize    = 128
	attrSize     = 104
	writeSize    = 8
	getxattrSize = 8
	openSize     = 16
)

// nameAt is the name that begins at byte off of a request, which ends with a
// zero byte; ok is false without one.
func nameAt(req []byte, off int) (name string, ok bool) {
	if off > len(req) {
		return "", false
	}
	end := bytes.IndexByte(req[off:], 0)
	if end < 0 {
		return "", false
	}
	return string(req[off : off+end]), true
}

// Sizes of requests before a name or data.
const (
	inHeader    = 40
	createIn    = inHeader + 16
	mknodIn     = inHeader + 16
	mkdirIn     = inHeader + 8
	getxattrIn  = inHeader + 8
	writeIn     = inHeader + 40
	batchIn     = inHeader + 8
	forgetEntry = 16
)

// hot answers the frequent requests.
func (p *protocol) hot(h *fuse.InHeader, req, out []byte) (size int, done bool) {
	switch h.Opcode {
	case codeLookup:
		name, ok := nameAt(req, inHeader)
		if !ok {
			return 0, false
		}
		s := p.raw.Lookup(nil, h, name, bodyOf[fuse.EntryOut](out))
		return finish(h, out, s, entrySize), true
	case codeGetattr:
		in := sys.View[fuse.GetAttrIn](req)
		if in == nil {
			return 0, false
		}
		s := p.raw.GetAttr(nil, in, bodyOf[fuse.AttrOut](out))
		return finish(h, out, s, attrSize), true
	case codeSetattr:
		in := sys.View[fuse.SetAttrIn](req)
		if in == nil {
			return 0, false
		}
		s := p.raw.SetAttr(nil, in, bodyOf[fuse.AttrOut](out))
		return finish(h, out, s, attrSize), true
	case codeRead:
		return p.read(h, req, out)
	case codeWrite:
		in := sys.View[fuse.WriteIn](req)
		if in == nil || len(req) != writeIn+int(in.Size) {
			return 0, false
		}
		n, s := p.raw.Write(nil, in, req[writeIn:])
		bodyOf[fuse.WriteOut](out).Size = n
		return finish(h, out, s, writeSize), true
	case codeForget:
		if in := sys.View[fuse.ForgetIn](req); in != nil {
			p.raw.Forget(h.NodeId, in.Nlookup)
		}
		return 0, true
	case codeBatchForget:
		p.batchForget(req)
		return 0, true
	case codeGetxattr:
		return p.getxattr(h, req, out)
	}
	return p.hotNames(h, req, out)
}

// hotNames is hot for requests that make and remove names.
func (p *protocol) hotNames(h *fuse.InHeader, req, out []byte) (size int, done bool) {
	off := inHeader
	switch h.Opcode {
	case codeCreate:
		off = createIn
	case codeMknod:
		off = mknodIn
	case codeMkdir:
		off = mkdirIn
	case codeUnlink, codeRmdir:
	default:
		return 0, false
	}
	name, ok := nameAt(req, off)
	if !ok {
		return 0, false
	}
	switch h.Opcode {
	case codeCreate:
		s := p.raw.Create(nil, sys.View[fuse.CreateIn](req), name, bodyOf[fuse.CreateOut](out))
		return finish(h, out, s, entrySize+openSize), true
	case codeMknod:
		s := p.raw.Mknod(nil, sys.View[fuse.MknodIn](req), name, bodyOf[fuse.EntryOut](out))
		return finish(h, out, s, entrySize), true
	case codeMkdir:
		s := p.raw.Mkdir(nil, sys.View[fuse.MkdirIn](req), name, bodyOf[fuse.EntryOut](out))
		return finish(h, out, s, entrySize), true
	case codeUnlink:
		return finish(h, out, p.raw.Unlink(nil, h, name), 0), true
	}
	return finish(h, out, p.raw.Rmdir(nil, h, name), 0), true
}

func (p *protocol) read(h *fuse.InHeader, req, out []byte) (size int, done bool) {
	in := sys.View[fuse.ReadIn](req)
	if in == nil || int(in.Size) > len(out)-outHeader {
		return 0, false
	}
	buf := out[outHeader : outHeader+int(in.Size)]
	res, s := p.raw.Read(nil, in, buf)
	if s != fuse.OK {
		return finish(h, out, s, 0), true
	}
	data, s := res.Bytes(buf)
	if len(data) > 0 && &data[0] != &buf[0] {
		copy(buf, data)
	}
	res.Done()
	return finish(h, out, s, min(len(data), len(buf))), true
}

func (p *protocol) batchForget(req []byte) {
	in := sys.View[fuse.ForgetIn](req) // the count stands where FORGET has its own
	if in == nil {
		return
	}
	type one struct{ id, count uint64 } // struct fuse_forget_one
	all := sys.ViewSlice[one](req[batchIn:])
	for _, e := range all[:min(len(all), int(uint32(in.Nlookup)))] {
		p.raw.Forget(e.id, e.count)
	}
}

// getxattr answers GETXATTR, which asks for a size alone when it has no room.
func (p *protocol) getxattr(h *fuse.InHeader, req, out []byte) (size int, done bool) {
	in := sys.View[fuse.GetXAttrIn](req)
	name, ok := nameAt(req, getxattrIn)
	if !ok || in == nil || int(in.Size) > len(out)-outHeader {
		return 0, false
	}
	n, s := p.raw.GetXAttr(nil, h, name, out[outHeader:outHeader+int(in.Size)])
	if in.Size > 0 {
		return finish(h, out, s, int(min(n, in.Size))), true
	}
	if s == fuse.Status(unix.ERANGE) {
		s = fuse.OK
	}
	bodyOf[fuse.GetXAttrOut](out).Size = n
	return finish(h, out, s, getxattrSize), true
}
