package pack

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/unionfs-go/unionfs/internal/stack"
)

// Write packs layer 0 of s, with the others below it, and writes the blob to w.
// The layers are read only. Nothing is written when the upper cannot be made a
// layer (ErrInput, NameError). Of an error after that, w holds part of a blob,
// which the caller throws away. Cancelling ctx ends the walk with its error.
func Write(ctx context.Context, s *stack.Stack, w io.Writer, opt Options) (Result, error) {
	if len(s.Layers()) == 0 {
		return Result{}, fmt.Errorf("pack: %w: there is no layer", ErrInput)
	}
	plan := newWalker(ctx, s, opt, nil)
	index, aliases, err := plan.prepare()
	if index != nil {
		defer index.Close() //nolint:errcheck // only read
	}
	if err != nil {
		return Result{}, err
	}
	out, err := newOutput(w, opt)
	if err != nil {
		return Result{}, err
	}
	walk := newWalker(ctx, s, opt, out.tar)
	walk.aliases = aliases
	err = walk.run()
	res, cerr := out.finish()
	if err == nil {
		err = cerr
	}
	if err != nil {
		return Result{}, err
	}
	res.Counts, res.Notices = walk.counts, walk.notices
	return res, nil
}

// Plan walks as Write does and tells what a layer would hold, without writing
// anything. Data is read only to find unchanged files. Digests and sizes of the
// result are empty.
func Plan(ctx context.Context, s *stack.Stack, opt Options) (Result, error) {
	if len(s.Layers()) == 0 {
		return Result{}, fmt.Errorf("pack: %w: there is no layer", ErrInput)
	}
	plan := newWalker(ctx, s, opt, nil)
	index, aliases, err := plan.prepare()
	if index != nil {
		defer index.Close() //nolint:errcheck // only read
	}
	if err != nil {
		return Result{}, err
	}
	w := newWalker(ctx, s, opt, nil)
	w.dry, w.aliases = true, aliases
	if err := w.run(); err != nil {
		return Result{}, err
	}
	return Result{Counts: w.counts, Notices: w.notices}, nil
}

// prepare is the first pass. The closer, which may be nil, is for the end.
func (w *walker) prepare() (io.Closer, *aliasTree, error) {
	if err := checkPatterns(w.opt); err != nil {
		return nil, nil, err
	}
	if err := w.run(); err != nil {
		return nil, nil, err
	}
	if len(w.badNames) > 0 {
		slices.Sort(w.badNames)
		return nil, nil, &NameError{w.badNames}
	}
	index, err := w.readIndex()
	if err != nil {
		return index, nil, err
	}
	aliases, err := w.findAliases()
	return index, aliases, err
}

// output is the chain from the tar writer to the blob: DiffID, compression,
// digest.
type output struct {
	tar    *tar.Writer
	plain  countWriter
	blob   countWriter
	comp   io.WriteCloser
	diffID hash.Hash
	digest hash.Hash
	opt    Options
}

func newOutput(w io.Writer, opt Options) (*output, error) {
	o := &output{diffID: sha256.New(), opt: opt}
	sinks := []io.Writer{w}
	if opt.Compression != None && opt.Compression != "" {
		o.digest = sha256.New()
		sinks = append(sinks, o.digest)
	}
	o.blob.w = io.MultiWriter(sinks...)
	var err error
	if o.comp, err = NewCompressor(&o.blob, opt.Compression, opt.Level); err != nil {
		return nil, err
	}
	o.plain.w = io.MultiWriter(o.comp, o.diffID)
	o.tar = tar.NewWriter(&o.plain)
	return o, nil
}

// finish ends the stream; it must be called whatever happened before.
func (o *output) finish() (Result, error) {
	err := o.tar.Close()
	if cerr := o.comp.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return Result{}, fmt.Errorf("write layer: %w", err)
	}
	r := Result{
		MediaType:        o.opt.Compression.MediaType(),
		DiffID:           digest.NewDigest(digest.SHA256, o.diffID),
		Size:             o.blob.n,
		UncompressedSize: o.plain.n,
	}
	r.Digest = r.DiffID
	if o.digest != nil {
		r.Digest = digest.NewDigest(digest.SHA256, o.digest)
	}
	return r, nil
}

// EmptyDiffID is the DiffID of a layer without entries.
var EmptyDiffID = func() digest.Digest {
	var b bytes.Buffer
	_ = tar.NewWriter(&b).Close()
	return digest.FromBytes(b.Bytes())
}()
