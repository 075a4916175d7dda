package fs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/sys"
)

// uring is the transport of FUSE over io_uring (Linux 6.14): the kernel has a
// queue for each CPU, and one thread of ours, bound to that CPU, serves it. A
// request hence wakes no other CPU. FORGET and notifications still go over
// /dev/fuse, which the transport dev below serves.
//
// A queue has no watch, as dev has: what its thread does not answer, nobody
// does. So a thread must never wait for what only a later request releases. It
// gives away every request that may wait for a thaw: mayBlock says which those
// are, and Freeze waits (quiesce) until no thread is in one that began before.
// All other waiting is for locks whose holders wait for nothing but the disk.
type uring struct {
	*dev
	queues []*uringQueue
	done   sync.WaitGroup
}

// uringQueue is the queue of one CPU. All but what is named otherwise belongs to
// its thread.
type uringQueue struct {
	u       *uring
	cpu     int
	ring    *sys.Ring
	event   int    // an eventfd: look at done and stop; immutable
	token   []byte // what is read from it
	entries []*uringEntry
	free    int // entries that are with the kernel

	busy atomic.Uint64  // odd while the thread is in a request
	slow sync.WaitGroup // requests given away
	stop atomic.Bool

	mu      sync.Mutex
	replied []*uringEntry // given away and answered; guarded by mu
}

// uringEntry is the place of one request and its reply.
type uringEntry struct {
	index uint64
	mem   []byte // see the offsets below
	out   []byte // the reply to a request with a payload
}

// Layout of uringEntry.mem. The header is struct fuse_uring_req_header.
const (
	entryVec     = 512
	entryRequest = 1024 // a request without payload, in one piece
	entryPayload = 4096 // what comes before is where a request is put together
	entryMem     = entryPayload + maxRequest

	uringHeader   = 288
	headerOp      = 128 // the first argument
	headerCommit  = 264
	headerPayload = 272

	// uringDepth is how many entries a queue has at first. More are made when
	// all but one are with requests that were given away.
	uringDepth = 4
	uringRing  = 64
	eventUser  = ^uint64(0)
)

// uringEnabled tells whether the kernel offers FUSE over io_uring.
func uringEnabled() bool {
	b, err := os.ReadFile("/sys/module/fuse/parameters/enable_uring")
	return err == nil && strings.TrimSpace(string(b)) == "Y"
}

// possibleCPUs is how many queues the kernel wants (num_possible_cpus).
func possibleCPUs() (int, error) {
	b, err := os.ReadFile("/sys/devices/system/cpu/possible")
	if err != nil {
		return 0, err
	}
	text := strings.TrimSpace(string(b))
	last := text[strings.LastIndexAny(text, "-,")+1:]
	n, err := strconv.Atoi(last)
	if err != nil {
		return 0, fmt.Errorf("read the possible CPUs %q: %w", text, err)
	}
	return n + 1, nil
}

func (f *FS) newUring(fd int, m *MountOptions, why string) (transport, error) {
	cpus, err := possibleCPUs()
	if err != nil {
		_ = sys.Close(fd)
		return nil, err
	}
	noSpin := *m
	noSpin.Spin = SpinOff // only FORGET comes this way
	d, err := f.openDev(fd, &noSpin, fuse.CAP_OVER_IO_URING, why)
	if err != nil {
		return nil, err
	}
	if d.proto.agreed&fuse.CAP_OVER_IO_URING == 0 {
		d.fuse.close()
		return nil, fmt.Errorf("the kernel does not offer FUSE over io_uring; as root: echo Y > /sys/module/fuse/parameters/enable_uring: %w", unix.EOPNOTSUPP)
	}
	u := &uring{dev: d}
	ready := make(chan error, cpus)
	for cpu := range cpus {
		event, eerr := unix.Eventfd(0, unix.EFD_CLOEXEC)
		if err = eerr; err != nil {
			break
		}
		q := &uringQueue{u: u, cpu: cpu, event: event}
		u.queues = append(u.queues, q)
		u.done.Add(1)
		go q.run(ready)
	}
	for range u.queues {
		err = errors.Join(err, <-ready)
	}
	if err != nil {
		u.stop()
		d.fuse.close()
		return nil, fmt.Errorf("set up FUSE over io_uring: %w", err)
	}
	return u, nil
}

