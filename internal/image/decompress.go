package image

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxZstdWindow bounds the memory that a zstd frame may ask for.
const maxZstdWindow = 128 << 20

// sniff tells a blob's compression by its first bytes, since media types and
// file names are not always to be believed.
func sniff(head []byte) string {
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b, 0x08}):
		return "gzip"
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return "zstd"
	case len(head) >= 4 && head[0]&0xf0 == 0x50 && bytes.Equal(head[1:4], []byte{0x2a, 0x4d, 0x18}):
		return "zstd" // a skippable frame
	case bytes.HasPrefix(head, []byte("BZh")):
		return "bzip2"
	case bytes.HasPrefix(head, []byte("\xfd7zXZ\x00")):
		return "xz"
	}
	return "none"
}

// decompress returns the tar in a blob and the blob's compression. What is read
// ends where the blob does; bytes after the last gzip member are ignored, as
// gzip(1) does.
func decompress(r io.Reader) (io.ReadCloser, string, error) {
	br := bufio.NewReaderSize(r, 256<<10)
	head, err := br.Peek(6)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, "", err
	}
	switch kind := sniff(head); kind {
	case "none":
		return io.NopCloser(br), kind, nil
	case "gzip":
		zr, err := gzip.NewReader(br)
		if err != nil {
			return nil, kind, fmt.Errorf("%w: gzip: %w", ErrCorrupt, err)
		}
		zr.Multistream(false)
		return &gzipReader{Reader: zr, rest: br}, kind, nil
	case "zstd":
		zr, err := zstd.NewReader(br, zstd.WithDecoderMaxWindow(maxZstdWindow), zstd.WithDecoderConcurrency(0))
		if err != nil {
			return nil, kind, fmt.Errorf("%w: zstd: %w", ErrCorrupt, err)
		}
		return zr.IOReadCloser(), kind, nil
	default:
		return nil, kind, fmt.Errorf("layer compressed with %s: only gzip and zstd are supported; recompress it", kind)
	}
}

// gzipReader reads all members. What follows them and is none is ignored, but
// still read, so that the blob's digest is checked.
type gzipReader struct {
	*gzip.Reader
	rest *bufio.Reader
}

func (g *gzipReader) Read(p []byte) (int, error) {
	for {
		n, err := g.Reader.Read(p)
		if !errors.Is(err, io.EOF) {
			return n, err
		}
		head, perr := g.rest.Peek(3)
		if sniff(head) == "gzip" {
			if err := g.Reset(g.rest); err != nil {
				return n, fmt.Errorf("%w: gzip: %w", ErrCorrupt, err)
			}
			g.Multistream(false)
			if n > 0 {
				return n, nil
			}
			continue
		}
		if perr != nil && !errors.Is(perr, io.EOF) {
			return n, perr
		}
		if _, err := io.Copy(io.Discard, g.rest); err != nil {
			return n, err
		}
		return n, io.EOF
	}
}

// layerMediaType is the OCI media type for a compression.
func layerMediaType(kind string) string {
	switch kind {
	case "gzip":
		return ispec.MediaTypeImageLayerGzip
	case "zstd":
		return ispec.MediaTypeImageLayerZstd
	}
	return ispec.MediaTypeImageLayer
}
