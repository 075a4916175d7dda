package image

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/unionfs-go/unionfs/internal/sys"
)

// referenced lists the digests that index.json leads to.
func (s *Store) referenced() (map[digest.Digest]bool, error) {
	idx, err := s.Index()
	if err != nil {
		return nil, err
	}
	used := make(map[digest.Digest]bool)
	for _, d := range idx.Manifests {
		if err := s.follow(used, d, 0); err != nil {
			return nil, err
		}
	}
	return used, nil
}

// follow marks what a descriptor leads to. Content that is not in the store is
// no error: it may be an image of another platform.
func (s *Store) follow(used map[digest.Digest]bool, d ispec.Descriptor, depth int) error {
	if used[d.Digest] || depth > maxNesting+1 {
		return nil
	}
	used[d.Digest] = true
	if d.Size > MaxJSON {
		return nil
	}
	switch d.MediaType {
	case ispec.MediaTypeImageManifest, ispec.MediaTypeImageIndex, dockerManifest, dockerManifestList, "":
	default:
		if depth > 0 {
			return nil
		}
	}
	var m manifestOrIndex
	if _, err := s.readJSON(d, &m); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return fmt.Errorf("find what images need: %w", err)
	}
	if m.Config != nil {
		used[m.Config.Digest] = true
	}
	for _, l := range m.Layers {
		used[l.Digest] = true
	}
	for _, sub := range m.Manifests {
		if err := s.follow(used, sub, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// Garbage is what a collection removed.
type Garbage struct {
	Blobs    []digest.Digest // blobs that no image refers to
	Unpacked []digest.Digest // DiffIDs whose directories were removed
	Bytes    int64           // of the blobs
}

// CollectGarbage removes the blobs that no image refers to, and the unpacked
// layers that belong to no image and for which inUse is false. inUse is asked
// with the layer's directory; nil keeps all of them.
func (s *Store) CollectGarbage(inUse func(dir string) bool) (Garbage, error) {
	lock, err := s.exclusive()
	if err != nil {
		return Garbage{}, err
	}
	defer lock.Close() //nolint:errcheck // unlocks
	return s.collectLocked(inUse)
}

// collectLocked is CollectGarbage.
//
// Preconditions: the activity lock is held exclusively.
func (s *Store) collectLocked(inUse func(dir string) bool) (Garbage, error) {
	var g Garbage
	used, err := s.referenced()
	if err != nil {
		return g, err
	}
	ents, err := os.ReadDir(s.path(ispec.ImageBlobsDir, "sha256"))
	if err != nil {
		return g, fmt.Errorf("list blobs: %w", err)
	}
	for _, e := range ents {
		d := digest.NewDigestFromEncoded(digest.SHA256, e.Name())
		if d.Validate() != nil || used[d] {
			continue
		}
		fi, err := e.Info()
		if err != nil || !fi.Mode().IsRegular() {
			continue
		}
		if err := os.Remove(s.path(ispec.ImageBlobsDir, "sha256", e.Name())); err != nil {
			return g, fmt.Errorf("remove blob: %w", err)
		}
		g.Blobs = append(g.Blobs, d)
		g.Bytes += fi.Size()
	}
	if inUse == nil {
		return g, nil
	}
	return g, s.collectUnpacked(&g, inUse)
}

func (s *Store) collectUnpacked(g *Garbage, inUse func(dir string) bool) error {
	images, _, err := s.Images()
	if err != nil {
		return err
	}
	needed := make(map[digest.Digest]bool)
	for _, img := range images {
		for _, d := range img.DiffIDs() {
			needed[d] = true
		}
		for _, d := range identity.ChainIDs(slices.Clone(img.DiffIDs())) {
			needed[d] = true
		}
	}
	ents, err := os.ReadDir(s.path(unpackedDir, "sha256"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("list unpacked layers: %w", err)
	}
	for _, e := range ents {
		d := digest.NewDigestFromEncoded(digest.SHA256, strings.TrimSuffix(e.Name(), ".user"))
		dir := s.path(unpackedDir, "sha256", e.Name())
		if d.Validate() != nil || needed[d] || inUse(filepath.Join(dir, layerRoot)) {
			continue
		}
		// Out of sight first: a half-removed layer must not be found.
		gone := s.path(tmpDir, "gone-"+e.Name())
		if err := os.Rename(dir, gone); err != nil {
			return fmt.Errorf("remove unpacked layer: %w", err)
		}
		if err := sys.RemoveTree(gone); err != nil {
			return fmt.Errorf("remove unpacked layer: %w", err)
		}
		g.Unpacked = append(g.Unpacked, d)
	}
	return nil
}
