package image

import (
	"maps"
	"slices"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// addToIndex puts an image into the index under a name; nil is none. Another
// image that had the name stays, without one.
func addToIndex(idx *ispec.Index, target ispec.Descriptor, name *Reference) {
	if name == nil {
		for _, d := range idx.Manifests {
			if d.Digest == target.Digest {
				return
			}
		}
		idx.Manifests = append(idx.Manifests, target)
		return
	}
	takeName(idx, *name)
	// An entry of the same image without a name is this one now.
	idx.Manifests = slices.DeleteFunc(idx.Manifests, func(d ispec.Descriptor) bool {
		return d.Digest == target.Digest && d.Annotations[annotationRefName] == ""
	})
	target.Annotations = maps.Clone(target.Annotations)
	if target.Annotations == nil {
		target.Annotations = make(map[string]string)
	}
	target.Annotations[annotationRefName] = name.String()
	target.Annotations[annotationFullName] = name.Full()
	idx.Manifests = append(idx.Manifests, target)
}

// takeName removes a name from the images that have it. An entry whose image
// has another entry goes; the last one stays without a name. It tells which
// names were taken.
func takeName(idx *ispec.Index, name Reference) []string {
	var taken []string
	for i := 0; i < len(idx.Manifests); i++ {
		d := &idx.Manifests[i]
		stored := d.Annotations[annotationRefName]
		if stored == "" || !sameName(stored, name) {
			continue
		}
		taken = append(taken, stored)
		if countEntries(idx, *d) > 1 {
			idx.Manifests = slices.Delete(idx.Manifests, i, i+1)
			i--
			continue
		}
		d.Annotations = maps.Clone(d.Annotations)
		delete(d.Annotations, annotationRefName)
		delete(d.Annotations, annotationFullName)
	}
	return taken
}

func countEntries(idx *ispec.Index, of ispec.Descriptor) int {
	n := 0
	for _, d := range idx.Manifests {
		if d.Digest == of.Digest {
			n++
		}
	}
	return n
}
