package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/unionfs-go/unionfs/mountinfo"
)

const (
	mountTimeout   = 60 * time.Second
	unmountTimeout = 3 * time.Minute // the upper is synced, on a disk that others keep busy
)

// mounted is a stack that a target has mounted, or the copy that stands for it
// on a plain directory. Only unmount ends it.
type mounted struct {
	target *Target
	dir    string // everything of it, removed by unmount
	tree   string // the merged tree
	device uint64 // minor number of the mount's device
	took   time.Duration
	child  *exec.Cmd // a daemon in the foreground
	ended  chan error
}

// mount makes a new directory below parent and mounts the layers there, with an
// upper directory that fill, when not nil, has put things into.
func (t *Target) mount(ctx context.Context, parent string, lowers []string, fill func(upper string) error) (*mounted, error) {
	dir, err := os.MkdirTemp(parent, "mount-")
	if err != nil {
		return nil, err
	}
	m := &mounted{target: t, dir: dir, tree: filepath.Join(dir, "merged")}
	s := stack{Lowers: lowers, Upper: filepath.Join(dir, "upper"), Work: filepath.Join(dir, "work"), Point: m.tree}
	for _, d := range []string{s.Upper, s.Work, s.Point} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return nil, errors.Join(err, os.RemoveAll(dir))
		}
	}
	into := s.Upper
	if t.bare() {
		into = m.tree
	}
	if fill != nil {
		if err := fill(into); err != nil {
			return nil, errors.Join(err, os.RemoveAll(dir))
		}
	}
	if t.bare() {
		return m, nil
	}
	if err := m.start(ctx, s); err != nil {
		return nil, errors.Join(fmt.Errorf("mount %s: %w", t.Name, err), m.unmount())
	}
	return m, nil
}

