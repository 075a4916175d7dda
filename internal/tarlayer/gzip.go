package tarlayer

import (
	"fmt"
	"hash/crc32"
	"io"

	"github.com/klauspost/compress/zstd"
)

// Flags of a gzip member's header (RFC 1952, 2.3.1).
const (
	gzHeaderCRC = 1 << 1
	gzExtra     = 1 << 2
	gzName      = 1 << 3
	gzComment   = 1 << 4

	maxGzipText = 64 << 10 // longest name or comment that is believed
)

var errGzipHeader = fmt.Errorf("damaged gzip header: %w", ErrInvalid)

// readGzipHeader reads what follows the two magic bytes of a member's header.
func readGzipHeader(readByte func() (byte, error)) error {
	var h [8]byte
	for i := range h {
		b, err := readByte()
		if err != nil {
			return noEOF(err)
		}
		h[i] = b
	}
	if h[0] != 8 || h[1]&0xe0 != 0 {
		return errGzipHeader
	}
	flags := h[1]
	skip := func(n int) error {
		for ; n > 0; n-- {
			if _, err := readByte(); err != nil {
				return noEOF(err)
			}
		}
		return nil
	}
	if flags&gzExtra != 0 {
		lo, err := readByte()
		if err != nil {
			return noEOF(err)
		}
		hi, err := readByte()
		if err != nil {
			return noEOF(err)
		}
		if err := skip(int(lo) | int(hi)<<8); err != nil {
			return err
		}
	}
	for _, f := range [...]byte{gzName, gzComment} {
		for n := 0; flags&f != 0; n++ {
			b, err := readByte()
			if err != nil {
				return noEOF(err)
			}
			if b == 0 {
				break
			}
			if n == maxGzipText {
				return errGzipHeader
			}
		}
	}
	if flags&gzHeaderCRC != 0 {
		return skip(2)
	}
	return nil
}

// gzipPass decodes a gzip blob and keeps checkpoints of it.
type gzipPass struct {
	*pass
	d   *inflater
	enc *zstd.Encoder

	lastOut, lastIn int64 // stream offset and bit offset of the last checkpoint
	memberCRC       uint32
	memberLen       uint32
}

// produceGzip decodes a gzip blob of any number of members. Without p.spool it
// makes spans; errNoSpans: a block is too long for one.
func produceGzip(p *pass) error {
	g := &gzipPass{pass: p, d: newInflater(p), lastOut: -1}
	g.d.emit = g.took
	g.d.block = func() error { return nil }
	if p.spool == nil {
		enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
		if err != nil {
			return err
		}
		defer enc.Close() //nolint:errcheck // it writes nowhere: only EncodeAll is used
		g.enc = enc
		g.d.block = g.checkpoint
	}
	for first := true; ; first = false {
		more, err := g.magic(first)
		if err != nil {
			return err
		}
		if !more {
			return nil
		}
		if err := g.member(); err != nil {
			return err
		}
		p.dataEnd = g.d.bitPos()
	}
}

// magic reads the two bytes that begin a member. false: none follows.
func (g *gzipPass) magic(first bool) (bool, error) {
	for i, want := range [...]byte{0x1f, 0x8b} {
		b, err := g.d.readByte()
		if err == io.EOF && i == 0 && !first {
			return false, nil
		}
		if err == io.EOF || err == nil && b != want {
			if first {
				return false, errGzipHeader
			}
			if b != 0 {
				g.log("%s: ignoring what follows the gzip data, from byte %d on", g.blob.name, g.dataEnd/8)
			}
			return false, nil
		}
		if err != nil {
			return false, err
		}
	}
	return true, nil
}

// member decodes one member after its magic bytes.
func (g *gzipPass) member() error {
	if err := readGzipHeader(g.d.readByte); err != nil {
		return err
	}
	g.memberCRC, g.memberLen = 0, 0
	if err := g.d.inflate(); err != nil {
		return fmt.Errorf("inflate at byte %d: %w", g.d.bitPos()/8, err)
	}
	var t [8]byte
	for i := range t {
		b, err := g.d.readByte()
		if err != nil {
			return noEOF(err)
		}
		t[i] = b
	}
	crc := uint32(t[0]) | uint32(t[1])<<8 | uint32(t[2])<<16 | uint32(t[3])<<24
	length := uint32(t[4]) | uint32(t[5])<<8 | uint32(t[6])<<16 | uint32(t[7])<<24
	if crc != g.memberCRC || length != g.memberLen {
		return fmt.Errorf("gzip member that ends at byte %d does not match its checksum: %w", g.d.bitPos()/8, ErrInvalid)
	}
	return nil
}

// took takes decoded bytes from the inflater.
func (g *gzipPass) took(b []byte) error {
	g.memberCRC = crc32.Update(g.memberCRC, crc32.IEEETable, b)
	g.memberLen += uint32(len(b))
	if g.enc != nil && g.outPos+int64(len(b))-g.lastOut > maxSpan {
		return errNoSpans
	}
	return g.emit(b)
}

// checkpoint begins a new span at this block where it is time for one.
func (g *gzipPass) checkpoint() error {
	out, in := g.d.outPos(), g.d.bitPos()
	if g.lastOut >= 0 {
		if out-g.lastOut < spanSize && in-g.lastIn < maxSpanInput*8 {
			return nil
		}
	}
	if err := g.d.flush(); err != nil {
		return err
	}
	s := span{in: in}
	if w := g.d.window(); len(w) > 0 {
		s.aux = int64(len(g.spans.windows))
		g.spans.windows = g.enc.EncodeAll(w, g.spans.windows)
		s.auxLen = uint32(int64(len(g.spans.windows)) - s.aux)
	}
	g.endSpan(s)
	g.lastOut, g.lastIn = out, in
	return nil
}
