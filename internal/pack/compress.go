package pack

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"runtime"
	"sync"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/zstd"
)

// Blocks are compressed independently of each other, so that all cores work and
// a reader can begin at any of them. Their sizes decide the bytes of a blob.
const (
	gzipBlock = 1 << 20
	zstdBlock = 4 << 20
)

// NewCompressor returns a writer that compresses to w; level 0 is the default.
// Its output depends on the input and the level only. Close writes what is
// left and does not close w.
func NewCompressor(w io.Writer, c Compression, level int) (io.WriteCloser, error) {
	switch c {
	case None, "":
		return nopCloser{w}, nil
	case Gzip:
		return newGzip(w, level)
	case Zstd:
		return newZstd(w, level)
	}
	return nil, fmt.Errorf("unknown compression %q", c)
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

// blockWriter cuts a stream into blocks, has them compressed by several
// goroutines and writes the results in order. At most two blocks for each
// worker are in memory.
type blockWriter struct {
	w     io.Writer
	size  int
	buf   []byte
	jobs  chan job
	order chan chan []byte
	free  chan []byte // input buffers to use again
	wg    sync.WaitGroup
	done  chan error // the writing goroutine's result

	mu  sync.Mutex
	err error // guarded by mu: the first failed write
}

type job struct {
	in  []byte
	out chan []byte
}

// newBlockWriter starts the workers; compress returns a function for each
// worker that turns a block into a buffer of its own.
func newBlockWriter(w io.Writer, size int, compress func() (func([]byte) []byte, error)) (*blockWriter, error) {
	n := runtime.GOMAXPROCS(0)
	b := &blockWriter{
		w: w, size: size,
		jobs:  make(chan job, n),
		order: make(chan chan []byte, n),
		free:  make(chan []byte, 2*n+2),
		done:  make(chan error, 1),
	}
	fns := make([]func([]byte) []byte, n)
	for i := range fns {
		var err error
		if fns[i], err = compress(); err != nil {
			return nil, err
		}
	}
	for _, f := range fns {
		b.wg.Add(1)
		go b.work(f)
	}
	go b.drain()
	return b, nil
}

func (b *blockWriter) work(f func([]byte) []byte) {
	defer b.wg.Done()
	for j := range b.jobs {
		j.out <- f(j.in)
		select {
		case b.free <- j.in[:0]:
		default:
		}
	}
}

func (b *blockWriter) drain() {
	for out := range b.order {
		data := <-out
		if b.failed() != nil {
			continue
		}
		if _, err := b.w.Write(data); err != nil {
			b.mu.Lock()
			b.err = err
			b.mu.Unlock()
		}
	}
	b.done <- b.failed()
}

func (b *blockWriter) failed() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}

func (b *blockWriter) Write(p []byte) (int, error) {
	total := len(p)
	for len(p) > 0 {
		if b.buf == nil {
			select {
			case b.buf = <-b.free:
			default:
				b.buf = make([]byte, 0, b.size)
			}
		}
		n := min(b.size-len(b.buf), len(p))
		b.buf = append(b.buf, p[:n]...)
		p = p[n:]
		if len(b.buf) == b.size {
			if err := b.flush(); err != nil {
				return total - len(p), err
			}
		}
	}
	return total, nil
}

func (b *blockWriter) flush() error {
	if err := b.failed(); err != nil {
		return err
	}
	j := job{b.buf, make(chan []byte, 1)}
	b.buf = nil
	b.order <- j.out
	b.jobs <- j
	return nil
}

// Close compresses what is left and waits for everything to be written.
func (b *blockWriter) Close() error {
	if len(b.buf) > 0 {
		_ = b.flush() // the same error comes from done
	}
	close(b.jobs)
	close(b.order)
	b.wg.Wait()
	return <-b.done
}

// gzipWriter is one gzip member (RFC 1952) whose deflate blocks were compressed
// separately and end on byte boundaries.
type gzipWriter struct {
	b    *blockWriter
	w    io.Writer
	crc  uint32
	size uint32
}

// gzipHeader has no name, no time, and 255 for an unknown system.
var gzipHeader = []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255}

func newGzip(w io.Writer, level int) (*gzipWriter, error) {
	switch {
	case level == 0:
		level = 6
	case level < 1 || level > 9:
		return nil, fmt.Errorf("gzip has levels 1 to 9, not %d", level)
	}
	b, err := newBlockWriter(w, gzipBlock, func() (func([]byte) []byte, error) {
		fw, err := flate.NewWriter(io.Discard, level)
		if err != nil {
			return nil, err
		}
		return func(in []byte) []byte {
			var out bytes.Buffer
			fw.Reset(&out)
			// Writing to a bytes.Buffer does not fail.
			_, _ = fw.Write(in)
			_ = fw.Flush()
			return out.Bytes()
		}, nil
	})
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(gzipHeader); err != nil {
		_ = b.Close()
		return nil, err
	}
	return &gzipWriter{b: b, w: w}, nil
}

func (g *gzipWriter) Write(p []byte) (int, error) {
	n, err := g.b.Write(p)
	g.crc = crc32.Update(g.crc, crc32.IEEETable, p[:n])
	g.size += uint32(n)
	return n, err
}

func (g *gzipWriter) Close() error {
	if err := g.b.Close(); err != nil {
		return err
	}
	// An empty final block with fixed codes (RFC 1951 3.2.6), then the trailer.
	tail := []byte{0x03, 0x00}
	tail = binary.LittleEndian.AppendUint32(tail, g.crc)
	tail = binary.LittleEndian.AppendUint32(tail, g.size)
	_, err := g.w.Write(tail)
	return err
}

// zstdWriter writes each block as one frame that carries its size.
type zstdWriter struct {
	*blockWriter
	enc   *zstd.Encoder
	wrote bool
}

func newZstd(w io.Writer, level int) (*zstdWriter, error) {
	if level < 0 || level > 22 {
		return nil, fmt.Errorf("zstd has levels 1 to 22, not %d", level)
	}
	el := zstd.SpeedDefault
	if level > 0 {
		el = zstd.EncoderLevelFromZstd(level)
	}
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(el), zstd.WithWindowSize(zstdBlock),
		zstd.WithEncoderConcurrency(runtime.GOMAXPROCS(0)), zstd.WithEncoderCRC(true), zstd.WithZeroFrames(true))
	if err != nil {
		return nil, err
	}
	b, err := newBlockWriter(w, zstdBlock, func() (func([]byte) []byte, error) {
		return func(in []byte) []byte { return enc.EncodeAll(in, make([]byte, 0, len(in)/2)) }, nil
	})
	if err != nil {
		return nil, err
	}
	return &zstdWriter{blockWriter: b, enc: enc}, nil
}

func (z *zstdWriter) Write(p []byte) (int, error) {
	z.wrote = z.wrote || len(p) > 0
	return z.blockWriter.Write(p)
}

func (z *zstdWriter) Close() error {
	err := z.blockWriter.Close()
	if err == nil && !z.wrote {
		_, err = z.w.Write(z.enc.EncodeAll(nil, nil))
	}
	if cerr := z.enc.Close(); err == nil {
		err = cerr
	}
	return err
}
