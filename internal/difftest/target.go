package difftest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Dirs are the directories of one mount. Layers[0] is the top one.
type Dirs struct {
	Layers []string
	Upper  string // empty: read-only
	Work   string
	Mnt    string
}

// Mounted is a live mount.
type Mounted interface {
	// Unmount ends the mount and waits for its daemon, if it has one. An
	// error tells of a busy mount or of a daemon that ended badly.
	Unmount() error
	// Kill ends the daemon by SIGKILL and detaches the mount. It does nothing
	// but a detached unmount where there is no daemon.
	Kill() error
}

// Target is something that mounts layers.
type Target interface {
	Name() string
	Mount(d Dirs) (Mounted, error)
}

// Kernel is overlayfs with the given options, such as "redirect_dir=on,index=on".
type Kernel struct{ Options string }

// Name is "kernel" and the options.
func (k Kernel) Name() string { return "kernel(" + k.Options + ")" }

// Mount mounts overlayfs; it needs CAP_SYS_ADMIN.
func (k Kernel) Mount(d Dirs) (Mounted, error) {
	o := "lowerdir=" + strings.Join(d.Layers, ":")
	if d.Upper != "" {
		o += ",upperdir=" + d.Upper + ",workdir=" + d.Work
	}
	if k.Options != "" {
		o += "," + k.Options
	}
	if err := unix.Mount("overlay", d.Mnt, "overlay", 0, o); err != nil {
		return nil, fmt.Errorf("mount overlay on %s with %s: %w", d.Mnt, o, err)
	}
	return kernelMount(d.Mnt), nil
}

type kernelMount string

func (m kernelMount) Unmount() error {
	if err := unmount(string(m)); err != nil {
		_ = m.Kill()
		return err
	}
	return nil
}

func (m kernelMount) Kill() error { return unix.Unmount(string(m), unix.MNT_DETACH) }

// unmount retries for a moment: the last close of a worker may still be on its
// way through the kernel.
func unmount(mnt string) error {
	var err error
	for range 100 {
		if err = unix.Unmount(mnt, 0); err != unix.EBUSY {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if err != nil {
		return fmt.Errorf("unmount %s: %w", mnt, err)
	}
	return nil
}

// Daemon is a FUSE filesystem that is run as "Command Args... -o
// lowerdir=...,Options MNT" and stays in the foreground.
type Daemon struct {
	Label   string
	Command string
	Args    []string // before -o
	Options string
	// Ready is what the daemon logs when it is ready; empty goes by the mount
	// alone.
	Ready string
	// Wrap, if set, changes the environment or attributes of the process.
	Wrap func(*exec.Cmd)
}

// FuseOverlayfs is the peer, to see that differences are found.
func FuseOverlayfs() (Daemon, error) {
	p, err := exec.LookPath("fuse-overlayfs")
	return Daemon{Label: "fuse-overlayfs", Command: p, Args: []string{"-f"}}, err
}

// Name is the label and the options.
func (t Daemon) Name() string { return t.Label + "(" + t.Options + ")" }

// guard is after how long a mount or an unmount counts as hanging: each syncs a
// disk that others may keep busy.
const guard = 2 * time.Minute

// fuseMagic is FUSE_SUPER_MAGIC of <linux/magic.h>.
const fuseMagic = 0x65735546

// Mount starts the daemon and waits until the mount answers.
func (t Daemon) Mount(d Dirs) (Mounted, error) {
	o := "lowerdir=" + strings.Join(d.Layers, ":")
	if d.Upper != "" {
		o += ",upperdir=" + d.Upper + ",workdir=" + d.Work
	}
	if t.Options != "" {
		o += "," + t.Options
	}
	m := &daemonMount{mnt: d.Mnt, done: make(chan struct{})}
	m.cmd = exec.Command(t.Command, append(append([]string{}, t.Args...), "-o", o, d.Mnt)...)
	m.cmd.Stdout, m.cmd.Stderr = &m.log, &m.log
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if t.Wrap != nil {
		t.Wrap(m.cmd)
	}
	if err := m.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", t.Command, err)
	}
	go func() {
		m.exit = m.cmd.Wait()
		close(m.done)
	}()
	deadline := time.Now().Add(guard)
	for time.Now().Before(deadline) {
		var st unix.Statfs_t
		if err := unix.Statfs(d.Mnt, &st); err == nil && st.Type == fuseMagic && strings.Contains(m.log.String(), t.Ready) {
			return m, nil
		}
		select {
		case <-m.done:
			return nil, fmt.Errorf("%s: ended before the mount was there: %s: %s", m.cmd, m.cmd.ProcessState, m.log.String())
		case <-time.After(5 * time.Millisecond):
		}
	}
	return nil, errors.Join(fmt.Errorf("%s: no mount after %s: %s", m.cmd, guard, m.log.String()), m.Kill())
}

// lockedBuffer is a buffer that a process writes while others read.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer // guarded by mu
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// String is what was written so far.
func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

type daemonMount struct {
	mnt  string
	cmd  *exec.Cmd
	log  lockedBuffer
	done chan struct{}
	exit error // set before done is closed
}

func (m *daemonMount) Unmount() error {
	err := unmount(m.mnt)
	if err != nil {
		return errors.Join(err, fmt.Errorf("daemon said: %s", m.log.String()), m.Kill())
	}
	select {
	case <-m.done:
	case <-time.After(guard):
		return errors.Join(fmt.Errorf("%s: still running %s after the unmount: %s", m.cmd, guard, m.stacks()), m.Kill())
	}
	if m.exit != nil {
		return fmt.Errorf("%s: %w: %s", m.cmd, m.exit, m.log.String())
	}
	for _, bad := range []string{"WARNING: DATA RACE", "panic:", "goroutine 1 ["} {
		if strings.Contains(m.log.String(), bad) {
			return fmt.Errorf("%s: %s: %s", m.cmd, bad, m.log.String())
		}
	}
	return nil
}

// stacks ends a daemon that hangs and returns what it said, at the end of which
// the Go runtime shows what all goroutines wait for.
func (m *daemonMount) stacks() string {
	if err := m.cmd.Process.Signal(syscall.SIGQUIT); err != nil {
		return m.log.String()
	}
	select {
	case <-m.done:
	case <-time.After(5 * time.Second):
	}
	return m.log.String()
}

func (m *daemonMount) Kill() error {
	err := m.cmd.Process.Kill()
	if errors.Is(err, os.ErrProcessDone) {
		err = nil
	}
	<-m.done
	if uerr := unix.Unmount(m.mnt, unix.MNT_DETACH); uerr != nil && uerr != unix.EINVAL {
		err = errors.Join(err, uerr)
	}
	return err
}

// BuildUnionfs builds the command from the checkout that dir is in, into out,
// with the race detector if race is set.
func BuildUnionfs(dir, out string, race bool) error {
	args := []string{"build", "-o", out}
	if race {
		args = append(args, "-race")
	}
	cmd := exec.Command("go", append(args, "./cmd/unionfs")...)
	root, err := moduleRoot(dir)
	if err != nil {
		return err
	}
	cmd.Dir = root
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build cmd/unionfs: %w: %s", err, text)
	}
	return nil
}

// moduleRoot is the nearest directory above dir with a go.mod.
func moduleRoot(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	for d := dir; ; d = filepath.Dir(d) {
		if _, err := os.Stat(filepath.Join(d, "go.mod")); err == nil {
			return d, nil
		}
		if d == filepath.Dir(d) {
			return "", fmt.Errorf("find go.mod above %s: %w", dir, os.ErrNotExist)
		}
	}
}
