package tarlayer

import (
	"fmt"
	"math/bits"
)

var errDeflate = fmt.Errorf("damaged deflate data: %w", ErrInvalid)

// An entry of a decoding table: what one code means. 0 is no code.
//
//	bits 0-3   length of the code in bits
//	bits 4-7   extra bits that follow (lengths and distances)
//	bits 8-27  literal byte, base of a length or distance, or offset of a subtable
//	bits 28-30 kind
const (
	entryLiteral = 1 << 28
	entryEnd     = 1 << 29
	entryLink    = 1 << 30
	entryValue   = 1<<20 - 1
)

const (
	maxCodeLen = 15
	litBits    = 10 // bits that the first table of literals and lengths decodes
	distBits   = 8
	clBits     = 7
	numLit     = 288
	numDist    = 32
)

// huffman decodes one canonical Huffman code with two levels of tables.
type huffman struct {
	primary uint // bits of the first level
	subMask uint64
	first   []uint32
	sub     []uint32
}

// build makes the tables for a code whose symbol i has a code of lengths[i]
// bits (0: none) and means meaning[i]. Codes must be complete, but for one of a
// single symbol with one bit and for one of no symbol (RFC 1951, 3.2.7).
func (h *huffman) build(primary uint, lengths []uint8, meaning []uint32) error {
	var count, next [maxCodeLen + 1]int
	longest := 0
	for _, l := range lengths {
		count[l]++
		longest = max(longest, int(l))
	}
	count[0] = 0
	code := 0
	for l := 1; l <= longest; l++ {
		code <<= 1
		next[l] = code
		code += count[l]
	}
	if longest > 0 && code != 1<<longest && (code != 1 || longest != 1) {
		return errDeflate
	}
	h.primary = primary
	h.first = resized(h.first, 1<<primary)
	h.sub = h.sub[:0]
	subBits := max(longest-int(primary), 0)
	h.subMask = 1<<subBits - 1
	for sym, l := range lengths {
		if l == 0 {
			continue
		}
		c := int(bits.Reverse16(uint16(next[l])) >> (16 - l))
		next[l]++
		e := meaning[sym] | uint32(l)
		if meaning[sym] == 0 {
			e = 0 // a symbol that must not occur
		}
		h.set(c, int(l), subBits, e)
	}
	return nil
}

// set enters one code, with its bits in the order of the stream.
func (h *huffman) set(c, l, subBits int, e uint32) {
	if l <= int(h.primary) {
		for i := c; i < len(h.first); i += 1 << l {
			h.first[i] = e
		}
		return
	}
	low := c & (len(h.first) - 1)
	if h.first[low] == 0 {
		off := len(h.sub)
		h.sub = append(h.sub, make([]uint32, 1<<subBits)...)
		h.first[low] = entryLink | uint32(off)<<8
	}
	off := int(h.first[low] >> 8 & entryValue)
	for i := c >> h.primary; i < 1<<subBits; i += 1 << (l - int(h.primary)) {
		h.sub[off+i] = e
	}
}

// resized returns s with n elements, all zero.
func resized(s []uint32, n int) []uint32 {
	if cap(s) < n {
		return make([]uint32, n)
	}
	s = s[:n]
	clear(s)
	return s
}

// The meanings of the symbols (RFC 1951, 3.2.5).
var (
	litMeaning  = makeLitMeaning()
	distMeaning = makeDistMeaning()
	clMeaning   = makeClMeaning()
)

func makeLitMeaning() (m [numLit]uint32) {
	for i := range 256 {
		m[i] = entryLiteral | uint32(i)<<8
	}
	m[256] = entryEnd
	base := uint32(3)
	for i := range uint32(28) {
		extra := uint32(0)
		if i >= 8 {
			extra = i/4 - 1
		}
		m[257+i] = base<<8 | extra<<4
		base += 1 << extra
	}
	m[285] = 258 << 8
	return m // 286 and 287 must not occur
}

func makeDistMeaning() (m [numDist]uint32) {
	base := uint32(1)
	for i := range uint32(30) {
		extra := uint32(0)
		if i >= 4 {
			extra = i/2 - 1
		}
		m[i] = base<<8 | extra<<4
		base += 1 << extra
	}
	return m // 30 and 31 must not occur
}

// makeClMeaning: the symbols of the code length code stand for themselves.
func makeClMeaning() (m [19]uint32) {
	for i := range m {
		m[i] = entryLiteral | uint32(i)<<8
	}
	return m
}
