package fs

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/stack"
	"github.com/unionfs-go/unionfs/internal/sys"
	"github.com/unionfs-go/unionfs/whiteout"
)

// daemonEnv makes this test binary the daemon of a mount: its value is the
// transport, the spin option and the directory, see runDaemon.
const daemonEnv = "UNIONFS_TEST_DAEMON"

// mountedFS is a mount served by another process.
type mountedFS struct {
	t   *testing.T
	dir string // holds lower, upper, work and mnt
	mnt string
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// startDaemon mounts dir/lower and dir/upper on dir/mnt.
func startDaemon(t *testing.T, transport Transport, spin string) *mountedFS {
	t.Helper()
	if !sys.HasCap(unix.CAP_SYS_ADMIN) {
		t.Skip("mounting needs CAP_SYS_ADMIN")
	}
	if fd, err := sys.OpenFuse(); err != nil {
		t.Skipf("/dev/fuse: %v", err)
	} else {
		_ = sys.Close(fd)
	}
	m := &mountedFS{t: t, dir: fastTemp(t)}
	m.mnt = filepath.Join(m.dir, "mnt")
	for _, d := range []string{"lower", "upper", "work", "mnt"} {
		must(t, os.Mkdir(filepath.Join(m.dir, d), 0o755))
	}
	buildTree(t, filepath.Join(m.dir, "lower"), "file low lower\ndir d\nfile d/x x\n")
	must(t, os.WriteFile(filepath.Join(m.dir, "lower/big"), bytes.Repeat([]byte("0123456789abcdef"), 1<<16), 0o644))
	m.cmd = exec.Command(os.Args[0], "-test.run=^TestTransportDaemon$", "-test.v=false")
	m.cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s %s", daemonEnv, transport, spin, m.dir))
	m.cmd.Stderr = os.Stderr
	var err error
	m.in, err = m.cmd.StdinPipe()
	must(t, err)
	out, err := m.cmd.StdoutPipe()
	must(t, err)
	m.out = bufio.NewReader(out)
	must(t, m.cmd.Start())
	t.Cleanup(m.end)
	m.expect("mounted")
	return m
}

// end takes away what a failed test left.
func (m *mountedFS) end() {
	_ = m.in.Close()
	_ = unix.Unmount(m.mnt, unix.MNT_DETACH)
	_ = m.cmd.Wait()
}

// expect reads the daemon's next line.
func (m *mountedFS) expect(want string) {
	m.t.Helper()
	line, err := m.out.ReadString('\n')
	if line = strings.TrimSpace(line); line != want {
		m.t.Fatalf("the daemon said %q (%v), want %q", line, err, want)
	}
}

// tell gives the daemon an order.
func (m *mountedFS) tell(order, want string) {
	m.t.Helper()
	_, err := io.WriteString(m.in, order+"\n")
	must(m.t, err)
	m.expect(want)
}

func (m *mountedFS) path(name string) string { return filepath.Join(m.mnt, name) }

// TestTransportDaemon is no test but the daemon of the others.
func TestTransportDaemon(t *testing.T) {
	args := strings.Fields(os.Getenv(daemonEnv))
	if len(args) != 3 {
		t.Skip("only run by the other tests")
	}
	if err := runDaemon(Transport(args[0]), args[1], args[2]); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(0)
}

// runDaemon mounts and follows the orders on standard input, until the mount is
// gone; then it says what it leaked.
func runDaemon(transport Transport, spin, dir string) error {
	goroutines, fds := settled(), descriptors()
	layer, err := stack.OpenDir(filepath.Join(dir, "lower"), stack.DirOptions{Namespace: whiteout.Trusted, FDs: sys.NewFDCache(64)})
	if err != nil {
		return err
	}
	f, err := New(Config{
		Lowers: []stack.Layer{layer}, Upper: filepath.Join(dir, "upper"), Work: filepath.Join(dir, "work"),
		Namespace: whiteout.Trusted, RedirectDir: true,
	})
	if err != nil {
		return err
	}
	s, err := ParseSpin(spin)
	if err != nil {
		return err
	}
	srv, err := f.Mount(filepath.Join(dir, "mnt"), MountOptions{
		Source: "test", AllowOther: true, DefaultPermissions: true, Transport: transport, Spin: s,
	})
	if err != nil {
		return errors.Join(err, f.Close())
	}
	if got := f.Status().Transport; got != transport {
		return fmt.Errorf("the transport is %s, want %s", got, transport)
	}
	fmt.Println("mounted")
	go follow(f, srv)
	srv.Wait()
	if err := f.Close(); err != nil {
		return err
	}
	for range 1000 { // what has been told to end does so soon
		if settled() <= goroutines+1 { // follow goes on
			break
		}
		time.Sleep(time.Millisecond)
	}
	if n := settled() - goroutines - 1; n > 0 {
		buf := make([]byte, 1<<20)
		os.Stderr.Write(buf[:runtime.Stack(buf, true)]) //nolint:errcheck // for the log
		return fmt.Errorf("%d goroutines are left", n)
	}
	if now := descriptors(); now > fds {
		return fmt.Errorf("%d descriptors are left", now-fds)
	}
	fmt.Println("ended")
	return nil
}

func settled() int { return runtime.NumGoroutine() }

// descriptors counts descriptors, without those of the Go runtime's poller.
func descriptors() (n int) {
	list, _ := os.ReadDir("/proc/self/fd")
	for _, e := range list {
		target, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err == nil && !strings.HasPrefix(target, "anon_inode:[event") && !strings.HasPrefix(target, "/proc/") {
			n++
		}
	}
	return n
}

// follow carries out orders.
func follow(f *FS, srv *Server) {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var err error
		switch lines.Text() {
		case "freeze":
			err = f.Freeze(context.Background())
		case "thaw":
			f.Thaw()
		case "unmount":
			if err = srv.Unmount(); err == nil {
				continue // runDaemon goes on
			}
		case "notify":
			via := *f.notify.transport.Load()
			if err = via.invalInode(f.root.id, -1, 0); err == nil {
				err = via.invalEntry(f.root.id, "low")
			}
			if errors.Is(err, unix.ENOENT) {
				err = nil // the kernel does not have it
			}
		}
		if err != nil {
			fmt.Println("error:", errnoOf(err))
			continue
		}
		fmt.Println("done")
	}
}

