package image

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// partialDir holds blobs that were not pulled to their end, by digest. A later
// pull goes on with them.
const partialDir = "partial"

// Pulled is what Pull did.
type Pulled struct {
	Name     string        `json:"name"`
	ID       digest.Digest `json:"id"`
	Manifest digest.Digest `json:"manifest"`
	Fresh    bool          `json:"fresh"` // the name did not stand for this image before
	Bytes    int64         `json:"bytes"` // that were fetched
}

// Pull fetches an image from its registry into the store and gives it the name.
// Blobs that are there are not fetched again, and a blob of which a killed pull
// left a part is fetched from there on. Errors are ErrNotFound, ErrDenied,
// ErrCorrupt or one of the network.
func (s *Store) Pull(ctx context.Context, name Reference, opt RegistryOptions) (Pulled, error) {
	out := Pulled{Name: name.String()}
	c, err := newRegistryClient(name, opt)
	if err != nil {
		return out, err
	}
	target, raw, err := c.fetchManifest(ctx, tagOrDigest(name), 0)
	if err != nil {
		return out, err
	}
	var m ispec.Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return out, fmt.Errorf("read manifest of %s: %w: %w", name, ErrCorrupt, err)
	}
	for _, d := range append([]ispec.Descriptor{m.Config}, m.Layers...) {
		if err := checkDescriptor(d); err != nil {
			return out, fmt.Errorf("manifest of %s: %w", name, err)
		}
		if d.Digest.Algorithm() != digest.SHA256 {
			return out, fmt.Errorf("manifest of %s: %s: only sha256 is supported", name, d.Digest)
		}
	}
	t, err := s.begin("pull")
	if err != nil {
		return out, err
	}
	defer t.end()
	p := &puller{registryClient: c, t: t}
	defer p.close()
	if err := p.blobs(ctx, &m); err != nil {
		return out, fmt.Errorf("pull %s: %w", name, c.explain(err))
	}
	if err := p.publish(); err != nil {
		return out, err
	}
	if target, err = t.putBytes(raw, target.MediaType, "manifest"); err != nil {
		return out, err
	}
	img, err := s.load(target)
	if err != nil {
		return out, fmt.Errorf("pull %s: %w", name, err)
	}
	target.Platform = &ispec.Platform{Architecture: img.Config.Architecture, OS: img.Config.OS, Variant: img.Config.Variant}
	out.ID, out.Manifest, out.Bytes = img.ID(), target.Digest, p.fetched()
	had, err := s.Find(name.String())
	out.Fresh = err != nil || had.Target.Digest != target.Digest
	err = t.changeIndex(func(idx *ispec.Index) error {
		addToIndex(idx, target, &name)
		return nil
	})
	if err != nil {
		return out, err
	}
	return out, t.commit()
}
