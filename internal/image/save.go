package image

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// ArchiveFormat is how images are saved to a tar.
type ArchiveFormat string

// The formats that Save writes.
const (
	// OCIArchive is an OCI image layout, with docker's manifest.json in it, as
	// docker writes it since version 25.
	OCIArchive ArchiveFormat = "oci"
	// DockerArchive is what older versions of docker and other tools read: plain
	// layers.
	DockerArchive ArchiveFormat = "docker"
)

// Save writes images to one tar, each with the names that names has for the
// digest of its manifest. The bytes depend on the images only. Blobs are checked
// while they are read; of an error w holds part of an archive.
func (s *Store) Save(ctx context.Context, w io.Writer, images []*Image, names map[digest.Digest][]Reference, format ArchiveFormat) error {
	t, err := s.begin("save") // keeps blobs from being collected
	if err != nil {
		return err
	}
	defer t.end()
	v := &saver{ctx: ctx, t: t, tw: tar.NewWriter(w), names: sortedNames(names), done: make(map[string]bool)}
	images = slices.CompactFunc(slices.SortedFunc(slices.Values(images), func(a, b *Image) int {
		return strings.Compare(string(a.Target.Digest), string(b.Target.Digest))
	}), func(a, b *Image) bool { return a.Target.Digest == b.Target.Digest })
	switch format {
	case OCIArchive:
		err = v.saveOCI(images)
	case DockerArchive:
		err = v.saveDocker(images)
	default:
		err = fmt.Errorf("unknown archive format %q: use %s or %s", format, OCIArchive, DockerArchive)
	}
	if err != nil {
		return err
	}
	return v.tw.Close()
}

func sortedNames(names map[digest.Digest][]Reference) map[digest.Digest][]Reference {
	out := make(map[digest.Digest][]Reference, len(names))
	for d, list := range names {
		out[d] = slices.SortedFunc(slices.Values(list), func(a, b Reference) int { return strings.Compare(a.String(), b.String()) })
	}
	return out
}

// saver writes one archive.
type saver struct {
	ctx   context.Context
	t     *transaction // for temporary files
	tw    *tar.Writer
	names map[digest.Digest][]Reference
	done  map[string]bool // members written
}

// member writes one file, once.
func (v *saver) member(name string, size int64, r io.Reader) error {
	if v.done[name] {
		return nil
	}
	v.done[name] = true
	if err := v.ctx.Err(); err != nil {
		return err
	}
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644, ModTime: time.Unix(0, 0)}
	if err := v.tw.WriteHeader(h); err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	if _, err := io.Copy(v.tw, r); err != nil {
		return fmt.Errorf("write archive: %s: %w", name, err)
	}
	return nil
}

func (v *saver) json(name string, value any) error {
	b, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("write archive: %s: %w", name, err)
	}
	return v.member(name, int64(len(b)), bytes.NewReader(b))
}

// blob writes a blob under a name.
func (v *saver) blob(from *Layout, d ispec.Descriptor, name string) error {
	if v.done[name] {
		return nil
	}
	r, err := from.Blob(d)
	if err != nil {
		return err
	}
	defer r.Close() //nolint:errcheck // only read
	return v.member(name, d.Size, r)
}

func (v *saver) saveOCI(images []*Image) error {
	idx := ispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ispec.MediaTypeImageIndex, Manifests: []ispec.Descriptor{}}
	docker := []dockerEntry{}
	for _, img := range images {
		entry := dockerEntry{Config: blobName(img.ID()), RepoTags: v.tags(img), Layers: []string{}}
		for _, l := range img.Manifest.Layers {
			if err := v.blob(img.Layout, l, blobName(l.Digest)); err != nil {
				return err
			}
			entry.Layers = append(entry.Layers, blobName(l.Digest))
		}
		for _, d := range []ispec.Descriptor{img.Manifest.Config, img.Target} {
			if err := v.blob(img.Layout, d, blobName(d.Digest)); err != nil {
				return err
			}
		}
		docker = append(docker, entry)
		idx.Manifests = append(idx.Manifests, v.entries(img)...)
	}
	if err := v.json(ispec.ImageIndexFile, idx); err != nil {
		return err
	}
	if err := v.json(dockerManifestFile, docker); err != nil {
		return err
	}
	return v.json(ispec.ImageLayoutFile, ispec.ImageLayout{Version: ispec.ImageLayoutVersion})
}

