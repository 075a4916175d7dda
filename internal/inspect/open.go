package inspect

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/image"
	"github.com/unionfs-go/unionfs/internal/stack"
	"github.com/unionfs-go/unionfs/internal/tarlayer"
	"github.com/unionfs-go/unionfs/whiteout"
)

// OpenOptions say how layers are opened. The zero value works.
type OpenOptions struct {
	// UserXattr: marks of directories whose root does not tell are in
	// user.overlay.*, as an unprivileged mount writes them.
	UserXattr bool
	// Digest and DiffID are those of the tar to open, where they are known.
	Digest, DiffID digest.Digest
	// Progress is called while a blob is read for the first time.
	Progress func(layer string, done, total int64)
}

// OpenImage makes the model of an image, whose blobs are read where they lie.
// The first time each blob is read once; later its index is found in the cache
// of package tarlayer. The caller closes the model.
func OpenImage(ctx context.Context, img *image.Image, opt OpenOptions) (*Model, error) {
	sources, history, err := ImageSources(ctx, img, opt)
	if err != nil {
		return nil, err
	}
	m, err := OpenSources(ctx, sources)
	if err != nil {
		return nil, err
	}
	m.History = history
	return m, nil
}

// OpenSources is Build for layers that belong to the model from then on: they
// are closed with it, and of an error at once.
func OpenSources(ctx context.Context, sources []Source) (*Model, error) {
	m, err := Build(ctx, sources)
	if err != nil {
		return nil, errors.Join(err, closeSources(sources))
	}
	for _, s := range sources {
		m.closers = append(m.closers, s.Layer.Close)
	}
	return m, nil
}

func closeSources(sources []Source) error {
	var errs []error
	for _, s := range sources {
		errs = append(errs, s.Layer.Close())
	}
	return errors.Join(errs...)
}

// ImageSources opens the layers of an image, top first, and gives its history,
// newest step first. The caller closes the layers.
func ImageSources(ctx context.Context, img *image.Image, opt OpenOptions) (sources []Source, history []Step, err error) {
	layers, history, err := ImageLayers(img)
	if err != nil {
		return nil, nil, err
	}
	for _, info := range layers {
		path, err := img.Layout.BlobPath(info.Digest)
		var l *tarlayer.Layer
		if err == nil {
			opt.Digest, opt.DiffID = info.Digest, info.DiffID
			o := tarOptions(info.Name, opt)
			l, err = tarlayer.Open(ctx, path, o)
		}
		if err != nil {
			return nil, nil, errors.Join(fmt.Errorf("layer %d of %s: %w", info.Index, img.ID(), err), closeSources(sources))
		}
		sources = append(sources, Source{Layer: l, Info: info})
	}
	return sources, history, nil
}

// ImageLayers tells what an image says about its layers, top first, and its
// history, newest step first.
func ImageLayers(img *image.Image) (layers []Layer, history []Step, err error) {
	diffIDs := img.DiffIDs()
	if len(diffIDs) != len(img.Manifest.Layers) {
		return nil, nil, fmt.Errorf("image %s has %d layers and %d DiffIDs: %w", img.ID(), len(img.Manifest.Layers), len(diffIDs), image.ErrCorrupt)
	}
	for i := len(diffIDs) - 1; i >= 0; i-- {
		d := img.Manifest.Layers[i]
		layers = append(layers, Layer{Index: len(layers), Name: d.Digest.String(), Digest: d.Digest, DiffID: diffIDs[i], BlobBytes: d.Size})
	}
	return layers, addHistory(layers, img.Config.History), nil
}

func tarOptions(name string, opt OpenOptions) tarlayer.Options {
	o := tarlayer.Options{Digest: opt.Digest, DiffID: opt.DiffID}
	if opt.Progress != nil {
		o.Progress = func(done, total int64) { opt.Progress(name, done, total) }
	}
	return o
}

// addHistory gives each layer, top first, the step that made it, and returns
// the steps, newest first.
func addHistory(layers []Layer, history []ispec.History) []Step {
	var steps []Step
	next := len(layers) - 1
	for _, h := range history {
		s := Step{Layer: -1, Created: h.Created, CreatedBy: h.CreatedBy, Comment: h.Comment}
		if !h.EmptyLayer && next >= 0 {
			info := &layers[next]
			s.Layer, info.Created, info.CreatedBy, info.Comment = next, h.Created, h.CreatedBy, h.Comment
			next--
		}
		steps = append([]Step{s}, steps...)
	}
	return steps
}

// OpenPath opens one layer by its path: a directory, or a tar, plain or
// compressed. The caller closes it.
func OpenPath(ctx context.Context, path string, opt OpenOptions) (stack.Layer, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("open layer: %w", err)
	}
	if !info.IsDir() {
		return tarlayer.Open(ctx, path, tarOptions(path, opt))
	}
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open layer %s: %w", path, err)
	}
	ns, known := whiteout.DetectNamespace(fd)
	_ = unix.Close(fd) // only looked at
	if !known && opt.UserXattr {
		ns = whiteout.User
	}
	l, err := stack.OpenDir(path, stack.DirOptions{Namespace: ns})
	if err != nil {
		return nil, fmt.Errorf("open layer %s: %w", path, err)
	}
	return l, nil
}
