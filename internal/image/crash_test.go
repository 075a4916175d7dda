package image

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/unionfs-go/unionfs/internal/pack"
	"github.com/unionfs-go/unionfs/internal/stack"
)

// crashEnv tells the test binary to make an image in a store and a directory:
// "OP:STORE:DIR".
const crashEnv = "UNIONFS_TEST_CRASH"

func TestMain(m *testing.M) {
	if s := os.Getenv(crashEnv); s != "" {
		f := strings.Split(s, ":")
		if err := crashWork(f[0], f[1], f[2]); err != nil {
			os.Stderr.WriteString(err.Error() + "\n")
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// crashWork makes the image test:1 of a directory, by commit or import.
func crashWork(op, root, dir string) error {
	store, err := OpenStore(root)
	if err != nil {
		return err
	}
	switch op {
	case "rootless":
		return rootlessWork(store, dir)
	case "load":
		_, err := store.Load(context.Background(), LoadRequest{Path: filepath.Join(dir, "archive.tar")})
		return err
	case "convert":
		img, err := store.Find("test:1")
		if err == nil {
			_, err = store.Convert(context.Background(), ConvertRequest{Image: img, Compression: pack.Zstd, Name: &Reference{Name: "test", Tag: "1"}})
		}
		return err
	case "prune":
		_, err := store.Prune(PruneRequest{InUse: func(string) bool { return false }})
		return err
	case "unpack":
		img, err := store.Find("test:1")
		if err == nil {
			_, err = store.Unpack(context.Background(), img, testNS(), nil)
		}
		return err
	}
	req := CommitRequest{Created: time.Unix(5, 0), Name: &Reference{Name: "test", Tag: "1"}, Op: op}
	if op == "import" {
		f, err := os.Open(filepath.Join(dir, "layer.tar"))
		if err != nil {
			return err
		}
		defer f.Close() //nolint:errcheck // only read
		_, err = store.Import(context.Background(), ImportRequest{Tar: f, Commit: req, Compression: pack.Gzip})
		return err
	}
	l, err := stack.OpenDir(dir, stack.DirOptions{})
	if err != nil {
		return err
	}
	defer l.Close() //nolint:errcheck // only read
	req.Parts = []Part{{Stack: stack.New([]stack.Layer{l}), Pack: pack.Options{Compression: pack.Gzip}}}
	_, err = store.Commit(context.Background(), req)
	return err
}

func TestKilledAtEveryStepOldOrNewImageIsThere(t *testing.T) {
	dir := t.TempDir()
	oldDir, newDir := filepath.Join(dir, "old"), filepath.Join(dir, "new")
	for d, content := range map[string]string{oldDir: "old", newDir: "new"} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(d, "file"), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		command(t, "tar", "-C", d, "-cf", filepath.Join(dir, content+".tar"), "file")
		if err := os.Rename(filepath.Join(dir, content+".tar"), filepath.Join(d, "layer.tar")); err != nil {
			t.Fatal(err)
		}
		layer := mustRead(t, filepath.Join(d, "layer.tar"))
		archive := writeArchive(t, entry{name: "c.json", data: dockerConfig(t, layer)}, entry{name: "l.tar", data: layer},
			entry{name: "manifest.json", data: `[{"Config":"c.json","RepoTags":["test:1"],"Layers":["l.tar"]}]`})
		if err := os.Rename(archive, filepath.Join(d, "archive.tar")); err != nil {
			t.Fatal(err)
		}
	}
	for _, op := range []string{"commit", "import", "load", "convert"} {
		for i, step := range Steps {
			if op == "convert" && step == "config" {
				continue // it stays
			}
			t.Run(op+"."+step, func(t *testing.T) {
				store := filepath.Join(t.TempDir(), "store")
				first := op
				if op == "convert" {
					first = "import"
				}
				if err := crashWork(first, store, oldDir); err != nil {
					t.Fatal(err)
				}
				before := storeState(t, store)
				kill(t, op, step, store, newDir)
				checkAfterCrash(t, store, before, i >= slices.Index(Steps, "index"))
			})
		}
	}
}

func TestKilledWhileUnpackingNothingHalfIsFound(t *testing.T) {
	s := newStore(t)
	img := importText(t, s, "test:1", "file f 1")
	kill(t, "unpack", "unpacked", s.Root(), t.TempDir())
	if _, err := s.unpacked(img.DiffIDs()[0], testNS()); err == nil {
		t.Error("the layer is there before it was published")
	}
	again, err := OpenStore(s.Root())
	if err != nil {
		t.Fatal(err)
	}
	if left, err := again.leftovers(); err != nil || len(left) > 0 {
		t.Errorf("left in tmp: %v, %v", left, err)
	}
	if u, err := again.Unpack(context.Background(), img, testNS(), nil); err != nil || mustRead(t, filepath.Join(u[0].Dir, "f")) != "1" {
		t.Error(err)
	}
}

func TestKilledWhilePruningTheNextPruneEndsIt(t *testing.T) {
	for _, step := range []string{"prune.begin", "prune.index-temp", "prune.index", "prune.end", "gc.blob", "gc.unpacked"} {
		t.Run(step, func(t *testing.T) {
			s := newStore(t)
			old := importText(t, s, "test:1", "file f 1")
			if _, err := s.Unpack(context.Background(), old, testNS(), nil); err != nil {
				t.Fatal(err)
			}
			img := importText(t, s, "test:1", "file f 2")
			killAt(t, "prune", step, s.Root(), t.TempDir())
			again, err := OpenStore(s.Root())
			if err != nil {
				t.Fatal(err)
			}
			if rep := verified(t, again); len(rep.Problems) > 0 {
				t.Errorf("after the crash: %+v", rep.Problems)
			}
			if err := crashWork("prune", s.Root(), ""); err != nil {
				t.Fatal(err)
			}
			blobs, _ := os.ReadDir(s.path("blobs/sha256"))
			left, _ := os.ReadDir(s.path("unpacked/sha256"))
			tmp, _ := again.leftovers()
			if got, err := again.Find("test:1"); err != nil || got.ID() != img.ID() || len(blobs) != 3 || len(left)+len(tmp) > 0 {
				t.Errorf("%v; left %v %v %v", err, blobs, left, tmp)
			}
		})
	}
}

// kill runs the work in a process that kills itself at the step.
func kill(t *testing.T, op, step, store, dir string) {
	t.Helper()
	killAt(t, op, op+"."+step, store, dir)
}

func killAt(t *testing.T, op, point, store, dir string) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), crashEnv+"="+op+":"+store+":"+dir, failpointEnv+"="+point+":kill")
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		t.Fatalf("the step was never reached: %v\n%s", err, out)
	}
	if ws, ok := exit.Sys().(syscall.WaitStatus); !ok || !ws.Signaled() || ws.Signal() != syscall.SIGKILL {
		t.Fatalf("it ended with %v\n%s", err, out)
	}
}

