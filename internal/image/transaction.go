package image

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/sys"
)

// transaction is one change of the store. end must be called.
type transaction struct {
	s       *Store
	op      string // for fail points
	dir     string
	lock    *os.File
	journal *os.File
}

// begin starts a transaction; op names it for the fail points.
func (s *Store) begin(op string) (*transaction, error) {
	if err := s.tidy(); err != nil {
		return nil, fmt.Errorf("open image store %s: %w", s.root, err)
	}
	lock, err := s.lockFile(activityLock, unix.LOCK_SH)
	if err != nil {
		return nil, fmt.Errorf("lock image store %s: %w", s.root, err)
	}
	t := &transaction{s: s, op: op, lock: lock}
	if t.dir, err = os.MkdirTemp(s.path(tmpDir), txPrefix); err == nil {
		t.journal, err = os.OpenFile(filepath.Join(t.dir, journalFile), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	}
	if err != nil {
		t.end()
		return nil, fmt.Errorf("write to image store %s: %w", s.root, err)
	}
	failpoint(op, "begin")
	return t, nil
}

// end removes what is temporary and lets others go on. Blobs that were
// published and that no image refers to (of a failed transaction) are removed
// too, as after a crash.
func (t *transaction) end() {
	failpoint(t.op, "end")
	if t.journal != nil {
		_ = t.journal.Close()
	}
	if t.dir != "" && len(readJournal(filepath.Join(t.dir, journalFile))) == 0 {
		_ = sys.RemoveTree(t.dir)
	}
	_ = t.lock.Close()
	if t.dir != "" {
		_ = t.s.tidy() // with the journal, when no other transaction runs
	}
}

// commit says that all that the journal names is referred to.
func (t *transaction) commit() error {
	if err := t.journal.Truncate(0); err != nil {
		return fmt.Errorf("end transaction: %w", err)
	}
	return nil
}

// note writes a digest to the journal, before the blob is published.
func (t *transaction) note(d digest.Digest) error {
	if _, err := fmt.Fprintln(t.journal, d); err != nil {
		return err
	}
	if err := t.journal.Sync(); err != nil {
		return err
	}
	return syncDir(t.dir)
}

// readJournal reads what a journal names; a torn last line names nothing.
func readJournal(path string) []digest.Digest {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	var out []digest.Digest
	for line := range strings.Lines(string(b)) {
		d := digest.Digest(strings.TrimSuffix(line, "\n"))
		if d.Validate() == nil {
			out = append(out, d)
		}
	}
	return out
}

// blobWriter writes one blob to a temporary file.
type blobWriter struct {
	t    *transaction
	f    *os.File
	hash hash.Hash
	n    int64
}

func (t *transaction) newBlob() (*blobWriter, error) {
	f, err := os.CreateTemp(t.dir, "blob-")
	if err != nil {
		return nil, fmt.Errorf("write blob: %w", err)
	}
	return &blobWriter{t: t, f: f, hash: sha256.New()}, nil
}

func (b *blobWriter) Write(p []byte) (int, error) {
	n, err := b.f.Write(p)
	_, _ = b.hash.Write(p[:n])
	b.n += int64(n)
	return n, err
}

// abandon throws the blob away; after publish it does nothing.
func (b *blobWriter) abandon() {
	_ = b.f.Close()
	_ = os.Remove(b.f.Name())
}

// publish gives the blob its name. step is the fail point between.
func (b *blobWriter) publish(mediaType, step string) (ispec.Descriptor, error) {
	return b.publishAs(ispec.Descriptor{
		MediaType: mediaType, Size: b.n, Digest: digest.NewDigest(digest.SHA256, b.hash),
	}, step)
}

// publishAs is publish for a file whose digest and size the caller knows.
func (b *blobWriter) publishAs(d ispec.Descriptor, step string) (ispec.Descriptor, error) {
	dst, err := b.t.s.BlobPath(d.Digest)
	if err != nil {
		return d, err
	}
	if fi, err := os.Lstat(dst); err == nil && fi.Mode().IsRegular() && fi.Size() == d.Size {
		b.abandon()
		return d, nil
	}
	err = b.f.Chmod(0o644)
	if err == nil {
		err = b.f.Sync()
	}
	if cerr := b.f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		if step == "layer" {
			failpoint(b.t.op, "layer-temp")
		}
		err = b.t.note(d.Digest)
	}
	if err == nil {
		if step == "layer" {
			failpoint(b.t.op, "layer-journal")
		}
		if err = os.MkdirAll(filepath.Dir(dst), 0o755); err == nil {
			err = os.Rename(b.f.Name(), dst)
		}
	}
	if err == nil {
		err = syncDir(filepath.Dir(dst))
	}
	if err != nil {
		_ = os.Remove(b.f.Name())
		return d, fmt.Errorf("write blob %s: %w", d.Digest, err)
	}
	failpoint(b.t.op, step)
	return d, nil
}

// putBytes publishes a small blob.
func (t *transaction) putBytes(data []byte, mediaType, step string) (ispec.Descriptor, error) {
	b, err := t.newBlob()
	if err != nil {
		return ispec.Descriptor{}, err
	}
	if _, err := io.Copy(b, bytes.NewReader(data)); err != nil {
		b.abandon()
		return ispec.Descriptor{}, fmt.Errorf("write blob: %w", err)
	}
	return b.publish(mediaType, step)
}

// copyBlob takes a blob over from another layout, checking it.
func (t *transaction) copyBlob(from *Layout, d ispec.Descriptor) error {
	dst, err := t.s.BlobPath(d.Digest)
	if err != nil {
		return err
	}
	if fi, err := os.Lstat(dst); err == nil && fi.Size() == d.Size {
		return nil
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if from.root == t.s.root {
		return fmt.Errorf("blob %s: %w: it is missing from %s", d.Digest, ErrCorrupt, from.root)
	}
	r, err := from.Blob(d)
	if err != nil {
		return err
	}
	defer r.Close() //nolint:errcheck // only read
	b, err := t.newBlob()
	if err != nil {
		return err
	}
	if _, err := io.Copy(b, r); err != nil {
		b.abandon()
		return fmt.Errorf("copy blob: %w", err)
	}
	if d.Digest.Algorithm() != digest.SHA256 {
		b.abandon()
		return fmt.Errorf("copy blob %s: only sha256 is supported", d.Digest)
	}
	_, err = b.publish(d.MediaType, "base")
	return err
}
