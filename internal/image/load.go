package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// LoadRequest says what Load reads.
type LoadRequest struct {
	Path   string    // of the archive; with Reader no more than a name for messages
	Reader io.Reader // or nil
	// Only, where set, is the one image to load: its name, or its tag alone.
	Only string
	// NoNames loads images without their names, so that no name of the store
	// moves.
	NoNames bool
}

// Loaded is one image that Load found.
type Loaded struct {
	ID       digest.Digest `json:"id"`
	Manifest digest.Digest `json:"manifest"`
	Names    []string      `json:"names"`
}

// found is an image of an archive whose blobs are in the store.
type found struct {
	target ispec.Descriptor // what the index of the store shall refer to
	id     digest.Digest
	image  digest.Digest // of its manifest
	names  []Reference
}

// Load takes the images of an archive into the store: an OCI layout in a tar, a
// docker-archive (docker save, podman save), or both in one as docker writes it
// since version 25; the tar may be compressed. All digests are checked. Of an
// error nothing is left. ErrNotFound: the archive has no such image.
func (s *Store) Load(ctx context.Context, req LoadRequest) ([]Loaded, error) {
	t, err := s.begin("load")
	if err != nil {
		return nil, err
	}
	defer t.end()
	var a *archive
	if req.Reader != nil {
		a, err = readArchive(req.Path, req.Reader, t.dir)
	} else {
		a, err = openArchive(req.Path, t.dir)
	}
	if err != nil {
		return nil, err
	}
	defer a.close() //nolint:errcheck // only read
	l := &loader{ctx: ctx, t: t, a: a, only: req.Only}
	if err := l.load(); err != nil {
		return nil, fmt.Errorf("load %s: %w", a.name, err)
	}
	if len(l.out) == 0 {
		return nil, fmt.Errorf("%w: %s holds %s", ErrNotFound, a.name, orNone(l.seen))
	}
	err = t.changeIndex(func(idx *ispec.Index) error {
		for _, f := range l.out {
			if len(f.names) == 0 || req.NoNames {
				addToIndex(idx, f.target, nil)
				continue
			}
			for _, name := range f.names {
				addToIndex(idx, f.target, &name)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return l.loaded(), t.commit()
}

// loader loads one archive.
type loader struct {
	ctx  context.Context
	t    *transaction
	a    *archive
	only string
	seen []string // all names in the archive
	out  []found
}

func (l *loader) loaded() []Loaded {
	out := make([]Loaded, 0, len(l.out))
	for _, f := range l.out {
		one := Loaded{ID: f.id, Manifest: f.image, Names: []string{}}
		for _, n := range f.names {
			one.Names = append(one.Names, n.String())
		}
		out = append(out, one)
	}
	return out
}

func (l *loader) load() error {
	switch {
	case l.a.has(ispec.ImageLayoutFile) && l.a.has(ispec.ImageIndexFile):
		return l.loadOCI()
	case l.a.has(dockerManifestFile):
		return l.loadDocker()
	}
	return fmt.Errorf("%w: it has neither oci-layout and index.json nor manifest.json; a root filesystem becomes an image with image import", ErrCorrupt)
}

// wanted tells whether an image with these names is to be loaded.
func (l *loader) wanted(names []Reference) bool {
	for _, n := range names {
		l.seen = append(l.seen, n.String())
	}
	if l.only == "" {
		return true
	}
	ref, err := ParseReference(l.only)
	for _, n := range names {
		if n.Tag == l.only || err == nil && sameName(n.String(), ref) {
			return true
		}
	}
	return false
}

func (l *loader) loadOCI() error {
	from := &Layout{root: l.a.name, archive: l.a}
	if err := from.check(l.a.name); err != nil {
		return err
	}
	idx, err := from.Index()
	if err != nil {
		return err
	}
	tags, err := l.dockerTags()
	if err != nil {
		return err
	}
	at := make(map[digest.Digest]int)
	for _, d := range idx.Manifests {
		if !isImage(d) {
			continue
		}
		img, err := from.load(d)
		if err != nil {
			return err
		}
		names := archiveNames(d)
		if len(names) == 0 {
			names = tags[img.ID()]
		}
		if !l.wanted(names) {
			continue
		}
		if i, again := at[d.Digest]; again {
			l.out[i].names = append(l.out[i].names, names...)
			continue
		}
		if err := l.copyTree(from, d, 0); err != nil {
			return err
		}
		target := d
		target.Annotations = withoutNames(d.Annotations)
		at[d.Digest] = len(l.out)
		l.out = append(l.out, found{target: target, id: img.ID(), image: img.Target.Digest, names: names})
	}
	return nil
}

// archiveNames are the names that an entry of an archive's index has. The name
// alone can be a tag alone, which skopeo and docker write.
func archiveNames(d ispec.Descriptor) []Reference {
	for _, s := range []string{d.Annotations[annotationFullName], d.Annotations[annotationRefName]} {
		if ref, err := ParseReference(familiar(s)); err == nil && ref.Digest == "" {
			return []Reference{ref}
		}
	}
	return nil
}

// familiar leaves out the registry that is meant where none is named.
func familiar(name string) string {
	name = strings.TrimPrefix(name, "docker.io/")
	return strings.TrimPrefix(name, "library/")
}

// copyTree copies what a descriptor leads to. Images of other platforms that
// the archive does not have are passed over.
func (l *loader) copyTree(from *Layout, d ispec.Descriptor, depth int) error {
	if depth > maxNesting {
		return fmt.Errorf("read index %s: %w: indexes nested too deep", d.Digest, ErrCorrupt)
	}
	if err := l.ctx.Err(); err != nil {
		return err
	}
	var m manifestOrIndex
	if _, err := from.readJSON(d, &m); err != nil {
		return err
	}
	for _, sub := range m.Manifests {
		if err := l.copyTree(from, sub, depth+1); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	blobs := m.Layers
	if m.Config != nil {
		blobs = append(blobs, *m.Config)
	}
	for _, b := range append(blobs, d) {
		if err := l.t.copyBlob(from, b); err != nil {
			return err
		}
	}
	return nil
}

// LoadImage loads one image of an archive without a name: the one that only
// names, or the one there is.
func (s *Store) LoadImage(ctx context.Context, path, only string) (*Image, error) {
	list, err := s.Load(ctx, LoadRequest{Path: path, Only: only, NoNames: true})
	if err != nil {
		return nil, err
	}
	if len(list) > 1 {
		var names []string
		for _, l := range list {
			names = append(names, l.Names...)
		}
		return nil, fmt.Errorf("%w: %s holds %d images; name one of: %s", ErrNotFound, path, len(list), orNone(names))
	}
	return s.Find(list[0].Manifest.String())
}

// dockerManifestFile lists the images of a docker-archive.
const dockerManifestFile = "manifest.json"

// dockerEntry is one image in it.
type dockerEntry struct {
	Config   string   // name of its configuration in the archive
	RepoTags []string // its names
	Layers   []string // names of its layers, bottom first
}

func (l *loader) dockerEntries() ([]dockerEntry, error) {
	b, err := l.a.read(dockerManifestFile)
	if err != nil {
		return nil, err
	}
	var list []dockerEntry
	if err := json.Unmarshal(b, &list); err != nil {
		return nil, fmt.Errorf("read %s: %w: %w", dockerManifestFile, ErrCorrupt, err)
	}
	return list, nil
}

// dockerTags are the names that manifest.json gives, by image ID.
func (l *loader) dockerTags() (map[digest.Digest][]Reference, error) {
	if !l.a.has(dockerManifestFile) {
		return nil, nil
	}
	list, err := l.dockerEntries()
	if err != nil {
		return nil, err
	}
	out := make(map[digest.Digest][]Reference)
	for _, e := range list {
		b, err := l.a.read(e.Config)
		if err != nil {
			return nil, err
		}
		out[digest.FromBytes(b)] = references(e.RepoTags)
	}
	return out, nil
}

// references reads names; those that are none are left out.
func references(tags []string) []Reference {
	var out []Reference
	for _, s := range tags {
		if ref, err := ParseReference(familiar(s)); err == nil && ref.Digest == "" {
			out = append(out, ref)
		}
	}
	return out
}
