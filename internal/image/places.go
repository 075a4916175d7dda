package image

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"

	"github.com/unionfs-go/unionfs/whiteout"
)

// Place is where one layer of an image can be read: Dir or Blob is set.
type Place struct {
	Dir    string        // the layer as a directory of the store
	Blob   string        // the layer as it was packed
	Digest digest.Digest // of the blob
	DiffID digest.Digest
}

// Places tells where the layers of an image are, top first, without those that
// the opaque root of an unpacked layer hides. With unpacked a layer that is
// unpacked already, with marks in ns, is the directory. The image may be of
// another layout. ErrCorrupt: a blob is missing.
func (s *Store) Places(img *Image, ns whiteout.Namespace, unpacked bool) ([]Place, error) {
	var out []Place
	diffIDs := img.DiffIDs()
	chains := identity.ChainIDs(slices.Clone(diffIDs))
	for i, l := range img.Manifest.Layers {
		p := Place{Digest: l.Digest, DiffID: diffIDs[i]}
		if unpacked {
			u, err := s.unpackedAs(diffIDs[i], chains[i], ns)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
			if err == nil {
				p.Dir = u.Dir
				if u.Opaque {
					out = nil
				}
			}
		}
		if p.Dir == "" {
			path, err := img.Layout.BlobPath(l.Digest)
			if err != nil {
				return nil, err
			}
			if _, err := os.Stat(path); err != nil {
				return nil, fmt.Errorf("layer %d: %w: %w", i+1, ErrCorrupt, err)
			}
			p.Blob = path
		}
		out = append(out, p)
	}
	slices.Reverse(out)
	return out, nil
}
