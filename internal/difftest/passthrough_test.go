package difftest

import (
	"bytes"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// The rules of io=passthrough (fs/passthrough.go), each on a mount of its own.

func passthrough(t *testing.T, layers ...string) *live {
	t.Helper()
	needRoot(t)
	return mountOnce(t, daemon(t, "io=passthrough"), layers)
}

// A lower file is never written, whatever is open: a reader holds it, somebody
// writes. The reader goes on with the lower bytes, everybody else sees the new.
func TestPassthroughNeverWritesALowerFile(t *testing.T) {
	l := passthrough(t, "dir x\n", "file big size=8388608 mode=0644\n")
	reader, err := os.Open(l.p("big"))
	l.ok(err)
	defer reader.Close() //nolint:errcheck // only read
	old := make([]byte, 7)
	_, err = reader.ReadAt(old, 0)
	l.ok(err)

	writer, err := os.OpenFile(l.p("big"), os.O_RDWR, 0)
	l.ok(err)
	_, err = writer.WriteAt([]byte("CHANGED"), 0)
	l.ok(err)
	l.ok(writer.Close())

	if after := l.rawLayers(); !slices.Equal(l.before, after) {
		t.Error("the lower layer was written")
	}
	now := make([]byte, 7)
	if _, err := reader.ReadAt(now, 0); err != nil || !bytes.Equal(now, old) {
		t.Errorf("the reader sees %q (%v), it saw %q", now, err, old)
	}
	for _, when := range []string{"before a remount", "after it"} {
		got, err := os.ReadFile(l.p("big"))
		if err != nil || len(got) != 8388608 || string(got[:7]) != "CHANGED" {
			t.Errorf("%s: %d bytes, %v", when, len(got), err)
		}
		if when == "before a remount" {
			l.sameObject(reader, "big")
			l.ok(reader.Close())
			l.remount()
		}
	}
}

// sameObject makes sure that a descriptor and a name have one inode number.
func (l *live) sameObject(f *os.File, name string) {
	l.t.Helper()
	var a, b unix.Stat_t
	l.ok(unix.Fstat(int(f.Fd()), &a))
	l.ok(unix.Stat(l.p(name), &b))
	if a.Ino != b.Ino || a.Dev != b.Dev {
		l.t.Errorf("%s: %d:%d by descriptor, %d:%d by name", name, a.Dev, a.Ino, b.Dev, b.Ino)
	}
}

// Every way to open for writing while readers are there works for the user.
func TestPassthroughOpensForWritingUnderReaders(t *testing.T) {
	l := passthrough(t, "dir x\n", "file a abc\nfile b abc\nfile c abc\nfile d abc\n")
	for name, flags := range map[string]int{
		"a": os.O_WRONLY, "b": os.O_RDWR | os.O_TRUNC, "c": os.O_WRONLY | os.O_APPEND, "d": os.O_RDWR | os.O_CREATE,
	} {
		r, err := os.Open(l.p(name))
		l.ok(err)
		w, err := os.OpenFile(l.p(name), flags, 0o644)
		if err != nil {
			t.Errorf("open %s for writing: %v", name, err)
			continue
		}
		_, err = w.WriteString("X")
		l.ok(err)
		l.ok(w.Close())
		l.ok(r.Close())
		want := map[string]string{"a": "Xbc", "b": "X", "c": "abcX", "d": "Xbc"}[name]
		if got, err := os.ReadFile(l.p(name)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v; want %q", name, got, err, want)
		}
	}
}

// A write by others than root drops set-user-ID and capabilities, though the
// kernel writes the upper file with the daemon's rights.
func TestPassthroughDropsSetIDAndCapabilities(t *testing.T) {
	l := passthrough(t, "dir x\n", "file low text mode=0777\nxattr low security.capability hex:0100000200200000000000000000000000000000\n")
	l.ok(os.WriteFile(l.p("up"), []byte("text"), 0o777))
	l.ok(os.Chmod(l.p("up"), 0o777|os.ModeSetuid|os.ModeSetgid))
	l.ok(os.Chmod(l.p("low"), 0o777|os.ModeSetuid))
	for _, name := range []string{"up", "low"} {
		cmd := exec.CommandContext(t.Context(), "sh", "-c", `printf more >> "$0"`, l.p(name))
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1000, Gid: 1000}}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		info, err := os.Stat(l.p(name))
		l.ok(err)
		if info.Mode()&(os.ModeSetuid|os.ModeSetgid) != 0 {
			t.Errorf("%s is still %v", name, info.Mode())
		}
		if _, err := unix.Getxattr(l.p(name), "security.capability", nil); err != unix.ENODATA {
			t.Errorf("%s: capability: %v", name, err)
		}
	}
}
