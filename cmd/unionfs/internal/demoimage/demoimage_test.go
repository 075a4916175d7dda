package demoimage

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func names(t *testing.T, blob []byte) map[string]*tar.Header {
	t.Helper()
	out := map[string]*tar.Header{}
	r := tar.NewReader(bytes.NewReader(blob))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		out[h.Name] = h
	}
}

func TestLayersHoldTheApplication(t *testing.T) {
	layers := Layers()
	if len(layers) != 3 {
		t.Fatalf("%d layers, want 3", len(layers))
	}
	want := [][]string{
		{"etc/", "etc/os-release", "usr/bin/hello"},
		{"srv/app/docs/", "srv/app/docs/install.md", "srv/app/server.py", "etc/app/app.conf.example"},
		{"etc/app/app.conf", "etc/app/.wh.app.conf.example"},
	}
	for i, layer := range layers {
		blob, err := layer.Tar()
		if err != nil {
			t.Fatal(err)
		}
		have := names(t, blob)
		for _, name := range want[i] {
			if have[name] == nil {
				t.Errorf("layer %d has no %s", i+1, name)
			}
		}
	}
}

func TestProgramsAreExecutable(t *testing.T) {
	for i, name := range []string{"usr/bin/hello", "srv/app/server.py"} {
		blob, err := Layers()[i].Tar()
		if err != nil {
			t.Fatal(err)
		}
		if h := names(t, blob)[name]; h == nil || h.Mode != 0o755 {
			t.Errorf("%s has header %+v, want mode 0755", name, h)
		}
	}
}

func TestTarIsTheSameEveryTime(t *testing.T) {
	for _, layer := range Layers() {
		one, err := layer.Tar()
		if err != nil {
			t.Fatal(err)
		}
		two, err := layer.Tar()
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(one, two) {
			t.Errorf("%s: two tars differ", layer.CreatedBy)
		}
	}
}

func TestWriteMakesALayoutAndOnlyInAnEmptyDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	if err := Write(dir); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	var index ispec.Index
	if err := json.Unmarshal(text, &index); err != nil {
		t.Fatal(err)
	}
	if len(index.Manifests) != 1 || index.Manifests[0].Annotations[ispec.AnnotationRefName] != Name {
		t.Errorf("index.json is %s", text)
	}
	blobs, err := os.ReadDir(filepath.Join(dir, "blobs", "sha256"))
	if err != nil {
		t.Fatal(err)
	}
	if len(blobs) != 5 {
		t.Errorf("%d blobs, want three layers, a configuration and a manifest", len(blobs))
	}
	for _, b := range blobs {
		content, err := os.ReadFile(filepath.Join(dir, "blobs", "sha256", b.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if got := digest.FromBytes(content).Encoded(); got != b.Name() {
			t.Errorf("blob %s has digest %s", b.Name(), got)
		}
	}
	if err := Write(dir); err == nil {
		t.Error("wrote over a directory that is not empty")
	}
}
