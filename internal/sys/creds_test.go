package sys

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 || !canSetFSID {
		t.Skip("changing the file system user needs root")
	}
}

// threadCreds is what the kernel says about the calling thread.
func threadCreds(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("/proc/thread-self/status")
	must(t, err)
	var out []string
	for _, line := range strings.Split(string(b), "\n") {
		for _, k := range []string{"Uid:", "Gid:", "CapEff:", "CapPrm:"} {
			if strings.HasPrefix(line, k) {
				out = append(out, line)
			}
		}
	}
	return strings.Join(out, "\n")
}

func TestAsCallerOwnsWhatItCreates(t *testing.T) {
	needRoot(t)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	dir := t.TempDir() // root's: the caller may not write here by himself
	before := threadCreds(t)
	for i, c := range []struct{ uid, gid uint32 }{{0, 0}, {1234, 5678}, {0, 5678}, {1234, 0}, {1<<32 - 3, 1<<32 - 4}} {
		path := filepath.Join(dir, fmt.Sprint(i))
		err := AsCaller(c.uid, c.gid, func() error {
			inside := threadCreds(t)
			for _, k := range []string{"CapEff:", "CapPrm:"} {
				if lineOf(inside, k) != lineOf(before, k) {
					t.Errorf("as %d: %s, before %s", c.uid, lineOf(inside, k), lineOf(before, k))
				}
			}
			return os.Mkdir(path, 0o700)
		})
		must(t, err)
		var st unix.Stat_t
		must(t, unix.Lstat(path, &st))
		if st.Uid != c.uid || st.Gid != c.gid {
			t.Errorf("made as %d:%d, owned by %d:%d", c.uid, c.gid, st.Uid, st.Gid)
		}
		if after := threadCreds(t); after != before {
			t.Errorf("after a call as %d:%d the thread has\n%s\nbefore\n%s", c.uid, c.gid, after, before)
		}
	}
}

func lineOf(text, prefix string) string {
	for _, line := range strings.Split(text, "\n") {
		if strings.HasPrefix(line, prefix) {
			return line
		}
	}
	return ""
}

func TestAsCallerReturnsTheError(t *testing.T) {
	if err := AsCaller(1234, 1234, func() error { return unix.EDQUOT }); err != unix.EDQUOT {
		t.Errorf("got %v", err)
	}
}

func TestAsCallerKeepsTheDirectorysGroup(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	must(t, os.Chown(dir, 0, 777))
	must(t, os.Chmod(dir, 0o755|os.ModeSetgid))
	must(t, AsCaller(1234, 5678, func() error { return unix.Mkdir(filepath.Join(dir, "d"), 0o755) }))
	var st unix.Stat_t
	must(t, unix.Lstat(filepath.Join(dir, "d"), &st))
	if st.Uid != 1234 || st.Gid != 777 || st.Mode&unix.S_ISGID == 0 {
		t.Errorf("%d:%d, mode %#o", st.Uid, st.Gid, st.Mode)
	}
}

// TestAsCallerStaysOnItsThread: goroutines of several callers and of none
// create at once, and each object is its caller's.
func TestAsCallerStaysOnItsThread(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for n := range 50 {
				path := filepath.Join(dir, fmt.Sprintf("%d-%d", w, n))
				mk := func() error {
					runtime.Gosched()
					return os.WriteFile(path, nil, 0o600)
				}
				want := uint32(0)
				var err error
				if w%2 == 0 {
					err = mk()
				} else {
					want = uint32(1000 + w)
					err = AsCaller(want, want, mk)
				}
				var st unix.Stat_t
				if err == nil {
					err = unix.Lstat(path, &st)
				}
				if err != nil || st.Uid != want || st.Gid != want {
					t.Errorf("made as %d: owner %d:%d, %v", want, st.Uid, st.Gid, err)
				}
			}
		}()
	}
	wg.Wait()
}

// TestAsCallerAsAPlainUser runs itself again as nobody, who can be nobody else.
func TestAsCallerAsAPlainUser(t *testing.T) {
	const uid, dirVar = 65534, "UNIONFS_TEST_DIR"
	if dir := os.Getenv(dirVar); dir != "" {
		path := filepath.Join(dir, "f")
		must(t, AsCaller(1234, 1234, func() error { return os.WriteFile(path, nil, 0o600) }))
		var st unix.Stat_t
		must(t, unix.Lstat(path, &st))
		if st.Uid != uid || HasCap(unix.CAP_SETUID) {
			t.Errorf("owner %d; CAP_SETUID: %v", st.Uid, HasCap(unix.CAP_SETUID))
		}
		return
	}
	needRoot(t)
	base, err := os.MkdirTemp("", "unionfs-sys-")
	must(t, err)
	defer os.RemoveAll(base)
	must(t, os.Chmod(base, 0o755))
	exe, err := os.ReadFile("/proc/self/exe")
	must(t, err)
	bin, dir := filepath.Join(base, "test"), filepath.Join(base, "dir")
	must(t, os.WriteFile(bin, exe, 0o755))
	must(t, os.Mkdir(dir, 0o700))
	must(t, os.Chown(dir, uid, uid))
	cmd := exec.Command(bin, "-test.run=^TestAsCallerAsAPlainUser$", "-test.v")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), dirVar+"="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS") {
		t.Errorf("as nobody: %v\n%s", err, out)
	}
}
