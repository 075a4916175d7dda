package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/unionfs-go/unionfs/internal/pack"
	"github.com/unionfs-go/unionfs/internal/stack"
	"github.com/unionfs-go/unionfs/internal/tarlayer"
)

// LayerFile is a layer that is packed already, in a file anywhere.
type LayerFile struct {
	Path           string
	Digest, DiffID digest.Digest
	Format         tarlayer.Format
}

// Part is one piece of a new image: all layers of an image there is, a layer
// file, or the top layer of a stack, to be packed.
type Part struct {
	Image *Image     // its blobs are referred to, never compressed again
	Blob  *LayerFile // is copied as it is

	Stack *stack.Stack // layer 0 is packed, the others lie below it
	Pack  pack.Options
	// CreatedBy is what the history says about a packed layer.
	CreatedBy string
	// Retry packs again that often when files changed while they were read.
	Retry int
	// Packed, where not nil, is called when the layers were read; its error ends
	// the commit.
	Packed func() error
}

// CommitRequest is what a new image is made of.
type CommitRequest struct {
	Parts   []Part     // bottom first
	Base    *Image     // its configuration is taken, where no part is an image
	Name    *Reference // nil: the image gets no name
	Author  string
	Message string
	Changes []string // Dockerfile instructions
	Created time.Time
	Op      string // "commit" or "import", for the fail points
}

// Committed is what Commit made.
type Committed struct {
	ID       digest.Digest `json:"id"`       // of the configuration
	Manifest digest.Digest `json:"manifest"` // of the manifest
	Name     string        `json:"name,omitempty"`
	Created  time.Time     `json:"created"`
	// Layers are the packed layers, bottom first.
	Layers []pack.Result `json:"layers"`
}

// draft is an image being made.
type draft struct {
	t        *transaction
	config   Config
	raw      []byte // JSON that config came from
	base     *Image
	manifest ispec.Manifest
	packed   []pack.Result
	req      CommitRequest
}

// Commit makes an image and names it. Of an error nothing is left, and an image
// that had the name keeps it.
func (s *Store) Commit(ctx context.Context, req CommitRequest) (Committed, error) {
	if req.Op == "" {
		req.Op = "commit"
	}
	t, err := s.begin(req.Op)
	if err != nil {
		return Committed{}, err
	}
	defer t.end()
	d, err := t.newDraft(req)
	if err != nil {
		return Committed{}, err
	}
	for i, p := range req.Parts {
		switch {
		case p.Image != nil:
			err = d.addImage(p.Image)
		case p.Blob != nil:
			err = d.addFile(p)
		default:
			err = d.addPacked(ctx, p, i == len(req.Parts)-1)
		}
		if err != nil {
			return Committed{}, err
		}
	}
	return d.finish()
}

// newDraft starts from the configuration of the topmost image part.
func (t *transaction) newDraft(req CommitRequest) (*draft, error) {
	d := &draft{t: t, req: req, base: req.Base}
	for _, p := range req.Parts {
		if p.Image != nil {
			d.base = p.Image
		}
	}
	if d.base != nil {
		var err error
		if d.config, err = d.base.Config.clone(); err != nil {
			return nil, err
		}
		d.raw = d.base.rawConfig
	}
	c := &d.config
	if c.Architecture == "" {
		c.Architecture = runtime.GOARCH
	}
	if c.OS == "" {
		c.OS = "linux"
	}
	c.History, c.RootFS = nil, RootFS{Type: "layers", DiffIDs: []digest.Digest{}}
	created := req.Created.UTC()
	c.Created = &created
	if req.Author != "" {
		c.Author = req.Author
	}
	c.Comment = req.Message
	d.manifest = ispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ispec.MediaTypeImageManifest,
		Layers:    []ispec.Descriptor{},
	}
	return d, c.Config.Apply(req.Changes)
}

// addImage refers to the layers of an image, copying blobs from another layout.
func (d *draft) addImage(img *Image) error {
	for i, l := range img.Manifest.Layers {
		if err := d.t.copyBlob(img.Layout, l); err != nil {
			return fmt.Errorf("layer %d of the base image: %w", i+1, err)
		}
		d.manifest.Layers = append(d.manifest.Layers, ispec.Descriptor{
			MediaType: ociLayerType(l.MediaType), Digest: l.Digest, Size: l.Size, Annotations: l.Annotations,
		})
	}
	d.config.RootFS.DiffIDs = append(d.config.RootFS.DiffIDs, img.DiffIDs()...)
	history := img.Config.History
	layers := 0
	for _, h := range history {
		if !h.EmptyLayer {
			layers++
		}
	}
	d.config.History = append(d.config.History, history...)
	for ; layers < len(img.DiffIDs()); layers++ {
		d.config.History = append(d.config.History, ispec.History{CreatedBy: "unknown"})
	}
	return nil
}

