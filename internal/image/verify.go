package image

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

// Problem is one thing that is wrong with a layout.
type Problem struct {
	Image   string        `json:"image,omitempty"` // name or digest of the image
	Digest  digest.Digest `json:"digest,omitempty"`
	Message string        `json:"message"`
}

// Report is what Verify found.
type Report struct {
	Images   int       `json:"images"`
	Layers   int       `json:"layers"` // whose DiffIDs were computed
	Blobs    int       `json:"blobs"`  // whose digests were computed
	Bytes    int64     `json:"bytes"`  // read
	Problems []Problem `json:"problems"`
}

// Verify reads all of a layout and checks it: the digest and size of every
// blob, the DiffID of every layer, that configurations, histories, media types
// and platforms agree with each other, and what is known of unpacked layers.
// With names only these images are read. ErrNotFound: there is no such image. An
// error says that the check itself failed; problems are in the report.
func (l *Layout) Verify(ctx context.Context, names []string) (Report, error) {
	c := &checker{ctx: ctx, l: l, blobs: make(map[digest.Digest]*blobCheck)}
	idx, err := l.Index()
	if err != nil {
		return c.rep, err
	}
	list, err := l.selected(idx, names)
	if err != nil {
		return c.rep, err
	}
	for _, d := range list {
		if isImage(d) {
			c.tree(d, c.label(d), 0)
		}
	}
	if len(names) == 0 {
		c.rest()
		c.unpacked()
	}
	err = c.read()
	slices.SortStableFunc(c.rep.Problems, func(a, b Problem) int {
		return strings.Compare(a.Image+string(a.Digest)+a.Message, b.Image+string(b.Digest)+b.Message)
	})
	if c.rep.Problems == nil {
		c.rep.Problems = []Problem{}
	}
	return c.rep, err
}

// Verify is Layout.Verify; nothing is removed from the store meanwhile.
func (s *Store) Verify(ctx context.Context, names []string) (Report, error) {
	lock, err := s.lockFile(activityLock, unix.LOCK_SH)
	if err != nil && !readOnly(err) {
		return Report{}, fmt.Errorf("lock image store %s: %w", s.root, err)
	}
	if err == nil {
		defer lock.Close() //nolint:errcheck // unlocks
	}
	return s.Layout.Verify(ctx, names)
}

// selected are the entries of the index that names mean, or all.
func (l *Layout) selected(idx ispec.Index, names []string) ([]ispec.Descriptor, error) {
	if len(names) == 0 {
		return idx.Manifests, nil
	}
	var out []ispec.Descriptor
	for _, n := range names {
		if d, ok := findName(idx.Manifests, n); ok {
			out = append(out, d)
			continue
		}
		img, err := l.Find(n)
		if err != nil {
			return nil, err
		}
		d := img.Target
		d.Annotations = map[string]string{annotationRefName: img.Name}
		out = append(out, d)
	}
	return out, nil
}

// blobCheck is one blob to be read.
type blobCheck struct {
	desc    ispec.Descriptor // size -1: not known
	image   string           // one that has it
	diffIDs []digest.Digest  // of a layer
}

// checker is one run of Verify.
type checker struct {
	ctx   context.Context
	l     *Layout
	blobs map[digest.Digest]*blobCheck
	order []digest.Digest

	mu  sync.Mutex
	rep Report // guarded by mu while blobs are read
}

func (c *checker) label(d ispec.Descriptor) string {
	if n := d.Annotations[annotationRefName]; n != "" {
		return n
	}
	return d.Digest.String()
}

func (c *checker) problem(image string, d digest.Digest, format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := Problem{Image: image, Digest: d, Message: fmt.Sprintf(format, args...)}
	if !slices.Contains(c.rep.Problems, p) {
		c.rep.Problems = append(c.rep.Problems, p)
	}
}

