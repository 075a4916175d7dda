package sys

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// opener opens a file that holds its number, so that a descriptor tells what it
// is of.
type opener struct {
	dir   string
	mu    sync.Mutex
	calls int
}

func newOpener(t testing.TB, files int) *opener {
	t.Helper()
	o := &opener{dir: t.TempDir()}
	for i := range files {
		must(t, os.WriteFile(filepath.Join(o.dir, strconv.Itoa(i)), []byte(strconv.Itoa(i)), 0o644))
	}
	return o
}

func (o *opener) open(i int) func() (int, error) {
	return func() (int, error) {
		o.mu.Lock()
		o.calls++
		o.mu.Unlock()
		return unix.Open(filepath.Join(o.dir, strconv.Itoa(i)), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	}
}

func holds(t testing.TB, fd, i int) {
	t.Helper()
	buf := make([]byte, 16)
	n, err := unix.Pread(fd, buf, 0)
	if err != nil || string(buf[:n]) != strconv.Itoa(i) {
		t.Errorf("descriptor %d holds %q, %v, want %d", fd, buf[:max(n, 0)], err, i)
	}
}

func isOpen(fd int) bool {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	return err == nil
}

func TestFDCacheKeepsAndEvictsTheOldest(t *testing.T) {
	o := newOpener(t, 4)
	c := NewFDCache(2)
	var slots [4]Slot
	fds := make([]int, 4)
	use := func(i int) {
		t.Helper()
		fd, err := c.Acquire(&slots[i], o.open(i))
		must(t, err)
		holds(t, fd, i)
		fds[i] = fd
		c.Release(&slots[i])
	}
	use(0)
	use(1)
	use(0) // 1 is now the oldest
	if o.calls != 2 {
		t.Errorf("%d opens for two owners, want 2", o.calls)
	}
	use(2)
	if _, ok := c.Try(&slots[1]); ok {
		t.Error("the oldest descriptor was kept")
	}
	if _, ok := c.Try(&slots[0]); !ok {
		t.Error("a newer descriptor was closed")
	} else {
		c.Release(&slots[0])
	}
	if c.Open() != 2 {
		t.Errorf("%d open, want 2", c.Open())
	}
	c.Purge()
	if c.Open() != 0 || isOpen(fds[0]) || isOpen(fds[2]) {
		t.Errorf("%d open after Purge", c.Open())
	}
	use(0)
	c.Purge()
}

func TestFDCacheNeverClosesWhatIsInUse(t *testing.T) {
	o := newOpener(t, 4)
	c := NewFDCache(1)
	var slots [4]Slot
	var fds [4]int
	for i := range slots {
		fd, err := c.Acquire(&slots[i], o.open(i))
		must(t, err)
		fds[i] = fd
	}
	c.Purge()
	for i, fd := range fds {
		holds(t, fd, i)
	}
	if c.Open() != 4 {
		t.Errorf("%d open, want all 4 that are in use", c.Open())
	}
	// Two users: the first release changes nothing.
	if fd, ok := c.Try(&slots[0]); !ok || fd != fds[0] {
		t.Errorf("second use got %d, %v, want %d", fd, ok, fds[0])
	}
	c.Release(&slots[0])
	holds(t, fds[0], 0)
	for i := range slots {
		c.Release(&slots[i])
	}
	if c.Open() != 1 {
		t.Errorf("%d open after all were released, want 1", c.Open())
	}
	c.Purge()
}

func TestFDCacheDrop(t *testing.T) {
	o := newOpener(t, 1)
	c := NewFDCache(8)
	var s Slot
	c.Drop(&s) // holds nothing
	fd, err := c.Acquire(&s, o.open(0))
	must(t, err)
	c.Drop(&s)
	holds(t, fd, 0)
	if _, ok := c.Try(&s); ok {
		t.Error("a dropped slot gets new users")
	}
	c.Release(&s)
	if isOpen(fd) || c.Open() != 0 {
		t.Error("a dropped descriptor outlives its last user")
	}
	fd, err = c.Acquire(&s, o.open(0))
	must(t, err)
	holds(t, fd, 0)
	c.Release(&s)
	c.Drop(&s)
	if isOpen(fd) || c.Open() != 0 {
		t.Error("an idle descriptor was not dropped at once")
	}
}

func TestFDCacheOpenFails(t *testing.T) {
	c := NewFDCache(8)
	var s Slot
	if fd, err := c.Acquire(&s, func() (int, error) { return -1, unix.EIO }); err != unix.EIO || fd != -1 {
		t.Errorf("Acquire: %d, %v", fd, err)
	}
	if _, ok := c.Try(&s); ok || c.Open() != 0 {
		t.Error("a failed open left something")
	}
}

// TestFDCacheRace: many users of few slots, a tiny cache, drops and purges
// between them. A descriptor in use always holds what it should.
func TestFDCacheRace(t *testing.T) {
	const owners = 6
	o := newOpener(t, owners)
	c := NewFDCache(2)
	var slots [owners]Slot
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			r := rand.New(rand.NewPCG(uint64(w), 2))
			for range 400 {
				i := r.IntN(owners)
				switch r.IntN(20) {
				case 0:
					c.Purge()
					continue
				case 1:
					c.Drop(&slots[owners-1])
					continue
				}
				fd, err := c.Acquire(&slots[i], o.open(i))
				if err != nil {
					t.Errorf("acquire: %v", err)
					return
				}
				holds(t, fd, i)
				c.Release(&slots[i])
			}
		}()
	}
	wg.Wait()
	if c.Open() > 2 {
		t.Errorf("%d open and nobody uses them", c.Open())
	}
	c.Purge()
	if c.Open() != 0 {
		t.Errorf("%d open after Purge", c.Open())
	}
}
