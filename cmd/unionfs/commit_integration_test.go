package main_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// storeFixture is a fixture with a store of its own, in which base:1 is an
// image.
func storeFixture(t *testing.T) *fixture {
	t.Helper()
	f := newFixture(t, "rootfs/etc/conf=base", "rootfs/docs/a=1", "rootfs/docs/b=2", "plain/extra=x", "m/", "m2/", "upper/")
	t.Setenv("UNIONFS_STORE", f.path("store"))
	f.ok("image", "import", "-c", `CMD ["/bin/base"]`, "rootfs", "base:1")
	return f
}

var imageID = regexp.MustCompile(`^sha256:[0-9a-f]{64}\n$`)

func TestCommitOfALiveMountIsMountedAgain(t *testing.T) {
	f := storeFixture(t)
	f.mount("--upper", "upper", "plain", "base:1", "m")
	f.write("m/etc/conf", "changed")
	if err := os.RemoveAll(f.path("m/docs")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(f.path("m/extra"), f.path("m/moved")); err != nil {
		t.Fatal(err)
	}
	out := f.ok("commit", "-a", "Ann", "-m", "why", "-c", "ENV A=1", "--iidfile", "iid", "m", "app:1")
	if !imageID.MatchString(out) || f.read("iid") != strings.TrimSpace(out) {
		t.Errorf("commit printed %q, the file has %q", out, f.read("iid"))
	}
	f.write("m/later", "not in the image")
	f.mount("app:1", "m2")
	if f.read("m2/etc/conf") != "changed" || f.read("m2/moved") != "x" {
		t.Error("a change is not in the image")
	}
	for _, gone := range []string{"docs", "extra", "later"} {
		if _, err := os.Lstat(f.path("m2/" + gone)); err == nil {
			t.Errorf("%s is in the image", gone)
		}
	}
	f.fails(f.run("unionfs", "image", "rm", "app:1"), 3, "in use")
	f.ok("umount", "m2")

	var info []struct {
		Config struct{ Cmd, Env []string }
		RootFS struct{ Layers []string }
		Author string
	}
	if err := json.Unmarshal([]byte(f.ok("image", "inspect", "app:1")), &info); err != nil {
		t.Fatal(err)
	}
	if i := info[0]; len(i.RootFS.Layers) != 3 || i.Config.Cmd[0] != "/bin/base" || i.Config.Env[0] != "A=1" || i.Author != "Ann" {
		t.Errorf("inspect: %+v", i)
	}
	history := f.ok("image", "history", "app:1")
	if lines := strings.Split(strings.TrimSpace(history), "\n"); len(lines) != 4 || !strings.HasSuffix(lines[1], "why") {
		t.Errorf("history:\n%s", history)
	}
	// The upper names the mount as well as the mountpoint does.
	if again := f.ok("commit", "--no-pause", "upper"); !imageID.MatchString(again) || again == out {
		t.Errorf("commit of the upper printed %q", again)
	}
	t.Setenv("UNIONFS_STORE", f.path("m/store"))
	f.fails(f.run("unionfs", "commit", "m", "app:2"), 3, "in the mount itself")
	f.ok("umount", "m")
}

func TestCommitOfAnUpperThatIsNotMounted(t *testing.T) {
	f := storeFixture(t)
	f.mount("--upper", "upper", "base:1", "m")
	f.write("m/etc/conf", "changed")
	if err := os.Rename(f.path("m/docs"), f.path("m/papers")); err != nil {
		t.Fatal(err)
	}
	live := f.ok("commit", "--timestamp", "1000000000", "m", "live:1")
	f.ok("umount", "m")
	f.fails(f.run("unionfs", "commit", "upper", "x:1"), 3, "--lower")
	f.fails(f.run("unionfs", "commit", "rootfs/etc/conf", "x:1"), 3, "not a directory")
	if cold := f.ok("commit", "--timestamp", "1000000000", "--lower", "base:1", "upper", "cold:1"); cold != live {
		t.Errorf("the mount gave %s, its upper %s", live, cold)
	}
	f.ok("pack", "--lower", "base:1", "upper", "-O", "a.tar.zst")
	first := f.read("a.tar.zst")
	f.ok("pack", "--lower", "base:1", "upper", "-O", "a.tar.zst")
	if f.read("a.tar.zst") != first {
		t.Error("the same upper gave other bytes")
	}
	f.fails(f.run("unionfs", "pack", "upper", "-O", "b.tar"), 3, "papers")
	if left, err := filepath.Glob(f.path("*b.tar*")); err != nil || len(left) > 0 {
		t.Errorf("left over: %v, %v", left, err)
	}
	if r := f.run("unionfs", "pack", "--lower", "base:1", "upper", "-O", "-"); r.code != 0 || len(r.out) < 1024 || !strings.Contains(r.errOut, "diffID") {
		t.Errorf("to standard output: %d bytes, code %d, %s", len(r.out), r.code, r.errOut)
	}
}

func TestALayoutOfAnotherToolMountsAndIsABase(t *testing.T) {
	if _, err := exec.LookPath("skopeo"); err != nil {
		t.Skip("needs the tool skopeo")
	}
	f := storeFixture(t)
	if out, err := exec.Command("skopeo", "copy", "-q", "oci:"+f.path("store")+":base:1", "oci:"+f.path("layout")+":v1").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	f.ok("image", "rm", "base:1")
	f.mount("--upper", "upper", "oci:layout:v1", "m")
	f.write("m/new", "n")
	f.ok("commit", "m", "app:1")
	f.ok("umount", "m")
	if err := os.RemoveAll(f.path("layout")); err != nil {
		t.Fatal(err)
	}
	f.mount("app:1", "m2")
	if f.read("m2/new") != "n" || f.read("m2/docs/a") != "1" {
		t.Error("the image lacks something")
	}
	f.ok("umount", "m2")
	f.fails(f.run("unionfs", "mount", "oci:layout:v1", "m"), 3, "oci-layout")
	f.fails(f.run("unionfs", "mount", "nothing:1", "m"), 3, "image ls")
}

func TestImageCommands(t *testing.T) {
	f := storeFixture(t)
	f.ok("image", "tag", "base:1", "other:2")
	list := f.ok("image", "ls")
	for _, want := range []string{"REPOSITORY", "IMAGE ID", "base ", "other "} {
		if !strings.Contains(list, want) {
			t.Errorf("ls lacks %q:\n%s", want, list)
		}
	}
	id := strings.TrimSpace(f.ok("image", "ls", "-q"))
	if len(id) != 12 {
		t.Errorf("ls -q printed %q", id)
	}
	var rows []map[string]any
	if err := json.Unmarshal([]byte(f.ok("image", "ls", "--json")), &rows); err != nil || len(rows) != 2 {
		t.Errorf("ls --json: %v, %v", rows, err)
	}
	f.fails(f.run("unionfs", "image", "rm", id), 1, "several names")
	if out := f.ok("image", "rm", "--force", id); strings.Count(out, "Untagged: ") != 2 || strings.Count(out, "Deleted: sha256:") != 3 {
		t.Errorf("rm printed:\n%s", out)
	}
	f.fails(f.run("unionfs", "image", "inspect", id), 3, "neither")
	if out := f.ok("image", "ls", "--json"); strings.TrimSpace(out) != "[]" {
		t.Errorf("ls --json of nothing: %q", out)
	}
	for _, bad := range [][]string{
		{"image", "import", "rootfs"},
		{"image", "import", "rootfs", "Bad"},
		{"image", "tag", "a"},
		{"image", "rm"},
		{"image", "sl"},
		{"commit"},
		{"commit", "m", "x:1", "y"},
		{"commit", "-c", "RUN x", "m"},
		{"commit", "--compression", "lz4", "m"},
		{"commit", "--timestamp", "soon", "m"},
		{"pack", "upper"},
		{"pack", "-O", "x.tar"},
	} {
		f.fails(f.run("unionfs", bad...), 2, "unionfs: "+bad[0])
	}
	f.fails(f.run("unionfs", "image", "import", "missing.tar", "x:1"), 3, "missing.tar")
	f.write("text", strings.Repeat("no tar ", 200))
	f.fails(f.run("unionfs", "image", "import", "text", "x:1"), 1, "tar")
}
