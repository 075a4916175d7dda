package image

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
)

// UnpackedAt tells which layer the directory dir is, where it is one that this
// store unpacked.
func (s *Store) UnpackedAt(dir string) (Unpacked, bool) {
	var u Unpacked
	holder := filepath.Dir(dir)
	if filepath.Base(dir) != layerRoot || !strings.HasPrefix(holder, s.path(unpackedDir)+"/") {
		real, err := filepath.EvalSymlinks(s.root)
		if err != nil || filepath.Base(dir) != layerRoot || !strings.HasPrefix(holder, filepath.Join(real, unpackedDir)+"/") {
			return u, false
		}
	}
	b, err := os.ReadFile(filepath.Join(holder, layerInfo))
	if err != nil || json.Unmarshal(b, &u) != nil || u.DiffID.Validate() != nil {
		return u, false
	}
	u.Dir = dir
	return u, true
}

// Matches tells whether the layers with these DiffIDs, top first, are the
// image's. cut says that layers below were left out because an opaque root hides
// them.
func (i *Image) Matches(diffIDs []digest.Digest, cut bool) bool {
	own := slices.Clone(i.DiffIDs())
	slices.Reverse(own)
	if len(diffIDs) == 0 || len(own) < len(diffIDs) || len(own) > len(diffIDs) && !cut {
		return false
	}
	return slices.Equal(own[:len(diffIDs)], diffIDs)
}

// FindByLayers returns an image whose layers match, see Matches; ErrNotFound:
// there is none.
func (s *Store) FindByLayers(diffIDs []digest.Digest, cut bool) (*Image, error) {
	images, _, err := s.Images()
	if err != nil {
		return nil, err
	}
	for _, img := range slices.Backward(images) {
		if img.Matches(diffIDs, cut) {
			return img, nil
		}
	}
	return nil, ErrNotFound
}
