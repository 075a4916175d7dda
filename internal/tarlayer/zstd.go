package tarlayer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

// The numbers of the format (RFC 8878, 3.1).
const (
	zstdMagic        = 0xfd2fb528
	skippableMagic   = 0x184d2a50 // and the 15 after it
	zstdMaxHeader    = 18
	zstdBlockMax     = 128 << 10
	zstdBlockRLE     = 1
	zstdBlockBad     = 3
	maxSkipInSpan    = 64 << 10 // longer skippable frames are left out of spans
	maxPooledDecoder = 2 * maxSpan
)

var errZstdFrame = fmt.Errorf("damaged zstd data: %w", ErrInvalid)

// frameGroup is some frames that follow each other and are decoded together.
type frameGroup struct {
	off, end int64
	bound    int64 // what they hold is not longer
}

// frame is one zstd frame as far as its headers tell.
type frame struct {
	end   int64
	bound int64
	skip  bool // it holds no data
}

// walkFrames finds the frames of a zstd blob by their headers alone and groups
// them to spans. errNoSpans: a frame is too long for one.
func walkFrames(r io.ReaderAt, size int64, check func() error) ([]frameGroup, error) {
	var groups []frameGroup
	var cur frameGroup
	flush := func() {
		if cur.end > cur.off && cur.bound >= 0 {
			groups = append(groups, cur)
		}
	}
	for off := int64(0); off < size; {
		if err := check(); err != nil {
			return nil, err
		}
		f, err := walkFrame(r, off, size)
		if err != nil {
			return nil, fmt.Errorf("zstd frame at byte %d: %w", off, err)
		}
		if f.bound > maxSpan || f.end-off > 2*maxSpan {
			return nil, errNoSpans
		}
		if f.skip {
			// Small ones stay within the group that they interrupt.
			off = f.end
			if f.end-cur.end > maxSkipInSpan {
				flush()
				cur = frameGroup{off: off, end: off}
			}
			continue
		}
		if cur.bound+f.bound > spanSize || f.end-cur.off > maxSpanInput {
			flush()
			cur = frameGroup{off: off, end: off}
		}
		if cur.bound == 0 && cur.end == cur.off {
			cur.off = off
		}
		cur.end = f.end
		cur.bound += f.bound
		off = f.end
	}
	flush()
	return groups, nil
}

// walkFrame reads the headers of the frame at an offset.
func walkFrame(r io.ReaderAt, off, size int64) (frame, error) {
	var h [zstdMaxHeader]byte
	n, err := r.ReadAt(h[:min(zstdMaxHeader, size-off)], off)
	if err != nil && err != io.EOF {
		return frame{}, err
	}
	if n < 5 {
		return frame{}, errZstdFrame
	}
	magic := binary.LittleEndian.Uint32(h[:])
	if magic&^15 == skippableMagic {
		if n < 8 {
			return frame{}, errZstdFrame
		}
		end := off + 8 + int64(binary.LittleEndian.Uint32(h[4:]))
		if end > size {
			return frame{}, errCut
		}
		return frame{end: end, skip: true}, nil
	}
	if magic != zstdMagic {
		return frame{}, errZstdFrame
	}
	hdr, content, known, err := frameHeader(h[:n])
	if err != nil {
		return frame{}, err
	}
	f, err := walkBlocks(r, off+int64(hdr), size)
	if err != nil {
		return frame{}, err
	}
	if known {
		f.bound = content
	}
	if h[4]&(1<<2) != 0 {
		f.end += 4 // checksum
	}
	if f.end > size {
		return frame{}, errCut
	}
	return f, nil
}

