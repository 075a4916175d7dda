package tarlayer

import (
	"fmt"
	"hash/crc32"
	"os"

	"github.com/klauspost/compress/zstd"
)

// spoolFrame is how much of the stream one frame of a spool holds.
const spoolFrame = 1 << 20

// spoolWriter writes a copy of the stream that can be read from anywhere: zstd
// frames which do not depend on each other.
type spoolWriter struct {
	file  *os.File
	enc   *zstd.Encoder
	limit int64

	buf   []byte // the frame that is being filled
	frame []byte
	in    int64 // length of the file
	out   int64
	spans *spanBuilder
}

func newSpoolWriter(file *os.File, limit int64, spans *spanBuilder) (*spoolWriter, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false))
	if err != nil {
		return nil, err
	}
	return &spoolWriter{file: file, enc: enc, limit: limit, buf: make([]byte, 0, spoolFrame), spans: spans}, nil
}

func (w *spoolWriter) write(b []byte) error {
	for len(b) > 0 {
		n := min(len(b), spoolFrame-len(w.buf))
		w.buf = append(w.buf, b[:n]...)
		b = b[n:]
		if len(w.buf) == spoolFrame {
			if err := w.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *spoolWriter) flush() error {
	if len(w.buf) == 0 {
		return nil
	}
	w.frame = w.enc.EncodeAll(w.buf, w.frame[:0])
	if _, err := w.file.Write(w.frame); err != nil {
		return fmt.Errorf("write the re-framed copy: %w", err)
	}
	end := w.in + int64(len(w.frame))
	if end > w.limit {
		return fmt.Errorf("the re-framed copy is longer than %d bytes: %w", w.limit, ErrLimit)
	}
	w.spans.add(span{out: w.out, in: w.in, aux: end, crc: crc32.Checksum(w.buf, castagnoli)})
	w.in = end
	w.out += int64(len(w.buf))
	w.buf = w.buf[:0]
	return nil
}

// finish writes what is left.
func (w *spoolWriter) finish() error {
	err := w.flush()
	if cerr := w.enc.Close(); err == nil {
		err = cerr
	}
	return err
}
