package demoimage

import (
	_ "crypto/sha256" // the hash that go-digest looks up
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Write makes a new OCI image layout with the image in it, under the name Name.
// The directory must be empty or missing. The same binary writes the same bytes
// every time.
func Write(dir string) error {
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return fmt.Errorf("make the demo image in %s: the directory is not empty, name a new one", dir)
	}
	w := &layout{dir: dir}
	if err := os.MkdirAll(filepath.Join(dir, ispec.ImageBlobsDir, "sha256"), 0o755); err != nil {
		return fmt.Errorf("make the demo image: %w", err)
	}
	manifest, err := w.image()
	if err != nil {
		return fmt.Errorf("make the demo image in %s: %w", dir, err)
	}
	manifest.Annotations = map[string]string{ispec.AnnotationRefName: Name}
	index := ispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ispec.MediaTypeImageIndex,
		Manifests: []ispec.Descriptor{manifest},
	}
	err = errors.Join(
		w.file(ispec.ImageLayoutFile, ispec.ImageLayout{Version: ispec.ImageLayoutVersion}),
		w.file(ispec.ImageIndexFile, index),
	)
	if err != nil {
		return fmt.Errorf("make the demo image in %s: %w", dir, err)
	}
	return nil
}

// layout is an image layout being written.
type layout struct{ dir string }

// image writes layers, configuration and manifest, and gives the manifest's
// descriptor.
func (w *layout) image() (ispec.Descriptor, error) {
	config := ispec.Image{
		Created:  &Created,
		Author:   "unionfs",
		Platform: ispec.Platform{Architecture: "amd64", OS: "linux"},
		Config:   ispec.ImageConfig{WorkingDir: "/srv/app", Cmd: []string{"./server.py"}},
		RootFS:   ispec.RootFS{Type: "layers"},
	}
	manifest := ispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ispec.MediaTypeImageManifest}
	for _, layer := range Layers() {
		blob, err := layer.Tar()
		if err != nil {
			return ispec.Descriptor{}, err
		}
		d, err := w.blob(ispec.MediaTypeImageLayer, blob)
		if err != nil {
			return d, err
		}
		manifest.Layers = append(manifest.Layers, d)
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, d.Digest)
		config.History = append(config.History, ispec.History{Created: &Created, CreatedBy: layer.CreatedBy})
	}
	var err error
	if manifest.Config, err = w.object(ispec.MediaTypeImageConfig, config); err != nil {
		return ispec.Descriptor{}, err
	}
	return w.object(ispec.MediaTypeImageManifest, manifest)
}

// object stores a value as a JSON blob.
func (w *layout) object(mediaType string, v any) (ispec.Descriptor, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return ispec.Descriptor{}, err
	}
	return w.blob(mediaType, text)
}

// blob stores bytes under their digest.
func (w *layout) blob(mediaType string, content []byte) (ispec.Descriptor, error) {
	d := ispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(content), Size: int64(len(content))}
	name := filepath.Join(w.dir, ispec.ImageBlobsDir, d.Digest.Algorithm().String(), d.Digest.Encoded())
	return d, os.WriteFile(name, content, 0o644)
}

// file writes one of the JSON files of the layout.
func (w *layout) file(name string, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(w.dir, name), text, 0o644)
}
