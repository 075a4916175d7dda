package tarlayer

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"runtime"
	"sync"

	"github.com/klauspost/compress/zstd"
)

var (
	errSum     = errors.New("data do not match their checksum")
	errSource  = errors.New("the layer's file was changed")
	inputs     = sync.Pool{New: func() any { return new([]byte) }}
	spanDecode = sync.OnceValues(func() (*zstd.Decoder, error) { return newSpanDecoder(runtime.GOMAXPROCS(0)) })
)

// readStream fills b from an offset of the decoded stream. Errors are EIO.
func (l *Layer) readStream(b []byte, off int64) error {
	spans := l.cached.spans
	if off < 0 || off+int64(len(b)) > l.cached.streamSize {
		return l.eio("read", fmt.Errorf("byte %d is behind the end: %w", off+int64(len(b)), errIndex))
	}
	for len(b) > 0 {
		i := spans.find(off)
		at := spans.at(i).out
		size := int(spans.at(i+1).out - at)
		s, err := l.spans.get(spanKey{l.dev, i}, size, func(dst []byte) error { return l.loadSpan(dst, i) })
		if err != nil {
			return err
		}
		n := copy(b, s.data[off-at:])
		l.spans.put(s)
		b = b[n:]
		off += int64(n)
	}
	return nil
}

// loadSpan decodes span i into dst, which has its length, and checks it. Errors
// are EIO.
func (l *Layer) loadSpan(dst []byte, i int) error {
	s, next := l.cached.spans.at(i), l.cached.spans.at(i+1)
	err := l.decodeSpan(dst, s, next)
	if err == nil && crc32.Checksum(dst, castagnoli) != s.crc {
		err = errSum
	}
	if err == nil {
		return nil
	}
	if l.cached.spooled || errors.Is(err, errIndex) {
		l.cache.forget(l.cached.digest) // the copy or the index is bad; make it anew
	}
	return l.eio(fmt.Sprintf("read bytes %d to %d of the tar", s.out, next.out), err)
}

func (l *Layer) decodeSpan(dst []byte, s, next span) error {
	if l.cached.spooled {
		return decodeFrames(dst, l.cached.spool, s)
	}
	if !l.blob.check() {
		return errSource
	}
	switch l.cached.format {
	case Gzip:
		return l.decodeGzip(dst, s, next)
	case Zstd:
		return decodeFrames(dst, l.blob.r, s)
	default:
		return readFullAt(l.blob.r, dst, s.in)
	}
}

// readFullAt fills b; the end of r before that is an error.
func readFullAt(r io.ReaderAt, b []byte, off int64) error {
	n, err := r.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	return noEOF(err)
}

// input reads bytes from to to of r into a buffer that is given back with
// putInput.
func input(r io.ReaderAt, from, to int64) (*[]byte, error) {
	if to < from || to-from > 4*maxSpan {
		return nil, errIndex
	}
	buf, ok := inputs.Get().(*[]byte)
	if !ok {
		buf = new([]byte)
	}
	*buf = resizedBytes(*buf, int(to-from))
	if err := readFullAt(r, *buf, from); err != nil {
		inputs.Put(buf)
		return nil, err
	}
	return buf, nil
}

func decodeFrames(dst []byte, r io.ReaderAt, s span) error {
	dec, err := spanDecode()
	if err != nil {
		return err
	}
	in, err := input(r, s.in, s.aux)
	if err != nil {
		return err
	}
	defer inputs.Put(in)
	out, err := dec.DecodeAll(*in, dst[:0:len(dst)])
	if err != nil {
		return err
	}
	if len(out) != len(dst) {
		return errSum
	}
	copy(dst, out) // does nothing unless it did not fit for a while
	return nil
}

func (l *Layer) decodeGzip(dst []byte, s, next span) error {
	in, err := input(l.blob.r, s.in/8, (next.in+7)/8)
	if err != nil {
		return err
	}
	defer inputs.Put(in)
	var window []byte
	if s.auxLen > 0 {
		if window, err = l.window(s); err != nil {
			return err
		}
	}
	buf, ok := inputs.Get().(*[]byte)
	if !ok {
		buf = new([]byte)
	}
	defer inputs.Put(buf)
	*buf = restartInput((*buf)[:0], *in, uint(s.in%8), uint(next.in%8))
	return inflateFrom(dst, *buf, window)
}

// window reads what goes before a span.
func (l *Layer) window(s span) ([]byte, error) {
	if s.auxLen > 2*deflateWindow {
		return nil, errIndex
	}
	dec, err := spanDecode()
	if err != nil {
		return nil, err
	}
	in, err := input(l.cached.windows, s.aux, s.aux+int64(s.auxLen))
	if err != nil {
		return nil, fmt.Errorf("read from the index: %w: %w", err, errIndex)
	}
	defer inputs.Put(in)
	w, err := dec.DecodeAll(*in, make([]byte, 0, deflateWindow))
	if err != nil || len(w) > deflateWindow {
		return nil, errors.Join(errIndex, err)
	}
	return w, nil
}
