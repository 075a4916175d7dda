package image

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

// puller fetches the blobs of one image.
type puller struct {
	*registryClient
	t     *transaction
	bytes atomic.Int64

	mu       sync.Mutex
	complete []*partial // blobs to publish; guarded by mu
}

func (p *puller) fetched() int64 { return p.bytes.Load() }

// publish gives the blobs their names, when all are there: what a failed pull
// fetched stays for the next one.
func (p *puller) publish() error {
	for _, b := range p.complete {
		if _, err := (&blobWriter{t: p.t, f: b.f}).publishAs(b.want, "layer"); err != nil {
			return err
		}
	}
	return nil
}

// close closes the files of what was not published.
func (p *puller) close() {
	for _, b := range p.complete {
		_ = b.f.Close() // closed already where it was published
	}
}

// blobs fetches configuration and layers, the configuration first: without it
// the layers are of no use.
func (p *puller) blobs(ctx context.Context, m *ispec.Manifest) error {
	if m.Config.Size > MaxJSON {
		return fmt.Errorf("configuration: %w: larger than %d bytes", ErrCorrupt, MaxJSON)
	}
	quiet := func(LayerProgress) {}
	if err := p.blob(ctx, m.Config, quiet); err != nil {
		return err
	}
	layers := uniqueBlobs(m.Layers)
	for _, d := range layers {
		p.opt.Progress(LayerProgress{Digest: d.Digest, Phase: PhaseWaiting, Total: d.Size})
	}
	return p.inParallel(ctx, layers, func(ctx context.Context, d ispec.Descriptor) error {
		return p.blob(ctx, d, p.opt.Progress)
	})
}

// blob fetches one blob that is not in the store yet.
func (p *puller) blob(ctx context.Context, d ispec.Descriptor, tell func(LayerProgress)) error {
	if has, err := p.t.s.has(d); err != nil || has {
		tell(LayerProgress{Digest: d.Digest, Phase: PhaseExists, Done: d.Size, Total: d.Size})
		return err
	}
	f, err := p.openPartial(ctx, d)
	if err != nil {
		return err
	}
	if has, err := p.t.s.has(d); err != nil || has {
		_, _ = os.Remove(f.Name()), f.Close() // another pull was faster
		tell(LayerProgress{Digest: d.Digest, Phase: PhaseExists, Done: d.Size, Total: d.Size})
		return err
	}
	part := &partial{f: f, want: d, tell: tell, counts: &p.bytes}
	if err := p.attempts(ctx, d, func() error { return p.fetch(ctx, part) }); err != nil {
		_ = f.Close()
		return fmt.Errorf("layer %s: %w", d.Digest, err)
	}
	p.mu.Lock()
	p.complete = append(p.complete, part)
	p.mu.Unlock()
	tell(LayerProgress{Digest: d.Digest, Phase: PhasePulled, Done: d.Size, Total: d.Size})
	return nil
}

// has tells whether a blob is in the store.
func (s *Store) has(d ispec.Descriptor) (bool, error) {
	path, err := s.BlobPath(d.Digest)
	if err != nil {
		return false, err
	}
	fi, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && fi.Mode().IsRegular() && fi.Size() == d.Size, err
}

// openPartial opens the file that a blob is fetched to, alone.
func (p *puller) openPartial(ctx context.Context, d ispec.Descriptor) (*os.File, error) {
	dir := p.t.s.path(partialDir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("write to image store: %w", err)
	}
	path := filepath.Join(dir, d.Digest.Encoded())
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o644)
		if err != nil {
			return nil, fmt.Errorf("write to image store: %w", err)
		}
		for err = unix.EINTR; err == unix.EINTR; {
			err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
		}
		if err != nil {
			_ = f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		// Whoever had it before may have renamed or removed it.
		a, aerr := f.Stat()
		b, berr := os.Lstat(path)
		if aerr == nil && berr == nil && os.SameFile(a, b) {
			return f, nil
		}
		_ = f.Close()
	}
}

// partial is a blob of which a part was fetched.
type partial struct {
	f      *os.File
	want   ispec.Descriptor
	tell   func(LayerProgress)
	hash   hash.Hash // of the part; nil before it was read
	have   int64
	counts *atomic.Int64
}

// restart reads what is there, or with drop throws it away.
func (b *partial) restart(drop bool) error {
	b.hash, b.have = sha256.New(), 0
	if !drop {
		n, err := io.Copy(b.hash, io.NewSectionReader(b.f, 0, b.want.Size))
		if err != nil {
			return err
		}
		b.have = n
	}
	if err := b.f.Truncate(b.have); err != nil {
		return err
	}
	_, err := b.f.Seek(b.have, io.SeekStart)
	return err
}

func (b *partial) Write(data []byte) (int, error) {
	if b.have+int64(len(data)) > b.want.Size {
		return 0, fmt.Errorf("%w: more than %d bytes came", ErrCorrupt, b.want.Size)
	}
	n, err := b.f.Write(data)
	_, _ = b.hash.Write(data[:n])
	b.have += int64(n)
	b.counts.Add(int64(n))
	b.tell(LayerProgress{Digest: b.want.Digest, Phase: PhaseDownloading, Done: b.have, Total: b.want.Size})
	return n, err
}

// fetch fetches what is missing of a blob and checks all of it.
func (p *puller) fetch(ctx context.Context, b *partial) error {
	if b.hash == nil {
		if err := b.restart(false); err != nil {
			return err
		}
	}
	if b.have < b.want.Size || b.want.Size == 0 {
		body, from, err := p.getBlob(ctx, b.want, b.have)
		if err != nil {
			return err
		}
		defer body.Close() //nolint:errcheck // only read
		if from != b.have {
			if err := b.restart(true); err != nil {
				return err
			}
		}
		if _, err := io.Copy(b, body); err != nil {
			return err
		}
	}
	if b.have < b.want.Size {
		return fmt.Errorf("%w after %d of %d bytes", io.ErrUnexpectedEOF, b.have, b.want.Size)
	}
	if got := digest.NewDigest(digest.SHA256, b.hash); got != b.want.Digest {
		if err := b.restart(true); err != nil {
			return err
		}
		return fmt.Errorf("%w: what came has the digest %s", ErrCorrupt, got)
	}
	return nil
}
