package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/unionfs-go/unionfs/internal/pack"
	"github.com/unionfs-go/unionfs/internal/stack"
	"github.com/unionfs-go/unionfs/internal/sys"
	"github.com/unionfs-go/unionfs/whiteout"
)

func newStore(t *testing.T) *Store {
	t.Helper()
	s, err := OpenStore(filepath.Join(t.TempDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sys.RemoveTree(s.path(unpackedDir)) })
	return s
}

// importText imports a tar given as text under a name.
func importText(t *testing.T, s *Store, name, text string) *Image {
	t.Helper()
	ref, err := ParseReference(name)
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Import(context.Background(), ImportRequest{
		Tar: bytes.NewReader(buildTar(t, text)), Compression: pack.Gzip, Commit: CommitRequest{Name: &ref, Created: time.Unix(1, 0)},
	})
	if err != nil {
		t.Fatal(err)
	}
	img, err := s.Find(name)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// addLayers makes an image of layers given as text, bottom first, without
// packing.
func addLayers(t *testing.T, s *Store, name string, texts ...string) *Image {
	t.Helper()
	ref := Reference{Name: name, Tag: "1"}
	tx, err := s.begin("test")
	if err != nil {
		t.Fatal(err)
	}
	defer tx.end()
	d, err := tx.newDraft(CommitRequest{Name: &ref, Created: time.Unix(1, 0)})
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range texts {
		res, err := tx.importTar(context.Background(), ImportRequest{Tar: bytes.NewReader(buildTar(t, text))})
		if err != nil {
			t.Fatal(err)
		}
		d.addHistory(ispec.History{}, res)
	}
	if _, err := d.finish(); err != nil {
		t.Fatal(err)
	}
	img, err := s.Find(name + ":1")
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func imageNames(t *testing.T, s *Store) string {
	t.Helper()
	images, bad, err := s.Images()
	if err != nil || len(bad) > 0 {
		t.Fatal(err, bad)
	}
	var out []string
	for _, i := range images {
		out = append(out, i.Name)
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func TestTagAndRemove(t *testing.T) {
	s := newStore(t)
	a := importText(t, s, "a:1", "file f 1")
	b := importText(t, s, "b", "file g 2")
	if err := s.Tag("a:1", Reference{Name: "c", Tag: "2"}); err != nil {
		t.Fatal(err)
	}
	if got := imageNames(t, s); got != "a:1 b:latest c:2" {
		t.Errorf("images %q", got)
	}
	// A name that moves leaves its image without one.
	if err := s.Tag("a:1", Reference{Name: "b", Tag: "latest"}); err != nil {
		t.Fatal(err)
	}
	if got := imageNames(t, s); got != " a:1 b:latest c:2" {
		t.Errorf("images %q", got)
	}
	if img, err := s.Find(b.ID().Encoded()[:12]); err != nil || img.ID() != b.ID() {
		t.Errorf("by short ID: %v", err)
	}
	if _, err := s.Remove(a.ID().String(), false, nil); err == nil || !strings.Contains(err.Error(), "several names") {
		t.Errorf("by ID with several names: %v", err)
	}
	inUse := func(dir string) bool { return strings.Contains(dir, a.DiffIDs()[0].Encoded()) }
	if r, err := s.Remove("c:2", false, inUse); err != nil || len(r.Deleted) > 0 || r.Untagged[0] != "c:2" {
		t.Errorf("one of several names: %+v, %v", r, err)
	}
	if _, err := s.Remove("docker.io/library/b:latest", false, nil); err != nil {
		t.Error(err)
	}
	if _, err := s.Remove("a:1", false, inUse); !errors.Is(err, ErrInUse) {
		t.Errorf("in use: %v", err)
	}
	if r, err := s.Remove("a:1", false, nil); err != nil || len(r.Deleted) != 3 {
		t.Errorf("the last name: %+v, %v", r, err)
	}
	if r, err := s.Remove(b.ID().String(), false, nil); err != nil || len(r.Deleted) != 3 || len(r.Untagged) > 0 {
		t.Errorf("an image without a name: %+v, %v", r, err)
	}
	if _, err := s.Remove("a:1", false, nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("removed twice: %v", err)
	}
	ents, err := os.ReadDir(s.path("blobs/sha256"))
	if err != nil || len(ents) > 0 {
		t.Errorf("blobs are left: %v, %v", ents, err)
	}
}

func TestSharedLayersStayAndGarbageGoes(t *testing.T) {
	s := newStore(t)
	base := importText(t, s, "base:1", "file f 1")
	unpacked, err := s.Unpack(context.Background(), base, testNS(), nil)
	if err != nil {
		t.Fatal(err)
	}
	done, err := s.Commit(context.Background(), CommitRequest{
		Name: &Reference{Name: "two", Tag: "1"}, Parts: []Part{{Image: base}}, Changes: []string{"USER x"}, Created: time.Unix(2, 0),
	})
	if err != nil {
		t.Fatal(err)
	}
	if r, err := s.Remove("base:1", false, nil); err != nil || len(r.Deleted) != 2 {
		t.Errorf("manifest and configuration go, the layer stays: %+v, %v", r, err)
	}
	if _, err := s.Remove(done.ID.String(), false, nil); err != nil {
		t.Error(err)
	}
	used := true
	inUse := func(string) bool { return used }
	for range 2 {
		g, err := s.CollectGarbage(inUse)
		if err != nil || (len(g.Unpacked) == 1) == used {
			t.Errorf("in use %v: %+v, %v", used, g, err)
		}
		if _, err := os.Stat(unpacked[0].Dir); (err == nil) != used {
			t.Errorf("in use %v: %v", used, err)
		}
		used = false
	}
}

func TestWritersAtOnceLoseNothing(t *testing.T) {
	s := newStore(t)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			ref := Reference{Name: "app", Tag: fmt.Sprint(i)}
			_, err := s.Import(context.Background(), ImportRequest{
				Tar: bytes.NewReader(buildTar(t, fmt.Sprintf("file f %d", i%3))), Compression: pack.Zstd,
				Commit: CommitRequest{Name: &ref, Created: time.Unix(1, 0)},
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := imageNames(t, s); got != "app:0 app:1 app:2 app:3 app:4 app:5 app:6 app:7" {
		t.Errorf("images %q", got)
	}
	if _, err := s.CollectGarbage(nil); err != nil {
		t.Error(err)
	}
	if left, err := s.leftovers(); err != nil || len(left) > 0 {
		t.Errorf("left over: %v, %v", left, err)
	}
}

func TestParentsThatALayerLeavesOutAreThoseBelow(t *testing.T) {
	needRoot(t)
	s := newStore(t)
	img := addLayers(t, s, "i", "dir d\nfile d/x 1", "file d/y 2", "file d/z/new 3", "wh .wh.d\nfile d/fresh 4")
	// The first layer's d is 0755; make it stand out in the next image.
	unpacked, err := s.Unpack(context.Background(), img, whiteout.Trusted, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"1970", "2001", "2001", "2001"} { // top first; a deleted d is a new one
		fi, err := os.Stat(filepath.Join(unpacked[i].Dir, "d"))
		if err != nil || fi.ModTime().UTC().Format("2006") != want {
			t.Errorf("layer %d from the top: %v, %v", i, fi.ModTime(), err)
		}
	}
	// The same layer above another one is another directory.
	other := addLayers(t, s, "j", "file q 1", "file d/y 2")
	unpacked, err = s.Unpack(context.Background(), other, whiteout.Trusted, nil)
	if err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(filepath.Join(unpacked[0].Dir, "d")); err != nil || fi.ModTime().Unix() != 0 {
		t.Errorf("%v, %v", fi.ModTime(), err)
	}
	again, err := s.Unpack(context.Background(), other, whiteout.Trusted, func(msg string) { t.Error("unpacked twice:", msg) })
	if err != nil || again[0].Dir != unpacked[0].Dir {
		t.Error(err)
	}
}

func TestAnOpaqueRootCutsTheLayersBelow(t *testing.T) {
	s := newStore(t)
	img := addLayers(t, s, "i", "file a 1", "wh .wh..wh..opq\nfile b 2", "file c 3")
	unpacked, err := s.Unpack(context.Background(), img, testNS(), nil)
	if err != nil || len(unpacked) != 2 {
		t.Fatalf("%d layers, %v", len(unpacked), err)
	}
	u, ok := s.UnpackedAt(unpacked[1].Dir)
	if !ok || !u.Opaque || !img.Matches([]digest.Digest{unpacked[0].DiffID, u.DiffID}, true) {
		t.Errorf("the image is not found again: %+v", u)
	}
}

func TestALayerWithAnotherDiffIDIsNotUnpacked(t *testing.T) {
	s := newStore(t)
	img := importText(t, s, "a:1", "file f 1")
	img.Config.RootFS.DiffIDs[0] = digest.FromString("something else")
	if _, err := s.Unpack(context.Background(), img, testNS(), nil); !errors.Is(err, ErrCorrupt) {
		t.Errorf("error %v", err)
	}
	ents, err := os.ReadDir(s.path(unpackedDir, "sha256"))
	if err != nil || len(ents) > 0 {
		t.Errorf("something was unpacked: %v, %v", ents, err)
	}
}

func TestCommitKeepsConfigurationAndHistory(t *testing.T) {
	s := newStore(t)
	base := importText(t, s, "base:1", "file f 1")
	base.rawConfig = bytes.Replace(base.rawConfig, []byte(`"os":"linux"`), []byte(`"os":"linux","x.unknown":[1],"container":"c"`), 1)
	base.rawConfig = bytes.Replace(base.rawConfig, []byte(`"config":{}`), []byte(`"config":{"Domainname":"d"}`), 1)
	dir := t.TempDir()
	commit := func(name string) *Image {
		l, err := stack.OpenDir(dir, stack.DirOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close() //nolint:errcheck // only read
		_, err = s.Commit(context.Background(), CommitRequest{
			Name: &Reference{Name: name, Tag: "1"}, Author: "me", Message: "why", Created: time.Unix(3, 0), Changes: []string{`CMD ["x"]`},
			Parts: []Part{{Image: base}, {Stack: stack.New([]stack.Layer{l}), CreatedBy: "unionfs commit"}},
		})
		if err != nil {
			t.Fatal(err)
		}
		img, err := s.Find(name + ":1")
		if err != nil {
			t.Fatal(err)
		}
		return img
	}
	empty := commit("empty")
	if n := len(empty.DiffIDs()); n != 1 || !empty.Config.History[1].EmptyLayer {
		t.Errorf("a layer of nothing: %d layers, history %+v", n, empty.Config.History)
	}
	if err := os.WriteFile(filepath.Join(dir, "new"), []byte("n"), 0o644); err != nil {
		t.Fatal(err)
	}
	img := commit("full")
	h := img.Config.History
	if len(h) != 2 || h[1].Author != "me" || h[1].Comment != "why" || h[1].CreatedBy != "unionfs commit" || h[1].Created.Unix() != 3 {
		t.Errorf("history %+v", h)
	}
	raw := string(img.rawConfig)
	for _, want := range []string{`"x.unknown":[1]`, `"Domainname":"d"`, `"Cmd":["x"]`} {
		if !strings.Contains(raw, want) {
			t.Errorf("configuration %s lacks %s", raw, want)
		}
	}
	if strings.Contains(raw, `"container"`) {
		t.Errorf("configuration %s speaks of another container", raw)
	}
	if img.Manifest.Layers[0].Digest != base.Manifest.Layers[0].Digest {
		t.Error("the base layer was made again")
	}
}

func TestImportKeepsCompressedTarsAsTheyAre(t *testing.T) {
	s := newStore(t)
	plain := buildTar(t, "file f 1\nwh .wh.x")
	for _, comp := range []pack.Compression{pack.Gzip, pack.Zstd} {
		var buf bytes.Buffer
		w, err := pack.NewCompressor(&buf, comp, 9)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = w.Write(plain)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		blob := buf.Bytes()
		if comp == pack.Gzip {
			// Two members, and a tail that gzip(1) ignores.
			half := len(plain) / 2
			blob = nil
			for _, part := range [][]byte{plain[:half], plain[half:]} {
				var b bytes.Buffer
				w, err := pack.NewCompressor(&b, comp, 1)
				if err != nil {
					t.Fatal(err)
				}
				_, _ = w.Write(part)
				if err := w.Close(); err != nil {
					t.Fatal(err)
				}
				blob = append(blob, b.Bytes()...)
			}
			blob = append(blob, 0, 0, 0)
		}
		done, err := s.Import(context.Background(), ImportRequest{Tar: bytes.NewReader(blob), Commit: CommitRequest{Name: &Reference{Name: "i", Tag: string(comp)}}})
		if err != nil {
			t.Fatal(err)
		}
		l := done.Layers[0]
		if l.Digest != digest.FromBytes(blob) || l.DiffID != digest.FromBytes(plain) || l.MediaType != comp.MediaType() || l.Counts.Whiteouts != 1 {
			t.Errorf("%s: %+v", comp, l)
		}
	}
	for name, bad := range map[string][]byte{"text": []byte("hello, this is no tar at all; but it is long enough to be taken for one"), "cut": plain[:512], "bzip2": []byte("BZh91AY&SY")} {
		if _, err := s.Import(context.Background(), ImportRequest{Tar: bytes.NewReader(bad), Commit: CommitRequest{}}); err == nil {
			t.Errorf("%s was imported", name)
		}
	}
	if left, err := s.leftovers(); err != nil || len(left) > 0 {
		t.Errorf("left over: %v, %v", left, err)
	}
}
