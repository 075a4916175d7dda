package tarlayer

import (
	"context"
	_ "crypto/sha256" // the digests that blobs are named by
	_ "crypto/sha512"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

const (
	readChunk = 256 << 10 // how the blob is read in the pass
	spanSize  = 1 << 20   // spans are this long or a little longer
	// maxSpan is the longest span that is read in one piece; a blob that cannot
	// be cut so is re-framed.
	maxSpan = 16 << 20
	// maxSpanInput is the most compressed bytes in one span.
	maxSpanInput = 4 << 20
)

// errNoSpans: the blob has no places, or too few, where reading can begin.
var errNoSpans = errors.New("blob cannot be read from the middle")

// pass is one reading of a blob from end to end, by a goroutine of its own (the
// producer), which decodes it and cuts it into spans, while its caller takes
// the decoded stream.
type pass struct {
	ctx      context.Context
	blob     *blob
	limits   *Limits
	progress func(done, total int64)
	log      func(string, ...any)

	read    int64 // bytes of the blob read so far
	hash    hash.Hash
	spans   spanBuilder
	out     *stream
	dataEnd int64  // where the data of the last span ends, in the unit of span.in
	outPos  int64  // bytes of the stream emitted
	crc     uint32 // of the span that is being made
	spool   *spoolWriter
	readErr error // of the blob, other than its end
}

// Read reads the blob in order, as an io.Reader.
func (p *pass) Read(b []byte) (int, error) {
	if p.readErr = p.ctx.Err(); p.readErr != nil {
		return 0, p.readErr
	}
	b = b[:min(int64(len(b)), readChunk, p.blob.size-p.read)]
	if len(b) == 0 {
		return 0, io.EOF
	}
	n, err := p.blob.r.ReadAt(b, p.read)
	if n == 0 {
		if err == nil || err == io.EOF {
			err = fmt.Errorf("shorter than its size of %d bytes: %w", p.blob.size, ErrChanged)
		}
		p.readErr = err
		return 0, err
	}
	p.hash.Write(b[:n])
	p.read += int64(n)
	p.progress(p.read, p.blob.size)
	return n, nil
}

// skipTo reads on to an offset of the blob.
func (p *pass) skipTo(off int64) error {
	_, err := io.CopyBuffer(io.Discard, onlyReader{io.LimitReader(p, off-p.read)}, make([]byte, min(readChunk, max(off-p.read, 1))))
	if err == nil && p.read != off {
		err = errCut
	}
	return err
}

// onlyReader hides all methods but Read.
type onlyReader struct{ io.Reader }

// emit hands on decoded bytes, which it copies.
func (p *pass) emit(b []byte) error {
	p.outPos += int64(len(b))
	if p.outPos > p.limits.StreamBytes {
		return fmt.Errorf("the tar is longer than %d bytes: %w", p.limits.StreamBytes, ErrLimit)
	}
	if p.spool != nil {
		if err := p.spool.write(b); err != nil {
			return err
		}
	} else {
		p.crc = crc32.Update(p.crc, castagnoli, b)
	}
	return p.out.put(p.ctx, b)
}

// endSpan ends the span that is being made, if it has any bytes, and begins the
// next one.
func (p *pass) endSpan(next span) {
	p.spans.end(p.outPos, p.crc)
	p.crc = 0
	p.spans.begin(p.outPos, next)
}

// run decodes the whole blob with f, reads what f left over, and closes out.
func (p *pass) run(f func(*pass) error) {
	err := f(p)
	if err == nil {
		err = p.skipTo(p.blob.size)
	}
	if err == nil && p.spool != nil {
		err = p.spool.finish()
	} else if err == nil {
		p.spans.end(p.outPos, p.crc)
	}
	p.out.finish(err)
}

// producePlain hands on a blob that is not compressed.
func producePlain(p *pass) error {
	buf := make([]byte, plainSpan)
	p.dataEnd = p.blob.size
	for p.read < p.blob.size {
		at := p.read
		n, err := io.ReadFull(p, buf[:min(plainSpan, p.blob.size-at)])
		if err != nil {
			return noEOF(err)
		}
		p.endSpan(span{in: at})
		if err := p.emit(buf[:n]); err != nil {
			return err
		}
	}
	return nil
}
