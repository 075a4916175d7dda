package image

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/unionfs-go/unionfs/internal/sys"
)

// referenced lists the digests that index.json leads to.
func (s *Store) referenced() (map[digest.Digest]bool, error) {
	idx, err := s.Index()
	if err != nil {
		return nil, err
	}
	return s.referencedBy(idx.Manifests)
}

// referencedBy lists the digests that the descriptors of an index lead to.
func (s *Store) referencedBy(list []ispec.Descriptor) (map[digest.Digest]bool, error) {
	used := make(map[digest.Digest]bool)
	for _, d := range list {
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

// Garbage is what a collection removed, or would.
type Garbage struct {
	Blobs         []digest.Digest `json:"blobs"`    // that no image refers to
	Unpacked      []digest.Digest `json:"unpacked"` // names of the layers whose directories are of no use
	Bytes         int64           `json:"bytes"`    // of the blobs
	UnpackedBytes int64           `json:"unpackedBytes"`
	dirs          []string        // of Unpacked
}

// CollectGarbage removes the blobs that no image refers to, and the unpacked
// layers that belong to no image. What inUse is true for stays; it is asked with
// the blob's file or the layer's directory. nil keeps all unpacked layers.
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
	idx, err := s.Index()
	if err != nil {
		return Garbage{}, err
	}
	g, err := s.findGarbage(idx.Manifests, inUse)
	if err != nil {
		return Garbage{}, err
	}
	// No pull is under way, since it would be a transaction.
	if err := sys.RemoveTree(s.path(partialDir)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Garbage{}, fmt.Errorf("remove parts of blobs: %w", err)
	}
	for i, d := range g.Blobs {
		if err := os.Remove(s.path(blobName(d))); err != nil {
			return Garbage{Blobs: g.Blobs[:i]}, fmt.Errorf("remove blob: %w", err)
		}
		failpoint("gc", "blob")
	}
	for _, dir := range g.dirs {
		// Out of sight first: a half-removed layer must not be found.
		gone := s.path(tmpDir, "gone-"+filepath.Base(dir))
		if err := os.Rename(dir, gone); err != nil {
			return g, fmt.Errorf("remove unpacked layer: %w", err)
		}
		failpoint("gc", "unpacked")
		if err := sys.RemoveTree(gone); err != nil {
			return g, fmt.Errorf("remove unpacked layer: %w", err)
		}
	}
	return g, nil
}