// want notes a blob to be read.
func (c *checker) want(d ispec.Descriptor, image string, diffID digest.Digest) {
	b := c.blobs[d.Digest]
	if b == nil {
		b = &blobCheck{desc: d, image: image}
		c.blobs[d.Digest] = b
		c.order = append(c.order, d.Digest)
	}
	if d.Size != b.desc.Size {
		c.problem(image, d.Digest, "two descriptors of this blob give its size as %d and %d bytes", b.desc.Size, d.Size)
	}
	if diffID != "" && !slices.Contains(b.diffIDs, diffID) {
		b.diffIDs = append(b.diffIDs, diffID)
	}
}

// tree checks an image, or all images of an index.
func (c *checker) tree(d ispec.Descriptor, image string, depth int) {
	if depth > maxNesting {
		c.problem(image, d.Digest, "indexes are nested too deep")
		return
	}
	var probe manifestOrIndex
	raw, err := c.l.readJSON(d, &probe)
	if depth > 0 && errors.Is(err, fs.ErrNotExist) {
		return // an image of another platform, which was not copied
	}
	if err != nil {
		c.problem(image, d.Digest, "%v", err)
		return
	}
	c.want(d, image, "")
	for _, sub := range probe.Manifests {
		c.tree(sub, image, depth+1)
	}
	switch {
	case probe.Config != nil:
		var m ispec.Manifest
		if err := json.Unmarshal(raw, &m); err != nil {
			c.problem(image, d.Digest, "read manifest: %v", err)
			return
		}
		c.image(d, m, image)
	case probe.Manifests == nil:
		c.problem(image, d.Digest, "it is neither a manifest nor an index")
	}
}

// image checks what a manifest and its configuration say of each other.
func (c *checker) image(d ispec.Descriptor, m ispec.Manifest, image string) {
	c.rep.Images++
	var conf Config
	if _, err := c.l.readJSON(m.Config, &conf); err != nil {
		c.problem(image, m.Config.Digest, "read configuration: %v", err)
		for _, l := range m.Layers {
			c.want(l, image, "")
		}
		return
	}
	c.want(m.Config, image, "")
	id := m.Config.Digest
	if n, k := len(m.Layers), len(conf.RootFS.DiffIDs); n != k {
		c.problem(image, id, "the manifest has %d layers, the configuration %d DiffIDs", n, k)
	}
	if conf.RootFS.Type != "layers" {
		c.problem(image, id, "the type of rootfs is %q, not \"layers\"", conf.RootFS.Type)
	}
	steps := 0
	for _, h := range conf.History {
		if !h.EmptyLayer {
			steps++
		}
	}
	if len(conf.History) > 0 && steps != len(conf.RootFS.DiffIDs) {
		c.problem(image, id, "the history tells of %d layers, the configuration has %d", steps, len(conf.RootFS.DiffIDs))
	}
	if p := d.Platform; p != nil && (p.OS != conf.OS || p.Architecture != conf.Architecture) {
		c.problem(image, d.Digest, "its descriptor says %s/%s, its configuration %s/%s", p.OS, p.Architecture, conf.OS, conf.Architecture)
	}
	for i, l := range m.Layers {
		var diffID digest.Digest
		if i < len(conf.RootFS.DiffIDs) {
			diffID = conf.RootFS.DiffIDs[i]
		}
		c.want(l, image, diffID)
		c.mediaType(l, image)
	}
}

// mediaType compares what a layer is said to be with its first bytes.
func (c *checker) mediaType(l ispec.Descriptor, image string) {
	kind, err := c.l.compression(l)
	if err != nil {
		return // reported when it is read
	}
	switch said := ociLayerType(l.MediaType); said {
	case ispec.MediaTypeImageLayer, ispec.MediaTypeImageLayerGzip, ispec.MediaTypeImageLayerZstd:
		if said != layerMediaType(kind) {
			c.problem(image, l.Digest, "the media type is %s, but the layer is compressed with %s", l.MediaType, kind)
		}
	default:
		c.problem(image, l.Digest, "%q is not the media type of a layer", l.MediaType)
	}
}

