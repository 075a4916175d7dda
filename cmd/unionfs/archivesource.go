package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	"github.com/unionfs-go/unionfs/internal/image"
)

// archivePrefixes begin a SOURCE that is an image in a tar.
var archivePrefixes = []string{"oci-archive:", "docker-archive:"}

// isArchiveSource tells whether a SOURCE is an image in a tar.
func isArchiveSource(ref string) bool {
	for _, p := range archivePrefixes {
		if strings.HasPrefix(ref, p) {
			return true
		}
	}
	return false
}

// findInArchive loads the image of oci-archive:FILE[:TAG] or
// docker-archive:FILE[:TAG] into the store, without a name, and returns it. What
// the tar really holds decides how it is read. name is the source with an
// absolute path.
func findInArchive(ctx context.Context, store *image.Store, ref string) (img *image.Image, name string, err error) {
	prefix, rest, _ := strings.Cut(ref, ":")
	file, tag := splitArchive(rest)
	abs, err := filepath.Abs(file)
	if err != nil {
		return nil, "", err
	}
	if _, err := os.Stat(abs); err != nil {
		return nil, "", refusef("%s: %w", ref, err)
	}
	img, err = store.LoadImage(ctx, abs, tag)
	if err != nil {
		return nil, "", imageError(err)
	}
	name = prefix + ":" + abs
	if tag != "" {
		name += ":" + tag
	}
	return img, name, nil
}

// splitArchive splits FILE[:TAG], of which both may have colons: the longest
// part that is a file is FILE.
func splitArchive(s string) (file, tag string) {
	for end := len(s); end > 0; end = strings.LastIndexByte(s[:end], ':') {
		if fi, err := os.Stat(s[:end]); err == nil && !fi.IsDir() {
			return s[:end], strings.TrimPrefix(s[end:], ":")
		}
	}
	file, tag, _ = strings.Cut(s, ":")
	return file, tag
}