// state is the blobs of a store and the manifest of its image.
type state struct {
	id    digest.Digest
	blobs []string
}

func storeState(t *testing.T, root string) state {
	t.Helper()
	store, err := OpenStore(root)
	if err != nil {
		t.Fatal(err)
	}
	img, err := store.Find("test:1")
	if err != nil {
		t.Fatal(err)
	}
	ents, err := os.ReadDir(filepath.Join(root, "blobs/sha256"))
	if err != nil {
		t.Fatal(err)
	}
	s := state{id: img.Target.Digest}
	for _, e := range ents {
		s.blobs = append(s.blobs, e.Name())
	}
	return s
}

// checkAfterCrash opens the store as the next command does and finds one of the
// two images whole, every blob valid and nothing left over.
func checkAfterCrash(t *testing.T, root string, before state, published bool) {
	t.Helper()
	after := storeState(t, root)
	store, err := OpenStore(root)
	if err != nil {
		t.Fatal(err)
	}
	if got := after.id != before.id; got != published {
		t.Errorf("the new image is there: %v, want %v", got, published)
	}
	if left, err := store.leftovers(); err != nil || len(left) > 0 {
		t.Errorf("left in tmp: %v, %v", left, err)
	}
	images, bad, err := store.Images()
	if err != nil || len(bad) > 0 {
		t.Fatalf("images: %v, %v", err, bad)
	}
	want := 1
	if published {
		want = 2 // the old one without its name
	}
	if len(images) != want {
		t.Errorf("%d images, want %d", len(images), want)
	}
	used, err := store.referenced()
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range after.blobs {
		d := digest.NewDigestFromEncoded(digest.SHA256, b)
		if !used[d] {
			t.Errorf("blob %s belongs to no image", b)
		}
		data, err := os.ReadFile(filepath.Join(root, "blobs/sha256", b))
		if err != nil || digest.FromBytes(data) != d {
			t.Errorf("blob %s is damaged: %v", b, err)
		}
		delete(used, d)
	}
	for d := range used {
		t.Errorf("blob %s is missing", d)
	}
	if !strings.Contains(mustRead(t, filepath.Join(root, "index.json")), `"manifests":[`) {
		t.Error("index.json has no list of manifests")
	}
}

func mustRead(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