func (u *uring) serve() {
	u.crew.run() // ends when the mount is gone
	u.stop()
	u.fuse.close()
}

// stop ends the threads when all requests are answered.
func (u *uring) stop() {
	for _, q := range u.queues {
		q.slow.Wait()
		q.stop.Store(true)
		q.wake()
	}
	u.done.Wait()
	for _, q := range u.queues {
		_ = sys.Close(q.event) // an eventfd
	}
}

func (u *uring) kind() (Transport, string) { return TransportUring, u.why }

// quiesce returns when no thread is in a request that began before the call.
func (u *uring) quiesce() {
	for _, q := range u.queues {
		for was := q.busy.Load(); was%2 == 1 && q.busy.Load() == was; {
			time.Sleep(50 * time.Microsecond)
		}
	}
}

// wake makes the thread look at what others have left for it.
func (q *uringQueue) wake() {
	one := binary.NativeEndian.AppendUint64(nil, 1)
	_, _ = sys.Write(q.event, one) // the counter cannot overflow
}

// run is the life of a queue's thread, which ends with it: it was bound to a CPU.
func (q *uringQueue) run(ready chan<- error) {
	defer q.u.done.Done()
	runtime.LockOSThread()
	var set unix.CPUSet
	set.Set(q.cpu)
	_ = unix.SchedSetaffinity(0, &set) // fails for a CPU that is offline or not allowed
	err := q.open()
	ready <- err
	if err == nil {
		q.loop()
	}
	q.close()
}

// open makes the ring and registers the first entries.
func (q *uringQueue) open() (err error) {
	if q.ring, err = sys.NewRing(uringRing); err != nil {
		return fmt.Errorf("make an io_uring: %w", err)
	}
	if q.token, err = sys.MapBuffer(os.Getpagesize()); err != nil {
		return err
	}
	if err := q.ring.Read(q.event, q.token[:8], eventUser); err != nil {
		return err
	}
	for range uringDepth {
		if err := q.addEntry(); err != nil {
			return err
		}
	}
	if err := q.submit(0); err != nil {
		return fmt.Errorf("register with the kernel: %w", err)
	}
	return nil
}

func (q *uringQueue) close() {
	if q.ring != nil {
		q.ring.Close()
	}
	for _, e := range q.entries {
		e.free()
	}
	if q.token != nil {
		sys.UnmapBuffer(q.token)
	}
}

// addEntry gives the kernel one more place for a request.
func (q *uringQueue) addEntry() (err error) {
	e := &uringEntry{index: uint64(len(q.entries))}
	if e.mem, err = sys.MapBuffer(entryMem); err != nil {
		return err
	}
	q.entries = append(q.entries, e)
	if e.out, err = sys.MapBuffer(bufferSize); err != nil {
		return err
	}
	vec := e.mem[entryVec:entryRequest]
	sys.FuseVec(vec, e.mem[:uringHeader], e.mem[entryPayload:])
	if err := q.ring.FuseRegister(q.u.fuse.fd, uint16(q.cpu), vec, e.index); err != nil {
		return err
	}
	q.free++
	return nil
}

func (e *uringEntry) free() {
	sys.UnmapBuffer(e.mem)
	if e.out != nil {
		sys.UnmapBuffer(e.out)
	}
}

// submit sends what is queued, sleeps until something has happened (wait 1) or
// not (0), and reports a refused command.
func (q *uringQueue) submit(wait uint32) error {
	err := q.ring.Submit(wait)
	if err == unix.EINTR || err == unix.EAGAIN || err == unix.EBUSY {
		return nil
	}
	return err
}

