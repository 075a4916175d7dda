package pack

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/stack"
	"github.com/unionfs-go/unionfs/internal/sys"
)

// smallFile is the size up to which a file is read into memory, so that it is
// known to have held still before its header is written. Larger ones are copied
// first, unless nothing can change (Options.Frozen).
const smallFile = 1 << 20

// regular writes a regular file. errRetry: it changed, and nothing was written.
func (w *walker) regular(path string, h *tar.Header, e stack.Entry) error {
	if w.tw == nil {
		w.counts.Files++
		a := e.Top().Object.Attr()
		w.counts.FileBytes += a.Size
		h.Size = a.Size
		return w.writeHeader(h)
	}
	f, err := e.Data().Object.Open()
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // only read
	before, err := w.stable(f, e)
	if err != nil {
		return err
	}
	h.Size = before.Size
	w.counts.Files++
	w.counts.FileBytes += h.Size
	if err := w.data(path, h, f, before); err != nil {
		if errors.Is(err, errRetry) {
			w.counts.Files--
			w.counts.FileBytes -= h.Size
		}
		return err
	}
	return nil
}

// stable returns the attributes of the open file, which must be those that the
// lookup saw and the header has.
func (w *walker) stable(f stack.File, e stack.Entry) (stack.Attr, error) {
	want := e.Data().Object.Attr()
	fd, ok := f.FD()
	if !ok {
		return want, nil // a layer that cannot change
	}
	var st unix.Statx_t
	if err := sys.Statx(fd, "", &st); err != nil {
		return want, err
	}
	have := stack.AttrOf(&st)
	if have.Ino != want.Ino || changed(&have, &want) {
		return have, errRetry
	}
	return have, nil
}

func changed(a, b *stack.Attr) bool {
	return a.Size != b.Size || a.Mtime != b.Mtime || a.Ctime != b.Ctime
}

// moved tells whether the open file is no longer what it was.
func moved(f stack.File, before *stack.Attr) (bool, error) {
	fd, ok := f.FD()
	if !ok {
		return false, nil
	}
	var st unix.Statx_t
	if err := sys.Statx(fd, "", &st); err != nil {
		return false, err
	}
	now := stack.AttrOf(&st)
	return changed(&now, before), nil
}

func (w *walker) data(path string, h *tar.Header, f stack.File, before stack.Attr) error {
	if h.Size <= smallFile {
		return w.small(h, f, before)
	}
	if _, ok := f.FD(); !ok || w.opt.Frozen {
		return w.inPlace(path, h, f, before)
	}
	spool, err := w.spool(f, before)
	if err != nil {
		return err
	}
	defer spool.Close() //nolint:errcheck // unlinked already
	if err := w.writeHeader(h); err != nil {
		return err
	}
	return copyExactly(w.tw, spool, h.Size)
}

func (w *walker) small(h *tar.Header, f stack.File, before stack.Attr) error {
	buf := make([]byte, h.Size)
	n, err := f.ReadAt(buf, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if m, err := moved(f, &before); err != nil {
		return err
	} else if m || n != len(buf) {
		return errRetry
	}
	if err := w.writeHeader(h); err != nil {
		return err
	}
	_, err = w.tw.Write(buf)
	return err
}

// inPlace reads a file that is not expected to change straight into the layer.
func (w *walker) inPlace(path string, h *tar.Header, f stack.File, before stack.Attr) error {
	if err := w.writeHeader(h); err != nil {
		return err
	}
	if err := copyExactly(w.tw, f, h.Size); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return pathError(path, ErrChanged)
		}
		return err
	}
	m, err := moved(f, &before)
	if err == nil && m {
		err = pathError(path, ErrChanged)
	}
	return err
}

// spool makes an unlinked copy of a large file, sharing its blocks where the
// filesystem can, and makes sure that the file held still meanwhile.
func (w *walker) spool(f stack.File, before stack.Attr) (*os.File, error) {
	fd, _ := f.FD()
	out, err := os.CreateTemp(w.opt.SpoolDir, ".unionfs-pack-")
	if err != nil {
		return nil, fmt.Errorf("copy a file before packing it: %w", err)
	}
	_ = os.Remove(out.Name())
	if sys.Clone(int(out.Fd()), fd) != nil {
		err = copyExactly(out, f, before.Size)
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = errRetry
		}
	}
	if err == nil {
		var m bool
		if m, err = moved(f, &before); err == nil && m {
			err = errRetry
		}
	}
	if err != nil {
		_ = out.Close()
		return nil, err
	}
	return out, nil
}

// copyExactly copies size bytes; a source that ends before is
// io.ErrUnexpectedEOF.
func copyExactly(w io.Writer, r io.ReaderAt, size int64) error {
	buf := make([]byte, 256<<10)
	for off := int64(0); off < size; {
		n, err := r.ReadAt(buf[:min(size-off, int64(len(buf)))], off)
		if n > 0 {
			if _, werr := w.Write(buf[:n]); werr != nil {
				return werr
			}
			off += int64(n)
		}
		if off < size && (errors.Is(err, io.EOF) || n == 0 && err == nil) {
			return io.ErrUnexpectedEOF
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
	}
	return nil
}