func errnoOf(err error) string {
	var e unix.Errno
	if errors.As(err, &e) {
		return unix.ErrnoName(e)
	}
	return err.Error()
}

// eachTransport runs a test for every transport that this machine has.
func eachTransport(t *testing.T, test func(t *testing.T, m *mountedFS)) {
	for _, c := range []struct {
		transport Transport
		spin      string
	}{{TransportGoFuse, "auto"}, {TransportDev, "auto"}, {TransportDev, "off"}, {TransportDev, "200"}, {TransportUring, "auto"}} {
		t.Run(fmt.Sprintf("%s-%s", c.transport, c.spin), func(t *testing.T) {
			if c.transport == TransportUring && !uringEnabled() {
				t.Skip("the kernel has FUSE over io_uring switched off (fuse.enable_uring)")
			}
			test(t, startDaemon(t, c.transport, c.spin))
		})
	}
}

func TestTransportBasics(t *testing.T) {
	eachTransport(t, func(t *testing.T, m *mountedFS) {
		data := make([]byte, 3<<20+5)
		for i := range data {
			data[i] = byte(rand.Uint32())
		}
		must(t, os.WriteFile(m.path("big2"), data, 0o640))
		m.tell("notify", "done")
		for _, f := range []struct{ name, want string }{
			{"big2", string(data)},
			{"low", "lower"},
			{"d/x", "x"},
			{"big", strings.Repeat("0123456789abcdef", 1<<16)},
		} {
			fd, err := unix.Open(m.path(f.name), unix.O_RDONLY|unix.O_DIRECT, 0)
			must(t, err)
			_ = unix.Close(fd)
			if got, err := os.ReadFile(m.path(f.name)); err != nil || string(got) != f.want {
				t.Errorf("%s: %d bytes, %v; want %d", f.name, len(got), err, len(f.want))
			}
		}
		must(t, os.Mkdir(m.path("dir"), 0o755))
		for i := range 1000 {
			must(t, os.WriteFile(m.path(fmt.Sprintf("dir/file%d", i)), []byte(strconv.Itoa(i)), 0o600))
		}
		names, err := os.ReadDir(m.path("dir"))
		if err != nil || len(names) != 1000 {
			t.Errorf("the directory has %d names (%v), want 1000", len(names), err)
		}
		must(t, os.Symlink("dir/file7", m.path("sym")))
		must(t, os.Link(m.path("dir/file7"), m.path("hard")))
		must(t, os.Rename(m.path("dir/file7"), m.path("moved")))
		must(t, os.Rename(m.path("moved"), m.path("dir/file7")))
		if got, err := os.ReadFile(m.path("sym")); err != nil || string(got) != "7" {
			t.Errorf("through the symlink: %q, %v", got, err)
		}
		must(t, unix.Setxattr(m.path("hard"), "user.a", bytes.Repeat([]byte("v"), 3000), 0))
		buf := make([]byte, 5000)
		if n, err := unix.Getxattr(m.path("sym"), "user.a", buf); err != nil || n != 3000 {
			t.Errorf("getxattr: %d, %v; want 3000", n, err)
		}
		if n, err := unix.Getxattr(m.path("sym"), "user.a", nil); err != nil || n != 3000 {
			t.Errorf("getxattr without room: %d, %v; want 3000", n, err)
		}
		if _, err := unix.Getxattr(m.path("sym"), "user.a", buf[:100]); err != unix.ERANGE {
			t.Errorf("getxattr with little room: %v, want ERANGE", err)
		}
		if _, err := unix.Getxattr(m.path("sym"), "user.none", buf); err != unix.ENODATA {
			t.Errorf("getxattr of none: %v, want ENODATA", err)
		}
		if err := os.Remove(m.path("dir")); !errors.Is(err, unix.ENOTEMPTY) {
			t.Errorf("remove: %v, want ENOTEMPTY", err)
		}
		must(t, os.RemoveAll(m.path("dir")))
		must(t, os.Truncate(m.path("low"), 2))
		if got, err := os.ReadFile(m.path("low")); err != nil || string(got) != "lo" {
			t.Errorf("truncated: %q, %v", got, err)
		}
		if _, err := os.Stat(m.path(strings.Repeat("n", 256))); !errors.Is(err, unix.ENAMETOOLONG) {
			t.Errorf("a long name: %v, want ENAMETOOLONG", err)
		}
		m.tell("unmount", "ended")
	})
}

