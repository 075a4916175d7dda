package main

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/control"
	"github.com/unionfs-go/unionfs/internal/sys"
	"github.com/unionfs-go/unionfs/mountinfo"
)

// UmountOptions are the flags of umount.
type UmountOptions struct {
	Lazy  bool
	Force bool
}

// AddFlags declares the flags.
func (o *UmountOptions) AddFlags(f *pflag.FlagSet) {
	f.BoolVarP(&o.Lazy, "lazy", "l", false, "take it out of the tree now, though it is in use; do not wait for the daemon")
	f.BoolVar(&o.Force, "force", false, "end it under those who use it, or when the daemon hangs; they get errors")
}

func newUmountCommand() *command {
	var opts UmountOptions
	c := &command{
		name:  "umount",
		usage: "[--lazy | --force] MOUNTPOINT...",
		short: "unmount, when everything is written",
		long: `Flushes the mount, unmounts it and waits until its daemon has let go of the
upper directory. When the mount is in use, the processes that use it are listed
and it stays mounted.
`,
		flags: newFlagSet("umount"),
	}
	opts.AddFlags(c.flags)
	c.run = func(ctx context.Context, std stdio, args []string) error {
		return runUmount(ctx, std, opts, args)
	}
	return c
}

// runUmount unmounts all it can, and fails with the first failure's code.
func runUmount(ctx context.Context, std stdio, opts UmountOptions, args []string) error {
	if len(args) == 0 {
		return usagef("no MOUNTPOINT given; see unionfs umount --help")
	}
	if opts.Lazy && opts.Force {
		return usagef("--lazy and --force contradict each other")
	}
	var first error
	for _, path := range args {
		err := umountOne(ctx, opts, path)
		if err == nil {
			continue
		}
		if first == nil {
			first = err
		}
		complain(std, "umount", err)
	}
	if first != nil {
		return &silentError{exitCode(first)}
	}
	return nil
}

// findMount finds the mount of unionfs that path is the mountpoint of.
func findMount(path string) (mountinfo.Info, error) {
	table, err := mountinfo.Mounts()
	if err != nil {
		return mountinfo.Info{}, err
	}
	abs, err := table.Resolve(path)
	if errors.Is(err, iofs.ErrNotExist) {
		return mountinfo.Info{}, refusef("%s does not exist", path)
	}
	if err != nil {
		return mountinfo.Info{}, refusef("%s cannot be reached: %w", path, err)
	}
	m, ok := table.At(abs)
	if !ok {
		return m, refusef("%s is not mounted; see unionfs ps", path)
	}
	if m.FSType != mountinfo.FSType {
		return m, refusef("%s is not a mount of unionfs but of %s", path, m.FSType)
	}
	return m, nil
}

// dialMount connects to the daemon of a mount.
func dialMount(m *mountinfo.Info) (*control.Client, error) {
	uid := os.Geteuid()
	if value, ok := m.Option("user_id"); ok {
		if n, err := strconv.Atoi(value); err == nil {
			uid = n
		}
	}
	return control.Dial(m.Major, m.Minor, uid)
}

// umountOne unmounts one mount.
func umountOne(ctx context.Context, opts UmountOptions, path string) error {
	m, err := findMount(path)
	if err != nil {
		return err
	}
	client, err := dialMount(&m)
	switch {
	case errors.Is(err, iofs.ErrPermission):
		return fmt.Errorf("%s belongs to another user: %w", path, err)
	case err != nil: // a dead daemon, or one without a socket: unmounting still works
		return explainBusy(&m, path, unmountAs(opts, &m))
	}
	defer client.Close() //nolint:errcheck // nothing more is said
	if !opts.Force {
		err := flushMount(ctx, m.Mountpoint)
		if err == nil || !lostData(err) {
			err = client.Sync(ctx)
		}
		if err != nil {
			return fmt.Errorf("flush %s (it stays mounted; --force unmounts it all the same): %w", path, err)
		}
	}
	process := openProcess(client.PID())
	defer process.close()
	end, err := client.Watch(ctx)
	if err != nil {
		return fmt.Errorf("unmount %s: %w", path, err)
	}
	if err := unmountAs(opts, &m); err != nil {
		return explainBusy(&m, path, err)
	}
	if opts.Lazy {
		return nil
	}
	if opts.Force {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, forceWait)
		defer cancel()
	}
	if err := end(ctx); err != nil {
		return fmt.Errorf("%s is unmounted, but its daemon did not end well: %w", path, err)
	}
	process.wait(ctx)
	return nil
}

// lostData tells whether an error of writing back is about data. The kernel also
// writes back times, which the daemon of a plain user may not be able to set.
func lostData(err error) bool {
	return !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EACCES) && !errors.Is(err, unix.ENOENT)
}

// forceWait is how long --force waits for the daemon's last flush.
const forceWait = 10 * time.Second

// unmountAs unmounts in the way that was asked for.
func unmountAs(opts UmountOptions, m *mountinfo.Info) error {
	if opts.Force {
		return forceUnmount(m.Mountpoint, m.Minor)
	}
	return unmountPath(m.Mountpoint, opts.Lazy)
}

// explainBusy adds to an error of unmounting who is in the way.
func explainBusy(m *mountinfo.Info, path string, err error) error {
	if err == nil {
		return nil
	}
	if !errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("unmount %s: %w", path, err)
	}
	var lines []string
	if table, terr := mountinfo.Mounts(); terr == nil {
		for _, on := range table.On(m.ID) {
			lines = append(lines, fmt.Sprintf("mounted on it: %s (%s)", on.Mountpoint, on.FSType))
		}
	}
	for _, u := range busyUsers(m) {
		lines = append(lines, "used by process "+u.String())
	}
	if len(lines) == 0 {
		lines = append(lines, "by whom cannot be seen from here; as root more can be")
	}
	return fmt.Errorf("unmount %s: %w; end these first, or use --lazy:\n  %s", path, err, strings.Join(lines, "\n  "))
}

// process is a process to be waited for, or nothing.
type process struct{ fd int }

func openProcess(pid int) process {
	if pid <= 0 {
		return process{-1}
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return process{-1}
	}
	return process{fd}
}

// wait returns when the process has ended or ctx has.
func (p process) wait(ctx context.Context) {
	for p.fd >= 0 && ctx.Err() == nil {
		fds := []unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}
		if n, err := unix.Poll(fds, 200); n > 0 || err != nil && err != unix.EINTR {
			return
		}
	}
}

func (p process) close() {
	if p.fd >= 0 {
		_ = sys.Close(p.fd) // only waited on
	}
}
