package main_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestMountWriteUmount(t *testing.T) {
	f := newFixture(t, "a/one=1", "b/two=2", "b/one=hidden", "u/", "m/")
	f.mount("--upper", "u", "a", "b", "m")
	if f.read("m/one") != "1" || f.read("m/two") != "2" {
		t.Error("the layers are not merged")
	}
	f.write("m/three", "3")
	if err := os.Remove(f.path("m/two")); err != nil {
		t.Error(err)
	}
	e := f.ps("m")
	if e.State != "running" || e.Upper != f.path("u") || e.Work != f.path(".u.unionfs-work") || e.IO == "" || len(e.Layers) != 2 ||
		e.Layers[0].Name != "a" || e.Layers[1].Dir != f.path("b") {
		t.Errorf("ps: %+v", e)
	}
	if table := f.ok("ps"); !strings.Contains(table, f.path("m")) || !strings.Contains(table, "MOUNTPOINT") {
		t.Errorf("ps: %s", table)
	}
	f.ok("umount", "m")
	ended(t, e.PID)
	if len(f.mounts()) > 0 {
		t.Error("still mounted")
	}
	var st unix.Stat_t
	if f.read("u/three") != "3" || unix.Stat(f.path("u/two"), &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFCHR {
		t.Error("the upper does not hold the changes")
	}
	if _, err := os.Stat(f.path(".u.unionfs-work")); !os.IsNotExist(err) {
		t.Errorf("the default workdir stayed: %v", err)
	}
	if log := f.read("log"); !strings.Contains(log, "mounted") || !strings.Contains(log, "unmounted") {
		t.Errorf("log: %s", log)
	}
}

func TestOptionFormMountsTheSame(t *testing.T) {
	f := newFixture(t, "a:,x/one=1", "b/two=2", "u/", "w/", "m/")
	f.ok("-o", `lowerdir=a\:\,x:b`, "-o", "upperdir=u,workdir=w", "--log", f.path("log"), "m")
	if f.read("m/one") != "1" || f.read("m/two") != "2" {
		t.Error("the layers are not merged")
	}
	if e := f.ps("m"); e.Work != f.path("w") || e.Layers[0].Dir != f.path("a:,x") {
		t.Errorf("ps: %+v", e)
	}
	f.ok("umount", "m")
	if _, err := os.Stat(f.path("w")); err != nil {
		t.Errorf("the user's workdir is gone: %v", err)
	}
}

func TestReadOnlyMountIsEROFS(t *testing.T) {
	f := newFixture(t, "a/one=1", "u/up=2", "m/")
	for _, args := range [][]string{{"a", "m"}, {"--read-only", "--upper", "u", "a", "m"}} {
		f.mount(args...)
		if err := os.WriteFile(f.path("m/new"), nil, 0o644); !errors.Is(err, unix.EROFS) {
			t.Errorf("%v: write: %v", args, err)
		}
		if len(args) > 2 && f.read("m/up") != "2" {
			t.Error("a read-only upper is not shown")
		}
		f.ok("umount", "m")
	}
}

func TestEphemeralUpperGoesWithTheMount(t *testing.T) {
	f := newFixture(t, "a/one=1", "tmp/", "m/")
	t.Setenv("TMPDIR", f.path("tmp"))
	f.mount("--ephemeral", "a", "m")
	f.write("m/one", "changed")
	if e := f.ps("m"); !e.Ephemeral || filepath.Dir(filepath.Dir(e.Upper)) != f.path("tmp") {
		t.Errorf("ps: %+v", e)
	}
	f.ok("umount", "m")
	if left, err := os.ReadDir(f.path("tmp")); err != nil || len(left) > 0 || f.read("a/one") != "1" {
		t.Errorf("left: %v %v", left, err)
	}
}

func TestDaemonKeepsNothingOfItsCaller(t *testing.T) {
	f := newFixture(t, "a/one=1", "m/")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(binDir, "unionfs"), "mount", "--log", f.path("log"), "a", "m")
	cmd.ExtraFiles = []*os.File{w}
	if res := f.wait(cmd); res.code != 0 {
		t.Fatal(res.errOut)
	}
	_ = w.Close()
	// The extra pipe ends only if the daemon has no copy of it.
	if err := r.SetReadDeadline(time.Now().Add(120 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the daemon holds a descriptor of its caller: %v", err)
	}
	_ = r.Close()
	pid := f.ps("m").PID
	proc := "/proc/" + strconv.Itoa(pid)
	for link, want := range map[string]string{"cwd": "/", "fd/0": "/dev/null", "fd/1": "/dev/null", "fd/2": f.path("log")} {
		if got, err := os.Readlink(filepath.Join(proc, link)); err != nil || got != want {
			t.Errorf("%s is %s, %v", link, got, err)
		}
	}
	if sid, err := unix.Getsid(pid); err != nil || sid != pid {
		t.Errorf("session %d of process %d, %v", sid, pid, err)
	}
	f.ok("umount", "m")
}

func TestMountOverALayerAndInsideOne(t *testing.T) {
	f := newFixture(t, "a/one=1", "a/sub/two=2", "u/up=3")
	f.mount("--upper", "u", "a", "a")
	if f.read("a/one") != "1" || f.read("a/up") != "3" {
		t.Error("over a layer")
	}
	f.ok("umount", "a")
	f.mount("--upper", "u", "a", "u")
	if f.read("u/one") != "1" {
		t.Error("over the upper")
	}
	f.write("u/new", "4")
	f.ok("umount", "u")
	if f.read("u/new") != "4" {
		t.Error("written through a mount over the upper")
	}
	// Everything of the mount lies below it, and is still removed and written.
	f.mount("--upper", "u", "a", ".")
	f.write("covering", "5")
	umount := exec.Command(filepath.Join(binDir, "unionfs"), "umount", f.dir)
	umount.Dir = "/"
	if r := f.wait(umount); r.code != 0 {
		t.Error(r.errOut)
	}
	if _, err := os.Stat(f.path(".u.unionfs-work")); !os.IsNotExist(err) || f.read("u/covering") != "5" {
		t.Errorf("under a mount that covers all of it: %v", err)
	}
	// Shared, as systemd makes /: a later mount must not get into the layer's copy.
	r := f.shell(`mount --bind a a; mount --make-shared a
		$BIN/unionfs mount --log log a a/sub
		cat a/sub/one a/sub/sub/two; $BIN/unionfs umount a/sub`)
	if r.code != 0 || r.out != "12" {
		t.Errorf("inside a layer: exit code %d, %q %s", r.code, r.out, r.errOut)
	}
}

func TestForegroundEndsOnSIGINT(t *testing.T) {
	f := newFixture(t, "a/one=1", "m/")
	cmd := exec.Command(filepath.Join(binDir, "unionfs"), "mount", "--foreground", "a", "m")
	cmd.Dir = f.dir
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	n, err := stderr.Read(buf)
	if err != nil || !strings.Contains(string(buf[:n]), "mounted") {
		t.Errorf("first message: %q %v", buf[:n], err)
	}
	if f.read("m/one") != "1" {
		t.Error("not mounted")
	}
	kill(t, cmd.Process.Pid, unix.SIGINT)
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}
