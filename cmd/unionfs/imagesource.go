package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/unionfs-go/unionfs/internal/control"
	"github.com/unionfs-go/unionfs/internal/image"
	"github.com/unionfs-go/unionfs/whiteout"
)

// ociPrefix begins a SOURCE that is an image in an OCI image layout.
const ociPrefix = "oci:"

// resolveImage finds the layers of an image, see findImage. It returns them, top
// first, and the name to show, by which commit finds the image again (see
// findBase).
func resolveImage(ref string, form imageForm) (layers []control.Layer, name string, err error) {
	store, err := openStore()
	if err != nil {
		return nil, "", err
	}
	img, name, err := findImage(store, ref)
	if err != nil {
		return nil, "", err
	}
	if form == formUnpacked {
		var progress func(string)
		if isTerminal(os.Stderr) {
			progress = func(msg string) { fmt.Fprintf(os.Stderr, "unionfs: %s: %s\n", ref, msg) }
		}
		if _, err := store.Unpack(context.Background(), img, markNamespace(), progress); err != nil {
			return nil, "", fmt.Errorf("unpack %s: %w", ref, err)
		}
	}
	places, err := store.Places(img, markNamespace(), form != formBlobs)
	if err != nil {
		return nil, "", fmt.Errorf("find the layers of %s: %w", ref, err)
	}
	for _, p := range places {
		layers = append(layers, control.Layer{
			Name: name, Image: name, Dir: p.Dir, Blob: p.Blob, Digest: p.Digest.String(), DiffID: p.DiffID.String(),
		})
	}
	if len(layers) == 0 {
		return nil, "", refusef("%s has no layers", ref)
	}
	return layers, name, nil
}

// markNamespace is where marks are kept in layers that this process writes.
func markNamespace() whiteout.Namespace {
	if privileged() {
		return whiteout.Trusted
	}
	return whiteout.User
}

// openStore opens the image store.
func openStore() (*image.Store, error) {
	s, err := image.OpenDefault()
	if err != nil {
		return nil, fmt.Errorf("%w; %s names another store", err, image.StoreEnv)
	}
	return s, nil
}

// findImage finds an image by NAME[:TAG], ID, oci:DIR[:TAG], or FILE[:TAG] after
// oci-archive: or docker-archive:, which is loaded into the store. name is what
// it is called in messages and in the status of a mount.
func findImage(store *image.Store, ref string) (img *image.Image, name string, err error) {
	if rest, ok := strings.CutPrefix(ref, ociPrefix); ok {
		return findInLayout(rest)
	}
	if isArchiveSource(ref) {
		return findInArchive(context.Background(), store, ref)
	}
	img, err = store.Find(ref)
	if errors.Is(err, image.ErrNotFound) {
		return nil, "", refusef("%s is neither a path nor an image in the store %s (unionfs image ls lists them)", ref, store.Root())
	}
	if err != nil {
		return nil, "", err
	}
	if img.Name != "" {
		return img, img.Name, nil
	}
	return img, img.ID().String(), nil
}

// findInLayout finds DIR[:TAG]; the directory may have colons in its name.
func findInLayout(s string) (*image.Image, string, error) {
	dir, tag := s, ""
	for !isLayoutDir(dir) {
		i := strings.LastIndexByte(dir, ':')
		if i < 0 {
			dir, tag, _ = strings.Cut(s, ":")
			break
		}
		dir, tag = s[:i], s[i+1:]
	}
	l, err := image.OpenLayout(dir)
	if err != nil {
		return nil, "", &refusedError{err}
	}
	img, err := l.FindTag(tag)
	if errors.Is(err, image.ErrNotFound) {
		return nil, "", &refusedError{err}
	}
	if err != nil {
		return nil, "", err
	}
	name := ociPrefix + l.Root()
	if tag != "" {
		name += ":" + tag
	}
	return img, name, nil
}

func isLayoutDir(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "oci-layout"))
	return err == nil
}