// work does many operations in one directory of its own and one of all, until
// stop or, with limit, so many rounds.
func hammer(dir string, id, limit int, stop *atomic.Bool) error {
	own := filepath.Join(dir, fmt.Sprintf("own%d", id))
	for round := 0; round < limit && !stop.Load(); round++ {
		if err := os.MkdirAll(own, 0o755); err != nil {
			return err
		}
		for i := range 20 {
			text := []byte(strings.Repeat(fmt.Sprintf("%d.%d ", id, i), 1+i*200))
			name := filepath.Join(own, strconv.Itoa(i))
			if err := os.WriteFile(name, text, 0o644); err != nil {
				return err
			}
			if err := os.Chmod(name, 0o600); err != nil {
				return err
			}
			shared := filepath.Join(dir, "shared"+strconv.Itoa(i%5))
			if err := os.Rename(name, shared); err != nil {
				return err
			}
			if err := os.WriteFile(name, text, 0o644); err != nil {
				return err
			}
			if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, text) {
				return fmt.Errorf("%s: %d bytes, want %d: %w", name, len(got), len(text), err)
			}
			if _, err := os.ReadDir(dir); err != nil {
				return err
			}
		}
		if err := os.RemoveAll(own); err != nil {
			return err
		}
	}
	return nil
}

