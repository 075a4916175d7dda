package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// minor is a device number that no other test and no real mount uses.
const major, minor = 4095, 7

// fixture starts a server in a directory of its own and returns its state.
type fixture struct {
	server       *Server
	dir          *Dir
	frozen       atomic.Int32 // freezes minus thaws
	thawed       chan struct{}
	syncErr      error
	stopped      atomic.Bool
	finishedOnce bool
}

func (f *fixture) finish(err error) {
	if !f.finishedOnce {
		f.finishedOnce = true
		f.server.Finish(err)
	}
}

func start(t *testing.T) *fixture {
	t.Helper()
	useDir(t)
	dir, err := OpenDir()
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{dir: dir, thawed: make(chan struct{}, 16)}
	f.server, err = dir.Listen(major, minor, Handlers{
		Status: func() (Status, error) { return Status{Mountpoint: "/mnt", PID: os.Getpid(), IO: "cached"}, nil },
		Freeze: func(context.Context) error { f.frozen.Add(1); return nil },
		Thaw:   func() { f.frozen.Add(-1); f.thawed <- struct{}{} },
		Sync:   func() error { return f.syncErr },
		Stop:   func() error { f.stopped.Store(true); return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		f.finish(nil)
		_ = dir.Close()
	})
	return f
}

// useDir makes the runtime directory a private one, also for root, who has
// /run/unionfs: there the device number of the tests is harmless.
func useDir(t *testing.T) {
	t.Helper()
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
}

func dial(t *testing.T) *Client {
	t.Helper()
	c, err := Dial(major, minor, os.Geteuid())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestOperations(t *testing.T) {
	f := start(t)
	c := dial(t)
	ctx := t.Context()
	st, err := c.Status(ctx)
	if err != nil || st.Mountpoint != "/mnt" || st.IO != "cached" {
		t.Errorf("status: %+v, %v", st, err)
	}
	if c.PID() != os.Getpid() {
		t.Errorf("pid %d, want %d", c.PID(), os.Getpid())
	}
	if err := c.Sync(ctx); err != nil {
		t.Error(err)
	}
	f.syncErr = fmt.Errorf("flush: %w", syscall.ENOSPC)
	if err := c.Sync(ctx); !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "flush") {
		t.Errorf("sync error: %v", err)
	}
	if err := c.Stop(ctx); err != nil || !f.stopped.Load() {
		t.Errorf("stop: %v", err)
	}
	if _, err := c.call(ctx, Request{Op: "dance"}); !errors.Is(err, syscall.EOPNOTSUPP) {
		t.Errorf("unknown operation: %v", err)
	}
}

func TestFreezeEndsWithThaw(t *testing.T) {
	f := start(t)
	c := dial(t)
	if err := c.Freeze(t.Context(), time.Minute); err != nil || f.frozen.Load() != 1 {
		t.Fatalf("freeze: %v, %d", err, f.frozen.Load())
	}
	if err := c.Freeze(t.Context(), time.Minute); err == nil {
		t.Error("a second freeze of the same connection was granted")
	}
	if err := c.Thaw(t.Context()); err != nil || f.frozen.Load() != 0 {
		t.Errorf("thaw: %v, %d", err, f.frozen.Load())
	}
	if err := c.Thaw(t.Context()); err == nil {
		t.Error("thawed what was not frozen")
	}
}

func TestFreezeEndsWithTheConnection(t *testing.T) {
	f := start(t)
	c := dial(t)
	if err := c.Freeze(t.Context(), time.Minute); err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	<-f.thawed
	// And the next one can have it.
	if err := dial(t).Freeze(t.Context(), time.Minute); err != nil {
		t.Error(err)
	}
}

func TestFreezeEndsAfterItsTime(t *testing.T) {
	f := start(t)
	c := dial(t)
	if err := c.Freeze(t.Context(), time.Millisecond); err != nil {
		t.Fatal(err)
	}
	<-f.thawed
	if err := c.Thaw(t.Context()); err == nil || !strings.Contains(err.Error(), "ended by itself") {
		t.Errorf("late thaw: %v", err)
	}
}

func TestSecondFreezeWaitsForTheFirst(t *testing.T) {
	f := start(t)
	first, second := dial(t), dial(t)
	if err := first.Freeze(t.Context(), time.Minute); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- second.Freeze(context.Background(), time.Minute) }()
	select {
	case err := <-done:
		t.Fatalf("two freezes at once: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	if err := first.Thaw(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil || f.frozen.Load() != 1 {
		t.Errorf("second freeze: %v, %d", err, f.frozen.Load())
	}
}

func TestQuiesceDropsTheFreezeAndCallsNobody(t *testing.T) {
	f := start(t)
	holder, waiter, watcher := dial(t), dial(t), dial(t)
	if err := holder.Freeze(t.Context(), time.Minute); err != nil {
		t.Fatal(err)
	}
	end, err := watcher.Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	waits := make(chan error, 1)
	go func() { waits <- waiter.Freeze(context.Background(), time.Minute) }()
	f.server.Quiesce()
	if n := f.frozen.Load(); n != 0 {
		t.Errorf("frozen %d times after Quiesce", n)
	}
	if err := <-waits; !errors.Is(err, syscall.ESHUTDOWN) {
		t.Errorf("a freeze that waited: %v", err)
	}
	f.syncErr = errors.New("sync was called")
	if err := holder.Sync(t.Context()); !errors.Is(err, syscall.ESHUTDOWN) {
		t.Errorf("sync: %v", err)
	}
	f.finish(nil)
	if err := end(t.Context()); err != nil {
		t.Errorf("watch: %v", err)
	}
}

func TestWatchTellsTheResult(t *testing.T) {
	f := start(t)
	end, err := dial(t).Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f.finish(fmt.Errorf("flush: %w", syscall.EIO))
	if err := end(t.Context()); !errors.Is(err, syscall.EIO) {
		t.Errorf("result: %v", err)
	}
	if _, err := Dial(major, minor, os.Geteuid()); !errors.Is(err, ErrNoDaemon) {
		t.Errorf("after the end: %v", err)
	}
}

func TestDaemonThatDiesIsUnexpectedEOF(t *testing.T) {
	f := start(t)
	c := dial(t)
	f.finish(nil)
	if _, err := c.Status(t.Context()); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v", err)
	}
}