// addFile takes a layer file over.
func (d *draft) addFile(p Part) error {
	l := p.Blob
	media := map[tarlayer.Format]string{
		tarlayer.Plain: ispec.MediaTypeImageLayer, tarlayer.Gzip: ispec.MediaTypeImageLayerGzip, tarlayer.Zstd: ispec.MediaTypeImageLayerZstd,
	}[l.Format]
	f, err := openRegular(l.Path)
	if err != nil {
		return fmt.Errorf("take over layer: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read
	b, err := d.t.newBlob()
	if err != nil {
		return err
	}
	if _, err := io.Copy(b, f); err != nil {
		b.abandon()
		return fmt.Errorf("take over layer %s: %w", l.Path, err)
	}
	if got := digest.NewDigest(digest.SHA256, b.hash); got != l.Digest {
		b.abandon()
		return fmt.Errorf("take over layer %s: %w: its digest is %s, not %s", l.Path, ErrCorrupt, got, l.Digest)
	}
	desc, err := b.publish(media, "base")
	if err != nil {
		return err
	}
	d.config.History = append(d.config.History, ispec.History{Created: d.config.Created, CreatedBy: p.CreatedBy})
	d.manifest.Layers = append(d.manifest.Layers, desc)
	d.config.RootFS.DiffIDs = append(d.config.RootFS.DiffIDs, l.DiffID)
	return nil
}

// ociLayerType is OCI's media type for a layer of docker's.
func ociLayerType(t string) string {
	switch t {
	case "application/vnd.docker.image.rootfs.diff.tar.gzip", "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
		"application/vnd.oci.image.layer.nondistributable.v1.tar+gzip":
		return ispec.MediaTypeImageLayerGzip
	case "application/vnd.docker.image.rootfs.diff.tar.zstd", "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd":
		return ispec.MediaTypeImageLayerZstd
	case "application/vnd.docker.image.rootfs.diff.tar", "application/vnd.oci.image.layer.nondistributable.v1.tar":
		return ispec.MediaTypeImageLayer
	}
	return t
}

// addPacked packs a layer. A layer of nothing becomes an entry of the history
// alone.
func (d *draft) addPacked(ctx context.Context, p Part, top bool) error {
	res, err := d.pack(ctx, p)
	if err != nil {
		return err
	}
	if p.Packed != nil {
		if err := p.Packed(); err != nil {
			return err
		}
	}
	d.packed = append(d.packed, res)
	h := ispec.History{Created: d.config.Created, CreatedBy: p.CreatedBy, EmptyLayer: res.Counts.Entries == 0}
	if top {
		h.Author, h.Comment = d.config.Author, d.req.Message
	}
	d.addHistory(h, res)
	return nil
}

func (d *draft) addHistory(h ispec.History, res pack.Result) {
	d.config.History = append(d.config.History, h)
	if h.EmptyLayer {
		return
	}
	d.manifest.Layers = append(d.manifest.Layers, ispec.Descriptor{
		MediaType: res.MediaType, Digest: res.Digest, Size: res.Size,
	})
	d.config.RootFS.DiffIDs = append(d.config.RootFS.DiffIDs, res.DiffID)
}

func (d *draft) pack(ctx context.Context, p Part) (pack.Result, error) {
	for try := 0; ; try++ {
		b, err := d.t.newBlob()
		if err != nil {
			return pack.Result{}, err
		}
		opt := p.Pack
		opt.SpoolDir = d.t.dir
		res, err := pack.Write(ctx, p.Stack, b.f, opt)
		if err != nil {
			b.abandon()
			if try < p.Retry && isChanged(err) {
				continue
			}
			return res, err
		}
		if res.Counts.Entries == 0 {
			b.abandon()
			return res, nil
		}
		_, err = b.publishAs(ispec.Descriptor{MediaType: res.MediaType, Digest: res.Digest, Size: res.Size}, "layer")
		return res, err
	}
}

func isChanged(err error) bool { return errors.Is(err, pack.ErrChanged) }

// finish writes configuration, manifest and index.
func (d *draft) finish() (Committed, error) {
	t := d.t
	out := Committed{Created: *d.config.Created, Layers: d.packed}
	raw, err := d.config.encode(d.raw)
	if err != nil {
		return out, fmt.Errorf("write image configuration: %w", err)
	}
	if d.manifest.Config, err = t.putBytes(raw, ispec.MediaTypeImageConfig, "config"); err != nil {
		return out, err
	}
	d.annotate()
	raw, err = json.Marshal(d.manifest)
	if err != nil {
		return out, fmt.Errorf("write manifest: %w", err)
	}
	target, err := t.putBytes(raw, ispec.MediaTypeImageManifest, "manifest")
	if err != nil {
		return out, err
	}
	target.Platform = &ispec.Platform{Architecture: d.config.Architecture, OS: d.config.OS, Variant: d.config.Variant}
	out.ID, out.Manifest = d.manifest.Config.Digest, target.Digest
	if d.req.Name != nil {
		out.Name = d.req.Name.String()
	}
	err = t.changeIndex(func(idx *ispec.Index) error {
		addToIndex(idx, target, d.req.Name)
		return nil
	})
	if err != nil {
		return out, err
	}
	return out, t.commit()
}

// annotate says in the manifest when and from what the image was made.
func (d *draft) annotate() {
	a := map[string]string{ispec.AnnotationCreated: d.config.Created.Format(time.RFC3339)}
	if d.config.Author != "" {
		a[ispec.AnnotationAuthors] = d.config.Author
	}
	if d.base != nil {
		a[ispec.AnnotationBaseImageDigest] = d.base.Target.Digest.String()
		if d.base.Name != "" {
			a[ispec.AnnotationBaseImageName] = d.base.Name
		}
	}
	d.manifest.Annotations = a
}
