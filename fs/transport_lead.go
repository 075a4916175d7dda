package fs

import (
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/sys"
)

// device is what a crew reads requests from.
type device interface {
	// read reads one request into buf, and tells from which descriptor it
	// came. With wait it sleeps until there is one; without, EAGAIN says that
	// there is none now.
	read(buf []byte, wait bool) (n, from int, err error)
	// canPoll tells whether read without wait is possible.
	canPoll() bool
	// reply sends a reply to the descriptor that the request came from.
	reply(from int, b []byte) error
}

// crew serves the requests of one device by goroutines, of which one, the
// leader, waits for the next request. More than one waiting makes every request
// slow: the kernel wakes the one that has slept longest, which is the one that
// is coldest.
//
// The leader serves a request itself before it reads the next one, unless the
// request may block for long (slow): then it first hands the lead to another
// goroutine. So that nothing depends on slow being right, watch looks every
// watchEvery whether the leader is still in the same request, and then gives
// the lead away in its place. A leader can hence wait for anything, also for
// what only a later request releases: the requests after it are served at most
// two ticks later, by somebody else.
//
// The lead is a number, state: even while the leader waits for a request, odd
// while it is in one. The leader steps it by one when a request begins, and by
// compare-and-swap when it ends; watch steps an odd one by compare-and-swap. Who
// loses leads no longer. State never repeats, so exactly one goroutine leads.
//
// When reads keep finding a request at once, helpers drain the queue beside the
// leader; they never wait for a request.
type crew struct {
	dev  device
	slow func(req []byte) bool
	// serve answers one request, into reply; 0: there is no reply.
	serve func(req, reply []byte) int
	fail  func(err error) // told why reading ended, unless the mount is gone

	spin       spinner // the leader's
	streak     int     // requests found at once; the leader's
	maxHelpers int32
	helpers    atomic.Int32

	state    atomic.Uint64
	watching atomic.Bool
	wake     chan struct{} // one token: watch shall look again

	mu    sync.Mutex
	idle  []*worker // last in, first out: the warmest works next; guarded by mu
	ended bool      // guarded by mu
	end   chan struct{}
	wg    sync.WaitGroup
}

// role is what a worker is woken for.
type role int

const (
	roleLead role = iota
	roleHelp
)

const (
	// bufferSize holds the largest request or reply and its headers; the kernel
	// refuses to read into less (fs/fuse/dev.c:fuse_dev_do_read).
	bufferSize = maxRequest + 4096
	// maxIdle is how many workers are kept; each may hold two touched buffers.
	maxIdle = 4
	// watchEvery is the clock of watch, and watchIdle how many ticks without a
	// request it goes on for.
	watchEvery = time.Millisecond
	watchIdle  = 50
	// helpAfter requests in a row that were there at once call a helper.
	helpAfter = 32
)

// worker is one goroutine of a crew, with its buffers.
type worker struct {
	in, out []byte
	wake    chan role
}

func newCrew(dev device) *crew {
	return &crew{dev: dev, wake: make(chan struct{}, 1), end: make(chan struct{})}
}

// run serves until the device has ended and all requests are answered.
func (c *crew) run() {
	c.wg.Add(1)
	go c.watch()
	c.call(roleLead)
	c.wg.Wait()
}

// call lets another goroutine lead or help.
func (c *crew) call(r role) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return
	}
	var w *worker
	if last := len(c.idle) - 1; last >= 0 {
		w = c.idle[last]
		c.idle = c.idle[:last]
	} else {
		w = &worker{wake: make(chan role, 1)}
		c.wg.Add(1)
		go c.work(w)
	}
	w.wake <- r
}

// work is a worker's life.
func (c *crew) work(w *worker) {
	defer c.wg.Done()
	if err := w.allocate(); err != nil {
		c.finish(err)
		return
	}
	defer w.free()
	for r := range w.wake {
		if r == roleLead {
			c.lead(w)
		} else {
			c.help(w)
			c.helpers.Add(-1)
		}
		if !c.rest(w) {
			return
		}
	}
}

// rest puts a worker among the idle ones; it is not needed if there are enough.
func (c *crew) rest(w *worker) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended || len(c.idle) >= maxIdle {
		return false
	}
	c.idle = append(c.idle, w)
	return true
}

