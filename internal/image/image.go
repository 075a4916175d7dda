package image

import (
	"encoding/json"
	"fmt"
	"runtime"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// The media types of docker that mean what OCI's do.
const (
	dockerManifest     = "application/vnd.docker.distribution.manifest.v2+json"
	dockerManifestList = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerManifest1    = "application/vnd.docker.distribution.manifest.v1+json"
)

// Annotations of a descriptor in index.json.
const (
	annotationRefName  = ispec.AnnotationRefName
	annotationFullName = "io.containerd.image.name"
)

// Image is one image of a layout: its manifest and configuration, read and
// checked. It is plain data.
type Image struct {
	Layout    *Layout
	Name      string           // as in the index; "" has none
	Target    ispec.Descriptor // of the manifest
	Manifest  ispec.Manifest
	Config    Config
	rawConfig []byte
}

// ID is the digest of the configuration, by which docker knows an image.
func (i *Image) ID() digest.Digest { return i.Manifest.Config.Digest }

// Size is what the image takes in the store, in bytes: the blobs of its layers,
// configuration and manifest.
func (i *Image) Size() int64 {
	n := i.Target.Size + i.Manifest.Config.Size
	for _, l := range i.Manifest.Layers {
		n += l.Size
	}
	return n
}

// DiffIDs are the layers, bottom first.
func (i *Image) DiffIDs() []digest.Digest { return i.Config.RootFS.DiffIDs }

// maxNesting bounds indexes that hold indexes.
const maxNesting = 4

// load reads the image behind a descriptor. Of an index it takes the manifest
// of this machine's platform.
func (l *Layout) load(d ispec.Descriptor) (*Image, error) {
	name := d.Annotations[annotationRefName]
	d, manifest, err := l.manifest(d, 0)
	if err != nil {
		return nil, err
	}
	img := &Image{Layout: l, Name: name, Target: d, Manifest: manifest}
	img.rawConfig, err = l.readJSON(manifest.Config, &img.Config)
	if err != nil {
		return nil, fmt.Errorf("image %s: read configuration: %w", d.Digest, err)
	}
	if n, m := len(manifest.Layers), len(img.Config.RootFS.DiffIDs); n != m {
		return nil, fmt.Errorf("image %s: %w: %d layers but %d DiffIDs", d.Digest, ErrCorrupt, n, m)
	}
	for i, ld := range manifest.Layers {
		if err := checkDescriptor(ld); err != nil {
			return nil, fmt.Errorf("image %s: layer %d: %w", d.Digest, i+1, err)
		}
		if err := img.Config.RootFS.DiffIDs[i].Validate(); err != nil {
			return nil, fmt.Errorf("image %s: layer %d: %w: DiffID: %w", d.Digest, i+1, ErrCorrupt, err)
		}
	}
	return img, nil
}

// manifestOrIndex reads either; media types are not always to be believed.
type manifestOrIndex struct {
	MediaType string             `json:"mediaType"`
	Manifests []ispec.Descriptor `json:"manifests"`
	Config    *ispec.Descriptor  `json:"config"`
	Layers    []ispec.Descriptor `json:"layers"`
	FSLayers  json.RawMessage    `json:"fsLayers"`
}

func (l *Layout) manifest(d ispec.Descriptor, depth int) (ispec.Descriptor, ispec.Manifest, error) {
	var m ispec.Manifest
	if depth > maxNesting {
		return d, m, fmt.Errorf("read index %s: %w: indexes nested too deep", d.Digest, ErrCorrupt)
	}
	var probe manifestOrIndex
	raw, err := l.readJSON(d, &probe)
	if err != nil {
		return d, m, err
	}
	switch {
	case probe.Config != nil:
		err = json.Unmarshal(raw, &m)
		return d, m, err
	case probe.Manifests != nil:
		sub, err := pickPlatform(probe.Manifests)
		if err != nil {
			return d, m, fmt.Errorf("index %s: %w", d.Digest, err)
		}
		return l.manifest(sub, depth+1)
	case probe.FSLayers != nil || d.MediaType == dockerManifest1:
		return d, m, fmt.Errorf("image %s: docker's manifest schema 1 is not supported; convert it with skopeo copy", d.Digest)
	}
	return d, m, fmt.Errorf("image %s: %w: neither a manifest nor an index", d.Digest, ErrCorrupt)
}

// pickPlatform takes the manifest for this machine, or the only one there is.
func pickPlatform(list []ispec.Descriptor) (ispec.Descriptor, error) {
	return pickPlatformFor(list, ispec.Platform{})
}

// pickPlatformFor takes the manifest for a platform. The zero one is this
// machine's, for which the only manifest there is will do too.
func pickPlatformFor(list []ispec.Descriptor, want ispec.Platform) (ispec.Descriptor, error) {
	anyone := want.OS == "" && want.Architecture == ""
	if anyone {
		want = ispec.Platform{OS: "linux", Architecture: runtime.GOARCH}
	}
	var have []string
	var images []ispec.Descriptor
	for _, d := range list {
		if d.Annotations["vnd.docker.reference.type"] == "attestation-manifest" {
			continue
		}
		images = append(images, d)
		p := d.Platform
		if p == nil {
			continue
		}
		if p.OS == want.OS && p.Architecture == want.Architecture && (want.Variant == "" || p.Variant == want.Variant) {
			return d, nil
		}
		have = append(have, platformName(*p))
	}
	if anyone && len(images) == 1 {
		return images[0], nil
	}
	return ispec.Descriptor{}, fmt.Errorf("%w for %s; it has %s", ErrNotFound, platformName(want), strings.Join(have, ", "))
}

func platformName(p ispec.Platform) string {
	return strings.TrimSuffix(p.OS+"/"+p.Architecture+"/"+p.Variant, "/")
}

// ParsePlatform reads OS/ARCHITECTURE[/VARIANT].
func ParsePlatform(s string) (ispec.Platform, error) {
	parts := strings.Split(s, "/")
	if len(parts) < 2 || len(parts) > 3 || slices.Contains(parts, "") {
		return ispec.Platform{}, fmt.Errorf("platform %q: it is written OS/ARCHITECTURE[/VARIANT], such as linux/arm64", s)
	}
	p := ispec.Platform{OS: parts[0], Architecture: parts[1]}
	if len(parts) == 3 {
		p.Variant = parts[2]
	}
	return p, nil
}

// isImage tells whether a descriptor of an index can be an image.
func isImage(d ispec.Descriptor) bool {
	switch d.MediaType {
	case ispec.MediaTypeImageManifest, ispec.MediaTypeImageIndex, dockerManifest, dockerManifestList, "":
		return d.ArtifactType == ""
	}
	return false
}

// Images reads all images of the layout in the order of its index. Descriptors
// that are no images are passed over; damaged ones end up in bad.
func (l *Layout) Images() (images []*Image, bad []error, err error) {
	idx, err := l.Index()
	if err != nil {
		return nil, nil, err
	}
	for _, d := range idx.Manifests {
		if !isImage(d) {
			continue
		}
		img, err := l.load(d)
		if err != nil {
			bad = append(bad, err)
			continue
		}
		images = append(images, img)
	}
	return images, bad, nil
}

// Find returns the image that s names: NAME[:TAG][@DIGEST], an image ID or the
// first digits of one, a manifest digest. ErrNotFound: there is none.
func (l *Layout) Find(s string) (*Image, error) {
	idx, err := l.Index()
	if err != nil {
		return nil, err
	}
	if d, ok := findName(idx.Manifests, s); ok {
		return l.load(d)
	}
	if img, err := l.findID(idx.Manifests, s); img != nil || err != nil {
		return img, err
	}
	return nil, fmt.Errorf("%w: %s in %s", ErrNotFound, s, l.root)
}

func findName(list []ispec.Descriptor, s string) (ispec.Descriptor, bool) {
	ref, err := ParseReference(s)
	for _, d := range list {
		stored := d.Annotations[annotationRefName]
		if stored == "" || !isImage(d) {
			continue
		}
		if stored == s || d.Annotations[annotationFullName] == s {
			return d, true
		}
		if err != nil {
			continue
		}
		if ref.Digest != "" {
			if r, err := ParseReference(stored); err == nil && r.Name == ref.Name && d.Digest == ref.Digest {
				return d, true
			}
			continue
		}
		if sameName(stored, ref) {
			return d, true
		}
	}
	return ispec.Descriptor{}, false
}

// minIDLength is how many digits of an ID are asked for at least.
const minIDLength = 4

func (l *Layout) findID(list []ispec.Descriptor, s string) (*Image, error) {
	hex := strings.TrimPrefix(s, "sha256:")
	if len(hex) < minIDLength || strings.Trim(hex, "0123456789abcdef") != "" {
		return nil, nil
	}
	var found *Image
	for _, d := range list {
		if !isImage(d) {
			continue
		}
		img, err := l.load(d)
		if err != nil {
			continue // another image's damage is not this one's
		}
		if !strings.HasPrefix(img.ID().Encoded(), hex) && !strings.HasPrefix(img.Target.Digest.Encoded(), hex) {
			continue
		}
		if found != nil && found.ID() != img.ID() {
			return nil, fmt.Errorf("image ID %s: more than one image begins with it; give more digits", s)
		}
		if found == nil || found.Name == "" {
			found = img
		}
	}
	return found, nil
}

// FindTag returns an image of a layout that another tool made, where the name
// may be no more than a tag; an empty tag is the only image there is.
func (l *Layout) FindTag(tag string) (*Image, error) {
	idx, err := l.Index()
	if err != nil {
		return nil, err
	}
	var list []ispec.Descriptor
	var names []string
	for _, d := range idx.Manifests {
		if !isImage(d) {
			continue
		}
		stored := d.Annotations[annotationRefName]
		if tag != "" && stored == tag {
			return l.load(d)
		}
		list = append(list, d)
		if stored != "" {
			names = append(names, stored)
		}
	}
	if tag != "" {
		for _, d := range list {
			if r, err := ParseReference(d.Annotations[annotationRefName]); err == nil && r.Tag == tag {
				return l.load(d)
			}
		}
		if img, err := l.Find(tag); err == nil {
			return img, nil
		}
		return nil, fmt.Errorf("%w: %s in %s, which has %s", ErrNotFound, tag, l.root, orNone(names))
	}
	if len(list) == 1 {
		return l.load(list[0])
	}
	return nil, fmt.Errorf("%w: %s holds %d images; name one of: %s", ErrNotFound, l.root, len(list), orNone(names))
}

func orNone(names []string) string {
	if len(names) == 0 {
		return "none with a name"
	}
	return strings.Join(names, ", ")
}
