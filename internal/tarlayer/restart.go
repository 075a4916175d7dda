package tarlayer

import (
	"bytes"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/flate"
)

// A deflate block may begin at any bit, but an ordinary inflate begins with a
// whole byte. So the bits before the block, in its first byte, are filled by the
// end of a few blocks that hold nothing, whose length in bits is right modulo 8.
// What is aligned in the stream stays aligned, so stored blocks work too.
//
// An empty block with the fixed codes has 10 bits. An odd length needs one with
// codes of its own: literal 255 and the end of the block have codes of one bit,
// and so has the one distance; it has 91 bits.

// bitWriter puts bits in the order of deflate.
type bitWriter struct {
	b []byte
	n uint
}

func (w *bitWriter) put(v uint32, n uint) {
	for i := range n {
		if w.n%8 == 0 {
			w.b = append(w.b, 0)
		}
		w.b[w.n/8] |= byte(v>>i&1) << (w.n % 8)
		w.n++
	}
}

func (w *bitWriter) emptyFixed() { w.put(0b010, 3+7) } // not final, fixed codes; end of block

func (w *bitWriter) emptyDynamic() {
	w.put(0b100, 3) // not final, codes of its own
	w.put(0, 5)     // 257 literals and lengths
	w.put(0, 5)     // 1 distance
	w.put(14, 4)    // 18 lengths of the code length code
	for _, sym := range clOrder[:18] {
		switch sym {
		case 1, 18:
			w.put(1, 3)
		default:
			w.put(0, 3)
		}
	}
	// Codes of that code: 0 is symbol 1, 1 is symbol 18.
	w.put(1, 1)
	w.put(138-11, 7) // literals 0 to 137: none
	w.put(1, 1)
	w.put(117-11, 7) // literals 138 to 254: none
	w.put(0, 1)      // literal 255: one bit
	w.put(0, 1)      // end of block: one bit
	w.put(0, 1)      // the distance: one bit
	w.put(1, 1)      // end of block, the second code
}

// bitPrefixes holds, for each number of bits modulo 8, empty blocks of that
// length.
var bitPrefixes = makeBitPrefixes()

func makeBitPrefixes() (p [8]bitWriter) {
	for r := range p {
		w := &p[r]
		if r%2 != 0 {
			w.emptyDynamic()
		}
		for w.n%8 != uint(r) {
			w.emptyFixed()
		}
	}
	return p
}

// restartInput makes of data, whose first block begins at bit from of its first
// byte and whose last one ends before bit to of its last byte (0: with it), a
// stream for an inflate from the beginning to the end.
func restartInput(dst, data []byte, from, to uint) []byte {
	w := bitWriter{b: append(dst, bitPrefixes[from].b...)}
	if from > 0 && len(data) > 0 {
		w.b[len(w.b)-1] |= data[0] &^ (1<<from - 1)
		data = data[1:]
	}
	w.b = append(w.b, data...)
	w.n = uint(len(w.b)) * 8
	if to > 0 {
		w.n -= 8 - to
		w.b[len(w.b)-1] &= 1<<to - 1
	}
	w.put(0b011, 3+7) // final, fixed codes; end of block
	return w.b
}

// inflateReader is what every inflate of klauspost/compress is.
type inflateReader interface {
	io.ReadCloser
	flate.Resetter
}

var inflaters = sync.Pool{New: func() any { return flate.NewReader(bytes.NewReader(nil)) }}

// inflateFrom decodes len(dst) bytes from input, which begins in the middle of
// a gzip member after window, and may go on over the members that follow.
func inflateFrom(dst, input, window []byte) error {
	fr, ok := inflaters.Get().(inflateReader)
	if !ok {
		return fmt.Errorf("inflate cannot be restarted")
	}
	defer inflaters.Put(fr)
	br := bytes.NewReader(input)
	if err := fr.Reset(br, window); err != nil {
		return err
	}
	for done := 0; done < len(dst); {
		n, err := fr.Read(dst[done:])
		done += n
		if done == len(dst) {
			return nil
		}
		if err == nil {
			continue
		}
		if err != io.EOF {
			return err
		}
		if _, err := br.Seek(8+2, io.SeekCurrent); err != nil { // checksum and length; magic
			return err
		}
		if err := readGzipHeader(br.ReadByte); err != nil {
			return err
		}
		if err := fr.Reset(br, nil); err != nil {
			return err
		}
	}
	return nil
}
