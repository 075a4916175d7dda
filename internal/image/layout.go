package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

// MaxJSON bounds every JSON document that is read, in bytes, as registries do.
const MaxJSON = 4 << 20

// Errors that callers tell apart.
var (
	// ErrNotFound: no image of that name, tag or ID.
	ErrNotFound = errors.New("no such image")
	// ErrCorrupt: content does not match its digest, size or format.
	ErrCorrupt = errors.New("image content is damaged")
)

// Layout is an OCI image layout that is read. Its methods may be called
// concurrently.
type Layout struct {
	root    string
	archive *archive // the layout is in a tar, not in a directory
}

// OpenLayout opens the image layout in the directory dir, made by any tool.
func OpenLayout(dir string) (*Layout, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	l := &Layout{root: abs}
	if err := l.check(dir); err != nil {
		return nil, err
	}
	return l, nil
}

// check makes sure that a layout is one; dir is its name in messages.
func (l *Layout) check(dir string) error {
	b, err := l.readFile(ispec.ImageLayoutFile)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("open image layout %s: there is no oci-layout file in it: %w", dir, err)
		}
		return fmt.Errorf("open image layout %s: %w", dir, err)
	}
	var v ispec.ImageLayout
	if err := json.Unmarshal(b, &v); err != nil {
		return fmt.Errorf("open image layout %s: read oci-layout: %w", dir, err)
	}
	if v.Version != ispec.ImageLayoutVersion {
		return fmt.Errorf("open image layout %s: its version is %q; only %s is known", dir, v.Version, ispec.ImageLayoutVersion)
	}
	return nil
}

// Root is the directory of the layout, absolute.
func (l *Layout) Root() string { return l.root }

func (l *Layout) path(elem ...string) string {
	return filepath.Join(append([]string{l.root}, elem...)...)
}

// readFile reads a small file of the layout.
func (l *Layout) readFile(name string) ([]byte, error) {
	if l.archive != nil {
		return l.archive.read(name)
	}
	f, err := openRegular(l.path(name))
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	return readBounded(f, name)
}

// openRegular opens a regular file for reading; a fifo or device in its place
// is an error and never blocks.
func openRegular(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = fmt.Errorf("open %s: not a regular file", path)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

func readBounded(r io.Reader, name string) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, MaxJSON+1))
	if err == nil && len(b) > MaxJSON {
		err = fmt.Errorf("read %s: %w: larger than %d bytes", name, ErrCorrupt, MaxJSON)
	}
	return b, err
}

// Index reads index.json. A layout without one has no images.
func (l *Layout) Index() (ispec.Index, error) {
	idx := ispec.Index{MediaType: ispec.MediaTypeImageIndex}
	idx.SchemaVersion = 2
	b, err := l.readFile(ispec.ImageIndexFile)
	if errors.Is(err, fs.ErrNotExist) {
		return idx, nil
	}
	if err != nil {
		return idx, fmt.Errorf("read %s: %w", l.path(ispec.ImageIndexFile), err)
	}
	if err := json.Unmarshal(b, &idx); err != nil {
		return idx, fmt.Errorf("read %s: %w: %w", l.path(ispec.ImageIndexFile), ErrCorrupt, err)
	}
	return idx, nil
}

// BlobPath is where the blob of a digest is kept, whether or not it is there.
// Only sha256 and sha512 are understood.
func (l *Layout) BlobPath(d digest.Digest) (string, error) {
	if err := d.Validate(); err != nil {
		return "", fmt.Errorf("%w: digest %q: %w", ErrCorrupt, d, err)
	}
	return l.path(ispec.ImageBlobsDir, d.Algorithm().String(), d.Encoded()), nil
}

// checkDescriptor refuses descriptors that cannot be true.
func checkDescriptor(d ispec.Descriptor) error {
	if d.Size < 0 {
		return fmt.Errorf("%w: %s has a negative size", ErrCorrupt, d.Digest)
	}
	if err := d.Digest.Validate(); err != nil {
		return fmt.Errorf("%w: digest %q: %w", ErrCorrupt, d.Digest, err)
	}
	return nil
}

// Blob opens a blob. The reader checks digest and size: it ends with ErrCorrupt
// instead of io.EOF where they differ from the descriptor's. The caller closes
// it.
func (l *Layout) Blob(d ispec.Descriptor) (io.ReadCloser, error) {
	if err := checkDescriptor(d); err != nil {
		return nil, err
	}
	f, err := l.openBlob(d)
	if err != nil {
		return nil, fmt.Errorf("open blob: %w", err)
	}
	return &verifier{f: f, want: d, v: d.Digest.Verifier()}, nil
}

// openBlob opens a blob without checks.
func (l *Layout) openBlob(d ispec.Descriptor) (io.ReadCloser, error) {
	if l.archive != nil {
		r, err := l.archive.open(blobName(d.Digest))
		if err != nil {
			return nil, err
		}
		return io.NopCloser(r), nil
	}
	path, err := l.BlobPath(d.Digest)
	if err != nil {
		return nil, err
	}
	return openRegular(path)
}

// blobName is the name of a blob in a layout.
func blobName(d digest.Digest) string {
	return ispec.ImageBlobsDir + "/" + d.Algorithm().String() + "/" + d.Encoded()
}

// verifier checks a blob while it is read.
type verifier struct {
	f    io.ReadCloser
	want ispec.Descriptor
	v    digest.Verifier
	n    int64
}

func (r *verifier) Read(p []byte) (int, error) {
	n, err := r.f.Read(p)
	r.n += int64(n)
	if r.n > r.want.Size {
		return 0, fmt.Errorf("read blob %s: %w: it is larger than %d bytes", r.want.Digest, ErrCorrupt, r.want.Size)
	}
	_, _ = r.v.Write(p[:n])
	if errors.Is(err, io.EOF) {
		switch {
		case r.n < r.want.Size:
			return n, fmt.Errorf("read blob %s: %w: it has %d of %d bytes", r.want.Digest, ErrCorrupt, r.n, r.want.Size)
		case !r.v.Verified():
			return n, fmt.Errorf("read blob %s: %w: its bytes have another digest", r.want.Digest, ErrCorrupt)
		}
	}
	return n, err
}

func (r *verifier) Close() error { return r.f.Close() }

// readJSON reads a JSON blob into v and returns its bytes.
func (l *Layout) readJSON(d ispec.Descriptor, v any) ([]byte, error) {
	if d.Size > MaxJSON {
		return nil, fmt.Errorf("read blob %s: %w: larger than %d bytes", d.Digest, ErrCorrupt, MaxJSON)
	}
	r, err := l.Blob(d)
	if err != nil {
		return nil, err
	}
	defer r.Close() //nolint:errcheck // only read
	b, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return nil, fmt.Errorf("read blob %s: %w: %w", d.Digest, ErrCorrupt, err)
	}
	return b, nil
}
