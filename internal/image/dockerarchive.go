package image

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/unionfs-go/unionfs/internal/pack"
)

// loadDocker loads a docker-archive. Layers become blobs as they are in it.
func (l *loader) loadDocker() error {
	list, err := l.dockerEntries()
	if err != nil {
		return err
	}
	for _, e := range list {
		names := references(e.RepoTags)
		if !l.wanted(names) {
			continue
		}
		f, err := l.dockerImage(e)
		if err != nil {
			return err
		}
		f.names = names
		l.out = append(l.out, f)
	}
	return nil
}

// dockerImage makes the blobs of one image, and a manifest for it.
func (l *loader) dockerImage(e dockerEntry) (found, error) {
	raw, err := l.a.read(e.Config)
	if err != nil {
		return found{}, err
	}
	var c Config
	if err := json.Unmarshal(raw, &c); err != nil {
		return found{}, fmt.Errorf("read %s: %w: %w", e.Config, ErrCorrupt, err)
	}
	if n, m := len(e.Layers), len(c.RootFS.DiffIDs); n != m {
		return found{}, fmt.Errorf("image %s: %w: %d layers but %d DiffIDs", e.Config, ErrCorrupt, n, m)
	}
	m := ispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ispec.MediaTypeImageManifest, Layers: []ispec.Descriptor{},
	}
	for i, name := range e.Layers {
		d, err := l.dockerLayer(name, c.RootFS.DiffIDs[i])
		if err != nil {
			return found{}, fmt.Errorf("layer %s: %w", name, err)
		}
		m.Layers = append(m.Layers, d)
	}
	if m.Config, err = l.t.putBytes(raw, ispec.MediaTypeImageConfig, "config"); err != nil {
		return found{}, err
	}
	b, err := json.Marshal(m)
	if err != nil {
		return found{}, fmt.Errorf("write manifest: %w", err)
	}
	target, err := l.t.putBytes(b, ispec.MediaTypeImageManifest, "manifest")
	if err != nil {
		return found{}, err
	}
	target.Platform = &ispec.Platform{Architecture: c.Architecture, OS: c.OS, Variant: c.Variant}
	return found{target: target, id: m.Config.Digest, image: target.Digest}, nil
}

// dockerLayer makes a blob of a layer, unless there is one already.
func (l *loader) dockerLayer(name string, diffID digest.Digest) (ispec.Descriptor, error) {
	d := ispec.Descriptor{MediaType: ispec.MediaTypeImageLayer, Digest: diffID}
	if err := checkDescriptor(d); err != nil {
		return d, err
	}
	r, err := l.a.open(name)
	if err != nil {
		return d, err
	}
	// A plain layer's DiffID is its digest.
	d.Size = r.Size()
	path, err := l.t.s.BlobPath(diffID)
	if err != nil {
		return d, err
	}
	if fi, err := os.Lstat(path); err == nil && fi.Mode().IsRegular() && fi.Size() == d.Size && isPlain(r) {
		return d, nil
	}
	b, err := l.t.newBlob()
	if err != nil {
		return d, err
	}
	res, err := storeTar(l.ctx, ImportRequest{Tar: r, Compression: pack.None}, b)
	if err == nil && res.DiffID != diffID {
		err = fmt.Errorf("%w: its DiffID is %s, the configuration says %s", ErrCorrupt, res.DiffID, diffID)
	}
	if err != nil {
		b.abandon()
		return d, err
	}
	return b.publish(res.MediaType, "layer")
}

func isPlain(r *io.SectionReader) bool {
	var head [6]byte
	n, _ := r.ReadAt(head[:], 0)
	return sniff(head[:n]) == "none"
}
