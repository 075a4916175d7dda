package image

import (
	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Usage is what a store takes on disk, in bytes.
type Usage struct {
	Images   []PackedUsage   `json:"images"`
	Unpacked []UnpackedUsage `json:"unpacked"`
	// ImageBytes is the size of the blobs of all images, each counted once, and
	// ActiveBytes of those of images in use.
	ImageBytes  int64 `json:"imageBytes"`
	ActiveBytes int64 `json:"activeBytes"`
	// Garbage is the size of GarbageBlobs blobs that no image has.
	GarbageBlobs int   `json:"garbageBlobs"`
	Garbage      int64 `json:"garbageBytes"`
}

// PackedUsage is one image, by the digest of its manifest.
type PackedUsage struct {
	*Image `json:"-"`
	Names  []string      `json:"names"`
	ID     digest.Digest `json:"id"`
	// Size = Shared + Unique; Shared is what other images have too.
	Size   int64 `json:"size"`
	Shared int64 `json:"sharedSize"`
	Unique int64 `json:"uniqueSize"`
	Active bool  `json:"active"`
}

// UnpackedUsage is one unpacked layer.
type UnpackedUsage struct {
	DiffID digest.Digest `json:"diffID"`
	Dir    string        `json:"dir"`
	Size   int64         `json:"size"` // of the data in its files
	Active bool          `json:"active"`
	Orphan bool          `json:"orphan"` // no image of the store has it
}

// Usage measures the store. inUse is as for Remove.
func (s *Store) Usage(inUse func(path string) bool) (Usage, []error, error) {
	out := Usage{Images: []PackedUsage{}, Unpacked: []UnpackedUsage{}}
	images, bad, err := s.Images()
	if err != nil {
		return out, bad, err
	}
	at := make(map[digest.Digest]int)
	for _, img := range images {
		i, known := at[img.Target.Digest]
		if !known {
			i = len(out.Images)
			at[img.Target.Digest] = i
			active := s.checkUse(removable{Image: img}, inUse) != nil
			out.Images = append(out.Images, PackedUsage{Image: img, ID: img.ID(), Names: []string{}, Active: active})
		}
		if img.Name != "" {
			out.Images[i].Names = append(out.Images[i].Names, img.Name)
		}
	}
	owners := make(map[digest.Digest]int) // how many images have a blob
	active := make(map[digest.Digest]bool)
	for _, u := range out.Images {
		for d := range u.blobs() {
			owners[d]++
			active[d] = active[d] || u.Active
		}
	}
	counted := make(map[digest.Digest]bool)
	for i := range out.Images {
		u := &out.Images[i]
		for d, size := range u.blobs() {
			u.Size += size
			if owners[d] > 1 {
				u.Shared += size
			} else {
				u.Unique += size
			}
			if counted[d] {
				continue
			}
			counted[d] = true
			out.ImageBytes += size
			if active[d] {
				out.ActiveBytes += size
			}
		}
	}
	return out, bad, s.restUsage(&out, inUse)
}

// restUsage measures what is not in an image: unpacked layers, and blobs of no
// use.
func (s *Store) restUsage(out *Usage, inUse func(path string) bool) error {
	idx, err := s.Index()
	if err != nil {
		return err
	}
	needed := s.neededLayers(idx.Manifests)
	dirs, err := s.unpackedDirs()
	if err != nil {
		return err
	}
	for _, u := range dirs {
		out.Unpacked = append(out.Unpacked, UnpackedUsage{
			DiffID: u.id, Dir: u.Dir, Size: u.Bytes, Active: inUse(u.Dir), Orphan: !needed[u.id],
		})
	}
	g, err := s.findGarbage(idx.Manifests, nil)
	out.GarbageBlobs, out.Garbage = len(g.Blobs), g.Bytes
	return err
}

// blobs are the blobs of an image with their sizes.
func (i *Image) blobs() map[digest.Digest]int64 {
	out := make(map[digest.Digest]int64)
	for _, d := range append([]ispec.Descriptor{i.Target, i.Manifest.Config}, i.Manifest.Layers...) {
		out[d.Digest] = d.Size
	}
	return out
}
