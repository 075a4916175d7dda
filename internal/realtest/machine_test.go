package realtest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/difftest"
)

// cached is where scripts/real-image.sh keeps the image between runs.
const cached = "/var/tmp/unionfs-real"

// imageName is the reference that scripts/real-image.sh makes.
const imageName = "debian:real"

// imageFolder makes the image, or skips the test where that cannot be or was not
// asked for.
func imageFolder(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to chroot and to mount kernel overlayfs")
	}
	if err := unix.Access("/dev/fuse", unix.R_OK|unix.W_OK); err != nil {
		t.Skip("needs /dev/fuse")
	}
	folder := os.Getenv("UNIONFS_REAL_IMAGE")
	if folder == "" {
		if os.Getenv("CI") != "true" {
			t.Skip("makes a Debian image, in a minute: wants UNIONFS_REAL_IMAGE=FOLDER or CI=true")
		}
		folder = cached
	}
	for _, tool := range []string{"umoci", "skopeo", "jq", "unshare", "chroot"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("needs %s", tool)
		}
	}
	cmd := exec.Command("../../scripts/real-image.sh", folder)
	// It leaves large temporary files only while it runs, beside the image.
	cmd.Env = append(os.Environ(), "REAL_IMAGE_TMPDIR="+filepath.Dir(folder))
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("make the image: %v\n%s", err, text)
	}
	return folder
}

// A lab is the folder that one test works in, with a store of its own.
type lab struct {
	t      *testing.T
	dir    string
	binary string
}

// builtIn is the folder of the binary that all tests use; TestMain removes it.
var builtIn string

// built makes the binary once, with the race detector where the tests have it.
var built = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "realtest-bin")
	if err != nil {
		return "", err
	}
	builtIn = dir
	binary := filepath.Join(dir, "unionfs")
	return binary, difftest.BuildUnionfs(".", binary, raceEnabled)
})

func TestMain(m *testing.M) {
	m.Run()
	if builtIn != "" {
		if err := os.RemoveAll(builtIn); err != nil {
			fmt.Fprintln(os.Stderr, "realtest:", err)
		}
	}
}

// newLab makes the folder, with the binary in it.
func newLab(t *testing.T) *lab {
	t.Helper()
	binary, err := built()
	if err != nil {
		t.Fatal(err)
	}
	b := &lab{t: t, dir: t.TempDir()}
	b.binary = b.path("bin")
	if err := os.Link(binary, b.binary); err != nil {
		t.Fatal(err)
	}
	return b
}

// path is a path in the lab's folder.
func (b *lab) path(name string) string { return filepath.Join(b.dir, name) }

// mkdir makes a folder in the lab's folder.
func (b *lab) mkdir(name string) string {
	b.t.Helper()
	if err := os.Mkdir(b.path(name), 0o755); err != nil {
		b.t.Fatal(err)
	}
	return b.path(name)
}

// unionfs runs the binary and gives its standard output.
func (b *lab) unionfs(args ...string) string {
	b.t.Helper()
	return b.run(b.binary, args...)
}

// run runs a program in the lab's folder and gives its standard output.
func (b *lab) run(name string, args ...string) string {
	b.t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = b.dir
	cmd.Env = append(os.Environ(), "UNIONFS_STORE="+b.path("store"))
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		b.t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, tail(out.String()), tail(errs.String()))
	}
	return out.String()
}

// tail is the end of an output that is too long for a message.
func tail(s string) string {
	const most = 4000
	if len(s) > most {
		return "..." + s[len(s)-most:]
	}
	return s
}

// mount mounts with unionfs; the mount ends with the test.
func (b *lab) mount(mnt string, args ...string) {
	b.t.Helper()
	b.unionfs(append(append([]string{"mount", "--log", b.path("log")}, args...), mnt)...)
	b.t.Cleanup(func() {
		if isMounted(mnt) {
			_ = exec.Command(b.binary, "umount", "--force", mnt).Run()
		}
	})
}

// isMounted tells whether something is mounted on a directory.
func isMounted(dir string) bool {
	table, err := os.ReadFile("/proc/self/mountinfo")
	return err == nil && strings.Contains(string(table), " "+dir+" ")
}

// layers gives the directories of the layers of a mount, top first.
func (b *lab) layers(mnt string) []string {
	b.t.Helper()
	var mounts []struct {
		Mountpoint string `json:"mountpoint"`
		Layers     []struct {
			Dir string `json:"dir"`
		} `json:"layers"`
	}
	text := b.unionfs("ps", "--json")
	if err := json.Unmarshal([]byte(text), &mounts); err != nil {
		b.t.Fatalf("ps --json: %v\n%s", err, text)
	}
	for _, m := range mounts {
		if m.Mountpoint != mnt {
			continue
		}
		var dirs []string
		for _, l := range m.Layers {
			dirs = append(dirs, l.Dir)
		}
		return dirs
	}
	b.t.Fatalf("ps does not show %s:\n%s", mnt, text)
	return nil
}

// checkBlobs makes sure that every blob of a layout still is what its name says.
func checkBlobs(t *testing.T, layout string) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(layout, "blobs", "sha256", "*"))
	if err != nil || len(names) == 0 {
		t.Fatalf("%s has no blobs: %v", layout, err)
	}
	for _, name := range names {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		h := sha256.New()
		_, err = io.Copy(h, f)
		_ = f.Close()
		if err != nil {
			t.Fatal(err)
		}
		if got := hex.EncodeToString(h.Sum(nil)); got != filepath.Base(name) {
			t.Errorf("blob %s has the digest %s", name, got)
		}
	}
}