// loop serves until stop.
func (q *uringQueue) loop() {
	for !q.stop.Load() {
		if err := q.submit(1); err != nil {
			q.u.f.log.Error("cannot serve the queue of a CPU any more", "cpu", q.cpu, "err", err)
			return
		}
		for {
			user, res, ok := q.ring.Completion()
			if !ok {
				break
			}
			q.completed(user, res)
		}
	}
}

// completed handles one completion: a request, or word from another goroutine.
func (q *uringQueue) completed(user uint64, res int32) {
	if user == eventUser {
		_ = q.ring.Read(q.event, q.token[:8], eventUser) // the next submit reports
		q.mu.Lock()
		list := q.replied
		q.replied = nil
		q.mu.Unlock()
		for _, e := range list {
			q.commit(e)
		}
		return
	}
	e := q.entries[user]
	q.free--
	if res < 0 {
		// The entry is gone, with the mount (ENOTCONN) or because the kernel
		// refused the command.
		if err := unix.Errno(-res); err != unix.ENOTCONN && err != unix.ECANCELED && err != unix.ENODEV {
			q.u.f.log.Error("the kernel refuses an entry of the queue of a CPU", "cpu", q.cpu, "err", err)
		}
		return
	}
	q.take(e)
}

// take serves the request in an entry, or gives it away.
func (q *uringQueue) take(e *uringEntry) {
	req, out := e.request()
	q.busy.Add(1)
	if q.u.f.mayBlock(req) {
		q.busy.Add(1)
		q.slow.Add(1)
		go func() {
			defer q.slow.Done()
			e.answer(q.u.proto.serve(req, out), out)
			q.mu.Lock()
			q.replied = append(q.replied, e)
			first := len(q.replied) == 1
			q.mu.Unlock()
			if first {
				q.wake()
			}
		}()
		if q.free < 2 {
			if err := q.addEntry(); err != nil {
				q.u.f.log.Error("cannot make room for requests", "cpu", q.cpu, "err", err)
			}
		}
		return
	}
	size := q.u.proto.serve(req, out)
	q.busy.Add(1)
	e.answer(size, out)
	q.commit(e)
}

// commit sends the reply in an entry and frees it for the next request.
func (q *uringQueue) commit(e *uringEntry) {
	q.free++
	id := binary.NativeEndian.Uint64(e.mem[headerCommit:])
	_ = q.ring.FuseCommit(q.u.fuse.fd, uint16(q.cpu), id, e.index) // the next submit reports
}

// request is the request in an entry, put together, and where its reply goes. A
// reply without a payload before it is made in place.
func (e *uringEntry) request() (req, out []byte) {
	length := int(binary.NativeEndian.Uint32(e.mem))
	payload := min(int(binary.NativeEndian.Uint32(e.mem[headerPayload:])), maxRequest)
	op := min(max(length-inHeader-payload, 0), headerOp)
	start, out := entryRequest, e.mem[entryPayload-outHeader:]
	if payload > 0 {
		start, out = entryPayload-inHeader-op, e.out
	}
	copy(e.mem[start:], e.mem[:inHeader])
	copy(e.mem[start+inHeader:], e.mem[headerOp:headerOp+op])
	return e.mem[start : start+inHeader+op+payload], out
}

// answer puts a reply of size bytes, which lies in out, where the kernel takes
// it from.
func (e *uringEntry) answer(size int, out []byte) {
	if size == 0 {
		h := sys.View[fuse.InHeader](e.mem)
		size = finish(h, out, fuse.EIO, 0)
	}
	copy(e.mem, out[:outHeader])
	binary.NativeEndian.PutUint32(e.mem[headerPayload:], uint32(size-outHeader))
	if &out[0] == &e.out[0] {
		copy(e.mem[entryPayload:], out[outHeader:size])
	}
}
