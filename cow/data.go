package cow

import (
	"bytes"
	"fmt"
	"io"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/sys"
)

const (
	// bufSize is how much is read and written at a time.
	bufSize = 256 << 10
	// rangeSize is how much copy_file_range is asked for at a time: where it
	// cannot share blocks, Cancel is not polled for that long.
	rangeSize = 8 << 20
	// holeSize is the smallest run of zeros, aligned to it, that becomes a hole
	// when the source cannot tell where its holes are: a page, and a block of
	// most filesystems.
	holeSize = 4 << 10
)

var (
	buffers = sync.Pool{New: func() any { b := make([]byte, bufSize); return &b }}
	zeros   [holeSize]byte
)

// CopyData copies the first size bytes of src to the start of the file dstFD,
// which must be open for writing and hold nothing but a hole, and makes it size
// bytes long. Holes stay holes. EIO: src is shorter. It does not sync.
func (w *Workdir) CopyData(dstFD int, src DataSource, size int64) error {
	return copyData(dstFD, src, size, nil)
}

func copyData(dst int, src DataSource, size int64, cancel func() error) error {
	c := copier{dst: dst, size: size, cancel: cancel}
	if fd, ok := src.FD(); ok {
		return c.fromFD(fd)
	}
	return c.fromReader(src)
}

// copier is one copy of a file's data.
type copier struct {
	dst     int
	size    int64
	cancel  func() error
	noRange bool // copy_file_range does not work here
}

func (c *copier) poll() error {
	if c.cancel == nil {
		return nil
	}
	return c.cancel()
}

// fromFD copies by what is cheapest: shared blocks, a copy inside the kernel,
// then reading and writing; the last two extent by extent.
func (c *copier) fromFD(src int) error {
	var st unix.Statx_t
	if err := sys.Statx(src, "", &st); err != nil {
		return fmt.Errorf("stat source: %w", err)
	}
	if int64(st.Size) < c.size {
		return fmt.Errorf("source has %d bytes, not %d (was the layer changed?): %w", st.Size, c.size, unix.EIO)
	}
	if int64(st.Size) == c.size {
		switch err := sys.Clone(c.dst, src); err {
		case nil:
			return nil
		case unix.ENOSPC, unix.EDQUOT, unix.EIO:
			return fmt.Errorf("clone: %w", err)
		}
	}
	for off := int64(0); off < c.size; {
		start, end, err := sys.SeekData(src, off)
		switch err {
		case nil:
		case unix.ENXIO: // nothing but a hole
			start, end = c.size, c.size
		case unix.EINVAL, unix.EOPNOTSUPP: // the filesystem does not know holes
			start, end = off, c.size
		default:
			return fmt.Errorf("find data at %d: %w", off, err)
		}
		end = min(end, c.size)
		if err := c.extent(src, start, end); err != nil {
			return err
		}
		off = end
	}
	return sys.Ftruncate(c.dst, c.size)
}

// extent copies the bytes [off, end).
func (c *copier) extent(src int, off, end int64) error {
	for off < end && !c.noRange {
		if err := c.poll(); err != nil {
			return err
		}
		n, err := sys.CopyRange(c.dst, off, src, off, min(end-off, rangeSize))
		switch {
		case err == unix.ENOSPC, err == unix.EDQUOT, err == unix.EIO:
			return fmt.Errorf("copy at %d: %w", off, err)
		case err != nil, n == 0:
			// Not between these filesystems. Some answer 0 for that; read(2)
			// then tells whether the file ends here.
			c.noRange = true
		}
		off += max(n, 0)
	}
	if off >= end {
		return nil
	}
	return c.readWrite(off, end, func(p []byte, off int64) (int, error) { return sys.Pread(src, p, off) },
		func(p []byte, off int64) error { _, err := sys.Pwrite(c.dst, p, off); return err })
}

// fromReader copies a source that can only be read; blocks of zeros become
// holes.
func (c *copier) fromReader(src io.ReaderAt) error {
	read := func(p []byte, off int64) (int, error) {
		n, err := src.ReadAt(p, off)
		if err == io.EOF {
			err = nil
		}
		return n, err
	}
	if err := c.readWrite(0, c.size, read, c.writeSparse); err != nil {
		return err
	}
	return sys.Ftruncate(c.dst, c.size)
}

// readWrite copies the bytes [off, end) through a buffer. The offsets that
// write gets are off plus multiples of the buffer size.
func (c *copier) readWrite(off, end int64, read func([]byte, int64) (int, error), write func([]byte, int64) error) error {
	buf, ok := buffers.Get().(*[]byte)
	if !ok {
		return unix.ENOMEM
	}
	defer buffers.Put(buf)
	for off < end {
		if err := c.poll(); err != nil {
			return err
		}
		p := (*buf)[:min(end-off, bufSize)]
		n, err := read(p, off)
		if err != nil {
			return fmt.Errorf("read at %d: %w", off, err)
		}
		if n < len(p) {
			return fmt.Errorf("source ends at %d, not at %d (was the layer changed?): %w", off+int64(n), c.size, unix.EIO)
		}
		if err := write(p, off); err != nil {
			return fmt.Errorf("write at %d: %w", off, err)
		}
		off += int64(n)
	}
	return nil
}

// writeSparse writes p at off, leaving out blocks of zeros.
func (c *copier) writeSparse(p []byte, off int64) error {
	for len(p) > 0 {
		hole := runLength(p, true)
		p, off = p[hole:], off+int64(hole)
		data := runLength(p, false)
		if data == 0 {
			continue
		}
		if _, err := sys.Pwrite(c.dst, p[:data], off); err != nil {
			return err
		}
		p, off = p[data:], off+int64(data)
	}
	return nil
}

// runLength is how many bytes at the start of p are whole blocks of zeros, or
// whole blocks that are not.
func runLength(p []byte, zero bool) int {
	n := 0
	for n < len(p) {
		block := p[n:min(n+holeSize, len(p))]
		if bytes.Equal(block, zeros[:len(block)]) != zero {
			break
		}
		n += len(block)
	}
	return n
}
