package image

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/registry"
)

// Pushed is what Push did.
type Pushed struct {
	Name     string        `json:"name"`
	Manifest digest.Digest `json:"manifest"`
	Size     int64         `json:"size"` // of the manifest
}

// Push sends an image, of this store or of another layout, to the registry of
// name. Blobs that the registry has are not sent; those that another of its
// repositories has, as far as this store knows, are mounted from there. Errors
// are ErrDenied, ErrCorrupt or one of the network.
func (s *Store) Push(ctx context.Context, img *Image, name Reference, opt RegistryOptions) (Pushed, error) {
	out := Pushed{Name: name.String(), Manifest: img.Target.Digest, Size: img.Target.Size}
	if name.Digest != "" {
		return out, fmt.Errorf("push %s: an image is pushed to a tag, not to a digest", name)
	}
	c, err := newRegistryClient(name, opt)
	if err != nil {
		return out, err
	}
	var m json.RawMessage
	manifest, err := img.Layout.readJSON(img.Target, &m)
	if err != nil {
		return out, err
	}
	p := &pusher{registryClient: c, img: img, others: s.reposWith(c.ref)}
	if err := p.blobs(ctx); err != nil {
		return out, fmt.Errorf("push %s: %w", name, c.explain(err))
	}
	target := img.Target
	if target.MediaType == "" {
		target.MediaType = ispec.MediaTypeImageManifest
	}
	err = p.attempts(ctx, target, func() error {
		return c.repo.Manifests().PushReference(ctx, target, bytes.NewReader(manifest), name.Tag)
	})
	if err != nil {
		return out, fmt.Errorf("push %s: manifest: %w", name, c.explain(err))
	}
	return out, nil
}

// reposWith tells which other repositories of a registry have had a blob, by
// the names of the images in the store.
func (s *Store) reposWith(ref registry.Reference) map[digest.Digest][]string {
	out := make(map[digest.Digest][]string)
	images, _, err := s.Images()
	if err != nil {
		return out // only slower
	}
	for _, img := range images {
		name, err := ParseReference(img.Name)
		if err != nil {
			continue
		}
		other, err := registry.ParseReference(name.Full())
		if err != nil || other.Registry != ref.Registry || other.Repository == ref.Repository {
			continue
		}
		for _, l := range img.Manifest.Layers {
			if !slices.Contains(out[l.Digest], other.Repository) {
				out[l.Digest] = append(out[l.Digest], other.Repository)
			}
		}
	}
	return out
}

// pusher sends the blobs of one image.
type pusher struct {
	*registryClient
	img    *Image
	others map[digest.Digest][]string
}

// blobs sends the layers, then the configuration.
func (p *pusher) blobs(ctx context.Context) error {
	layers := uniqueBlobs(p.img.Manifest.Layers)
	for _, d := range layers {
		p.opt.Progress(LayerProgress{Digest: d.Digest, Phase: PhaseWaiting, Total: d.Size})
	}
	err := p.inParallel(ctx, layers, func(ctx context.Context, d ispec.Descriptor) error {
		return p.blob(ctx, d, p.opt.Progress)
	})
	if err != nil {
		return err
	}
	return p.blob(ctx, p.img.Manifest.Config, func(LayerProgress) {})
}

// blob sends one blob that the repository does not have.
func (p *pusher) blob(ctx context.Context, d ispec.Descriptor, tell func(LayerProgress)) error {
	phase, detail := PhaseHas, ""
	err := p.attempts(ctx, d, func() error {
		has, err := p.repo.Blobs().Exists(ctx, d)
		if err != nil || has {
			return err
		}
		phase, detail, err = p.send(ctx, d, tell)
		return err
	})
	if err != nil {
		return fmt.Errorf("layer %s: %w", d.Digest, err)
	}
	tell(LayerProgress{Digest: d.Digest, Phase: phase, Done: d.Size, Total: d.Size, Detail: detail})
	return nil
}

// send mounts a blob from another repository or uploads it.
func (p *pusher) send(ctx context.Context, d ispec.Descriptor, tell func(LayerProgress)) (Phase, string, error) {
	uploaded := false
	open := func() (io.ReadCloser, error) {
		uploaded = true
		r, err := p.img.Layout.Blob(d)
		if err != nil {
			return nil, err
		}
		return &sending{ReadCloser: r, want: d, tell: tell}, nil
	}
	if mounter, ok := p.repo.Blobs().(registry.Mounter); ok && len(p.others[d.Digest]) > 0 {
		from := p.others[d.Digest][0]
		if err := mounter.Mount(ctx, d, from, open); err == nil {
			if uploaded {
				return PhasePushed, "", nil
			}
			return PhaseMounted, from, nil
		}
	}
	r, err := open()
	if err != nil {
		return PhasePushing, "", err
	}
	defer r.Close() //nolint:errcheck // only read
	return PhasePushed, "", p.repo.Blobs().Push(ctx, d, r)
}

// sending tells how far a blob is while it is read.
type sending struct {
	io.ReadCloser
	want ispec.Descriptor
	done int64
	tell func(LayerProgress)
}

func (s *sending) Read(b []byte) (int, error) {
	n, err := s.ReadCloser.Read(b)
	s.done += int64(n)
	s.tell(LayerProgress{Digest: s.want.Digest, Phase: PhasePushing, Done: s.done, Total: s.want.Size})
	return n, err
}