func TestStaleSocketIsReplaced(t *testing.T) {
	useDir(t)
	dir, err := OpenDir()
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close() //nolint:errcheck // only read
	// What a killed daemon leaves: a socket that nobody listens on.
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: dir.path(socketName(major, minor)), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	ln.SetUnlinkOnClose(false)
	_ = ln.Close()
	if _, err := Dial(major, minor, os.Geteuid()); !errors.Is(err, ErrNoDaemon) {
		t.Errorf("stale socket: %v", err)
	}
	answer := func(name string) Handlers {
		return Handlers{Status: func() (Status, error) { return Status{Mountpoint: name}, nil }}
	}
	old, err := dir.Listen(major, minor, answer("old"))
	if err != nil {
		t.Fatal(err)
	}
	// The next mount can have the number before the old daemon has ended.
	s, err := dir.Listen(major, minor, answer("new"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Finish(nil)
	old.Finish(nil)
	if st, err := dial(t).Status(t.Context()); err != nil || st.Mountpoint != "new" {
		t.Errorf("after the old daemon's end: %+v, %v", st, err)
	}
}

func TestOpenPrivateRefusesWhatOthersCanEnter(t *testing.T) {
	dir := t.TempDir()
	open := filepath.Join(dir, "open")
	if err := os.Mkdir(open, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := openPrivate(open, true); err == nil || !strings.Contains(err.Error(), "open to others") {
		t.Errorf("mode 755: %v", err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(t.TempDir(), link); err != nil {
		t.Fatal(err)
	}
	if _, err := openPrivate(link, true); err == nil {
		t.Error("a symlink was followed")
	}
	if os.Geteuid() != 0 {
		return
	}
	other := filepath.Join(dir, "other")
	if err := os.Mkdir(other, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(other, 4711, 4711); err != nil {
		t.Fatal(err)
	}
	if _, err := openPrivate(other, true); err == nil || !strings.Contains(err.Error(), "belongs to user 4711") {
		t.Errorf("other owner: %v", err)
	}
}