// finish ends the crew: those who work come to an end, the others go home.
func (c *crew) finish(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return
	}
	c.ended = true
	close(c.end)
	for _, w := range c.idle {
		close(w.wake)
	}
	c.idle = nil
	if !gone(err) {
		c.fail(err)
	}
}

// lead reads and serves requests until somebody else leads.
func (c *crew) lead(w *worker) {
	for {
		n, from, err := c.next(w.in)
		if err != nil {
			if again(err) {
				continue
			}
			c.finish(err)
			return
		}
		if c.slow(w.in[:n]) {
			c.call(roleLead)
			c.answer(w, n, from)
			return
		}
		turn := c.state.Add(1)
		if !c.watching.Load() {
			c.startWatch()
		}
		c.answer(w, n, from)
		if !c.state.CompareAndSwap(turn, turn+1) {
			return // watch has called another leader
		}
		c.spin.answered()
	}
}

// help serves what is there and never waits.
func (c *crew) help(w *worker) {
	for empty := 0; empty < 4; {
		n, from, err := c.dev.read(w.in, false)
		if err == nil {
			empty = 0
			c.answer(w, n, from)
			continue
		}
		if !again(err) {
			return // the leader sees it too
		}
		empty++
		sys.Yield()
	}
}

// again tells whether a failed read is to be repeated: interrupted, nothing
// there, or a request that its caller gave up meanwhile.
func again(err error) bool { return err == unix.EINTR || err == unix.EAGAIN || err == unix.ENOENT }

// answer serves a request and sends the reply. What goes wrong there is known
// to the kernel already: ENOENT says that nobody waits for it any more.
func (c *crew) answer(w *worker, n, from int) {
	if size := c.serve(w.in[:n], w.out); size > 0 {
		_ = c.dev.reply(from, w.out[:size])
	}
}

// next waits for the next request, spinning first where that pays.
func (c *crew) next(buf []byte) (n, from int, err error) {
	if !c.dev.canPoll() {
		return c.dev.read(buf, true)
	}
	n, from, err = c.dev.read(buf, false)
	if err != unix.EAGAIN {
		c.spin.hit()
		c.found()
		return n, from, err
	}
	c.streak = 0
	for round := c.spin.begin(); round.more(); {
		sys.Yield()
		n, from, err = c.dev.read(buf, false)
		if err != unix.EAGAIN {
			c.spin.hit()
			return n, from, err
		}
	}
	n, from, err = c.dev.read(buf, true)
	c.spin.slept()
	return n, from, err
}

// found counts requests that were there at once, and calls a helper when they
// keep coming.
func (c *crew) found() {
	c.streak++
	if c.streak < helpAfter {
		return
	}
	c.streak = 0
	if c.helpers.Load() < c.maxHelpers {
		c.helpers.Add(1)
		c.call(roleHelp)
	}
}

// startWatch wakes watch up, which sleeps while nothing is to be done.
func (c *crew) startWatch() {
	if c.watching.CompareAndSwap(false, true) {
		select {
		case c.wake <- struct{}{}:
		default: // it is about to look
		}
	}
}

// watch gives the lead away for a leader that has been in one request for a
// whole tick.
func (c *crew) watch() {
	defer c.wg.Done()
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		tick.Stop()
		select {
		case <-c.wake:
		case <-c.end:
			return
		}
		tick.Reset(watchEvery)
		last := c.state.Load()
		for idle := 0; idle < watchIdle; {
			select {
			case <-tick.C:
			case <-c.end:
				return
			}
			now := c.state.Load()
			switch {
			case now != last:
				idle = 0
			case now%2 == 0:
				idle++
			case c.state.CompareAndSwap(now, now+1):
				c.call(roleLead)
				idle = 0
			}
			last = now
		}
		c.watching.Store(false)
		// A request that began before that store was not announced.
		if c.state.Load() != last {
			c.startWatch()
		}
	}
}

func (w *worker) allocate() (err error) {
	if w.in, err = sys.MapBuffer(bufferSize); err != nil {
		return err
	}
	w.out, err = sys.MapBuffer(bufferSize)
	return err
}

func (w *worker) free() {
	sys.UnmapBuffer(w.in)
	sys.UnmapBuffer(w.out)
}
