package fs

import (
	"encoding/binary"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// fakeDevice hands out numbers as requests and takes them as replies.
type fakeDevice struct {
	requests chan uint64
	replies  chan uint64
	poll     bool

	waiting, mostWaiting atomic.Int32
}

func newFakeDevice(poll bool) *fakeDevice {
	return &fakeDevice{requests: make(chan uint64, 1<<12), replies: make(chan uint64, 1<<12), poll: poll}
}

func (d *fakeDevice) canPoll() bool { return d.poll }

func (d *fakeDevice) read(buf []byte, wait bool) (n, from int, err error) {
	var id uint64
	var ok bool
	if wait {
		now := d.waiting.Add(1)
		for {
			most := d.mostWaiting.Load()
			if now <= most || d.mostWaiting.CompareAndSwap(most, now) {
				break
			}
		}
		id, ok = <-d.requests
		d.waiting.Add(-1)
	} else {
		select {
		case id, ok = <-d.requests:
		default:
			return 0, 0, unix.EAGAIN
		}
	}
	if !ok {
		return 0, 0, unix.ENODEV
	}
	binary.NativeEndian.PutUint64(buf, id)
	return 8, int(id % 7), nil
}

func (d *fakeDevice) reply(from int, b []byte) error {
	id := binary.NativeEndian.Uint64(b)
	if from != int(id%7) {
		panic("a reply went to another descriptor than its request came from")
	}
	d.replies <- id
	return nil
}

// echo answers a request with itself, after doing what handle says.
func echo(handle func(id uint64)) func(req, reply []byte) int {
	return func(req, reply []byte) int {
		handle(binary.NativeEndian.Uint64(req))
		return copy(reply, req)
	}
}

// startCrew runs a crew and returns a function that waits for its end.
func startCrew(t *testing.T, d *fakeDevice, slow func(id uint64) bool, handle func(id uint64)) (c *crew, wait func()) {
	t.Helper()
	c = newCrew(d)
	c.serve = echo(handle)
	c.slow = func(req []byte) bool { return slow(binary.NativeEndian.Uint64(req)) }
	c.fail = func(err error) { t.Errorf("the crew failed: %v", err) }
	c.maxHelpers = 2
	c.spin = newSpinner(SpinAuto, 2)
	done := make(chan struct{})
	go func() {
		c.run()
		close(done)
	}()
	return c, func() { <-done }
}

func never(uint64) bool { return false }

// A request that the guess takes for a fast one waits for a later request: watch
// must give the lead away, at any depth.
func TestCrewOutlivesRequestsThatWaitForLaterOnes(t *testing.T) {
	for _, poll := range []bool{false, true} {
		d := newFakeDevice(poll)
		const depth = 10
		var opened [depth + 1]chan struct{}
		for i := range opened {
			opened[i] = make(chan struct{})
		}
		_, wait := startCrew(t, d, never, func(id uint64) {
			close(opened[id])
			if id < depth {
				<-opened[id+1]
			}
		})
		for i := range uint64(depth + 1) {
			d.requests <- i
		}
		for range depth + 1 {
			<-d.replies
		}
		close(d.requests)
		wait()
		if most := d.mostWaiting.Load(); most > 1 {
			t.Errorf("%d goroutines waited for a request at once, want 1", most)
		}
	}
}

// While requests that block are under way, the others are answered, and the
// crew ends only when all are.
func TestCrewHandsOverBeforeSlowRequests(t *testing.T) {
	d := newFakeDevice(true)
	release := make(chan struct{})
	slow := func(id uint64) bool { return id >= 1000 }
	c, wait := startCrew(t, d, slow, func(id uint64) {
		if slow(id) {
			<-release
		}
	})
	const n = 20
	for i := range uint64(n) {
		d.requests <- 1000 + i
		d.requests <- i
		if got := <-d.replies; got != i {
			t.Fatalf("reply %d, want %d", got, i)
		}
	}
	if c.state.Load() == 0 {
		t.Error("no request was served by the leader itself")
	}
	close(d.requests)
	<-c.end
	close(release)
	wait()
	if len(d.replies) != n {
		t.Errorf("%d slow requests were answered, want %d", len(d.replies), n)
	}
	if len(c.idle) != 0 {
		t.Errorf("%d workers are left", len(c.idle))
	}
}

// Many clients, requests of all kinds: each is answered once, and never do two
// goroutines wait for a request.
func TestCrewAnswersEachRequestOnce(t *testing.T) {
	before := runtime.NumGoroutine()
	d := newFakeDevice(true)
	var lock sync.Mutex
	_, wait := startCrew(t, d, func(id uint64) bool { return id%50 == 0 }, func(id uint64) {
		if id%3 == 0 {
			lock.Lock()
			runtime.Gosched()
			lock.Unlock()
		}
	})
	const n = 50000
	go func() {
		for i := range uint64(n) {
			d.requests <- i
			if i%1000 == 0 {
				runtime.Gosched()
			}
		}
		close(d.requests)
	}()
	seen := make([]bool, n)
	for range n {
		id := <-d.replies
		if seen[id] {
			t.Fatalf("request %d was answered twice", id)
		}
		seen[id] = true
	}
	wait()
	if most := d.mostWaiting.Load(); most > 1 {
		t.Errorf("%d goroutines waited for a request at once, want 1", most)
	}
	for runtime.NumGoroutine() > before {
		runtime.Gosched() // the one that closed the channel, and run's
	}
}

// A queue that is never empty calls helpers, which leave when it is.
func TestCrewCallsHelpersUnderSaturation(t *testing.T) {
	d := newFakeDevice(true)
	const n = 3 * helpAfter
	helped := make(chan struct{})
	var once sync.Once
	var c *crew
	start := make(chan struct{})
	c, wait := startCrew(t, d, never, func(uint64) {
		<-start
		if c.helpers.Load() > 0 {
			once.Do(func() { close(helped) })
		}
	})
	for i := range uint64(n) {
		d.requests <- i
	}
	close(start)
	<-helped
	for range n {
		<-d.replies
	}
	for c.helpers.Load() > 0 {
		runtime.Gosched()
	}
	close(d.requests)
	wait()
}

// A mount that nobody uses costs nothing: after an unsuccessful round the
// spinner sleeps, and it comes back when requests follow each other.
func TestSpinnerFollowsTheClient(t *testing.T) {
	s := newSpinner(SpinAuto, 2)
	for range 2 * maxCredit {
		s.hit()
	}
	if r := s.begin(); !r.more() {
		t.Error("no spinning although every request came at once")
	}
	for range maxCredit {
		r := s.begin()
		if r.s != nil {
			r.begin = r.begin.Add(-autoSpin)
			r.more()
		}
	}
	if r := s.begin(); r.more() {
		t.Error("spinning although no request came in time")
	}
	for range maxCredit + -minCredit {
		s.answered()
		s.slept() // it came right after the reply
	}
	if r := s.begin(); !r.more() {
		t.Error("no spinning although requests follow each other again")
	}
	s = newSpinner(SpinAuto, 1)
	s.hit()
	if r := s.begin(); r.more() {
		t.Error("spinning on a single CPU, which the client needs")
	}
	s = newSpinner(SpinOff, 8)
	s.hit()
	if r := s.begin(); r.more() {
		t.Error("spinning with spin=off")
	}
}
