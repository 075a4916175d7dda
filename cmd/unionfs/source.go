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

// resolveSources turns SOURCE arguments, top first, into layers. An image may
// stand anywhere, but only the last one counts as what a commit builds on.
func resolveSources(sources []string) (lowers, error) {
	var out lowers
	for i, s := range sources {
		if s == "" {
			return lowers{}, usagef("a SOURCE is empty")
		}
		if isDirSource(s) {
			dir, err := resolveDir("layer", s)
			if err != nil {
				return lowers{}, err
			}
			out.Layers = append(out.Layers, control.Layer{Name: s, Dir: dir})
			continue
		}
		dirs, name, err := resolveImage(s)
		if err != nil {
			return lowers{}, err
		}
		for _, dir := range dirs {
			out.Layers = append(out.Layers, control.Layer{Name: name, Dir: dir})
		}
		if i == len(sources)-1 {
			out.Image, out.ImageLayers = name, len(dirs)
		}
	}
	return out, nil
}

// imagePrefixes begin a SOURCE that is an image wherever a file of that name
// may be.
var imagePrefixes = []string{"oci:", "docker-archive:"}

// isDirSource tells whether a SOURCE is meant as a path: it looks like one, or
// something is there.
func isDirSource(s string) bool {
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
		return "", refusef("%s %s does not exist; make it or correct the path", what, path)
	case errors.Is(err, unix.ENOTCONN):
		return "", refusef("%s %s is on a mount whose daemon is dead; unmount that first", what, path)
	case err != nil:
		return "", refusef("%s %s cannot be reached: %w", what, path, err)
	}
	if !info.IsDir() {
		return "", refusef("%s %s is not a directory", what, path)
	}
	if err := unix.Faccessat(unix.AT_FDCWD, abs, unix.R_OK|unix.X_OK, unix.AT_EACCESS); err != nil {
		return "", refusef("%s %s cannot be read (%w); give read and search permission to it", what, path, err)
	}
	return abs, nil
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
