package main_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/mountinfo"
)

// binDir holds the built program while the tests run.
var binDir string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "unionfs-bin-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	binDir = dir
	// Plain users run it too.
	err = os.Chmod(dir, 0o755)
	code := 1
	if err == nil {
		code = m.Run()
	}
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// program builds the program once and returns its path.
var program = sync.OnceValues(func() (string, error) {
	path := filepath.Join(binDir, "unionfs")
	args := []string{"build", "-o", path}
	if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		args = append(args, "-race")
	}
	out, err := exec.Command("go", append(args, ".")...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, out)
	}
	for _, name := range []string{"fuse-overlayfs", "mount.unionfs", "mount.fuse.unionfs"} {
		if err := os.Symlink("unionfs", filepath.Join(binDir, name)); err != nil {
			return "", err
		}
	}
	return path, nil
})

// fixture is a directory with layers and a place to mount them. At the end of
// the test nothing may be mounted below it.
type fixture struct {
	t   *testing.T
	dir string // free of symlinks
}

// newFixture makes the files in layout, "a/f=text" or "a/" for a directory.
func newFixture(t *testing.T, layout ...string) *fixture {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Skip("needs /dev/fuse")
	}
	if _, err := program(); err != nil {
		t.Fatal(err)
	}
	// Not t.TempDir: plain users must get in.
	dir, err := os.MkdirTemp("", "unionfs-cmd-")
	if err != nil {
		t.Fatal(err)
	}
	if dir, err = filepath.EvalSymlinks(dir); err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{t: t, dir: dir}
	t.Cleanup(f.clean)
	for _, l := range layout {
		name, text, isFile := strings.Cut(l, "=")
		path := f.path(name)
		if !isFile {
			err = os.MkdirAll(path, 0o755)
		} else if err = os.MkdirAll(filepath.Dir(path), 0o755); err == nil {
			err = os.WriteFile(path, []byte(text), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return f
}

func (f *fixture) path(name string) string { return filepath.Join(f.dir, name) }

// clean removes the directory; a mount that is left fails the test.
func (f *fixture) clean() {
	for _, m := range f.mounts() {
		f.t.Errorf("left mounted: %s (%s)", m.Mountpoint, m.FSType)
		_ = unix.Unmount(m.Mountpoint, unix.MNT_DETACH)
	}
	if log, err := os.ReadFile(f.path("log")); err == nil && bytes.Contains(log, []byte("DATA RACE")) {
		f.t.Errorf("the daemon's log:\n%s", log)
	}
	if err := os.RemoveAll(f.dir); err != nil {
		f.t.Error(err)
	}
}

// mounts is what is mounted below the directory.
func (f *fixture) mounts() mountinfo.Table {
	f.t.Helper()
	table, err := mountinfo.Mounts()
	if err != nil {
		f.t.Fatal(err)
	}
	return table.Under(f.dir)
}

// result is how a command ended.
type result struct {
	code        int
	out, errOut string
}

// run runs the program, as name, in the fixture's directory.
func (f *fixture) run(name string, args ...string) result {
	f.t.Helper()
	cmd := exec.CommandContext(f.t.Context(), filepath.Join(binDir, name), args...)
	return f.wait(cmd)
}

// wait runs a command to its end. Its output comes through pipes, so a daemon
// that kept them open would be noticed.
func (f *fixture) wait(cmd *exec.Cmd) result {
	f.t.Helper()
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if cmd.Dir == "" {
		cmd.Dir = f.dir
	}
	cmd.Env = append(os.Environ(), "BIN="+binDir, "LC_ALL=C",
		"GORACE=atexit_sleep_ms=0") // of a program built with -race, which else sleeps a second at its end
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		f.t.Fatalf("%v: %v", cmd.Args, err)
	}
	return result{cmd.ProcessState.ExitCode(), out.String(), errOut.String()}
}

// ok runs unionfs, which must succeed without a word on standard error.
func (f *fixture) ok(args ...string) string {
	f.t.Helper()
	r := f.run("unionfs", args...)
	if said := f.ownMessages(r.errOut); r.code != 0 || said != "" {
		f.t.Fatalf("unionfs %v: exit code %d\n%s", args, r.code, said)
	}
	return r.out
}

// ownMessages is what a command said, without what ps says of the mounts of
// other tests that run at the same time.
func (f *fixture) ownMessages(errOut string) string {
	var own []string
	for _, line := range strings.Split(errOut, "\n") {
		if strings.HasPrefix(line, "unionfs: ps: ") && !strings.Contains(line, f.path("")) {
			continue
		}
		own = append(own, line)
	}
	return strings.Join(own, "\n")
}

// mount mounts with a log in the fixture's directory.
func (f *fixture) mount(args ...string) {
	f.t.Helper()
	f.ok(append([]string{"mount", "--log", f.path("log")}, args...)...)
}

// shell runs a script in a mount namespace of its own, as root or, within it,
// as whom the script chooses.
func (f *fixture) shell(script string) result {
	f.t.Helper()
	cmd := exec.CommandContext(f.t.Context(), "unshare", "--mount", "--propagation", "private", "sh", "-euc", script)
	return f.wait(cmd)
}

// fails checks the code and the message of a command.
func (f *fixture) fails(r result, code int, want string) {
	f.t.Helper()
	if r.code != code || !strings.Contains(r.errOut, want) {
		f.t.Errorf("exit code %d, %q\nwant %d with %q", r.code, r.errOut, code, want)
	}
}

// read is the text of a file.
func (f *fixture) read(name string) string {
	f.t.Helper()
	b, err := os.ReadFile(f.path(name))
	if err != nil {
		f.t.Error(err)
	}
	return string(b)
}

func (f *fixture) write(name, text string) {
	f.t.Helper()
	if err := os.WriteFile(f.path(name), []byte(text), 0o644); err != nil {
		f.t.Error(err)
	}
}

// psEntry is what tests look at of one mount of ps --json.
type psEntry struct {
	Mountpoint string `json:"mountpoint"`
	State      string `json:"state"`
	Source     string `json:"source"`
	PID        int    `json:"pid"`
	Upper      string `json:"upper"`
	Work       string `json:"work"`
	IO         string `json:"io"`
	Ephemeral  bool   `json:"ephemeral"`
	Layers     []struct {
		Name string `json:"name"`
		Dir  string `json:"dir"`
		Blob string `json:"blob"`
	} `json:"layers"`
}

// ps finds the fixture's mount on name in ps --json.
func (f *fixture) ps(name string) psEntry {
	f.t.Helper()
	var list []psEntry
	if err := json.Unmarshal([]byte(f.ok("ps", "--json")), &list); err != nil {
		f.t.Fatal(err)
	}
	for _, e := range list {
		if e.Mountpoint == f.path(name) {
			return e
		}
	}
	f.t.Fatalf("%s is not in %+v", f.path(name), list)
	return psEntry{}
}

// ended waits until a process that is no child has ended.
func ended(t *testing.T, pid int) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err == unix.ESRCH {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd) //nolint:errcheck // only waited on
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 30_000)
		if err == unix.EINTR {
			continue
		}
		if n == 0 || err != nil {
			t.Fatalf("process %d has not ended: %v", pid, err)
		}
		return
	}
}

// kill sends a signal to a daemon of the fixture.
func kill(t *testing.T, pid int, sig syscall.Signal) {
	t.Helper()
	if pid <= 1 {
		t.Fatalf("no process %d", pid)
	}
	if err := unix.Kill(pid, sig); err != nil {
		t.Fatal(err)
	}
}
