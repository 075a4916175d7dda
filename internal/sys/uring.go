package sys

import (
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Constants of <linux/io_uring.h>.
const (
	uringSetupSQE128       = 1 << 10
	uringSetupSingleIssuer = 1 << 12
	uringSetupDeferTaskrun = 1 << 13

	uringOffSQ   = 0
	uringOffCQ   = 0x8000000
	uringOffSQEs = 0x10000000

	uringEnterGetEvents = 1

	uringOpRead = 22
	uringOpCmd  = 46

	sqeSize = 128
	cqeSize = 16
)

// uringParams is struct io_uring_params.
type uringParams struct {
	sqEntries, cqEntries, flags, threadCPU, threadIdle, features, wqFD uint32
	_                                                                  [3]uint32
	sq                                                                 sqOffsets
	cq                                                                 cqOffsets
}

type sqOffsets struct {
	head, tail, mask, entries, flags, dropped, array, _ uint32
	_                                                   uint64
}

type cqOffsets struct {
	head, tail, mask, entries, overflow, cqes, flags, _ uint32
	_                                                   uint64
}

// sqe is struct io_uring_sqe with IORING_SETUP_SQE128.
type sqe struct {
	opcode, flags uint8
	ioprio        uint16
	fd            int32
	off           uint64 // of a command: its number
	addr          uint64
	len           uint32
	opFlags       uint32
	user          uint64
	bufIndex      uint16
	personality   uint16
	file          uint32
	cmd           [80]byte
}

// Ring is an io_uring. It belongs to the thread that made it: no other may use
// it, but for Close after that thread has stopped.
type Ring struct {
	fd                   int
	sqMem, cqMem, sqeMem []byte
	sqHead, sqTail       *uint32
	cqHead, cqTail       *uint32
	sqMask, cqMask       uint32
	queued               uint32 // filled in and not yet submitted
	cqes                 int    // offset in cqMem
}

// NewRing makes a ring with room for at least entries submissions, which is
// rounded up to a power of two. The calling goroutine must be locked to its
// thread. ENOSYS or EPERM: the kernel, or a sandbox, has no io_uring.
func NewRing(entries uint32) (*Ring, error) {
	p := uringParams{flags: uringSetupSQE128 | uringSetupSingleIssuer | uringSetupDeferTaskrun}
	fd, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, uintptr(entries), uintptr(unsafe.Pointer(&p)), 0)
	if errno != 0 {
		return nil, errno
	}
	r := &Ring{fd: int(fd)}
	unix.CloseOnExec(r.fd) // the kernel has set it already
	for _, m := range []struct {
		to   *[]byte
		off  int64
		size int
	}{
		{&r.sqMem, uringOffSQ, int(p.sq.array + p.sqEntries*4)},
		{&r.cqMem, uringOffCQ, int(p.cq.cqes + p.cqEntries*cqeSize)},
		{&r.sqeMem, uringOffSQEs, int(p.sqEntries * sqeSize)},
	} {
		b, err := unix.Mmap(r.fd, m.off, m.size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
		if err != nil {
			r.Close()
			return nil, err
		}
		*m.to = b
	}
	r.sqHead, r.sqTail = View[uint32](r.sqMem[p.sq.head:]), View[uint32](r.sqMem[p.sq.tail:])
	r.cqHead, r.cqTail = View[uint32](r.cqMem[p.cq.head:]), View[uint32](r.cqMem[p.cq.tail:])
	r.sqMask, r.cqMask = p.sqEntries-1, p.cqEntries-1
	r.cqes = int(p.cq.cqes)
	for i := range p.sqEntries {
		*View[uint32](r.sqMem[p.sq.array+4*i:]) = i
	}
	return r, nil
}

// Close gives the ring back. What is still under way is cancelled.
func (r *Ring) Close() {
	_ = Close(r.fd) // a ring
	for _, b := range [][]byte{r.sqMem, r.cqMem, r.sqeMem} {
		if b != nil {
			UnmapBuffer(b)
		}
	}
}

// next is the next free submission, cleared. It submits those before when there
// is none.
func (r *Ring) next() (*sqe, error) {
	tail := *r.sqTail
	for tail-atomic.LoadUint32(r.sqHead) > r.sqMask {
		if err := r.Submit(0); err != nil && err != unix.EINTR {
			return nil, err
		}
	}
	e := View[sqe](r.sqeMem[(tail&r.sqMask)*sqeSize:])
	*e = sqe{}
	return e, nil
}

// push makes the submission that next returned visible to the kernel.
func (r *Ring) push() {
	atomic.StoreUint32(r.sqTail, *r.sqTail+1)
	r.queued++
}

// Read queues a read of fd into p, which must lie outside of the Go heap (see
// MapBuffer). user comes back with the completion.
func (r *Ring) Read(fd int, p []byte, user uint64) error {
	e, err := r.next()
	if err != nil {
		return err
	}
	e.opcode, e.fd, e.off, e.user = uringOpRead, int32(fd), ^uint64(0), user
	e.addr, e.len = uint64(uintptr(unsafe.Pointer(unsafe.SliceData(p)))), uint32(len(p))
	r.push()
	return nil
}

// FUSE commands (enum fuse_uring_cmd of <linux/fuse.h>).
const (
	fuseUringRegister = 1
	fuseUringCommit   = 2
)

// fuseUringCmd is struct fuse_uring_cmd_req.
type fuseUringCmd struct {
	flags, commit uint64
	qid           uint16
	_             [6]uint8
}

// FuseRegister queues the registration of one entry, with which the kernel may
// send a request, at the queue of the CPU qid of the FUSE connection fd. vec are
// its two buffers, see FuseVec.
func (r *Ring) FuseRegister(fd int, qid uint16, vec []byte, user uint64) error {
	return r.fuse(fd, fuseUringRegister, fuseUringCmd{qid: qid}, vec, user)
}

// FuseCommit queues the reply that lies in the buffers of an entry; commit is
// what came with the request. The entry is then free for the next request.
func (r *Ring) FuseCommit(fd int, qid uint16, commit, user uint64) error {
	return r.fuse(fd, fuseUringCommit, fuseUringCmd{qid: qid, commit: commit}, nil, user)
}

func (r *Ring) fuse(fd int, op uint64, cmd fuseUringCmd, vec []byte, user uint64) error {
	e, err := r.next()
	if err != nil {
		return err
	}
	e.opcode, e.fd, e.off, e.user = uringOpCmd, int32(fd), op, user
	if vec != nil {
		e.addr, e.len = uint64(uintptr(unsafe.Pointer(unsafe.SliceData(vec)))), 2
	}
	*View[fuseUringCmd](e.cmd[:]) = cmd
	r.push()
	return nil
}

// FuseVec writes the two buffers of an entry into vec, which must lie outside of
// the Go heap, as they do.
func FuseVec(vec, header, payload []byte) {
	v := ViewSlice[unix.Iovec](vec)
	v[0].Base, v[1].Base = unsafe.SliceData(header), unsafe.SliceData(payload)
	v[0].SetLen(len(header))
	v[1].SetLen(len(payload))
}

// Submit hands the queued submissions to the kernel and sleeps until there are
// wait completions. EINTR: it was interrupted.
func (r *Ring) Submit(wait uint32) error {
	n, _, errno := unix.Syscall6(unix.SYS_IO_URING_ENTER, uintptr(r.fd), uintptr(r.queued), uintptr(wait), uringEnterGetEvents, 0, 0)
	if errno != 0 {
		return errno
	}
	r.queued -= uint32(n)
	return nil
}

// Completion takes the next completion; ok is false when there is none.
func (r *Ring) Completion() (user uint64, res int32, ok bool) {
	head := *r.cqHead
	if head == atomic.LoadUint32(r.cqTail) {
		return 0, 0, false
	}
	type cqe struct {
		user  uint64
		res   int32
		flags uint32
	}
	c := *View[cqe](r.cqMem[r.cqes+int(head&r.cqMask)*cqeSize:])
	atomic.StoreUint32(r.cqHead, head+1)
	return c.user, c.res, true
}
