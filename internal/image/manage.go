package image

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// ErrInUse means that a live mount needs the image.
var ErrInUse = errors.New("the image is in use")

// Tag gives the image that source names a second name.
func (s *Store) Tag(source string, name Reference) error {
	if name.Digest != "" {
		return fmt.Errorf("tag %s: a new name cannot have a digest", name)
	}
	t, err := s.begin("tag")
	if err != nil {
		return err
	}
	defer t.end()
	img, err := s.Find(source)
	if err != nil {
		return err
	}
	return t.changeIndex(func(idx *ispec.Index) error {
		for _, d := range idx.Manifests {
			if d.Digest == img.Target.Digest {
				d.Annotations = withoutNames(d.Annotations)
				addToIndex(idx, d, &name)
				return nil
			}
		}
		addToIndex(idx, img.Target, &name)
		return nil
	})
}

func withoutNames(a map[string]string) map[string]string {
	out := make(map[string]string, len(a))
	for k, v := range a {
		if k != annotationRefName && k != annotationFullName {
			out[k] = v
		}
	}
	return out
}

// Removed is what Remove did.
type Removed struct {
	Untagged []string        `json:"untagged"`
	Deleted  []digest.Digest `json:"deleted"` // blobs
	Bytes    int64           `json:"bytes"`
}

// Remove takes a name from an image and, when it was the last, removes the
// image with all blobs that no other image needs. By ID all names go, which
// needs force when there are several. ErrInUse: inUse, asked with the directory
// of an unpacked layer or the file of a blob, says that the image is mounted; nil knows of no mount.
func (s *Store) Remove(source string, force bool, inUse func(dir string) bool) (Removed, error) {
	var out Removed
	lock, err := s.exclusive()
	if err != nil {
		return out, err
	}
	img, names, byName, err := s.removal(source)
	if err == nil && !byName && len(names) > 1 && !force {
		err = fmt.Errorf("image %s has several names (%v); remove them by name, or all with --force", source, names)
	}
	last := !byName || len(names) <= 1
	if err == nil && last && inUse != nil {
		err = s.checkUse(img, inUse)
	}
	if err != nil {
		_ = lock.Close()
		return out, err
	}
	// A transaction of its own takes the lock shared; nobody can collect
	// garbage that it needs, since nothing new is made.
	_ = lock.Close()
	t, err := s.begin("rm")
	if err != nil {
		return out, err
	}
	err = t.changeIndex(func(idx *ispec.Index) error {
		idx.Manifests = slices.DeleteFunc(idx.Manifests, func(d ispec.Descriptor) bool {
			stored := d.Annotations[annotationRefName]
			if d.Digest != img.entry || byName && stored != img.Name {
				return false
			}
			if stored != "" {
				out.Untagged = append(out.Untagged, stored)
			}
			return true
		})
		return nil
	})
	t.end()
	if err != nil {
		return out, err
	}
	g, err := s.CollectGarbage(inUse)
	out.Deleted, out.Bytes = g.Blobs, g.Bytes
	return out, err
}

// removal is what Remove is about: the image, and the digest of its entries in
// the index, which may be that of an index.
type removable struct {
	*Image
	entry digest.Digest
}

func (s *Store) removal(source string) (img removable, names []string, byName bool, err error) {
	idx, err := s.Index()
	if err != nil {
		return img, nil, false, err
	}
	d, byName := findName(idx.Manifests, source)
	if byName {
		img.Image, err = s.load(d)
		img.entry = d.Digest
	} else {
		img.Image, err = s.Find(source)
		if err == nil {
			img.entry = img.Target.Digest
		}
	}
	if err != nil {
		return img, nil, byName, err
	}
	for _, d := range idx.Manifests {
		if d.Digest == img.entry && d.Annotations[annotationRefName] != "" {
			names = append(names, d.Annotations[annotationRefName])
		}
	}
	return img, names, byName, nil
}

func (s *Store) checkUse(img removable, inUse func(dir string) bool) error {
	for _, l := range img.Manifest.Layers {
		if path, err := s.BlobPath(l.Digest); err == nil && inUse(path) {
			return fmt.Errorf("%w: a mount has its layer %s; unmount it first (unionfs ps)", ErrInUse, l.Digest.Encoded()[:12])
		}
	}
	ids := slices.Concat(img.DiffIDs(), identity.ChainIDs(slices.Clone(img.DiffIDs())))
	for _, d := range ids {
		for _, ns := range namespaces {
			if inUse(filepath.Join(s.unpackedPath(d, ns), layerRoot)) {
				return fmt.Errorf("%w: a mount has its layer %s; unmount it first (unionfs ps)", ErrInUse, d.Encoded()[:12])
			}
		}
	}
	return nil
}
