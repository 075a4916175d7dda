package image

import (
	"archive/tar"
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/unionfs-go/unionfs/internal/pack"
	"github.com/unionfs-go/unionfs/whiteout"
)

// ImportRequest makes an image of one layer out of a root filesystem's tar.
type ImportRequest struct {
	Tar         io.Reader        // plain, gzip or zstd; read to its end
	Commit      CommitRequest    // all but the parts
	Compression pack.Compression // of a tar that comes plain; others stay as they are
	Level       int
}

// Import makes an image of a tar. The tar is checked, and kept byte for byte.
func (s *Store) Import(ctx context.Context, req ImportRequest) (Committed, error) {
	t, err := s.begin("import")
	if err != nil {
		return Committed{}, err
	}
	defer t.end()
	res, err := t.importTar(ctx, req)
	if err != nil {
		return Committed{}, err
	}
	c := req.Commit
	c.Op = "import"
	d, err := t.newDraft(c)
	if err != nil {
		return Committed{}, err
	}
	d.packed = append(d.packed, res)
	d.addHistory(ispec.History{
		Created: d.config.Created, CreatedBy: "unionfs image import", Author: c.Author, Comment: c.Message,
		EmptyLayer: res.Counts.Entries == 0,
	}, res)
	return d.finish()
}

// importTar makes the blob of an imported layer.
func (t *transaction) importTar(ctx context.Context, req ImportRequest) (pack.Result, error) {
	b, err := t.newBlob()
	if err != nil {
		return pack.Result{}, err
	}
	res, err := storeTar(ctx, req, b)
	if err != nil {
		b.abandon()
		return res, fmt.Errorf("import: %w", err)
	}
	if res.Counts.Entries == 0 {
		b.abandon()
		return res, nil
	}
	d, err := b.publish(res.MediaType, "layer")
	res.Digest, res.Size = d.Digest, d.Size
	return res, err
}

// storeTar writes the tar into the blob: as it comes when it is compressed, else
// compressed on the way.
func storeTar(ctx context.Context, req ImportRequest, b *blobWriter) (pack.Result, error) {
	var res pack.Result
	in := bufio.NewReaderSize(req.Tar, 256<<10)
	head, err := in.Peek(6)
	if err != nil && !errors.Is(err, io.EOF) {
		return res, err
	}
	var src io.Reader = in
	compressed := sniff(head) != "none"
	if compressed {
		src = io.TeeReader(in, b)
	}
	stream, kind, err := decompress(src)
	if err != nil {
		return res, err
	}
	defer stream.Close() //nolint:errcheck // only read
	hashed := &hashReader{r: stream, hash: sha256.New()}
	res.MediaType = layerMediaType(kind)
	var comp io.WriteCloser
	if !compressed {
		res.MediaType = req.Compression.MediaType()
		if comp, err = pack.NewCompressor(b, req.Compression, req.Level); err != nil {
			return res, err
		}
		hashed.also = comp
	}
	res.Counts, err = scanTar(ctx, hashed)
	if comp != nil {
		if cerr := comp.Close(); err == nil {
			err = cerr
		}
	}
	if err != nil {
		return res, err
	}
	// What a decompressor left unread belongs to the blob all the same.
	if _, err := io.Copy(io.Discard, src); err != nil {
		return res, err
	}
	res.DiffID, res.UncompressedSize = digest.NewDigest(digest.SHA256, hashed.hash), hashed.n
	return res, nil
}

// hashReader hashes and counts what is read, and copies it to also.
type hashReader struct {
	r    io.Reader
	hash hash.Hash
	also io.Writer
	n    int64
}

func (h *hashReader) Read(p []byte) (int, error) {
	n, err := h.r.Read(p)
	_, _ = h.hash.Write(p[:n])
	h.n += int64(n)
	if h.also != nil && n > 0 {
		if _, werr := h.also.Write(p[:n]); werr != nil {
			return n, werr
		}
	}
	return n, err
}

// scanTar reads a tar to its end and counts what is in it.
func scanTar(ctx context.Context, r io.Reader) (pack.Counts, error) {
	var c pack.Counts
	tr := tar.NewReader(r)
	for {
		if err := ctx.Err(); err != nil {
			return c, err
		}
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return c, fmt.Errorf("read tar: %w: %w", ErrCorrupt, err)
		}
		if c.Entries++; int64(c.Entries) > DefaultLimits.Entries {
			return c, fmt.Errorf("read tar: %w: more than %d entries", ErrCorrupt, DefaultLimits.Entries)
		}
		if err := count(&c, h); err != nil {
			return c, err
		}
	}
	_, err := io.Copy(io.Discard, r)
	return c, err
}

func count(c *pack.Counts, h *tar.Header) error {
	name, err := cleanName(h.Name)
	if err != nil {
		return err
	}
	base := name[lastSlash(name)+1:]
	switch kind, _ := whiteout.ParseOCIName(base); kind {
	case whiteout.Deletes:
		c.Whiteouts++
		return nil
	case whiteout.MakesOpaque:
		c.Opaques++
		return nil
	case whiteout.Plain, whiteout.Reserved:
	}
	switch h.Typeflag {
	case tar.TypeDir:
		c.Dirs++
	case tar.TypeSymlink:
		c.Symlinks++
	case tar.TypeLink:
		c.Links++
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		c.Devices++
	case tar.TypeReg:
		c.Files++
		c.FileBytes += h.Size
	}
	return nil
}

func lastSlash(s string) int {
	for i := len(s) - 1; i >= 0; i-- {
		if s[i] == '/' {
			return i
		}
	}
	return -1
}