// start runs the mount command until the mount is there.
func (m *mounted) start(ctx context.Context, s stack) error {
	cwd := ""
	if m.target.relative {
		cwd, s.Lowers = shorten(s.Lowers)
	}
	// The daemon outlives the end of ctx: it is ended by unmount.
	cmd := m.target.space.command(context.WithoutCancel(ctx), cwd, m.target.command(s)...)
	messages, err := os.Create(filepath.Join(m.dir, "messages"))
	if err != nil {
		return err
	}
	defer messages.Close()
	cmd.Stdout, cmd.Stderr = messages, messages
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", cmd.Args[0], err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	m.child, m.ended = cmd, ended
	deadline := began.Add(mountTimeout)
	for {
		device, ok, err := findMount(m.target.space.mountTable(), m.tree)
		if err != nil {
			return err
		}
		if ok {
			m.device = device
			m.awaitAnswer(ctx, began)
			break
		}
		select {
		case err := <-ended:
			m.child, m.ended = nil, nil
			if err != nil {
				return fmt.Errorf("%w: %s", err, m.messages())
			}
			if _, ok, err := findMount(m.target.space.mountTable(), m.tree); err != nil || !ok {
				return errors.Join(err, fmt.Errorf("%s ended without a mount: %s", cmd.Args[0], m.messages()))
			}
			continue
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(200 * time.Microsecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("no mount after %s: %s", mountTimeout, m.messages())
		}
	}
	return nil
}

// daemon is the process that serves the mount, 0 when there is none to be seen.
// It is looked for at each call: one that goes to the background does so after
// the mount is there.
func (m *mounted) daemon() int {
	if !m.target.fuse {
		return 0
	}
	return findDaemon(m.tree)
}

// awaitAnswer waits until the mount answers: a daemon may be seen in the mount
// table before it serves. A mount in another namespace is asked by a worker,
// whose own start is not part of the mount's time. What is wrong is seen when
// the mount is used.
func (m *mounted) awaitAnswer(ctx context.Context, began time.Time) {
	if m.target.space.holder == nil {
		_, _ = os.Stat(m.tree)
		m.took = time.Since(began)
		return
	}
	m.took = time.Since(began)
	_, _ = m.target.space.job(ctx, Job{Kind: "readdir", Path: m.tree, Count: 1, Sync: true})
}

// messages is the end of what the mount command said.
func (m *mounted) messages() string {
	data, err := os.ReadFile(filepath.Join(m.dir, "messages"))
	if err != nil {
		return err.Error()
	}
	var t tail
	_, _ = t.Write(data) // never fails
	return t.String()
}

// unmount ends the mount, its daemon, and removes what belonged to it. It goes
// through all of it whatever fails.
func (m *mounted) unmount() error {
	if m.target.bare() {
		return removeTree(m.dir)
	}
	ctx, cancel := context.WithTimeout(context.Background(), unmountTimeout)
	defer cancel()
	var failed error
	daemon := m.daemon()
	if _, ok, _ := findMount(m.target.space.mountTable(), m.tree); ok {
		failed = m.detach(ctx)
	} else if m.child != nil {
		_ = syscall.Kill(-m.child.Process.Pid, syscall.SIGTERM)
	}
	if err := m.awaitDaemon(ctx, daemon); err != nil {
		failed = errors.Join(failed, err)
	}
	if _, ok, _ := findMount(m.target.space.mountTable(), m.tree); ok {
		return errors.Join(failed, fmt.Errorf("%s is still mounted", m.tree))
	}
	return errors.Join(failed, removeTree(m.dir))
}

// detach unmounts, waiting a little for the last users, lazily if it must.
func (m *mounted) detach(ctx context.Context) error {
	var err error
	for range 20 {
		if err = m.target.space.run(ctx, "", "umount", m.tree); err == nil {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	if lazy := m.target.space.run(ctx, "", "umount", "--lazy", m.tree); lazy != nil {
		return errors.Join(err, lazy)
	}
	return nil
}

// awaitDaemon waits until the daemon is gone, and kills it when it stays.
func (m *mounted) awaitDaemon(ctx context.Context, daemon int) error {
	if m.child != nil {
		select {
		case err := <-m.ended:
			if err != nil {
				return fmt.Errorf("daemon of %s: %w: %s", m.target.Name, err, m.messages())
			}
		case <-ctx.Done():
			_ = syscall.Kill(-m.child.Process.Pid, syscall.SIGKILL)
			return fmt.Errorf("the daemon of %s had to be killed", m.target.Name)
		}
	}
	for daemon != 0 {
		if !servesMount(daemon, m.tree) {
			return nil
		}
		select {
		case <-ctx.Done():
			_ = syscall.Kill(daemon, syscall.SIGKILL)
			return fmt.Errorf("the daemon of %s had to be killed", m.target.Name)
		case <-time.After(time.Millisecond):
		}
	}
	return nil
}

// shorten gives the common parent of the layers and their names in it; no parent
// and the names as they are when they have none in common.
func shorten(lowers []string) (string, []string) {
	parent := filepath.Dir(lowers[0])
	names := make([]string, len(lowers))
	for i, l := range lowers {
		if filepath.Dir(l) != parent {
			return "", lowers
		}
		names[i] = filepath.Base(l)
	}
	return parent, names
}

// findMount looks for the mount at exactly path in a mountinfo file and returns
// the minor number of its device.
func findMount(table, path string) (uint64, bool, error) {
	mounts, err := mountinfo.ReadFile(table)
	if err != nil {
		return 0, false, err
	}
	info, ok := mounts.At(path)
	return uint64(info.Minor), ok, nil
}

// findDaemon is the process that has the mountpoint among its arguments and
// /dev/fuse open; 0 when there is none to be seen.
func findDaemon(point string) int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || !servesMount(pid, point) {
			continue
		}
		fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		if err != nil {
			continue
		}
		for _, fd := range fds {
			if name, err := os.Readlink(fd); err == nil && name == "/dev/fuse" {
				return pid
			}
		}
	}
	return 0
}

// servesMount says whether the process lives and names the mountpoint in its
// arguments.
func servesMount(pid int, point string) bool {
	args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return err == nil && bytes.Contains(args, []byte(point))
}

// removeTree removes a directory and everything in it. Work directories of
// overlayfs have mode 0, which does not stop root but others.
func removeTree(dir string) error {
	if os.Geteuid() != 0 {
		_ = filepath.WalkDir(dir, func(path string, e os.DirEntry, _ error) error {
			if e != nil && e.IsDir() {
				_ = os.Chmod(path, 0o700)
			}
			return nil
		})
	}
	return os.RemoveAll(dir)
}
