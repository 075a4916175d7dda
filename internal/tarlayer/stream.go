package tarlayer

import (
	"context"
	"fmt"
	"hash"
	"io"
	"sync"
)

const (
	streamChunk = 256 << 10
	streamAhead = 6 // chunks that the producer may be ahead
	maxCapture  = 4 << 20
)

// stream carries the decoded tar from the producer to the scanner, which reads
// it and skips in it, and hashes all of it on the way.
type stream struct {
	ch   chan []byte
	free sync.Pool
	err  error // of the producer; set before ch is closed

	cur  []byte // the chunk being read
	rest []byte // what is left of it
	pos  int64
	hash hash.Hash // nil: not wanted

	capture []byte // what Read returned since the first block since mark
	capAt   int64  // offset of capture, -1 before the first block
}

func newStream(h hash.Hash) *stream {
	return &stream{
		ch:    make(chan []byte, streamAhead),
		free:  sync.Pool{New: func() any { return make([]byte, 0, streamChunk) }},
		hash:  h,
		capAt: -1,
	}
}

// put sends a copy of b.
func (s *stream) put(ctx context.Context, b []byte) error {
	for len(b) > 0 {
		c, _ := s.free.Get().([]byte)
		c = append(c[:0], b[:min(len(b), streamChunk)]...)
		b = b[len(c):]
		select {
		case s.ch <- c:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// finish ends the stream; err is what readers get after its last byte, nil the
// end of the file.
func (s *stream) finish(err error) {
	s.err = err
	close(s.ch)
}

// next makes rest hold something.
func (s *stream) next() error {
	for len(s.rest) == 0 {
		if s.cur != nil {
			s.free.Put(s.cur[:0]) //nolint:staticcheck // a slice header is cheap against its chunk
			s.cur = nil
		}
		c, ok := <-s.ch
		if !ok {
			if s.err != nil {
				return s.err
			}
			return io.EOF
		}
		if s.hash != nil {
			s.hash.Write(c)
		}
		s.cur, s.rest = c, c
	}
	return nil
}

// Read fills b, unless the stream ends.
func (s *stream) Read(b []byte) (int, error) {
	at, n := s.pos, 0
	for n < len(b) {
		if err := s.next(); err != nil {
			if n > 0 && err == io.EOF {
				break
			}
			return n, err
		}
		c := copy(b[n:], s.rest)
		s.rest = s.rest[c:]
		s.pos += int64(c)
		n += c
	}
	s.keep(b[:n], at)
	return n, nil
}

// mark begins a new capture: from the next 512-byte block that is read whole.
// What archive/tar reads before it is the end of the entry before, byte by byte.
func (s *stream) mark() { s.capture, s.capAt = s.capture[:0], -1 }

func (s *stream) keep(b []byte, at int64) {
	if s.capAt < 0 {
		if len(b) != tarBlock || at%tarBlock != 0 {
			return
		}
		s.capAt = at
	}
	if len(s.capture)+len(b) <= maxCapture {
		s.capture = append(s.capture, b...)
	}
}

// Seek skips forward; archive/tar asks for nothing else.
func (s *stream) Seek(off int64, whence int) (int64, error) {
	if whence != io.SeekCurrent || off < 0 {
		return 0, fmt.Errorf("seek in a stream: %w", ErrInvalid)
	}
	for off > 0 {
		if err := s.next(); err != nil {
			if err == io.EOF {
				break // the read that follows finds the end
			}
			return 0, err
		}
		n := min(off, int64(len(s.rest)))
		s.rest = s.rest[n:]
		s.pos += n
		off -= n
	}
	return s.pos, nil
}

// drain reads to the end.
func (s *stream) drain() error {
	for {
		s.rest = nil
		if err := s.next(); err != nil {
			if err == io.EOF {
				return nil
			}
			return err
		}
		s.pos += int64(len(s.rest))
	}
}
