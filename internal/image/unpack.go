package image

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
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

	"github.com/unionfs-go/unionfs/internal/sys"
	"github.com/unionfs-go/unionfs/whiteout"
)

const (
	layerRoot = "fs"         // the directory to mount
	layerInfo = "layer.json" // what is known about it
)

var namespaces = []whiteout.Namespace{whiteout.Trusted, whiteout.User}

// Unpacked is a layer as a directory of the store, in the kernel's format.
type Unpacked struct {
	Dir    string        `json:"-"` // to mount
	DiffID digest.Digest `json:"diffID"`
	// Namespace is where its marks are, "trusted" or "user".
	Namespace string `json:"namespace"`
	Extracted
}

// unpackedPath is the directory that holds one unpacked layer.
func (s *Store) unpackedPath(d digest.Digest, ns whiteout.Namespace) string {
	name := d.Encoded()
	if ns == whiteout.User {
		name += ".user"
	}
	return s.path(unpackedDir, d.Algorithm().String(), name)
}

// Unpack makes the layers of an image directories, those that are not yet, and
// returns them top first, without layers that an opaque root above hides. The
// image may be of another layout. progress, where not nil, is told about each
// layer that takes work.
func (s *Store) Unpack(ctx context.Context, img *Image, ns whiteout.Namespace, progress func(string)) ([]Unpacked, error) {
	var out []Unpacked
	var t *transaction
	defer func() {
		if t != nil {
			t.end()
		}
	}()
	for i := len(img.Manifest.Layers) - 1; i >= 0; i-- {
		d := img.DiffIDs()[i]
		u, err := s.unpacked(d, ns)
		if errors.Is(err, fs.ErrNotExist) {
			if t == nil {
				if t, err = s.begin("unpack"); err != nil {
					return nil, err
				}
			}
			if progress != nil {
				progress(fmt.Sprintf("unpacking layer %d of %d (%s)", i+1, len(img.Manifest.Layers), d.Encoded()[:12]))
			}
			u, err = t.unpack(ctx, img.Layout, img.Manifest.Layers[i], d, ns)
		}
		if err != nil {
			return nil, fmt.Errorf("layer %d of %s: %w", i+1, img.Target.Digest, err)
		}
		out = append(out, u)
		if u.Opaque {
			break
		}
	}
	return out, nil
}

// unpacked reads what is known of a layer that is unpacked. fs.ErrNotExist: it
// is not.
func (s *Store) unpacked(d digest.Digest, ns whiteout.Namespace) (Unpacked, error) {
	var u Unpacked
	if err := d.Validate(); err != nil {
		return u, err
	}
	dir := s.unpackedPath(d, ns)
	b, err := os.ReadFile(filepath.Join(dir, layerInfo))
	if err != nil {
		return u, err
	}
	if err := json.Unmarshal(b, &u); err != nil {
		return u, fmt.Errorf("read %s: %w: %w; remove the directory", filepath.Join(dir, layerInfo), ErrCorrupt, err)
	}
	u.Dir = filepath.Join(dir, layerRoot)
	return u, nil
}

// unpack makes one layer a directory: beside, checked, then renamed into place.
func (t *transaction) unpack(ctx context.Context, from *Layout, ld ispec.Descriptor, want digest.Digest, ns whiteout.Namespace) (Unpacked, error) {
	u := Unpacked{DiffID: want, Namespace: ns.String()}
	tmp, err := os.MkdirTemp(t.dir, "layer-")
	if err != nil {
		return u, err
	}
	if err := os.Chmod(tmp, 0o755); err != nil {
		return u, err
	}
	root := filepath.Join(tmp, layerRoot)
	if err := os.Mkdir(root, 0o755); err != nil {
		return u, err
	}
	fd, err := sys.Openat(unix.AT_FDCWD, root, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return u, err
	}
	defer sys.Close(fd) //nolint:errcheck // a directory
	blob, err := from.Blob(ld)
	if err != nil {
		return u, err
	}
	defer blob.Close() //nolint:errcheck // only read
	if u.Extracted, err = extractBlob(ctx, blob, fd, want, ns); err != nil {
		return u, err
	}
	var uuid [16]byte
	_, _ = rand.Read(uuid[:]) // never fails
	if err := ns.Set(fd, "", whiteout.UUID, uuid[:]); err != nil {
		return u, fmt.Errorf("mark the layer as written in the kernel's format: %w; "+
			"the image store must be on a filesystem with extended attributes", err)
	}
	info, err := json.Marshal(u)
	if err == nil {
		err = os.WriteFile(filepath.Join(tmp, layerInfo), append(info, '\n'), 0o644)
	}
	if err == nil {
		err = sys.Syncfs(fd)
	}
	if err != nil {
		return u, err
	}
	failpoint(t.op, "unpacked")
	dst := t.s.unpackedPath(want, ns)
	if err := os.MkdirAll(filepath.Dir(dst), 0o755); err != nil {
		return u, err
	}
	if err := os.Rename(tmp, dst); err != nil {
		if _, have := t.s.unpacked(want, ns); have == nil {
			return t.s.unpacked(want, ns) // somebody else was faster
		}
		return u, err
	}
	u.Dir = filepath.Join(dst, layerRoot)
	return u, syncDir(filepath.Dir(dst))
}

// extractBlob unpacks a blob and checks that its tar has the DiffID want. All
// of the blob is read, so that its digest is checked too.
func extractBlob(ctx context.Context, blob io.Reader, fd int, want digest.Digest, ns whiteout.Namespace) (Extracted, error) {
	stream, _, err := decompress(blob)
	if err != nil {
		return Extracted{}, err
	}
	defer stream.Close() //nolint:errcheck // only read
	hash := sha256.New()
	tee := io.TeeReader(stream, hash)
	out, err := Extract(ctx, tee, fd, ns, DefaultLimits)
	if err != nil {
		return out, err
	}
	if _, err := io.Copy(io.Discard, tee); err != nil {
		return out, fmt.Errorf("read layer: %w", err)
	}
	if _, err := io.Copy(io.Discard, blob); err != nil {
		return out, err
	}
	if got := digest.NewDigest(digest.SHA256, hash); got != want {
		return out, fmt.Errorf("%w: its DiffID is %s, the configuration says %s", ErrCorrupt, got, want)
	}
	return out, nil
}
