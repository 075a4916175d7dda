package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

// foreign is a layout made by hand, as another tool might.
type foreign struct {
	t    *testing.T
	root string
}

func newForeign(t *testing.T) *foreign {
	t.Helper()
	f := &foreign{t, t.TempDir()}
	f.file("oci-layout", `{"imageLayoutVersion":"1.0.0"}`)
	return f
}

func (f *foreign) file(name, content string) {
	f.t.Helper()
	path := filepath.Join(f.root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		f.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		f.t.Fatal(err)
	}
}

// blob stores content and returns its descriptor as JSON, with more fields.
func (f *foreign) blob(content, mediaType, more string) string {
	f.t.Helper()
	d := digest.FromString(content)
	f.file("blobs/sha256/"+d.Encoded(), content)
	return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d%s}`, mediaType, d, len(content), more)
}

// image stores an image of one plain layer and returns its manifest's descriptor.
func (f *foreign) image(mediaType, more string) string {
	f.t.Helper()
	layer := string(buildTar(f.t, "file f 1"))
	config := fmt.Sprintf(`{"architecture":"amd64","os":"linux","config":{"Cmd":["x"]},"rootfs":{"type":"layers","diff_ids":[%q]}}`, digest.FromString(layer))
	manifest := fmt.Sprintf(`{"schemaVersion":2,"config":%s,"layers":[%s]}`,
		f.blob(config, "application/vnd.docker.container.image.v1+json", ""),
		f.blob(layer, "application/vnd.docker.image.rootfs.diff.tar.gzip", ""))
	return f.blob(manifest, mediaType, more)
}

func (f *foreign) index(manifests ...string) {
	f.file("index.json", `{"schemaVersion":2,"manifests":[`+strings.Join(manifests, ",")+`]}`)
}

func refName(s string) string {
	return fmt.Sprintf(`,"annotations":{"org.opencontainers.image.ref.name":%q}`, s)
}

func (f *foreign) open() *Layout {
	f.t.Helper()
	l, err := OpenLayout(f.root)
	if err != nil {
		f.t.Fatal(err)
	}
	return l
}

func TestLayoutsOfOtherTools(t *testing.T) {
	f := newForeign(t)
	plain := f.image(dockerManifest, refName("v1"))
	inner := f.image("application/vnd.oci.image.manifest.v1+json", `,"platform":{"os":"linux","architecture":"`+runtime.GOARCH+`"}`)
	other := f.image("application/vnd.oci.image.manifest.v1+json", `,"platform":{"os":"linux","architecture":"s390x"}`)
	list := f.blob(`{"manifests":[`+other+","+inner+`]}`, dockerManifestList, "")
	// The media type of the outer index lies.
	nested := f.blob(`{"manifests":[`+list+`]}`, "application/vnd.oci.image.manifest.v1+json", refName("docker.io/library/multi:2"))
	artifact := f.blob(`{}`, "application/vnd.example.thing", refName("thing"))
	f.index(artifact, plain, nested)
	l := f.open()
	for _, tag := range []string{"v1", "docker.io/library/multi:2", "2", "multi:2"} {
		img, err := l.FindTag(tag)
		if err != nil || img.Config.Config.Cmd[0] != "x" {
			t.Errorf("%s: %v", tag, err)
		}
	}
	for _, tag := range []string{"", "v2", "thing"} {
		if _, err := l.FindTag(tag); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "v1") {
			t.Errorf("%q: %v", tag, err)
		}
	}
	f.index(plain)
	if _, err := l.FindTag(""); err != nil {
		t.Errorf("the only image: %v", err)
	}
	f.file("index.json", `{"schemaVersion":2,"manifests":null}`)
	if images, bad, err := l.Images(); len(images)+len(bad) != 0 || err != nil {
		t.Errorf("no images: %v %v %v", images, bad, err)
	}
}

func TestDamagedLayoutsAreErrors(t *testing.T) {
	good := func(f *foreign) string { return f.image("application/vnd.oci.image.manifest.v1+json", refName("v1")) }
	cases := map[string]func(f *foreign){
		"another digest": func(f *foreign) {
			d := good(f)
			var desc struct{ Digest digest.Digest }
			if err := json.Unmarshal([]byte(d), &desc); err != nil {
				f.t.Fatal(err)
			}
			path := "blobs/sha256/" + desc.Digest.Encoded()
			old := mustRead(f.t, filepath.Join(f.root, path))
			f.file(path, strings.Replace(old, `"schemaVersion":2`, `"schemaVersion":3`, 1))
			f.index(d)
		},
		"another size":  func(f *foreign) { f.index(strings.Replace(good(f), `"size":`, `"size":1`, 1)) },
		"negative size": func(f *foreign) { f.index(strings.Replace(good(f), `"size":`, `"size":-`, 1)) },
		"bad digest":    func(f *foreign) { f.index(strings.Replace(good(f), `"sha256:`, `"sha256:../../`, 1)) },
		"not JSON":      func(f *foreign) { f.index(f.blob("{", "application/vnd.oci.image.manifest.v1+json", refName("v1"))) },
		"neither":       func(f *foreign) { f.index(f.blob("{}", "application/vnd.oci.image.manifest.v1+json", refName("v1"))) },
		"huge JSON": func(f *foreign) {
			f.index(f.blob(strings.Repeat(" ", MaxJSON+1), "application/vnd.oci.image.manifest.v1+json", refName("v1")))
		},
		"layers without DiffIDs": func(f *foreign) {
			config := f.blob(`{"rootfs":{"type":"layers","diff_ids":[]}}`, "c", "")
			f.index(f.blob(`{"config":`+config+`,"layers":[`+config+`]}`, "application/vnd.oci.image.manifest.v1+json", refName("v1")))
		},
		"index in itself, deep": func(f *foreign) {
			d := good(f)
			for range maxNesting + 2 {
				d = f.blob(`{"manifests":[`+d+`]}`, "application/vnd.oci.image.index.v1+json", refName("v1"))
			}
			f.index(d)
		},
	}
	for name, damage := range cases {
		t.Run(name, func(t *testing.T) {
			f := newForeign(t)
			damage(f)
			if img, err := f.open().FindTag("v1"); !errors.Is(err, ErrCorrupt) {
				t.Errorf("got %+v, %v", img, err)
			}
		})
	}
	if _, err := OpenLayout(t.TempDir()); err == nil || !strings.Contains(err.Error(), "oci-layout") {
		t.Errorf("an empty directory: %v", err)
	}
}

func TestStoreRefusesADirectoryOfOtherThings(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "letter.txt"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenStore(dir); err == nil || !strings.Contains(err.Error(), "letter.txt") {
		t.Errorf("error %v", err)
	}
}