// entries are an image's descriptors in the index, one for each name.
func (v *saver) entries(img *Image) []ispec.Descriptor {
	d := img.Target
	d.Annotations = withoutNames(d.Annotations)
	if len(d.Annotations) == 0 {
		d.Annotations = nil
	}
	var out []ispec.Descriptor
	for _, name := range v.names[img.Target.Digest] {
		one := d
		one.Annotations = maps.Clone(d.Annotations)
		if one.Annotations == nil {
			one.Annotations = make(map[string]string)
		}
		one.Annotations[annotationRefName] = name.String()
		one.Annotations[annotationFullName] = name.Full()
		out = append(out, one)
	}
	if len(out) == 0 {
		out = append(out, d)
	}
	return out
}

// tags are an image's names as docker writes them.
func (v *saver) tags(img *Image) []string {
	tags := []string{}
	for _, n := range v.names[img.Target.Digest] {
		tags = append(tags, n.String())
	}
	return tags
}

func (v *saver) saveDocker(images []*Image) error {
	list := []dockerEntry{}
	legacy := make(map[string]map[string]string)
	for _, img := range images {
		entry := dockerEntry{Config: img.ID().Encoded() + ".json", RepoTags: v.tags(img), Layers: []string{}}
		for i, l := range img.Manifest.Layers {
			name := img.DiffIDs()[i].Encoded() + ".tar"
			if err := v.plainLayer(img.Layout, l, img.DiffIDs()[i], name); err != nil {
				return err
			}
			entry.Layers = append(entry.Layers, name)
		}
		if err := v.blob(img.Layout, img.Manifest.Config, entry.Config); err != nil {
			return err
		}
		list = append(list, entry)
		for _, n := range v.names[img.Target.Digest] {
			if legacy[n.Name] == nil {
				legacy[n.Name] = make(map[string]string)
			}
			legacy[n.Name][n.Tag] = img.ID().Encoded()
		}
	}
	if err := v.json(dockerManifestFile, list); err != nil {
		return err
	}
	if len(legacy) == 0 {
		return nil
	}
	return v.json("repositories", legacy)
}

// plainLayer writes a layer without compression. Its size stands before it, so
// that a compressed one goes through a temporary file.
func (v *saver) plainLayer(from *Layout, d ispec.Descriptor, diffID digest.Digest, name string) error {
	if v.done[name] {
		return nil
	}
	if d.Digest == diffID {
		return v.blob(from, d, name)
	}
	f, err := os.CreateTemp(v.t.dir, "plain-")
	if err != nil {
		return fmt.Errorf("decompress layer: %w", err)
	}
	defer f.Close() //nolint:errcheck // unlinked
	_ = os.Remove(f.Name())
	size, err := from.plain(v.ctx, d, diffID, f)
	if err != nil {
		return err
	}
	return v.member(name, size, io.NewSectionReader(f, 0, size))
}

// plain writes the tar of a layer to w, checks that its digest is diffID and
// returns its size in bytes.
func (l *Layout) plain(ctx context.Context, d ispec.Descriptor, diffID digest.Digest, w io.Writer) (int64, error) {
	blob, err := l.Blob(d)
	if err != nil {
		return 0, err
	}
	defer blob.Close() //nolint:errcheck // only read
	stream, _, err := decompress(&contextReader{ctx, blob})
	if err != nil {
		return 0, err
	}
	defer stream.Close() //nolint:errcheck // only read
	hashed := &hashReader{r: stream, hash: sha256.New(), also: w}
	if _, err := io.Copy(io.Discard, hashed); err != nil {
		return hashed.n, fmt.Errorf("decompress layer %s: %w", d.Digest, err)
	}
	if _, err := io.Copy(io.Discard, blob); err != nil {
		return hashed.n, err
	}
	if got := digest.NewDigest(digest.SHA256, hashed.hash); got != diffID {
		return hashed.n, fmt.Errorf("layer %s: %w: its DiffID is %s, the configuration says %s", d.Digest, ErrCorrupt, got, diffID)
	}
	return hashed.n, nil
}

// contextReader ends with the error of ctx when that is done.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
