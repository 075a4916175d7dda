package main_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

func TestSaveAndLoadBetweenStores(t *testing.T) {
	f := storeFixture(t)
	for _, dir := range []string{"upper0", "upper1"} {
		if err := os.Mkdir(f.path(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	f.ok("image", "tag", "base:1", "other:2")
	id := strings.TrimSpace(f.ok("image", "ls", "-q", "--no-trunc", "base"))
	f.ok("image", "save", "-o", "oci.tar.zst", "base:1", "other:2")
	f.ok("image", "save", "--format", "docker", "-o", "docker.tar", "base:1")
	f.fails(f.run("unionfs", "image", "save", "-o", "x.tar", "none"), 3, "none")
	f.fails(f.run("unionfs", "image", "save", "--format", "zip", "-o", "x.tar", "base:1"), 2, "zip")
	t.Setenv("UNIONFS_STORE", f.path("second"))
	if out := f.ok("image", "load", "-i", "oci.tar.zst"); out != "Loaded image: base:1\nLoaded image: other:2\n" {
		t.Errorf("load printed %q", out)
	}
	f.ok("image", "rm", "other:2")
	if out := f.ok("image", "load", "-q", "-i", "docker.tar"); strings.TrimSpace(out) != id {
		t.Errorf("load printed %q, not %s", out, id)
	}
	f.mount("base:1", "m")
	if f.read("m/etc/conf") != "base" {
		t.Error("the image has other content")
	}
	f.ok("umount", "m")
	if out := f.ok("image", "verify"); !strings.HasSuffix(out, " 0 problems\n") {
		t.Errorf("verify printed %q", out)
	}
	// The archives are sources themselves, and bases of a commit.
	t.Setenv("UNIONFS_STORE", f.path("third"))
	for n, src := range []string{"docker-archive:docker.tar", "oci-archive:oci.tar.zst:2"} {
		f.mount("--upper", fmt.Sprint("upper", n), src, "m")
		f.write("m/new", "n")
		f.ok("commit", "m", "app:1")
		f.ok("umount", "m")
		if out := f.ok("image", "history", "app:1"); strings.Count(out, "\n") != 3 {
			t.Errorf("history of a commit on %s:\n%s", src, out)
		}
	}
	f.fails(f.run("unionfs", "mount", "oci-archive:oci.tar.zst:9", "m"), 3, "base:1")
	f.fails(f.run("unionfs", "mount", "docker-archive:none.tar", "m"), 3, "none.tar")
	f.fails(f.run("unionfs", "image", "load", "-i", "missing.tar"), 3, "missing.tar")
	f.fails(f.run("unionfs", "image", "load", "-i", "docker.tar", "nothing:1"), 3, "base:1")
	f.write("text", "no tar")
	f.fails(f.run("unionfs", "image", "load", "-i", "text"), 1, "text")
}

func TestVerifyConvertPruneAndDf(t *testing.T) {
	f := storeFixture(t)
	id := f.ok("image", "ls", "-q", "--no-trunc")
	f.ok("image", "convert", "--compression", "zstd", "base:1")
	if f.ok("image", "ls", "-q", "--no-trunc") != id {
		t.Error("the image ID changed")
	}
	if out := f.ok("image", "ls", "--filter", "dangling=true", "--format", "{{.Repository}}\t{{.ID}}"); out != "<none>\t"+id[7:19]+"\n" {
		t.Errorf("dangling images %q", out)
	}
	f.ok("image", "import", "-c", "LABEL a=b", "rootfs", "new:2")
	f.mount("base:1", "m")
	var du struct {
		Summary []struct {
			Type                      string
			Total, Active             int
			Size, Reclaimable, Unused int64
		}
		Store struct {
			Images []struct{ Size, SharedSize, UniqueSize int64 }
		}
	}
	if err := json.Unmarshal([]byte(f.ok("df", "--json")), &du); err != nil {
		t.Fatal(err)
	}
	if s := du.Summary[0]; s.Type != "Images" || s.Total != 3 || s.Active < 1 || s.Reclaimable >= s.Size {
		t.Errorf("df: %+v", s)
	}
	for _, i := range du.Store.Images {
		if i.Size != i.SharedSize+i.UniqueSize {
			t.Errorf("df: %+v", i)
		}
	}
	for _, want := range []string{"TYPE ", "RECLAIMABLE\n", "Images ", "Unpacked layers ", "Cache "} {
		if out := f.ok("df"); !strings.Contains(out, want) {
			t.Errorf("df lacks %q:\n%s", want, out)
		}
	}
	if out := f.ok("df", "-v"); !strings.Contains(out, "UNIQUE SIZE") {
		t.Errorf("df -v printed:\n%s", out)
	}
	f.ok("image", "prune", "-a", "--dry-run")
	f.ok("image", "prune", "-a")
	if out := f.ok("image", "ls", "--format", "{{.Repository}}:{{.Tag}}"); !strings.Contains(out, "base:1") {
		t.Errorf("prune removed what is mounted, left %q", out)
	}
	if f.read("m/etc/conf") != "base" {
		t.Error("the mount lost its layer")
	}
	f.ok("umount", "m")
	blobs, err := os.ReadDir(f.path("store/blobs/sha256"))
	if err != nil || len(blobs) == 0 {
		t.Fatal(err)
	}
	// A file that a process has open is in use, whatever its mount says.
	for _, b := range blobs {
		open, err := os.Open(f.path("store/blobs/sha256/" + b.Name()))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = open.Close() })
	}
	f.ok("image", "prune", "-a")
	f.ok("image", "inspect", "base:1")
	if err := os.WriteFile(f.path("store/blobs/sha256/"+blobs[0].Name()), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if r := f.run("unionfs", "image", "verify"); r.code != 1 || !strings.Contains(r.out, blobs[0].Name()) {
		t.Errorf("verify of a damaged store: code %d, %s", r.code, r.out)
	}
}

func TestImageLsFilters(t *testing.T) {
	f := storeFixture(t)
	f.ok("image", "import", "--timestamp", "1000000000", "-c", "LABEL a=b", "rootfs", "team/old:2")
	list := func(args ...string) string {
		return strings.TrimSpace(f.ok(append([]string{"image", "ls", "--format", "{{.Repository}}:{{.Tag}}"}, args...)...))
	}
	for want, args := range map[string][]string{
		"team/old:2":         {"--filter", "label=a=b", "--filter", "dangling=false"},
		"base:1":             {"--filter", "since=team/old:2"},
		"":                   {"--filter", "label=a=c"},
		"base:1\nteam/old:2": {"-a"},
	} {
		if got := list(args...); got != want {
			t.Errorf("%v listed %q, want %q", args, got, want)
		}
	}
	if got := list("-f", "before=base:1"); got != "team/old:2" {
		t.Errorf("before listed %q", got)
	}
	if got := list("-f", "reference=team/*"); got != "team/old:2" {
		t.Errorf("reference listed %q", got)
	}
	var row map[string]string
	if err := json.Unmarshal([]byte(f.ok("image", "ls", "--format", "json", "base")), &row); err != nil || row["Tag"] != "1" {
		t.Errorf("json: %v, %v", row, err)
	}
	if out := f.ok("image", "ls", "--format", `table {{.Tag}}\t{{.Repository}}`, "base"); out != "TAG   REPOSITORY\n1     base\n" {
		t.Errorf("table: %q", out)
	}
	for _, bad := range [][]string{{"-f", "x"}, {"-f", "x=y"}, {"-f", "dangling=maybe"}, {"--format", "{{"}, {"--format", "{{.None}}"}, {"--json", "--format", "json"}} {
		f.fails(f.run("unionfs", append([]string{"image", "ls"}, bad...)...), 2, "image ls")
	}
}

func TestPeersLoadWhatIsSaved(t *testing.T) {
	f := storeFixture(t)
	for _, format := range []string{"oci", "docker"} {
		f.ok("image", "save", "--format", format, "-o", format+".tar", "base:1")
	}
	id := strings.TrimPrefix(strings.TrimSpace(f.ok("image", "ls", "-q", "--no-trunc")), "sha256:")
	t.Run("skopeo", func(t *testing.T) {
		peer(t, "skopeo")
		for _, src := range []string{"oci-archive:" + f.path("oci.tar"), "docker-archive:" + f.path("docker.tar")} {
			if out := tool(t, "skopeo", "inspect", "--config", "--raw", src); !strings.Contains(out, "/bin/base") {
				t.Errorf("%s: %s", src, out)
			}
		}
		// What skopeo writes loads here.
		tool(t, "skopeo", "copy", "-q", "oci-archive:"+f.path("oci.tar"), "docker-archive:"+f.path("peer.tar")+":team/peer:3")
		if out := f.ok("image", "load", "-i", "peer.tar"); out != "Loaded image: team/peer:3\n" {
			t.Errorf("load printed %q", out)
		}
		tool(t, "skopeo", "copy", "-q", "docker-archive:"+f.path("docker.tar"), "oci-archive:"+f.path("peer2.tar")+":team/peer:4")
		if out := f.ok("image", "load", "-i", "peer2.tar"); out != "Loaded image: team/peer:4\n" {
			t.Errorf("load printed %q", out)
		}
	})
	t.Run("podman", func(t *testing.T) {
		peer(t, "podman")
		if os.Geteuid() != 0 {
			t.Skip("needs root: podman's own store")
		}
		dir, err := os.MkdirTemp("", "pod") // podman wants short paths in lower case
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		podman := func(args ...string) string {
			return tool(t, "podman", append([]string{"--root", dir + "/root", "--runroot", dir, "--storage-driver", "vfs"}, args...)...)
		}
		for _, format := range []string{"oci", "docker"} {
			podman("load", "-q", "-i", f.path(format+".tar"))
			if out := podman("images", "-q", "--no-trunc"); !strings.Contains(out, id) {
				t.Errorf("podman loaded %s, not %s", out, id)
			}
			if format == "oci" {
				podman("rmi", "-f", id)
			}
		}
		for _, format := range []string{"oci-archive", "docker-archive"} {
			podman("save", "-q", "--format", format, "-o", f.path(format+".tar"), "localhost/base:1")
			if out := f.ok("image", "load", "-i", format+".tar"); out != "Loaded image: localhost/base:1\n" {
				t.Errorf("load of %s printed %q", format, out)
			}
			if r := f.run("unionfs", "image", "verify", "localhost/base:1"); r.code != 0 {
				t.Errorf("%s: %s", format, r.out)
			}
			f.ok("image", "rm", "localhost/base:1")
		}
		podman("rmi", "-af")
	})
}

func peer(t *testing.T, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skip("needs the tool " + name)
	}
}

func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	var errOut strings.Builder
	cmd := exec.Command(name, args...)
	cmd.Stderr = &errOut
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, errOut.String())
	}
	return string(out)
}