// clients runs hammer n times in parallel and returns the errors.
func clients(dir string, n, limit int, stop *atomic.Bool) error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { errs[i] = hammer(dir, i, limit, stop) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func TestTransportManyClients(t *testing.T) {
	eachTransport(t, func(t *testing.T, m *mountedFS) {
		if err := clients(m.mnt, 8, 3, new(atomic.Bool)); err != nil {
			t.Error(err)
		}
		m.tell("unmount", "ended")
	})
}

// A frozen mount is read while all those who write wait, more of them than
// there are readers of the device.
func TestTransportFreeze(t *testing.T) {
	eachTransport(t, func(t *testing.T, m *mountedFS) {
		const writers = 12
		fds := make([]int, writers)
		for i := range fds {
			var err error
			fds[i], err = unix.Open(m.path(fmt.Sprintf("w%d", i)), unix.O_CREAT|unix.O_WRONLY, 0o644)
			must(t, err)
		}
		for range 3 {
			m.tell("freeze", "done")
			var written atomic.Int32
			var wg sync.WaitGroup
			for i, fd := range fds {
				wg.Go(func() {
					if _, err := unix.Write(fd, []byte("x")); err != nil {
						t.Error(err)
					}
					if err := os.Chmod(m.path(fmt.Sprintf("w%d", i)), 0o600); err != nil {
						t.Error(err)
					}
					written.Add(1)
				})
			}
			m.tell("notify", "done")
			if got, err := os.ReadFile(m.path("d/x")); err != nil || string(got) != "x" {
				t.Errorf("reading while frozen: %q, %v", got, err)
			}
			if _, err := os.ReadDir(m.path("d")); err != nil {
				t.Error(err)
			}
			if n := written.Load(); n != 0 {
				t.Errorf("%d wrote while frozen", n)
			}
			m.tell("thaw", "done")
			wg.Wait()
		}
		for _, fd := range fds {
			must(t, unix.Close(fd))
		}
		m.tell("unmount", "ended")
	})
}

// A mount in use cannot be unmounted; one that is taken away lazily ends when
// its last user has gone.
func TestTransportUnmountBusy(t *testing.T) {
	eachTransport(t, func(t *testing.T, m *mountedFS) {
		var stop atomic.Bool
		result := make(chan error)
		hold, err := os.Open(m.path("d"))
		must(t, err)
		go func() { result <- clients(m.mnt, 4, 1<<30, &stop) }()
		m.tell("unmount", "error: EBUSY")
		must(t, unix.Unmount(m.mnt, unix.MNT_DETACH))
		stop.Store(true)
		if err := <-result; err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENOTDIR) {
			t.Log("clients after the unmount:", err) // what they do goes to the directory below
		}
		if _, err := hold.ReadDir(-1); err != nil {
			t.Errorf("a directory held open: %v", err)
		}
		must(t, hold.Close())
		m.expect("ended")
	})
}

// An aborted connection ends the daemon too.
func TestTransportAbort(t *testing.T) {
	eachTransport(t, func(t *testing.T, m *mountedFS) {
		var st unix.Stat_t
		must(t, unix.Stat(m.mnt, &st))
		ctl := filepath.Join(m.dir, "ctl")
		must(t, os.Mkdir(ctl, 0o755))
		if err := unix.Mount("none", ctl, "fusectl", 0, ""); err != nil {
			t.Skipf("mount fusectl: %v", err)
		}
		defer func() { must(t, unix.Unmount(ctl, 0)) }()
		must(t, os.WriteFile(fmt.Sprintf("%s/%d/abort", ctl, unix.Minor(st.Dev)), []byte("1"), 0))
		m.expect("ended")
	})
}