// frameHeader reads a frame's header: its length, and the length of the
// content where it is told.
func frameHeader(h []byte) (n int, content int64, known bool, err error) {
	d := h[4]
	single := d&(1<<5) != 0
	n = 5
	if !single {
		n++ // window descriptor
	}
	if d&3 != 0 {
		return 0, 0, false, fmt.Errorf("needs a dictionary: %w", errZstdFrame)
	}
	width := [4]int{0, 2, 4, 8}[d>>6]
	if width == 0 && single {
		width = 1
	}
	if len(h) < n+width {
		return 0, 0, false, errZstdFrame
	}
	var b [8]byte
	copy(b[:], h[n:n+width])
	v := binary.LittleEndian.Uint64(b[:])
	if width == 2 {
		v += 256
	}
	if v > 1<<62 {
		return 0, 0, false, errZstdFrame
	}
	return n + width, int64(v), width > 0, nil
}

// walkBlocks goes over the blocks of a frame, the first at off.
func walkBlocks(r io.ReaderAt, off, size int64) (f frame, err error) {
	for {
		var b [3]byte
		if off+3 > size {
			return f, errCut
		}
		if n, err := r.ReadAt(b[:], off); n < len(b) {
			return f, noEOF(err)
		}
		h := uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16
		length := int64(h >> 3)
		kind := h >> 1 & 3
		off += 3
		switch kind {
		case zstdBlockRLE:
			off++
		case zstdBlockBad:
			return f, errZstdFrame
		default:
			off += length
		}
		if kind <= zstdBlockRLE {
			f.bound += length
		} else {
			f.bound += zstdBlockMax
		}
		if h&1 != 0 {
			f.end = off
			return f, nil
		}
	}
}

// newSpanDecoder makes a decoder of frames that are whole in memory.
func newSpanDecoder(atOnce int) (*zstd.Decoder, error) {
	return zstd.NewReader(nil, zstd.WithDecoderConcurrency(atOnce), zstd.WithDecoderMaxMemory(maxPooledDecoder), zstd.WithDecoderMaxWindow(1<<29))
}

// produceFrames decodes a zstd blob group by group; each is a span.
func produceFrames(groups []frameGroup) func(*pass) error {
	return func(p *pass) error {
		dec, err := newSpanDecoder(1)
		if err != nil {
			return err
		}
		defer dec.Close()
		var in, out []byte
		for _, g := range groups {
			if err := p.skipTo(g.off); err != nil {
				return err
			}
			in = resizedBytes(in, int(g.end-g.off))
			if _, err := io.ReadFull(p, in); err != nil {
				return noEOF(err)
			}
			if out, err = dec.DecodeAll(in, out[:0]); err != nil {
				return fmt.Errorf("zstd frame at byte %d: %w: %w", g.off, err, ErrInvalid)
			}
			p.endSpan(span{in: g.off, aux: g.end})
			if err := p.emit(out); err != nil {
				return err
			}
		}
		return nil
	}
}

// produceZstdStream decodes a zstd blob of any frames, without making spans of
// them.
func produceZstdStream(p *pass) error {
	dec, err := zstd.NewReader(onlyReader{p}, zstd.WithDecoderConcurrency(2),
		zstd.WithDecoderMaxWindow(uint64(p.limits.WindowBytes)), zstd.WithDecoderMaxMemory(1<<63))
	if err != nil {
		return err
	}
	defer dec.Close()
	buf := make([]byte, readChunk)
	for {
		n, err := dec.Read(buf)
		if n > 0 {
			if err := p.emit(buf[:n]); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			dec.Close() // its reader's goroutine is gone then
			if p.readErr != nil {
				return p.readErr
			}
			if errors.Is(err, zstd.ErrWindowSizeExceeded) {
				return fmt.Errorf("%w of %d bytes: %w", err, p.limits.WindowBytes, ErrLimit)
			}
			return fmt.Errorf("zstd data: %w: %w", err, ErrInvalid)
		}
	}
}

// resizedBytes returns b with n bytes of any content.
func resizedBytes(b []byte, n int) []byte {
	if cap(b) < n {
		return make([]byte, n)
	}
	return b[:n]
}
