package tarlayer

import (
	"encoding/binary"
	"fmt"
	"io"
)

const (
	deflateWindow = 32 << 10
	inflateIn     = 256 << 10
	inflateOut    = deflateWindow + 256<<10
	maxMatch      = 258
	inHistory     = 8  // bytes kept before pos, to give back what was read ahead
	inPad         = 16 // bytes readable after end
)

// inflater decodes deflate data and, unlike other decoders, says where its
// blocks begin. It is used once for each blob, to make the index.
type inflater struct {
	src  io.Reader
	in   []byte // in[pos:end] is not yet taken; inPad bytes follow end
	pos  int
	end  int
	safe int   // largest pos at which 8 bytes may be taken
	base int64 // offset in src of in[0]
	eof  bool

	bits  uint64 // the next bits; those above nbits are right or 0
	nbits uint

	out   []byte
	n     int   // out[:n] is decoded
	sent  int   // out[:sent] was given to emit
	start int   // matches may not reach before out[start]
	total int64 // offset in the whole output of out[0]

	lits, dists huffman
	cl          huffman
	fixed       bool // lits and dists are those of the fixed codes

	// emit takes decoded bytes, which it must not keep.
	emit func([]byte) error
	// block is called at the beginning of each block, before its header.
	block func() error
}

func newInflater(src io.Reader) *inflater {
	return &inflater{
		src:  src,
		in:   make([]byte, inHistory+inflateIn+inPad),
		pos:  inHistory,
		end:  inHistory,
		safe: -1,
		base: -inHistory,
		out:  make([]byte, inflateOut+maxMatch),
	}
}

// bitPos is the offset in src of the next bit, in bits.
func (d *inflater) bitPos() int64 { return (d.base+int64(d.pos))*8 - int64(d.nbits) }

// outPos is how many bytes were decoded in all.
func (d *inflater) outPos() int64 { return d.total + int64(d.n) }

// window is what matches may refer to now; it is valid until more is decoded.
func (d *inflater) window() []byte {
	return d.out[max(d.start, d.n-deflateWindow):d.n]
}

// fill reads more input, so that at least 8 bytes can be taken at pos; at the
// end of the source they are zeros.
func (d *inflater) fill() error {
	if d.eof {
		if d.pos > d.end+inPad-8 {
			return errCut
		}
		return nil
	}
	from := max(0, d.pos-inHistory)
	copy(d.in, d.in[from:d.end])
	d.base += int64(from)
	d.pos -= from
	d.end -= from
	for d.end-d.pos < 8 {
		n, err := d.src.Read(d.in[d.end : len(d.in)-inPad])
		d.end += n
		if err == io.EOF {
			d.eof = true
			clear(d.in[d.end : d.end+inPad])
			d.safe = d.end + inPad - 8
			return nil
		}
		if err != nil {
			return err
		}
	}
	d.safe = d.end - 8
	return nil
}

// need makes at least 48 bits available. At the end of the source they may be
// made up: take notices.
func (d *inflater) need() error {
	if d.nbits >= 48 {
		return nil
	}
	if d.pos > d.safe {
		if err := d.fill(); err != nil {
			return err
		}
	}
	d.bits |= binary.LittleEndian.Uint64(d.in[d.pos:]) << d.nbits
	d.pos += int(63-d.nbits) >> 3
	d.nbits |= 56
	return nil
}

// overrun tells whether bits were taken that the source does not have.
func (d *inflater) overrun() bool { return d.pos*8-int(d.nbits) > d.end*8 }

// take returns the next n bits, at most 32.
func (d *inflater) take(n uint) (uint32, error) {
	if err := d.need(); err != nil {
		return 0, err
	}
	v := uint32(d.bits & (1<<n - 1))
	d.bits >>= n
	d.nbits -= n
	if d.overrun() {
		return 0, errCut
	}
	return v, nil
}

// align skips to the next byte and gives back what was read ahead of it.
func (d *inflater) align() {
	d.pos -= int(d.nbits / 8)
	d.bits, d.nbits = 0, 0
}

