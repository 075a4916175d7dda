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
	"slices"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/stack"
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

// unpackedPath is the directory that holds one unpacked layer. A layer is known
// by its DiffID, or by its ChainID where it depends on the layers below (see
// Extracted.Implied).
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
	u := &unpacker{s: s, img: img, ns: ns, progress: progress, chains: identity.ChainIDs(slices.Clone(img.DiffIDs()))}
	defer u.close()
	for i := range img.Manifest.Layers {
		if err := u.layer(ctx, i); err != nil {
			return nil, fmt.Errorf("layer %d of %s: %w", i+1, img.Target.Digest, err)
		}
	}
	slices.Reverse(u.out)
	return u.out, nil
}

// unpacker unpacks the layers of one image, the bottom first.
type unpacker struct {
	s        *Store
	img      *Image
	ns       whiteout.Namespace
	progress func(string)
	chains   []digest.Digest
	t        *transaction // once there is work
	out      []Unpacked   // bottom first
}

func (u *unpacker) close() {
	if u.t != nil {
		u.t.end()
	}
}

func (u *unpacker) layer(ctx context.Context, i int) error {
	d := u.img.DiffIDs()[i]
	one, err := u.s.unpackedAs(d, u.chains[i], u.ns)
	if errors.Is(err, fs.ErrNotExist) {
		one, err = u.unpack(ctx, i)
	}
	if err != nil {
		return err
	}
	if one.Opaque {
		u.out = nil
	}
	u.out = append(u.out, one)
	return nil
}

// unpackedAs reads what is known of a layer that is unpacked, by itself or as
// part of a chain. fs.ErrNotExist: it is not.
func (s *Store) unpackedAs(diffID, chain digest.Digest, ns whiteout.Namespace) (Unpacked, error) {
	one, err := s.unpacked(diffID, ns)
	if errors.Is(err, fs.ErrNotExist) || err == nil && one.Implied > 0 {
		one, err = s.unpacked(chain, ns)
	}
	return one, err
}

func (s *Store) unpacked(d digest.Digest, ns whiteout.Namespace) (Unpacked, error) {
	var u Unpacked
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

func (u *unpacker) unpack(ctx context.Context, i int) (one Unpacked, err error) {
	if u.t == nil {
		if u.t, err = u.s.begin("unpack"); err != nil {
			return one, err
		}
	}
	d := u.img.DiffIDs()[i]
	if u.progress != nil {
		u.progress(fmt.Sprintf("unpacking layer %d of %d (%s)", i+1, len(u.img.Manifest.Layers), d.Encoded()[:12]))
	}
	var layers []stack.Layer
	for _, below := range slices.Backward(u.out) {
		l, err := stack.OpenDir(below.Dir, stack.DirOptions{Namespace: u.ns})
		if err != nil {
			return one, fmt.Errorf("open the layer below, %s: %w", below.Dir, err)
		}
		defer l.Close() //nolint:errcheck // only read
		layers = append(layers, l)
	}
	w := layerWork{from: u.img.Layout, blob: u.img.Manifest.Layers[i], diffID: d, chain: u.chains[i], ns: u.ns}
	if len(layers) > 0 {
		w.below = stack.New(layers)
	}
	return u.t.unpack(ctx, w)
}

// layerWork is one layer to be unpacked.
type layerWork struct {
	from   *Layout
	blob   ispec.Descriptor
	diffID digest.Digest
	chain  digest.Digest
	below  *stack.Stack // nil at the bottom
	ns     whiteout.Namespace
}

// unpack makes one layer a directory: beside, checked, then renamed into place.
func (t *transaction) unpack(ctx context.Context, w layerWork) (Unpacked, error) {
	u := Unpacked{DiffID: w.diffID, Namespace: w.ns.String()}
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
	blob, err := w.from.Blob(w.blob)
	if err != nil {
		return u, err
	}
	defer blob.Close() //nolint:errcheck // only read
	if u.Extracted, err = extractBlob(ctx, blob, fd, w); err != nil {
		return u, err
	}
	var uuid [16]byte
	_, _ = rand.Read(uuid[:]) // never fails
	if err := w.ns.Set(fd, "", whiteout.UUID, uuid[:]); err != nil {
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
	name := w.diffID
	if u.Implied > 0 {
		name = w.chain
	}
	err = t.s.publishLayer(tmp, &u, name, w.ns)
	return u, err
}

// publishLayer renames an unpacked layer into place, unless somebody else was
// faster.
func (s *Store) publishLayer(tmp string, u *Unpacked, name digest.Digest, ns whiteout.Namespace) error {
	dst := s.unpackedPath(name, ns)
	if err := os.MkdirAll(filepath.Dir(dst), 0o755); err != nil {
		return err
	}
	if err := os.Rename(tmp, dst); err != nil {
		have, herr := s.unpacked(name, ns)
		if herr != nil {
			return err
		}
		*u = have
		return nil
	}
	u.Dir = filepath.Join(dst, layerRoot)
	return syncDir(filepath.Dir(dst))
}

// extractBlob unpacks a blob and checks that its tar has the right DiffID. All
// of the blob is read, so that its digest is checked too.
func extractBlob(ctx context.Context, blob io.Reader, fd int, w layerWork) (Extracted, error) {
	stream, _, err := decompress(blob)
	if err != nil {
		return Extracted{}, err
	}
	defer stream.Close() //nolint:errcheck // only read
	hash := sha256.New()
	tee := io.TeeReader(stream, hash)
	out, err := Extract(ctx, tee, fd, w.below, w.ns, DefaultLimits)
	if err != nil {
		return out, err
	}
	if _, err := io.Copy(io.Discard, tee); err != nil {
		return out, fmt.Errorf("read layer: %w", err)
	}
	if _, err := io.Copy(io.Discard, blob); err != nil {
		return out, err
	}
	if got := digest.NewDigest(digest.SHA256, hash); got != w.diffID {
		return out, fmt.Errorf("%w: its DiffID is %s, the configuration says %s", ErrCorrupt, got, w.diffID)
	}
	return out, nil
}
