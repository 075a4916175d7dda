package tarlayer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync/atomic"
	"syscall"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/stack"
	"github.com/unionfs-go/unionfs/whiteout"
)

// Layer is a blob as a layer. Its methods may be called concurrently.
type Layer struct {
	blob   *blob
	cached *cached
	cache  cache
	spans  *SpanCache
	ns     whiteout.Namespace
	log    func(string, ...any)
	dev    uint64 // no device of the system: the highest bit is set
	hit    bool   // the index was in the cache
}

var _ stack.Layer = (*Layer)(nil)

// devices counts the layers that were opened, so that each has a device number
// of its own.
var devices atomic.Uint64

// Open opens the blob at path, a regular file, as a layer. If the cache has no
// index of it, the whole blob is read first; ctx ends that. Errors wrap
// ErrInvalid, ErrMismatch, ErrLimit, ErrChanged, the error of ctx or one of the
// system. The caller closes the layer.
func Open(ctx context.Context, path string, opt Options) (*Layer, error) {
	if err := opt.fill(); err != nil {
		return nil, fmt.Errorf("open layer %s: %w", path, err)
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open layer: %w", err)
	}
	l, err := openFile(ctx, f, opt)
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("open layer %s: %w", path, err)
	}
	return l, nil
}

func openFile(ctx context.Context, f *os.File, opt Options) (*Layer, error) {
	id, err := fileIdentity(f)
	if err != nil {
		return nil, err
	}
	c := opt.cache()
	known := opt.Digest
	if known == "" {
		known = c.recall(id)
	}
	b := &blob{r: f, size: id.size, name: f.Name(), file: f, id: id, log: opt.Log}
	if e := opt.lookup(b, known); e != nil {
		return newLayer(b, e, &opt, true)
	}
	if b.id, err = settledIdentity(f); err != nil {
		return nil, err
	}
	b.size = b.id.size
	e, err := makeIndex(ctx, b, &opt)
	if err != nil {
		return nil, err
	}
	if c != "" {
		if err := c.remember(b.id, e.digest); err != nil {
			opt.Log("%s: its digest is not remembered: %v", b.name, err)
		}
	}
	return newLayer(b, e, &opt, false)
}

// OpenReaderAt opens a blob of size bytes that r reads as a layer; name is what
// messages call it. r must give the same bytes whenever it is asked, and stays
// the caller's; it must not be closed before the layer. Without opt.Digest the
// whole blob is read each time. Errors are those of Open.
func OpenReaderAt(ctx context.Context, r io.ReaderAt, size int64, name string, opt Options) (*Layer, error) {
	if err := opt.fill(); err != nil {
		return nil, fmt.Errorf("open layer %s: %w", name, err)
	}
	b := &blob{r: r, size: size, name: name, log: opt.Log}
	if e := opt.lookup(b, opt.Digest); e != nil {
		return newLayer(b, e, &opt, true)
	}
	e, err := makeIndex(ctx, b, &opt)
	if err != nil {
		return nil, fmt.Errorf("open layer %s: %w", name, err)
	}
	return newLayer(b, e, &opt, false)
}

// lookup finds the index of a blob in the cache; nil if it has to be made.
func (o *Options) lookup(b *blob, d digest.Digest) *cached {
	e, err := o.cache().load(d)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			o.Log("%s: making a new index: %v", b.name, err)
		}
		return nil
	}
	if e.blobSize == b.size && (o.DiffID == "" || o.DiffID.Algorithm() == e.diffID.Algorithm()) {
		return e
	}
	_ = e.close()
	return nil // the pass will tell what is wrong
}

func (o *Options) cache() cache {
	if o.NoCache {
		return ""
	}
	return cache(o.CacheDir)
}

// newLayer makes a layer of its parts, which it closes on error but for the
// blob.
func newLayer(b *blob, e *cached, opt *Options, hit bool) (*Layer, error) {
	if opt.DiffID != "" && e.diffID != opt.DiffID {
		_ = e.close()
		return nil, fmt.Errorf("the uncompressed layer %s is %s, not %s: %w", b.name, e.diffID, opt.DiffID, ErrMismatch)
	}
	return &Layer{
		blob: b, cached: e, cache: opt.cache(), spans: opt.Spans, ns: opt.Namespace, log: opt.Log,
		dev: 1<<63 | devices.Add(1), hit: hit,
	}, nil
}

// Root returns the root directory.
func (l *Layer) Root() stack.Dir { return &dir{object{l, 1}} }

// Name returns what the layer was opened by.
func (l *Layer) Name() string { return l.blob.name }

// Digest returns the digest of the blob as it is stored.
func (l *Layer) Digest() digest.Digest { return l.cached.digest }

// DiffID returns the digest of the uncompressed tar.
func (l *Layer) DiffID() digest.Digest { return l.cached.diffID }

// Close closes the blob, if Open opened it, and forgets its spans.
func (l *Layer) Close() error {
	l.spans.drop(l.dev)
	return errors.Join(l.cached.close(), l.blob.close())
}

// Stats is what is known of a layer as a whole.
type Stats struct {
	Format     Format
	Cached     bool   // the index was found in the cache
	Spooled    bool   // the stream was re-framed into the cache
	BlobBytes  int64  // length of the blob
	TarBytes   int64  // length of the uncompressed tar
	SpoolBytes int64  // length of the re-framed copy
	IndexBytes int64  // memory that the index takes
	Spans      int    // pieces that can be read alone
	Inodes     int    // files, directories and so on, the root and implied directories too
	Names      int    // names of those, and whiteouts
	Files      uint64 // regular files
	Dirs       uint64
	Symlinks   uint64
	Others     uint64 // devices and fifos
	Whiteouts  uint64 // names deleted from the layers below
	Opaques    uint64 // opaque directories
	Skipped    uint64 // entries of the tar that are no part of the tree
	FileBytes  uint64 // lengths of all regular files together
}

// Stats returns the layer's numbers.
func (l *Layer) Stats() Stats {
	x, c := l.cached.index, &l.cached.counts
	return Stats{
		Format: x.format, Cached: l.hit, Spooled: x.spooled,
		BlobBytes: x.blobSize, TarBytes: x.streamSize, SpoolBytes: x.spoolSize,
		IndexBytes: int64(len(x.inodes) + len(x.dents) + len(x.names) + len(x.xattrs) + len(x.sparse) + len(x.spans)),
		Spans:      x.spans.len(), Inodes: x.inodes.len(), Names: x.dents.len(),
		Files: c.files, Dirs: c.dirs, Symlinks: c.links, Others: c.others,
		Whiteouts: c.whiteouts, Opaques: c.opaques, Skipped: c.skipped, FileBytes: c.fileBytes,
	}
}

// eio reports what went wrong in a layer that was fine, and is EIO.
func (l *Layer) eio(doing string, err error) error {
	l.log("%s: %s: %v", l.blob.name, doing, err)
	return unix.EIO
}