// readByte returns the next byte; the input must be aligned. io.EOF: none left.
func (d *inflater) readByte() (byte, error) {
	if d.pos >= d.end {
		if err := d.fill(); err != nil {
			return 0, err
		}
		if d.pos >= d.end {
			return 0, io.EOF
		}
	}
	b := d.in[d.pos]
	d.pos++
	return b, nil
}

// flush emits what is decoded and makes room.
func (d *inflater) flush() error {
	if d.n > d.sent {
		if err := d.emit(d.out[d.sent:d.n]); err != nil {
			return err
		}
		d.sent = d.n
	}
	if gone := d.n - deflateWindow; gone > deflateWindow {
		copy(d.out, d.out[gone:d.n])
		d.total += int64(gone)
		d.n -= gone
		d.sent -= gone
		d.start = max(0, d.start-gone)
	}
	return nil
}

// inflate decodes one deflate stream, which begins at the next byte, and leaves
// the input aligned after it.
func (d *inflater) inflate() error {
	d.start = d.n
	for {
		if err := d.block(); err != nil {
			return err
		}
		h, err := d.take(3)
		if err != nil {
			return err
		}
		switch h >> 1 {
		case 0:
			err = d.stored()
		case 1:
			if err = d.fixedCodes(); err == nil {
				err = d.codes()
			}
		case 2:
			if err = d.dynamicCodes(); err == nil {
				err = d.codes()
			}
		default:
			err = errDeflate
		}
		if err != nil {
			return err
		}
		if h&1 != 0 {
			d.align()
			return d.flush()
		}
	}
}

// stored copies a block that is not compressed.
func (d *inflater) stored() error {
	d.align()
	var h [4]byte
	for i := range h {
		b, err := d.readByte()
		if err != nil {
			return noEOF(err)
		}
		h[i] = b
	}
	left := int(binary.LittleEndian.Uint16(h[:]))
	if left != int(^binary.LittleEndian.Uint16(h[2:])) {
		return errDeflate
	}
	for left > 0 {
		if d.pos >= d.end {
			if err := d.fill(); err != nil {
				return err
			}
			if d.pos >= d.end {
				return errCut
			}
		}
		if d.n >= inflateOut {
			if err := d.flush(); err != nil {
				return err
			}
		}
		n := copy(d.out[d.n:min(d.n+left, inflateOut)], d.in[d.pos:d.end])
		d.n += n
		d.pos += n
		left -= n
	}
	return nil
}

// errCut: the data end in the middle of something.
var errCut = fmt.Errorf("%w: %w", io.ErrUnexpectedEOF, ErrInvalid)

// noEOF turns the end of a source in the middle of something into an error.
func noEOF(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF { //nolint:errorlint // from io itself
		return errCut
	}
	return err
}

// fixedCodes sets up the codes of RFC 1951, 3.2.6.
func (d *inflater) fixedCodes() error {
	if d.fixed {
		return nil
	}
	var l [numLit]uint8
	for i := range l {
		switch {
		case i < 144:
			l[i] = 8
		case i < 256:
			l[i] = 9
		case i < 280:
			l[i] = 7
		default:
			l[i] = 8
		}
	}
	var dl [numDist]uint8
	for i := range dl {
		dl[i] = 5
	}
	if err := d.lits.build(litBits, l[:], litMeaning[:]); err != nil {
		return err
	}
	d.fixed = true
	return d.dists.build(distBits, dl[:], distMeaning[:])
}

var clOrder = [19]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

// dynamicCodes reads the codes that stand before a block (RFC 1951, 3.2.7).
func (d *inflater) dynamicCodes() error {
	d.fixed = false
	h, err := d.take(14)
	if err != nil {
		return err
	}
	nlit, ndist, ncl := int(h&31)+257, int(h>>5&31)+1, int(h>>10)+4
	if nlit > 286 || ndist > 30 {
		return errDeflate
	}
	var cl [19]uint8
	for _, sym := range clOrder[:ncl] {
		v, err := d.take(3)
		if err != nil {
			return err
		}
		cl[sym] = uint8(v)
	}
	if err := d.cl.build(clBits, cl[:], clMeaning[:]); err != nil {
		return err
	}
	var lengths [286 + 30]uint8
	if err := d.codeLengths(lengths[:nlit+ndist]); err != nil {
		return err
	}
	if lengths[256] == 0 {
		return errDeflate // the block could not end
	}
	if err := d.lits.build(litBits, lengths[:nlit], litMeaning[:]); err != nil {
		return err
	}
	return d.dists.build(distBits, lengths[nlit:nlit+ndist], distMeaning[:])
}

