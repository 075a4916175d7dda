package bench

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"
)

// space is where the commands of a target run: in the namespaces of this
// process, or in a user and mount namespace of their own.
type space struct {
	worker []string
	holder *client // keeps the namespaces; nil for those of this process
}

// newUserSpace makes a user namespace, in which this user is root, with a mount
// namespace. As root all of the first 65536 ids are mapped, as container engines
// do with the subordinate ids; for others only the user's own.
func newUserSpace(worker []string) (*space, error) {
	cmd := exec.Command(worker[0], worker[1:]...)
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
	groups := []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	if os.Geteuid() == 0 {
		ids[0].Size, groups[0].Size = 65536, 65536
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:                 syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings:                ids,
		GidMappings:                groups,
		GidMappingsEnableSetgroups: os.Geteuid() == 0,
		Setpgid:                    true,
	}
	holder, err := startClient(cmd, Job{Kind: "hold"})
	if err != nil {
		return nil, fmt.Errorf("make user namespace: %w", err)
	}
	return &space{worker: worker, holder: holder}, nil
}

// close lets the namespaces go; their last mounts go with them.
func (s *space) close() {
	if s.holder == nil {
		return
	}
	s.holder.in.Close()
	_ = s.holder.cmd.Wait()
}

// mountTable is the file that lists the mounts of the space.
func (s *space) mountTable() string {
	if s.holder == nil {
		return "/proc/self/mountinfo"
	}
	return fmt.Sprintf("/proc/%d/mountinfo", s.holder.cmd.Process.Pid)
}

// command is a command in the space, in directory dir unless that is empty, and
// in a process group of its own, so that Ctrl-C on the terminal does not reach
// it; the end of ctx kills the group.
func (s *space) command(ctx context.Context, dir string, argv ...string) *exec.Cmd {
	if dir != "" {
		// Within the namespace: overlayfs does not take layers by a working
		// directory that lies in another one.
		argv = append([]string{"env", "--chdir=" + dir}, argv...)
	}
	if s.holder != nil {
		pid := strconv.Itoa(s.holder.cmd.Process.Pid)
		argv = append([]string{"nsenter", "--target", pid, "--user", "--mount", "--preserve-credentials", "--"}, argv...)
	}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// run runs a command to its end; its messages are part of the error.
func (s *space) run(ctx context.Context, dir string, argv ...string) error {
	cmd := s.command(ctx, dir, argv...)
	var messages tail
	cmd.Stdout, cmd.Stderr = &messages, &messages
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("run %s: %w: %s", argv[0], err, messages.String())
	}
	return nil
}

// job gives a job to a new worker process and waits for the outcome.
func (s *space) job(ctx context.Context, job Job) (Outcome, error) {
	c, err := startClient(s.command(ctx, "", s.worker...), job)
	if err != nil {
		return Outcome{}, err
	}
	result, err := c.finish()
	if ctx.Err() != nil {
		return result, ctx.Err()
	}
	return result, err
}
