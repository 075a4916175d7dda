package image

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/unionfs-go/unionfs/internal/pack"
)

// ConvertRequest says how Convert compresses.
type ConvertRequest struct {
	Image       *Image
	Compression pack.Compression
	Level       int        // 0: the default
	Name        *Reference // of the result; nil: none
	// Progress, where not nil, is told about each layer that takes work.
	Progress func(string)
}

// Converted is what Convert made.
type Converted struct {
	ID       digest.Digest `json:"id"` // the same as before
	Manifest digest.Digest `json:"manifest"`
	Layers   int           `json:"layers"` // how many were compressed anew
	Before   int64         `json:"before"` // bytes of all layers
	After    int64         `json:"after"`
}

// Convert compresses the layers of an image in another way. Layers that are
// compressed so already stay. The configuration stays, and with it the image ID
// and all DiffIDs, which are checked.
func (s *Store) Convert(ctx context.Context, req ConvertRequest) (Converted, error) {
	var out Converted
	t, err := s.begin("convert")
	if err != nil {
		return out, err
	}
	defer t.end()
	img := req.Image
	m := img.Manifest
	m.Layers = make([]ispec.Descriptor, len(img.Manifest.Layers))
	for i, l := range img.Manifest.Layers {
		out.Before += l.Size
		if m.Layers[i], err = t.convertLayer(ctx, req, i); err != nil {
			return out, fmt.Errorf("layer %d of %s: %w", i+1, img.Target.Digest, err)
		}
		out.After += m.Layers[i].Size
		if m.Layers[i].Digest != l.Digest {
			out.Layers++
		}
	}
	if err := t.copyBlob(img.Layout, m.Config); err != nil {
		return out, err
	}
	m.MediaType, m.SchemaVersion, m.Config.MediaType = ispec.MediaTypeImageManifest, 2, ispec.MediaTypeImageConfig
	raw, err := json.Marshal(m)
	if err != nil {
		return out, fmt.Errorf("write manifest: %w", err)
	}
	target, err := t.putBytes(raw, ispec.MediaTypeImageManifest, "manifest")
	if err != nil {
		return out, err
	}
	target.Platform = &ispec.Platform{Architecture: img.Config.Architecture, OS: img.Config.OS, Variant: img.Config.Variant}
	out.ID, out.Manifest = img.ID(), target.Digest
	err = t.changeIndex(func(idx *ispec.Index) error {
		addToIndex(idx, target, req.Name)
		return nil
	})
	if err != nil {
		return out, err
	}
	return out, t.commit()
}

// convertLayer makes the blob of one layer.
func (t *transaction) convertLayer(ctx context.Context, req ConvertRequest, i int) (ispec.Descriptor, error) {
	from, d, diffID := req.Image.Layout, req.Image.Manifest.Layers[i], req.Image.DiffIDs()[i]
	have, err := from.compression(d)
	if err != nil {
		return d, err
	}
	if have == string(req.Compression) {
		d.MediaType = req.Compression.MediaType()
		return d, t.copyBlob(from, d)
	}
	if req.Progress != nil {
		req.Progress(fmt.Sprintf("converting layer %d of %d (%s)", i+1, len(req.Image.DiffIDs()), diffID.Encoded()[:12]))
	}
	b, err := t.newBlob()
	if err != nil {
		return d, err
	}
	comp, err := pack.NewCompressor(b, req.Compression, req.Level)
	if err != nil {
		b.abandon()
		return d, err
	}
	_, err = from.plain(ctx, d, diffID, comp)
	if cerr := comp.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		b.abandon()
		return d, err
	}
	return b.publish(req.Compression.MediaType(), "layer")
}

// compression tells how a blob is compressed, by its first bytes.
func (l *Layout) compression(d ispec.Descriptor) (string, error) {
	if err := checkDescriptor(d); err != nil {
		return "", err
	}
	r, err := l.openBlob(d)
	if err != nil {
		return "", fmt.Errorf("open blob: %w", err)
	}
	defer r.Close() //nolint:errcheck // only read
	var head [6]byte
	n, err := io.ReadFull(r, head[:])
	if err != nil && n == 0 && d.Size > 0 {
		return "", fmt.Errorf("read blob %s: %w", d.Digest, err)
	}
	return sniff(head[:n]), nil
}
