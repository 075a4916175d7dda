package image

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/unionfs-go/unionfs/internal/pack"
)

// interop is an upper of the kernel over two lowers, committed to a store, with
// the tree that it must give everywhere.
func interop(t *testing.T, comp pack.Compression) (store *Store, dir string, want []string) {
	t.Helper()
	needTool(t, "setcap", "setfattr", "setfacl", "python3")
	dir = t.TempDir()
	top, bottom := lowersOf(t, dir)
	upper, merged := filepath.Join(dir, "upper"), filepath.Join(dir, "merged")
	unmount := overlay(t, merged, "lowerdir="+top+":"+bottom+",upperdir="+upper+",workdir="+filepath.Join(dir, "work")+",redirect_dir=on,metacopy=on,index=on")
	shell(t, merged, changes+moves+"\nrm -rf newdir long newdir lat* new*; rm meta big2; touch -d 2001-01-01 .")
	want = snapshot(t, merged)
	unmount()
	store, err := OpenStore(filepath.Join(dir, "store"))
	if err != nil {
		t.Fatal(err)
	}
	commitDirs(t, store, comp, upper, top, bottom)
	return store, dir, want
}

// withoutNoise drops the parts of a snapshot that the peer does not keep: what
// it writes itself, and the times of directories it made.
func withoutNoise(lines []string) []string {
	var out []string
	for _, l := range lines {
		if strings.HasPrefix(l, `"" `) {
			continue
		}
		out = append(out, l)
	}
	return out
}

func TestUmociUnpacksWhatIsCommitted(t *testing.T) {
	needRoot(t)
	needTool(t, "umoci")
	store, dir, want := interop(t, pack.Gzip)
	bundle := filepath.Join(dir, "bundle")
	command(t, "umoci", "unpack", "--image", store.Root()+":test:1", bundle)
	sameTrees(t, "umoci", withoutNoise(snapshot(t, filepath.Join(bundle, "rootfs"))), withoutNoise(want))
}

func TestSkopeoCopiesWhatIsCommitted(t *testing.T) {
	needRoot(t)
	needTool(t, "skopeo")
	store, dir, _ := interop(t, pack.Zstd)
	command(t, "skopeo", "copy", "-q", "oci:"+store.Root()+":test:1", "dir:"+filepath.Join(dir, "dir"))
	store, dir, _ = interop(t, pack.Gzip) // docker archives know no zstd
	archive := filepath.Join(dir, "archive.tar")
	command(t, "skopeo", "copy", "-q", "oci:"+store.Root()+":test:1", "docker-archive:"+archive+":test:1")
	if fi, err := os.Stat(archive); err != nil || fi.Size() == 0 {
		t.Errorf("archive: %v", err)
	}
	// And back into our store under another name, as a peer writes it.
	command(t, "skopeo", "copy", "-q", "docker-archive:"+archive, "oci:"+store.Root()+":back:2")
	img, err := store.Find("back:2")
	if err != nil {
		t.Fatal(err)
	}
	first, err := store.Find("test:1")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := img.DiffIDs(), first.DiffIDs(); len(got) != len(want) || got[0] != want[0] || got[2] != want[2] {
		t.Errorf("DiffIDs %v became %v", want, got)
	}
}

func TestPodmanPullsAndMountsWhatIsCommitted(t *testing.T) {
	needRoot(t)
	needTool(t, "podman")
	store, _, want := interop(t, pack.Zstd)
	runroot, err := os.MkdirTemp("", "run") // podman wants short paths
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(runroot) })
	if err := os.Rename(store.Root(), filepath.Join(runroot, "store")); err != nil {
		t.Fatal(err)
	}
	if store, err = OpenStore(filepath.Join(runroot, "store")); err != nil {
		t.Fatal(err)
	}
	podman := func(args ...string) string {
		return strings.TrimSpace(command(t, "podman", append([]string{
			"--root", filepath.Join(runroot, "pod"), "--runroot", runroot, "--storage-driver", "vfs",
		}, args...)...))
	}
	// podman makes a name of the path, and that must be in lower case.
	t.Chdir(runroot)
	id := podman("pull", "-q", "oci:store:test:1")
	if img, err := store.Find("test:1"); err != nil || img.ID().Encoded() != id {
		t.Errorf("podman says %s, we %v", id, err)
	}
	mnt := podman("image", "mount", id)
	got := snapshot(t, mnt)
	podman("image", "umount", id)
	podman("rmi", "-f", id)
	sameTrees(t, "podman", withoutNoise(got), withoutNoise(want))
}

func TestUmociImagesUnpackHere(t *testing.T) {
	needRoot(t)
	needTool(t, "umoci")
	dir := t.TempDir()
	// umoci rounds times where we cut them.
	whole := "; find . -exec touch -h -d '2003-03-03 03:03:03' {} +"
	layout, bundle := filepath.Join(dir, "layout"), filepath.Join(dir, "bundle")
	command(t, "umoci", "init", "--layout", layout)
	command(t, "umoci", "new", "--image", layout+":v1")
	command(t, "umoci", "unpack", "--image", layout+":v1", bundle)
	root := filepath.Join(bundle, "rootfs")
	shell(t, root, lowerBottom+"\n"+whole[2:])
	command(t, "umoci", "repack", "--refresh-bundle", "--image", layout+":v1", bundle)
	shell(t, root, "rm -rf usr/share/doc bulk sym; mkdir bulk sym; echo 1 >bulk/1; echo x >>etc/conf"+whole)
	command(t, "umoci", "repack", "--image", layout+":v1", bundle)
	store, err := OpenStore(filepath.Join(dir, "store"))
	if err != nil {
		t.Fatal(err)
	}
	l, err := OpenLayout(layout)
	if err != nil {
		t.Fatal(err)
	}
	img, err := l.FindTag("v1")
	if err != nil {
		t.Fatal(err)
	}
	mountAndCompare(t, store, img, filepath.Join(dir, "mnt"), withoutNoise(snapshot(t, root)))
}
