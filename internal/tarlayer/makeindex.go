package tarlayer

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"

	"github.com/opencontainers/go-digest"
)

// sniff tells a blob's format by how it begins.
func sniff(b *blob) (Format, error) {
	var h [6]byte
	n, err := b.r.ReadAt(h[:min(int64(len(h)), b.size)], 0)
	if err != nil && err != io.EOF {
		return 0, err
	}
	magic := binary.LittleEndian.Uint32(h[:])
	switch {
	case n >= 3 && h[0] == 0x1f && h[1] == 0x8b && h[2] == 8:
		return Gzip, nil
	case n >= 4 && (magic == zstdMagic || magic&^15 == skippableMagic):
		return Zstd, nil
	case n == 6 && string(h[:]) == "\xfd7zXZ\x00", n >= 4 && string(h[:3]) == "BZh":
		return 0, fmt.Errorf("compressed with xz or bzip2, which layers are not; compress it with gzip or zstd: %w", ErrInvalid)
	}
	return Plain, nil
}

// makeIndex reads the blob and makes its index, and puts that into the cache
// where there is one.
func makeIndex(ctx context.Context, b *blob, opt *Options) (*cached, error) {
	format, err := sniff(b)
	if err != nil {
		return nil, err
	}
	m := &maker{blob: b, opt: opt, format: format, cache: opt.cache()}
	e, err := m.make(ctx)
	if err != nil {
		return nil, err
	}
	if !b.unchanged() {
		_ = e.close()
		return nil, ErrChanged
	}
	return m.keep(e)
}

// maker makes the index of one blob.
type maker struct {
	blob    *blob
	opt     *Options
	format  Format
	cache   cache
	windows []byte
}

func (m *maker) make(ctx context.Context) (*cached, error) {
	switch m.format {
	case Gzip:
		x, err := m.read(ctx, produceGzip, nil)
		if !errors.Is(err, errNoSpans) {
			return whole(x, err)
		}
		return m.spooled(ctx, produceGzip)
	case Zstd:
		groups, err := walkFrames(m.blob.r, m.blob.size, ctx.Err)
		if errors.Is(err, errNoSpans) {
			return m.spooled(ctx, produceZstdStream)
		}
		if err != nil {
			return nil, err
		}
		return whole(m.read(ctx, produceFrames(groups), nil))
	default:
		return whole(m.read(ctx, producePlain, nil))
	}
}

func whole(x *index, err error) (*cached, error) {
	if err != nil {
		return nil, err
	}
	return &cached{index: x}, nil
}

// spooled makes an index together with a re-framed copy of the stream.
func (m *maker) spooled(ctx context.Context, f func(*pass) error) (*cached, error) {
	file, err := m.spoolFile()
	if err != nil {
		return nil, fmt.Errorf("make a file for the re-framed layer: %w", err)
	}
	x, err := m.read(ctx, f, file)
	if err != nil {
		_ = file.Close()
		_ = os.Remove(file.Name())
		return nil, err
	}
	return &cached{index: x, spool: file}, nil
}

// spoolFile makes a temporary file in the cache, or anywhere without one.
func (m *maker) spoolFile() (*os.File, error) {
	if m.cache != "" {
		f, err := m.cache.temp(m.cache.path("sha256", "spool"))
		if err == nil {
			return f, nil
		}
		m.opt.Log("%s: no cache: %v", m.blob.name, err)
		m.cache = ""
	}
	f, err := os.CreateTemp("", "unionfs-spool-")
	if err != nil {
		return nil, err
	}
	return f, os.Remove(f.Name())
}

// read makes one pass over the blob.
func (m *maker) read(ctx context.Context, f func(*pass) error, spool *os.File) (*index, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	algo, diffAlgo := algorithm(m.opt.Digest), algorithm(m.opt.DiffID)
	var streamHash hash.Hash
	if m.format != Plain || algo != diffAlgo {
		streamHash = diffAlgo.Hash()
	}
	p := &pass{
		ctx: ctx, blob: m.blob, limits: &m.opt.Limits, progress: m.opt.Progress, log: m.opt.Log,
		hash: algo.Hash(), out: newStream(streamHash),
	}
	if spool != nil {
		w, err := newSpoolWriter(spool, p.limits.SpoolBytes, &p.spans)
		if err != nil {
			return nil, err
		}
		p.spool = w
	}
	go p.run(f)
	b := newBuilder(p.limits)
	sc := &scanner{s: p.out, b: b, log: m.opt.Log}
	err := sc.scan()
	if err == nil {
		err = p.out.drain()
	} else {
		cancel()
		_ = p.out.drain() // the producer's goroutine ends with it
		if p.out.err != nil && !errors.Is(p.out.err, context.Canceled) {
			err = p.out.err // the tar was cut short by it
		}
	}
	if err != nil {
		return nil, err
	}
	x := &index{
		format: m.format, spooled: spool != nil, blobSize: m.blob.size, streamSize: p.outPos,
		digest: digest.NewDigest(algo, p.hash), diffID: digest.NewDigest(algo, p.hash),
	}
	if streamHash != nil {
		x.diffID = digest.NewDigest(diffAlgo, streamHash)
	}
	if err := m.compare(x); err != nil {
		return nil, err
	}
	m.takeSpans(x, p)
	return x, b.finish(x)
}

// takeSpans moves what the pass made into the index.
func (m *maker) takeSpans(x *index, p *pass) {
	x.spans = p.spans.done(p.outPos, p.dataEnd)
	m.windows = p.spans.windows
	x.windows = int64(len(m.windows))
	if p.spool != nil {
		x.spoolSize = p.spool.in
	}
}

func algorithm(d digest.Digest) digest.Algorithm {
	if d == "" {
		return digest.SHA256
	}
	return d.Algorithm()
}

// compare checks the digests that the caller expects.
func (m *maker) compare(x *index) error {
	if want := m.opt.Digest; want != "" && want != x.digest {
		return fmt.Errorf("the blob is %s, not %s: %w", x.digest, want, ErrMismatch)
	}
	if want := m.opt.DiffID; want != "" && want != x.diffID {
		return fmt.Errorf("the uncompressed layer is %s, not %s: %w", x.diffID, want, ErrMismatch)
	}
	return nil
}

// keep puts a new index into the cache. Where that fails it stays in memory.
func (m *maker) keep(e *cached) (*cached, error) {
	e.windows = bytes.NewReader(m.windows)
	if m.cache == "" {
		return e, nil
	}
	temp := ""
	if e.spool != nil {
		temp = e.spool.Name()
	}
	if err := m.cache.store(e, m.windows); err != nil {
		m.opt.Log("%s: the index is not kept: %v", m.blob.name, err)
		if temp != "" {
			_ = os.Remove(temp) // it stays readable
		}
		return e, nil
	}
	if limit := m.opt.CacheLimit; limit > 0 {
		if _, err := Prune(m.opt.CacheDir, limit); err != nil {
			m.opt.Log("prune the cache: %v", err)
		}
	}
	again, err := m.cache.load(e.digest)
	if err != nil {
		return e, nil //nolint:nilerr // pruned already: what is in memory does
	}
	_ = e.close()
	return again, nil
}
