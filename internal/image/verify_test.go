package image

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/unionfs-go/unionfs/internal/pack"
)

func verified(t *testing.T, s *Store, names ...string) Report {
	t.Helper()
	rep, err := s.Verify(context.Background(), names)
	if err != nil {
		t.Fatal(err)
	}
	return rep
}

func TestVerifyOfASoundStore(t *testing.T) {
	s := newStore(t)
	img := addLayers(t, s, "a", "file f 1", "file g 2", "file f 1")
	importText(t, s, "b:1", "file f 1")
	if _, err := s.Unpack(context.Background(), img, testNS(), nil); err != nil {
		t.Fatal(err)
	}
	rep := verified(t, s)
	if len(rep.Problems) > 0 {
		t.Errorf("problems: %+v", rep.Problems)
	}
	if rep.Images != 2 || rep.Layers != 3 || rep.Blobs != 7 {
		t.Errorf("%+v", rep)
	}
	if one := verified(t, s, "b:1"); one.Images != 1 || one.Blobs != 3 {
		t.Errorf("%+v", one)
	}
	if _, err := s.Verify(context.Background(), []string{"none"}); !errors.Is(err, ErrNotFound) {
		t.Errorf("%v", err)
	}
}

// replaceBlob puts other bytes where a blob is.
func replaceBlob(t *testing.T, s *Store, d digest.Digest, data string) {
	t.Helper()
	path, err := s.BlobPath(d)
	if err != nil {
		t.Fatal(err)
	}
	if data == "" {
		err = os.Remove(path)
	} else {
		err = os.WriteFile(path, []byte(data), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// forge makes an image whose configuration and manifest a test may falsify.
func forge(t *testing.T, s *Store, img *Image, change func(c *Config, m *ispec.Manifest)) {
	t.Helper()
	tx, err := s.begin("test")
	if err != nil {
		t.Fatal(err)
	}
	defer tx.end()
	c, m := img.Config, img.Manifest
	m.Layers = append([]ispec.Descriptor{}, m.Layers...)
	change(&c, &m)
	put := func(v any, mediaType string) ispec.Descriptor {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		d, err := tx.putBytes(b, mediaType, "config")
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	m.Config = put(c, ispec.MediaTypeImageConfig)
	target := put(m, ispec.MediaTypeImageManifest)
	target.Platform = &ispec.Platform{OS: "linux", Architecture: "amd64"}
	err = tx.changeIndex(func(idx *ispec.Index) error {
		addToIndex(idx, target, &Reference{Name: "forged", Tag: "1"})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := tx.commit(); err != nil {
		t.Fatal(err)
	}
}

func TestVerifyFindsWhatIsWrong(t *testing.T) {
	for name, c := range map[string]struct {
		harm func(t *testing.T, s *Store, img *Image)
		want string
	}{
		"layer changed": {func(t *testing.T, s *Store, img *Image) {
			path, _ := s.BlobPath(img.Manifest.Layers[0].Digest)
			b := []byte(mustRead(t, path))
			b[700] ^= 1
			replaceBlob(t, s, img.Manifest.Layers[0].Digest, string(b))
		}, "another digest"},
		"layer cut":     {func(t *testing.T, s *Store, img *Image) { replaceBlob(t, s, img.Manifest.Layers[0].Digest, "x") }, "it has 1 of"},
		"layer gone":    {func(t *testing.T, s *Store, img *Image) { replaceBlob(t, s, img.Manifest.Layers[0].Digest, "") }, "no such file"},
		"config gone":   {func(t *testing.T, s *Store, img *Image) { replaceBlob(t, s, img.ID(), "") }, "read configuration"},
		"manifest gone": {func(t *testing.T, s *Store, img *Image) { replaceBlob(t, s, img.Target.Digest, "") }, "no such file"},
		"loose blob": {func(t *testing.T, s *Store, _ *Image) {
			replaceBlob(t, s, digest.FromString("nothing"), "something")
		}, "another digest"},
		"stray file": {func(t *testing.T, s *Store, _ *Image) {
			if err := os.WriteFile(s.path("blobs/sha256/stray"), nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}, "not the name of a blob"},
		"unpacked layer": {func(t *testing.T, s *Store, img *Image) {
			u, err := s.Unpack(context.Background(), img, testNS(), nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(filepath.Dir(u[0].Dir), layerInfo), []byte("{"), 0o644); err != nil {
				t.Fatal(err)
			}
		}, "remove the directory"},
		"DiffID": {func(t *testing.T, s *Store, img *Image) {
			forge(t, s, img, func(c *Config, _ *ispec.Manifest) {
				c.RootFS.DiffIDs = []digest.Digest{digest.FromString("x"), c.RootFS.DiffIDs[1]}
			})
		}, "the layer's DiffID is"},
		"layers": {func(t *testing.T, s *Store, img *Image) {
			forge(t, s, img, func(_ *Config, m *ispec.Manifest) { m.Layers = m.Layers[:1] })
		}, "the manifest has 1 layers"},
		"history": {func(t *testing.T, s *Store, img *Image) {
			forge(t, s, img, func(c *Config, _ *ispec.Manifest) { c.History = c.History[:1] })
		}, "the history tells of 1 layers"},
		"media type": {func(t *testing.T, s *Store, img *Image) {
			forge(t, s, img, func(_ *Config, m *ispec.Manifest) { m.Layers[0].MediaType = ispec.MediaTypeImageLayerZstd })
		}, "compressed with none"},
		"platform": {func(t *testing.T, s *Store, img *Image) {
			forge(t, s, img, func(c *Config, _ *ispec.Manifest) { c.Architecture = "riscv64" })
		}, "its configuration linux/riscv64"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			c.harm(t, s, addLayers(t, s, "a", "file f 1", "file g 2"))
			rep := verified(t, s)
			found := false
			for _, p := range rep.Problems {
				found = found || strings.Contains(p.Message, c.want)
			}
			if !found {
				t.Errorf("no problem with %q in %+v", c.want, rep.Problems)
			}
		})
	}
}

func TestPruneKeepsWhatAMountHas(t *testing.T) {
	s := newStore(t)
	old := importText(t, s, "a:1", "file f 1")
	importText(t, s, "a:1", "file f 2") // old has no name now
	gone := importText(t, s, "b:1", "file g 1")
	importText(t, s, "b:1", "file g 2")
	dirs := make(map[string]digest.Digest)
	for _, img := range []*Image{old, gone} {
		u, err := s.Unpack(context.Background(), img, testNS(), nil)
		if err != nil {
			t.Fatal(err)
		}
		dirs[u[0].Dir] = img.ID()
	}
	inUse := func(path string) bool { return dirs[path] == old.ID() }
	use, _, err := s.Usage(inUse)
	if err != nil || len(use.Images) != 4 || len(use.Unpacked) != 2 {
		t.Fatalf("%+v, %v", use, err)
	}
	plan, err := s.Prune(PruneRequest{InUse: inUse, DryRun: true})
	if err != nil {
		t.Fatal(err)
	}
	if got := imageNames(t, s); got != "  a:1 b:1" {
		t.Errorf("a dry run left images %q", got)
	}
	done, err := s.Prune(PruneRequest{InUse: inUse})
	if err != nil {
		t.Fatal(err)
	}
	if len(done.Images) != 1 || done.Images[0].ID != gone.ID() || len(done.Blobs) != 3 || len(done.Unpacked) != 1 {
		t.Errorf("removed %+v", done)
	}
	if len(plan.Blobs) != len(done.Blobs) || plan.Bytes != done.Bytes || len(plan.Unpacked) != 1 || plan.Images[0] != done.Images[0] {
		t.Errorf("planned %+v, done %+v", plan, done)
	}
	if got := imageNames(t, s); got != " a:1 b:1" {
		t.Errorf("images %q", got)
	}
	if rep := verified(t, s); len(rep.Problems) > 0 {
		t.Errorf("%+v", rep.Problems)
	}
	for dir, id := range dirs {
		if _, err := os.Stat(dir); (err == nil) != (id == old.ID()) {
			t.Errorf("%s: %v", dir, err)
		}
	}
	if done, err = s.Prune(PruneRequest{InUse: inUse, All: true}); err != nil || len(done.Images) != 2 {
		t.Errorf("all: %+v, %v", done, err)
	}
	if got := imageNames(t, s); got != "" {
		t.Errorf("images %q", got)
	}
}

func TestUsageCountsEachLayerOnce(t *testing.T) {
	s := newStore(t)
	a := addLayers(t, s, "a", "file f 1", "file g 2")
	b := addLayers(t, s, "b", "file f 1", "file h 33")
	if err := s.Tag("a:1", Reference{Name: "c", Tag: "1"}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Convert(context.Background(), ConvertRequest{Image: b, Compression: pack.None}); err != nil {
		t.Fatal(err)
	}
	blob, _ := s.BlobPath(a.Manifest.Layers[1].Digest)
	use, _, err := s.Usage(func(path string) bool { return path == blob })
	if err != nil || len(use.Images) < 2 {
		t.Fatalf("%+v, %v", use, err)
	}
	total := int64(0)
	ents, err := os.ReadDir(s.path("blobs/sha256"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range ents {
		fi, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		total += fi.Size()
	}
	if use.ImageBytes != total || use.GarbageBlobs != 0 {
		t.Errorf("%d bytes, the blobs have %d", use.ImageBytes, total)
	}
	one := use.Images[0]
	if len(one.Names) != 2 || !one.Active || one.Size != a.Size() || one.Shared != a.Manifest.Layers[0].Size || one.Unique != one.Size-one.Shared {
		t.Errorf("%+v", one)
	}
	if use.Images[1].Active || use.ActiveBytes != a.Size() {
		t.Errorf("%+v", use)
	}
}
