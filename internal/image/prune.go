package image

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// PruneRequest says what Prune removes.
type PruneRequest struct {
	All    bool                   // also images with names, unless they are in use
	InUse  func(path string) bool // as for Remove; it must know all live mounts
	DryRun bool                   // remove nothing, only tell
}

// Pruned is what Prune removed, or would.
type Pruned struct {
	Images []PrunedImage `json:"images"`
	Garbage
}

// PrunedImage is an image that was removed, under one of its names.
type PrunedImage struct {
	Name     string        `json:"name,omitempty"`
	ID       digest.Digest `json:"id"`
	Manifest digest.Digest `json:"manifest"`
}

// Prune removes images without a name, then the blobs and unpacked layers that
// no image is left for. What a live mount has stays, the image too.
func (s *Store) Prune(req PruneRequest) (Pruned, error) {
	out := Pruned{Images: []PrunedImage{}}
	if req.DryRun {
		idx, err := s.Index()
		if err != nil {
			return out, err
		}
		out.Images = s.prunable(&idx, req)
		out.Garbage, err = s.findGarbage(idx.Manifests, req.InUse)
		return out, err
	}
	t, err := s.begin("prune")
	if err != nil {
		return out, err
	}
	err = t.changeIndex(func(idx *ispec.Index) error {
		out.Images = s.prunable(idx, req)
		return nil
	})
	t.end()
	if err != nil {
		return out, err
	}
	out.Garbage, err = s.CollectGarbage(req.InUse)
	return out, err
}

// prunable takes the images that are to go out of the index and returns them.
// Descriptors that are no images, and damaged images with a name, stay.
func (s *Store) prunable(idx *ispec.Index, req PruneRequest) []PrunedImage {
	out := []PrunedImage{}
	idx.Manifests = slices.DeleteFunc(slices.Clone(idx.Manifests), func(d ispec.Descriptor) bool {
		name := d.Annotations[annotationRefName]
		if !isImage(d) || name != "" && !req.All {
			return false
		}
		img, err := s.load(d)
		if err != nil {
			return false // nobody can tell whether a mount has it
		}
		if req.InUse != nil && s.checkUse(removable{Image: img}, req.InUse) != nil {
			return false
		}
		out = append(out, PrunedImage{Name: name, ID: img.ID(), Manifest: img.Target.Digest})
		return true
	})
	return out
}

// findGarbage lists the blobs that the descriptors of an index do not lead to,
// and the unpacked layers of other images, without what is in use. inUse nil
// keeps all unpacked layers.
func (s *Store) findGarbage(list []ispec.Descriptor, inUse func(path string) bool) (Garbage, error) {
	g := Garbage{Blobs: []digest.Digest{}, Unpacked: []digest.Digest{}}
	used, err := s.referencedBy(list)
	if err != nil {
		return g, err
	}
	ents, err := os.ReadDir(s.path(ispec.ImageBlobsDir, "sha256"))
	if err != nil {
		return g, fmt.Errorf("list blobs: %w", err)
	}
	for _, e := range ents {
		d := digest.NewDigestFromEncoded(digest.SHA256, e.Name())
		if d.Validate() != nil || used[d] || inUse != nil && inUse(s.path(blobName(d))) {
			continue
		}
		fi, err := e.Info()
		if err != nil || !fi.Mode().IsRegular() {
			continue
		}
		g.Blobs = append(g.Blobs, d)
		g.Bytes += fi.Size()
	}
	if inUse == nil {
		return g, nil
	}
	needed := s.neededLayers(list)
	dirs, err := s.unpackedDirs()
	for _, u := range dirs {
		if needed[u.id] || inUse(u.Dir) {
			continue
		}
		g.Unpacked = append(g.Unpacked, u.id)
		g.UnpackedBytes += u.Bytes
		g.dirs = append(g.dirs, filepath.Dir(u.Dir))
	}
	return g, err
}

// neededLayers are the names of the unpacked layers that images can use: their
// DiffIDs and ChainIDs.
func (s *Store) neededLayers(list []ispec.Descriptor) map[digest.Digest]bool {
	needed := make(map[digest.Digest]bool)
	for _, d := range list {
		if !isImage(d) {
			continue
		}
		img, err := s.load(d)
		if err != nil {
			continue
		}
		for _, id := range slices.Concat(img.DiffIDs(), identity.ChainIDs(slices.Clone(img.DiffIDs()))) {
			needed[id] = true
		}
	}
	return needed
}

// unpackedLayer is one unpacked layer, by the name of its directory.
type unpackedLayer struct {
	Unpacked
	id digest.Digest // its name: a DiffID or a ChainID
}

// unpackedDirs lists the unpacked layers, also those of which nothing is known.
func (s *Store) unpackedDirs() ([]unpackedLayer, error) {
	ents, err := os.ReadDir(s.path(unpackedDir, "sha256"))
	if err != nil && !os.IsNotExist(err) {
		return nil, fmt.Errorf("list unpacked layers: %w", err)
	}
	var out []unpackedLayer
	for _, e := range ents {
		id := digest.NewDigestFromEncoded(digest.SHA256, strings.TrimSuffix(e.Name(), ".user"))
		if id.Validate() != nil {
			continue
		}
		dir := s.path(unpackedDir, "sha256", e.Name(), layerRoot)
		u, ok := s.UnpackedAt(dir)
		if !ok {
			u.Dir = dir
		}
		out = append(out, unpackedLayer{u, id})
	}
	return out, nil
}