// rest notes the blobs that no image refers to.
func (c *checker) rest() {
	dir := c.l.path(ispec.ImageBlobsDir, "sha256")
	ents, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.problem("", "", "list blobs: %v", err)
	}
	for _, e := range ents {
		d := digest.NewDigestFromEncoded(digest.SHA256, e.Name())
		fi, err := e.Info()
		switch {
		case d.Validate() != nil:
			c.problem("", "", "%s is not the name of a blob", filepath.Join(dir, e.Name()))
		case err != nil || !fi.Mode().IsRegular():
			c.problem("", d, "the blob is not a regular file")
		case c.blobs[d] == nil:
			c.want(ispec.Descriptor{Digest: d, Size: fi.Size()}, "", "")
		}
	}
}

// unpacked checks what is noted about unpacked layers.
func (c *checker) unpacked() {
	s := &Store{c.l}
	ents, err := os.ReadDir(c.l.path(unpackedDir, "sha256"))
	if err != nil {
		return // another tool's layout has none
	}
	for _, e := range ents {
		dir := c.l.path(unpackedDir, "sha256", e.Name())
		d := digest.NewDigestFromEncoded(digest.SHA256, strings.TrimSuffix(e.Name(), ".user"))
		if d.Validate() != nil {
			c.problem("", "", "%s is not the name of an unpacked layer", dir)
			continue
		}
		if _, ok := s.UnpackedAt(filepath.Join(dir, layerRoot)); !ok {
			c.problem("", d, "the unpacked layer %s has no %s that can be read; remove the directory", dir, layerInfo)
		} else if fi, err := os.Lstat(filepath.Join(dir, layerRoot)); err != nil || !fi.IsDir() {
			c.problem("", d, "the unpacked layer %s has no directory %s; remove it", dir, layerRoot)
		}
	}
}

// read reads the blobs, several at a time.
func (c *checker) read() error {
	work := make(chan *blobCheck)
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for b := range work {
				c.blob(b)
			}
		}()
	}
	for _, d := range c.order {
		if c.ctx.Err() != nil {
			break
		}
		work <- c.blobs[d]
	}
	close(work)
	wg.Wait()
	return c.ctx.Err()
}

// blob reads one blob, and the layer in it.
func (c *checker) blob(b *blobCheck) {
	if err := checkDescriptor(b.desc); err != nil {
		c.problem(b.image, b.desc.Digest, "%v", err)
		return
	}
	got, err := c.l.digests(c.ctx, b.desc, len(b.diffIDs) > 0)
	if c.ctx.Err() != nil {
		return
	}
	if err != nil {
		c.problem(b.image, b.desc.Digest, "%v", err)
		return
	}
	c.mu.Lock()
	c.rep.Blobs++
	c.rep.Bytes += b.desc.Size
	if len(b.diffIDs) > 0 {
		c.rep.Layers++
	}
	c.mu.Unlock()
	for _, want := range b.diffIDs {
		if got != want {
			c.problem(b.image, b.desc.Digest, "the layer's DiffID is %s, the configuration says %s", got, want)
		}
	}
}

// digests reads a blob, checking its digest, and computes the DiffID of a
// layer. A blob with another digest is reported as that, whatever is in it.
func (l *Layout) digests(ctx context.Context, d ispec.Descriptor, layer bool) (diffID digest.Digest, err error) {
	blob, err := l.Blob(d)
	if err != nil {
		return "", err
	}
	defer blob.Close() //nolint:errcheck // only read
	in := &contextReader{ctx, blob}
	if layer {
		diffID, err = diffIDOf(in)
	}
	if _, rerr := io.Copy(io.Discard, in); rerr != nil {
		return "", rerr
	}
	return diffID, err
}

// diffIDOf is the digest of the tar in a blob.
func diffIDOf(r io.Reader) (digest.Digest, error) {
	stream, _, err := decompress(r)
	if err != nil {
		return "", err
	}
	defer stream.Close() //nolint:errcheck // only read
	hash := sha256.New()
	if _, err := io.Copy(hash, stream); err != nil {
		return "", fmt.Errorf("decompress: %w", err)
	}
	return digest.NewDigest(digest.SHA256, hash), nil
}
