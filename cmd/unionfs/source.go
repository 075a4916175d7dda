package main

import (
	"errors"
	iofs "io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/control"
	"github.com/unionfs-go/unionfs/internal/sys"
)

// lowers is what the SOURCE arguments of a mount stand for.
type lowers struct {
	Layers      []control.Layer // top first
	Image       string          // reference of the image the lowest layers are, or ""
	ImageLayers int             // how many they are
}

// imageForm is how the layers of an image are read.
type imageForm uint8

// The forms.
const (
	formAsIs     imageForm = iota // the directory where a layer is unpacked already, else its blob
	formUnpacked                  // directories; layers are unpacked where they are not yet
	formBlobs                     // blobs, also of layers that are unpacked
)

// resolveSources turns SOURCE arguments, top first, into layers. An image may
// stand anywhere, but only the last one counts as what a commit builds on.
func resolveSources(sources []string, form imageForm) (lowers, error) {
	var out lowers
	for i, s := range sources {
		if s == "" {
			return lowers{}, usagef("a SOURCE is empty")
		}
		if isPathSource(s) {
			l, err := resolveLayer(s)
			if err != nil {
				return lowers{}, err
			}
			out.Layers = append(out.Layers, l)
			continue
		}
		layers, name, err := resolveImage(s, form)
		if err != nil {
			return lowers{}, err
		}
		out.Layers = append(out.Layers, layers...)
		if i == len(sources)-1 {
			out.Image, out.ImageLayers = name, len(layers)
		}
	}
	return out, nil
}

// resolveLayer finds a layer by path: a directory, or a file that is taken for
// a layer tar.
func resolveLayer(path string) (control.Layer, error) {
	l := control.Layer{Name: path}
	abs, info, err := resolvePath("layer", path)
	switch {
	case err != nil:
		return l, err
	case info.IsDir():
		l.Dir = abs
		return l, checkReadable("layer", path, abs, unix.R_OK|unix.X_OK)
	case info.Mode().IsRegular():
		l.Blob = abs
		return l, checkReadable("layer", path, abs, unix.R_OK)
	}
	return l, refusef("layer %s is neither a directory nor a layer tar", path)
}

// imagePrefixes begin a SOURCE that is an image wherever a file of that name
// may be.
var imagePrefixes = []string{"oci:", "oci-archive:", "docker-archive:"}

// isPathSource tells whether a SOURCE is meant as a path: it looks like one, or
// something is there.
func isPathSource(s string) bool {
	if slices.ContainsFunc(imagePrefixes, func(p string) bool { return strings.HasPrefix(s, p) }) {
		return false
	}
	if strings.HasPrefix(s, "/") || strings.HasPrefix(s, "./") || strings.HasPrefix(s, "../") || s == "." || s == ".." {
		return true
	}
	_, err := os.Lstat(s)
	return err == nil
}

// resolveDir returns the absolute path, free of symlinks, of a directory that
// can be read; what is the word for it in messages.
func resolveDir(what, path string) (string, error) {
	abs, info, err := resolvePath(what, path)
	if err != nil {
		return "", err
	}
	if !info.IsDir() {
		return "", refusef("%s %s is not a directory", what, path)
	}
	return abs, checkReadable(what, path, abs, unix.R_OK|unix.X_OK)
}

// resolvePath returns the absolute path, free of symlinks, of something that is
// there.
func resolvePath(what, path string) (string, iofs.FileInfo, error) {
	abs, err := filepath.Abs(path)
	if err == nil {
		abs, err = filepath.EvalSymlinks(abs)
	}
	var info iofs.FileInfo
	if err == nil {
		info, err = statLive(abs)
	}
	switch {
	case errors.Is(err, iofs.ErrNotExist):
		return "", nil, refusef("%s %s does not exist; make it or correct the path", what, path)
	case errors.Is(err, unix.ENOTCONN):
		return "", nil, refusef("%s %s is on a mount whose daemon is dead; unmount that first", what, path)
	case err != nil:
		return "", nil, refusef("%s %s cannot be reached: %w", what, path, err)
	}
	return abs, info, nil
}

// checkReadable refuses what this process may not read; mode is of access(2).
func checkReadable(what, path, abs string, mode uint32) error {
	err := unix.Faccessat(unix.AT_FDCWD, abs, mode, unix.AT_EACCESS)
	switch {
	case err == nil:
		return nil
	case mode&unix.X_OK == 0:
		return refusef("%s %s cannot be read (%w); give read permission to it", what, path, err)
	}
	return refusef("%s %s cannot be read (%w); give read and search permission to it", what, path, err)
}

// privileged tells whether this process may do what the kernel asks
// CAP_SYS_ADMIN of the first user namespace for: trusted.* attributes. A full
// identity map is the sign of that namespace (user_namespaces(7)).
func privileged() bool {
	if !sys.HasCap(unix.CAP_SYS_ADMIN) {
		return false
	}
	m, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && slices.Equal(strings.Fields(string(m)), []string{"0", "0", "4294967295"})
}
