package main_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestUmountReportsWhoUsesTheMount(t *testing.T) {
	f := newFixture(t, "a/dir/", "a/one=1", "m/", "a/mnt/")
	f.mount("a", "m")
	// A process with its working directory in the mount, and one with a file.
	sleeper := exec.Command("sleep", "60")
	sleeper.Dir = f.path("m/dir")
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(f.path("m/one"))
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", f.path("m/mnt"), "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	r := f.run("unionfs", "umount", "m")
	f.fails(r, 1, "device or resource busy")
	for _, want := range []string{"sleep (working directory)", "(1 open file)", "mounted on it: " + f.path("m/mnt") + " (tmpfs)"} {
		if !strings.Contains(r.errOut, want) {
			t.Errorf("no %q in:\n%s", want, r.errOut)
		}
	}
	if f.ps("m").State != "running" {
		t.Error("a busy mount was harmed")
	}
	if err := unix.Unmount(f.path("m/mnt"), 0); err != nil {
		t.Error(err)
	}
	_ = file.Close()
	_ = sleeper.Process.Kill()
	_ = sleeper.Wait()
	f.ok("umount", "m")
}

func TestLazyUmountLetsUsersGoOn(t *testing.T) {
	f := newFixture(t, "a/one=1", "u/", "m/")
	f.mount("--upper", "u", "a", "m")
	pid := f.ps("m").PID
	file, err := os.OpenFile(f.path("m/new"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	f.ok("umount", "--lazy", "m")
	if len(f.mounts()) > 0 {
		t.Error("still mounted")
	}
	if _, err := file.WriteString("late"); err != nil {
		t.Errorf("write after a lazy umount: %v", err)
	}
	if err := file.Close(); err != nil {
		t.Error(err)
	}
	ended(t, pid)
	if f.read("u/new") != "late" {
		t.Errorf("upper has %q", f.read("u/new"))
	}
}

func TestForcedUmountEndsABusyMount(t *testing.T) {
	f := newFixture(t, "a/one=1", "u/", "m/")
	f.mount("--upper", "u", "a", "m")
	pid := f.ps("m").PID
	file, err := os.Create(f.path("m/new"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close() //nolint:errcheck // it fails, that is the point
	f.ok("umount", "--force", "m")
	if _, err := file.WriteString("x"); err == nil && file.Sync() == nil {
		t.Error("a write to an aborted mount succeeded")
	}
	ended(t, pid)
}

func TestSIGTERMUnmounts(t *testing.T) {
	f := newFixture(t, "a/one=1", "u/", "m/")
	f.mount("--upper", "u", "a", "m")
	f.write("m/new", "kept")
	pid := f.ps("m").PID
	kill(t, pid, unix.SIGHUP) // is ignored
	kill(t, pid, unix.SIGTERM)
	ended(t, pid)
	if len(f.mounts()) > 0 || f.read("u/new") != "kept" {
		t.Error("not unmounted cleanly")
	}
	if _, err := os.Stat(f.path(".u.unionfs-work")); !os.IsNotExist(err) {
		t.Errorf("the default workdir stayed: %v", err)
	}
}

func TestSIGTERMWhenBusyDetachesThenEnds(t *testing.T) {
	f := newFixture(t, "a/one=1", "u/", "m/")
	f.mount("--upper", "u", "a", "m")
	file, err := os.Create(f.path("m/new"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close() //nolint:errcheck // it fails, that is the point
	if _, err := file.WriteString("early,"); err != nil {
		t.Error(err)
	}
	pid := f.ps("m").PID
	kill(t, pid, unix.SIGTERM)
	for len(f.mounts()) > 0 {
		unix.Nanosleep(&unix.Timespec{Nsec: 20e6}, nil) //nolint:errcheck // only waits
	}
	// What was written before is on disk, though nobody has closed the file.
	if f.read("u/new") != "early," {
		t.Errorf("upper has %q", f.read("u/new"))
	}
	if _, err := file.WriteString("late"); err != nil || file.Sync() != nil {
		t.Errorf("write by a user that goes on: %v", err)
	}
	kill(t, pid, unix.SIGTERM) // the second ends it under the user
	ended(t, pid)
	if f.read("u/new") != "early,late" {
		t.Errorf("upper has %q", f.read("u/new"))
	}
	if _, err := file.WriteString("x"); err == nil && file.Sync() == nil {
		t.Error("a write to a mount without daemon succeeded")
	}
}

func TestKilledDaemonIsShownAndTheUpperMountsAgain(t *testing.T) {
	f := newFixture(t, "a/one=1", "u/", "m/")
	f.mount("--upper", "u", "a", "m")
	f.write("m/new", "synced")
	if fd, err := unix.Open(f.path("m/new"), unix.O_RDWR, 0); err != nil || unix.Fsync(fd) != nil || unix.Close(fd) != nil {
		t.Fatal("fsync", err)
	}
	pid := f.ps("m").PID
	kill(t, pid, unix.SIGKILL)
	ended(t, pid)
	if e := f.ps("m"); e.State != "dead" {
		t.Errorf("state %q", e.State)
	}
	r := f.run("unionfs", "ps")
	if !strings.Contains(r.out, "dead") || !strings.Contains(r.errOut, "unionfs umount "+f.path("m")) {
		t.Errorf("ps: %q %q", r.out, r.errOut)
	}
	f.fails(f.run("unionfs", "mount", "a", "m"), 3, "daemon is dead; remove it: unionfs umount m")
	f.ok("umount", "m")
	f.mount("--upper", "u", "a", "m")
	if f.read("m/new") != "synced" {
		t.Error("what was fsynced is lost")
	}
	f.ok("umount", "m")
}

func TestUmountRefuses(t *testing.T) {
	f := newFixture(t, "dir/", "t/")
	if err := unix.Mount("tmpfs", f.path("t"), "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	f.fails(f.run("unionfs", "umount", "dir"), 3, "dir is not mounted")
	f.fails(f.run("unionfs", "umount", "none"), 3, "none does not exist")
	f.fails(f.run("unionfs", "umount", "t"), 3, "t is not a mount of unionfs but of tmpfs")
	f.fails(f.run("unionfs", "umount"), 2, "no MOUNTPOINT")
	if len(f.mounts()) != 1 {
		t.Error("another filesystem was unmounted")
	}
	if err := unix.Unmount(f.path("t"), 0); err != nil {
		t.Error(err)
	}
}
