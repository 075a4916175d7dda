package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// readyVar names the descriptor on which a daemon says that its mount answers.
// A Go program cannot fork, so the daemon is the same command line run again
// with this variable set.
const readyVar = "_UNIONFS_READY_FD"

// inheritedReady is the descriptor to say "ready" on, or nil in a process that
// was not started by startDaemon.
func inheritedReady() *os.File {
	value, ok := os.LookupEnv(readyVar)
	if !ok {
		return nil
	}
	_ = os.Unsetenv(readyVar)
	fd, err := strconv.Atoi(value)
	if err != nil || fd < 3 {
		return nil
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, unix.FD_CLOEXEC); err != nil {
		return nil
	}
	return os.NewFile(uintptr(fd), "ready")
}

// startDaemon runs this command line again in a session of its own and returns
// once the mount answers. A daemon that ends before says why on the standard
// error that it still shares; its exit code becomes this one's.
func startDaemon(ctx context.Context) error {
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("start the daemon: %w", err)
	}
	defer r.Close() //nolint:errcheck // only read
	// Nothing that the caller left open goes on to the daemon.
	if err := unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil && err != unix.ENOSYS {
		return fmt.Errorf("start the daemon: %w", err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = os.Args
	cmd.Env = append(os.Environ(), readyVar+"=3")
	cmd.Stderr = os.Stderr
	cmd.ExtraFiles = []*os.File{w}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	_ = w.Close()
	if err != nil {
		return fmt.Errorf("start the daemon: %w", err)
	}
	// An interrupted start is passed on: the daemon unmounts again.
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Signal(unix.SIGTERM) })
	defer stop()
	var buf [1]byte
	if n, _ := r.Read(buf[:]); n == 1 {
		return nil
	}
	err = cmd.Wait()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && exit.ExitCode() > 0:
		return &silentError{exit.ExitCode()}
	case err == nil:
		return errors.New("the daemon ended before the mount answered")
	}
	return fmt.Errorf("the daemon ended before the mount answered: %w", err)
}

// detach ends the start of a daemon: it leaves the working directory, puts
// stderr where the log goes, or on /dev/null, so that no pipe of the caller
// stays open, and says ready.
func detach(ready *os.File, log *os.File) error {
	if err := os.Chdir("/"); err != nil {
		return fmt.Errorf("leave the working directory: %w", err)
	}
	target := log
	if target == nil {
		null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
		if err != nil {
			return fmt.Errorf("detach from the terminal: %w", err)
		}
		defer null.Close() //nolint:errcheck // nothing written
		target = null
	}
	if err := unix.Dup3(int(target.Fd()), 2, 0); err != nil {
		return fmt.Errorf("detach from the terminal: %w", err)
	}
	_, err := ready.Write([]byte{1})
	if cerr := ready.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("say that the mount is ready: %w", err)
	}
	return nil
}

// prepareProcess makes the process fit to serve a filesystem: as many files as
// it may have, and modes as the callers of the filesystem give them.
func prepareProcess() {
	unix.Umask(0)
	// The terminal is no concern of a mount's, from before it is there.
	signal.Ignore(unix.SIGHUP, unix.SIGPIPE)
	var lim unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &lim) == nil && lim.Cur < lim.Max {
		lim.Cur = lim.Max
		_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &lim) // fewer files are fewer, not wrong
	}
}
