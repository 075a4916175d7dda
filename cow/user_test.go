package cow

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/sys"
)

const userDir = "COW_TEST_USER_DIR" // set: we are the plain user

// TestPlainUser runs, as root, tests of this package once more as a user
// without any right.
func TestPlainUser(t *testing.T) {
	needRoot(t)
	dir := sharedTemp(t, os.TempDir())
	own := filepath.Join(dir, "own")
	must(t, os.Mkdir(own, 0o700))
	defer os.RemoveAll(own) //nolint:errcheck // then dir cannot be removed, and the test fails
	must(t, os.Chown(own, 65534, 65534))
	// The test binary lies where that user has no access.
	exe, err := os.Open("/proc/self/exe")
	must(t, err)
	defer exe.Close()
	cmd := exec.Command("/proc/self/fd/3", "-test.v",
		"-test.run=^(TestAsPlainUser|TestKilled.*|TestFailedStep.*|TestPublish.*|TestLeftovers.*|TestVolatile.*|TestTemps.*|TestCopyUpKeeps.*|TestWhiteouts)$")
	cmd.ExtraFiles = []*os.File{exe}
	cmd.Env = append(os.Environ(), userDir+"="+own, "TMPDIR="+own)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if !strings.Contains(string(out), "--- PASS: TestAsPlainUser") {
		t.Errorf("the tests did not run:\n%s", out)
	}
}

func TestAsPlainUser(t *testing.T) {
	if os.Getenv(userDir) == "" {
		t.Skip("run by TestPlainUser")
	}
	if sys.HasCap(unix.CAP_DAC_OVERRIDE) || os.Geteuid() == 0 {
		t.Fatal("not a plain user")
	}
	p := newPlace(t, os.TempDir())
	must(t, makeFile(words, 0o644, nil)(p.lower, "o"))
	w := p.open(t, WorkdirOptions{Index: true, Namespace: namespace()})
	r := p.request(t, object{}, "o")
	inner := r.Xattr
	// What a layer of root's may hold, and the user can have no copy of.
	r.Xattrs = func() ([]string, error) {
		return []string{"security.capability", "trusted.t", "user.a", "trusted.overlay.origin"}, nil
	}
	r.Xattr = func(a string) ([]byte, error) {
		switch a {
		case "security.capability":
			return capNetRaw, nil
		case "trusted.t", "user.a":
			return []byte("v"), nil
		}
		return inner(a)
	}
	_, err := w.CopyUp(r)
	must(t, err)
	attrs, err := sys.ListXattrs(p.upper, "o")
	must(t, err)
	if len(attrs) != 1 || attrs[0] != "user.a" {
		t.Errorf("attributes of the copy: %v", attrs)
	}
	// Giving files away is not his to do: no silent change of owner.
	r = p.request(t, object{}, "o")
	r.Name, r.Meta.UID = "other", 0
	if _, err := w.CopyUp(r); err == nil || p.exists("other") {
		t.Errorf("copy of root's file: %v", err)
	}
	p.wantClean(t)
}
