package image

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"

	"github.com/unionfs-go/unionfs/internal/pack"
)

// entry is one member of an archive that a test makes.
type entry struct {
	name, data string
	symlink    string
}

func writeArchive(t *testing.T, entries ...entry) string {
	t.Helper()
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: e.name, Size: int64(len(e.data)), Mode: 0o644}
		if e.symlink != "" {
			h.Typeflag, h.Linkname = tar.TypeSymlink, e.symlink
		}
		if err := tw.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(tw, e.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "archive.tar")
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// compressFile compresses a file beside itself.
func compressFile(t *testing.T, path, kind string) string {
	t.Helper()
	data := mustRead(t, path)
	var b bytes.Buffer
	var w io.WriteCloser = gzip.NewWriter(&b)
	if kind == "zst" {
		var err error
		if w, err = zstd.NewWriter(&b); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := io.WriteString(w, data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+"."+kind, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return path + "." + kind
}

func gzipText(t *testing.T, data string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x")
	if err := os.WriteFile(path, []byte(data), 0o644); err != nil {
		t.Fatal(err)
	}
	return mustRead(t, compressFile(t, path, "gz"))
}

// dockerConfig is a configuration over layers.
func dockerConfig(t *testing.T, layers ...string) string {
	t.Helper()
	c := Config{Architecture: "amd64", OS: "linux", RootFS: RootFS{Type: "layers"}}
	for _, l := range layers {
		c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, digest.FromString(l))
	}
	b, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func loadFile(t *testing.T, path, only string) (*Store, []Loaded) {
	t.Helper()
	s := newStore(t)
	list, err := s.Load(context.Background(), LoadRequest{Path: path, Only: only})
	if err != nil {
		t.Fatal(err)
	}
	if left, err := s.leftovers(); err != nil || len(left) > 0 {
		t.Errorf("left in tmp: %v, %v", left, err)
	}
	return s, list
}

// checkStore finds the image whole, with these layers.
func checkStore(t *testing.T, s *Store, name string, layers ...string) {
	t.Helper()
	img, err := s.Find(name)
	if err != nil {
		t.Fatal(err)
	}
	if len(img.DiffIDs()) != len(layers) {
		t.Fatalf("%d layers, want %d", len(img.DiffIDs()), len(layers))
	}
	for i, want := range layers {
		var b bytes.Buffer
		if _, err := img.Layout.plain(context.Background(), img.Manifest.Layers[i], img.DiffIDs()[i], &b); err != nil {
			t.Error(err)
		}
		if b.String() != want {
			t.Errorf("layer %d has other bytes", i)
		}
	}
}

func TestDockerArchivesOfAllShapes(t *testing.T) {
	base, top := string(buildTar(t, "file a 1")), string(buildTar(t, "file b 2"))
	config := dockerConfig(t, base, top, base)
	id := digest.FromString(config).Encoded()
	manifest := `[{"Config":"` + id + `.json","RepoTags":["docker.io/library/app:1","host:5000/app:2"],"Layers":["L1/layer.tar","two.tar","L3/layer.tar"]}]`
	files := []entry{
		{name: "L1/layer.tar", data: base},
		{name: "./two.tar", data: gzipText(t, top)},
		{name: "L3/layer.tar", symlink: "../L1/layer.tar"},
		{name: id + ".json", data: config},
		{name: "repositories", data: "{}"},
	}
	first := writeArchive(t, append([]entry{{name: "manifest.json", data: manifest}}, files...)...)
	last := writeArchive(t, append(append([]entry{{name: "manifest.json", data: "[]"}}, files...), entry{name: "manifest.json", data: manifest})...)
	for name, path := range map[string]string{
		"first": first, "last": last, "gzip": compressFile(t, last, "gz"), "zstd": compressFile(t, first, "zst"),
	} {
		t.Run(name, func(t *testing.T) {
			s, list := loadFile(t, path, "")
			if len(list) != 1 || list[0].ID.Encoded() != id || strings.Join(list[0].Names, " ") != "app:1 host:5000/app:2" {
				t.Errorf("loaded %+v", list)
			}
			checkStore(t, s, "app:1", base, top, base)
			checkStore(t, s, "host:5000/app:2", base, top, base)
		})
	}
	// The same from a stream, which cannot be read twice.
	s := newStore(t)
	if _, err := s.Load(context.Background(), LoadRequest{Path: "-", Reader: strings.NewReader(mustRead(t, last))}); err != nil {
		t.Fatal(err)
	}
	checkStore(t, s, "app:1", base, top, base)
}

func TestDamagedArchivesLeaveNothing(t *testing.T) {
	layer := string(buildTar(t, "file a 1"))
	config := dockerConfig(t, layer)
	manifest := `[{"Config":"c.json","RepoTags":["app:1"],"Layers":["l.tar"]}]`
	for name, files := range map[string][]entry{
		"other layer":   {{name: "manifest.json", data: manifest}, {name: "c.json", data: config}, {name: "l.tar", data: string(buildTar(t, "file a 2"))}},
		"layer is text": {{name: "manifest.json", data: manifest}, {name: "c.json", data: config}, {name: "l.tar", data: strings.Repeat("text", 300)}},
		"no layer":      {{name: "manifest.json", data: manifest}, {name: "c.json", data: config}},
		"links":         {{name: "manifest.json", data: manifest}, {name: "c.json", data: config}, {name: "l.tar", symlink: "l.tar"}},
		"link outside":  {{name: "manifest.json", data: manifest}, {name: "c.json", data: config}, {name: "l.tar", symlink: "../../../../etc/passwd"}},
		"no config":     {{name: "manifest.json", data: manifest}, {name: "l.tar", data: layer}},
		"bad DiffID":    {{name: "manifest.json", data: manifest}, {name: "c.json", data: `{"rootfs":{"diff_ids":["sha256:../x"]}}`}, {name: "l.tar", data: layer}},
		"two layers":    {{name: "manifest.json", data: manifest}, {name: "c.json", data: dockerConfig(t, layer, layer)}, {name: "l.tar", data: layer}},
		"nothing":       {{name: "manifest.json", data: "[]"}},
		"a rootfs":      {{name: "etc/passwd", data: "root"}},
		"broken JSON":   {{name: "manifest.json", data: "{"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			_, err := s.Load(context.Background(), LoadRequest{Path: writeArchive(t, files...)})
			if err == nil {
				t.Fatal("no error")
			}
			if got := imageNames(t, s); got != "" {
				t.Errorf("images %q after %v", got, err)
			}
			blobs, _ := os.ReadDir(s.path("blobs/sha256"))
			left, _ := s.leftovers()
			if len(blobs)+len(left) > 0 {
				t.Errorf("left: %v %v", blobs, left)
			}
		})
	}
}

// saved saves images of a store to a file.
func saved(t *testing.T, s *Store, format ArchiveFormat, names ...string) string {
	t.Helper()
	var images []*Image
	tags := make(map[digest.Digest][]Reference)
	for _, n := range names {
		img, err := s.Find(n)
		if err != nil {
			t.Fatal(err)
		}
		ref, err := ParseReference(n)
		if err != nil {
			t.Fatal(err)
		}
		images = append(images, img)
		tags[img.Target.Digest] = append(tags[img.Target.Digest], ref)
	}
	path := filepath.Join(t.TempDir(), string(format)+".tar")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // the test reads it
	if err := s.Save(context.Background(), f, images, tags, format); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestWhatIsSavedLoadsAgain(t *testing.T) {
	s := newStore(t)
	a := importText(t, s, "a:1", "file f 1")
	b := addLayers(t, s, "b", "file f 1", "file g 2", "file f 1")
	if err := s.Tag("a:1", Reference{Name: "c", Tag: "9"}); err != nil {
		t.Fatal(err)
	}
	for _, format := range []ArchiveFormat{OCIArchive, DockerArchive} {
		t.Run(string(format), func(t *testing.T) {
			path := saved(t, s, format, "a:1", "b:1", "c:9")
			if mustRead(t, path) != mustRead(t, saved(t, s, format, "c:9", "b:1", "a:1")) {
				t.Error("the same images gave other bytes")
			}
			for _, p := range []string{path, compressFile(t, path, "gz")} {
				to, _ := loadFile(t, p, "")
				if got := imageNames(t, to); got != "a:1 b:1 c:9" {
					t.Errorf("images %q", got)
				}
				for name, want := range map[string]*Image{"a:1": a, "b:1": b, "c:9": a} {
					got, err := to.Find(name)
					if err != nil || got.ID() != want.ID() || format == OCIArchive && got.Target.Digest != want.Target.Digest {
						t.Errorf("%s: %v", name, err)
					}
				}
			}
			one, list := loadFile(t, path, "b:1")
			if got := imageNames(t, one); got != "b:1" || len(list) != 1 {
				t.Errorf("images %q", got)
			}
			img, err := one.LoadImage(context.Background(), path, "9")
			if err != nil || img.ID() != a.ID() || img.Name != "" {
				t.Errorf("by tag: %v", err)
			}
			if _, err := one.LoadImage(context.Background(), path, "none"); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "b:1") {
				t.Errorf("no such tag: %v", err)
			}
			if _, err := one.LoadImage(context.Background(), path, ""); !errors.Is(err, ErrNotFound) {
				t.Errorf("two images: %v", err)
			}
		})
	}
}

func TestAnArchiveOfBothForms(t *testing.T) {
	s := newStore(t)
	addLayers(t, s, "b", "file f 1", "file g 2")
	path := saved(t, s, OCIArchive, "b:1")
	// Without its layout it is a docker-archive whose paths are those of blobs.
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // only read
	var entries []entry
	for tr := tar.NewReader(f); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		if h.Name != "oci-layout" && h.Name != "index.json" {
			entries = append(entries, entry{name: h.Name, data: string(data)})
		}
	}
	to, _ := loadFile(t, writeArchive(t, entries...), "")
	checkStore(t, to, "b:1", string(buildTar(t, "file f 1")), string(buildTar(t, "file g 2")))
}

func TestConvertKeepsTheImageID(t *testing.T) {
	s := newStore(t)
	img := addLayers(t, s, "b", "file f 1", "file g 2")
	for _, c := range []string{"zstd", "gzip", "none", "gzip"} {
		done, err := s.Convert(context.Background(), ConvertRequest{Image: img, Compression: compressionOf(t, c), Name: &Reference{Name: "b", Tag: c}})
		if err != nil {
			t.Fatal(err)
		}
		if done.ID != img.ID() || (done.Layers == 0) != (c == "none") {
			t.Errorf("%s: %+v", c, done)
		}
		got, err := s.Find("b:" + c)
		if err != nil {
			t.Fatal(err)
		}
		if kind, err := got.Layout.compression(got.Manifest.Layers[1]); err != nil || kind != c {
			t.Errorf("compressed with %s, %v", kind, err)
		}
		checkStore(t, s, "b:"+c, string(buildTar(t, "file f 1")), string(buildTar(t, "file g 2")))
	}
}

func compressionOf(t *testing.T, s string) pack.Compression {
	t.Helper()
	c, err := pack.ParseCompression(s)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