// codeLengths reads the lengths of the codes of literals and distances.
func (d *inflater) codeLengths(lengths []uint8) error {
	for i := 0; i < len(lengths); {
		if err := d.need(); err != nil {
			return err
		}
		e := d.cl.first[d.bits&(1<<clBits-1)]
		if e == 0 {
			return errDeflate
		}
		d.bits >>= e & 15
		d.nbits -= uint(e & 15)
		sym := uint8(e >> 8)
		if sym < 16 {
			lengths[i] = sym
			i++
			continue
		}
		var val uint8
		base, extra := 3, uint(3)
		switch sym {
		case 16:
			if i == 0 {
				return errDeflate
			}
			val, extra = lengths[i-1], 2
		case 18:
			base, extra = 11, 7
		}
		v, err := d.take(extra)
		if err != nil {
			return err
		}
		n := base + int(v)
		if i+n > len(lengths) {
			return errDeflate
		}
		for ; n > 0; n-- {
			lengths[i] = val
			i++
		}
	}
	return nil
}

// codes decodes the symbols of one block.
func (d *inflater) codes() error {
	in, out := d.in, d.out
	lit, lsub, lmask := d.lits.first, d.lits.sub, d.lits.subMask
	bits, nbits, pos, n := d.bits, d.nbits, d.pos, d.n
	for {
		if n >= inflateOut {
			d.n = n
			if err := d.flush(); err != nil {
				return err
			}
			n = d.n
		}
		if nbits < 48 {
			if pos > d.safe {
				d.pos = pos
				if err := d.fill(); err != nil {
					return err
				}
				pos = d.pos
			}
			bits |= binary.LittleEndian.Uint64(in[pos:]) << (nbits & 63)
			pos += int(63-nbits) >> 3
			nbits |= 56
		}
		e := lit[bits&(1<<litBits-1)]
		if e&entryLink != 0 {
			e = lsub[uint64(e>>8&entryValue)+bits>>litBits&lmask]
		}
		bits >>= e & 15
		nbits -= uint(e & 15)
		if e&entryLiteral != 0 {
			out[n] = byte(e >> 8)
			n++
			continue
		}
		if e&entryEnd != 0 || e == 0 {
			d.bits, d.nbits, d.pos, d.n = bits, nbits, pos, n
			if d.overrun() {
				return errCut
			}
			if e == 0 {
				return errDeflate
			}
			return nil
		}
		extra := e >> 4 & 15
		length := int(e>>8&entryValue) + int(bits&(1<<extra-1))
		bits >>= extra
		e = d.dists.first[bits&(1<<distBits-1)]
		if e&entryLink != 0 {
			e = d.dists.sub[uint64(e>>8&entryValue)+bits>>distBits&d.dists.subMask]
		}
		bits >>= e & 15
		nbits -= uint(extra + e&15)
		extra = e >> 4 & 15
		dist := int(e>>8&entryValue) + int(bits&(1<<extra-1))
		bits >>= extra
		nbits -= uint(extra)
		if e == 0 || dist > n-d.start {
			return errDeflate
		}
		copyMatch(out, n, dist, length)
		n += length
	}
}

// copyMatch repeats length bytes from dist before n at n.
func copyMatch(out []byte, n, dist, length int) {
	if dist >= length {
		copy(out[n:n+length], out[n-dist:])
		return
	}
	for length > 0 {
		c := copy(out[n:n+length], out[n-dist:n])
		n += c
		length -= c
		dist += c
	}
}
