package fs

import (
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// notifier tells the kernel that cached attributes are out of date, from a
// goroutine of its own: no lock may be held while notifying, and no request may
// wait for it.
type notifier struct {
	mu    sync.Mutex
	queue []notice // guarded by mu
	busy  bool     // a goroutine is sending; guarded by mu

	transport atomic.Pointer[transport] // nil while not mounted
}

// start lets notifications go out through t.
func (t *notifier) start(via transport) { t.transport.Store(&via) }

// stop ends that, when the mount is gone.
func (t *notifier) stop() { t.transport.Store(nil) }

// quiesce waits for requests that may hinder a freeze.
func (t *notifier) quiesce() {
	if via := t.transport.Load(); via != nil {
		(*via).quiesce()
	}
}

// describe tells what carries the requests, and why; both empty while not
// mounted.
func (t *notifier) describe() (kind Transport, why string) {
	if via := t.transport.Load(); via != nil {
		return (*via).kind()
	}
	return "", ""
}

// notice is one thing that the kernel has to drop.
type notice struct {
	id   uint64 // node
	data bool   // its data and attributes, not its attributes only
}

// staleAttr says that the kernel's copy of a node's attributes is wrong, for a
// reason that the kernel cannot know.
func (t *notifier) staleAttr(id uint64) { t.push(notice{id: id}) }

// staleData says that the kernel's copy of a file's data is wrong.
func (t *notifier) staleData(id uint64) { t.push(notice{id, true}) }

func (t *notifier) push(n notice) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.queue = append(t.queue, n)
	if !t.busy {
		t.busy = true
		go t.send()
	}
}

// flushData makes the kernel write back what it holds of a file's data, and
// returns when it has. WRITE requests come while it waits, so the caller must
// hold no lock and another reader must be there to answer them.
func (t *notifier) flushData(id uint64) error {
	via := t.transport.Load()
	if via == nil {
		return nil
	}
	err := (*via).invalInode(id, 0, 0)
	if err == unix.ENOENT {
		return nil
	}
	return err
}

func (t *notifier) send() {
	for {
		t.mu.Lock()
		q := t.queue
		t.queue = nil
		if len(q) == 0 {
			t.busy = false
			t.mu.Unlock()
			return
		}
		t.mu.Unlock()
		via := t.transport.Load()
		if via == nil {
			continue
		}
		for _, n := range q {
			// A negative offset invalidates attributes only; a node that the
			// kernel no longer knows is no error.
			off := int64(-1)
			if n.data {
				off = 0
			}
			_ = (*via).invalInode(n.id, off, 0)
		}
	}
}
