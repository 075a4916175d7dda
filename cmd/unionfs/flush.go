package main

import (
	"context"
	"fmt"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/sys"
)

// flushCommand is the first argument of the process in which a daemon has its
// own mount flushed. It is no command for users.
const flushCommand = "_flush"

// flushTime bounds how long a daemon waits for that.
const flushTime = 20 * time.Second

// flushMount makes the kernel send everything that was written to a mount and
// is only in its page cache (syncfs(2)), and returns the errors of that. It must
// not be called in the daemon of the mount, which has to take the writes. When
// ctx ends first, the flush goes on without the caller.
func flushMount(ctx context.Context, mountpoint string) error {
	done := make(chan error, 1)
	go func() {
		fd, err := unix.Open(mountpoint, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err == nil {
			err = sys.Syncfs(fd)
			_ = sys.Close(fd) // only flushed through
		}
		done <- err
	}()
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("write back %s: %w", mountpoint, err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("write back %s: %w", mountpoint, ctx.Err())
	}
}

// flushOwnMount is flushMount for the daemon: in a process of its own.
func flushOwnMount(mountpoint string) error {
	ctx, cancel := context.WithTimeout(context.Background(), flushTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/proc/self/exe", mountpoint)
	cmd.Args = []string{"unionfs", flushCommand, mountpoint}
	cmd.Dir = "/"
	cmd.WaitDelay = time.Second
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("write back %s: %w: %s", mountpoint, err, out)
	}
	return nil
}
