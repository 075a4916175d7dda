// Package demoimage is the image that "make demo" works on, embedded in the
// binary: a small web application in three layers, kept as text trees in the
// folder layers. The tar of a layer depends on nothing but these trees.
package demoimage

import (
	"archive/tar"
	"bytes"
	"embed"
	"fmt"
	iofs "io/fs"
	"path"
	"strings"
	"time"
)

// trees holds layers/N-NAME/..., including names that begin with a dot: the
// third layer deletes a file by an OCI whiteout.
//
//go:embed all:layers
var trees embed.FS

// Created is the time of every file and of the image itself.
var Created = time.Date(2025, time.January, 1, 0, 0, 0, 0, time.UTC)

// Name is what the image is called in the layout that Write makes.
const Name = "webapp:1.0"

// A Layer is one of the three trees.
type Layer struct {
	// CreatedBy is its line of the image's history.
	CreatedBy string
	dir       string
}

// Layers gives the layers, the lowest first, as an image lists them.
func Layers() []Layer {
	return []Layer{
		{CreatedBy: "base system", dir: "layers/1-base"},
		{CreatedBy: "COPY app /srv/app", dir: "layers/2-app"},
		{CreatedBy: "COPY configuration /etc", dir: "layers/3-config"},
	}
}

// Tar gives the layer as an uncompressed tar: parents before children, sorted
// by name, owned by root.
func (l Layer) Tar() ([]byte, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	err := iofs.WalkDir(trees, l.dir, func(name string, d iofs.DirEntry, err error) error {
		if err != nil || name == l.dir {
			return err
		}
		return writeEntry(w, name, strings.TrimPrefix(name, l.dir+"/"), d.IsDir())
	})
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("write the demo layer %s: %w", l.dir, err)
	}
	return buf.Bytes(), nil
}

// writeEntry writes one directory or file of a layer under the given name.
func writeEntry(w *tar.Writer, source, name string, dir bool) error {
	header := &tar.Header{Name: name, ModTime: Created, Format: tar.FormatPAX}
	if dir {
		header.Typeflag, header.Name, header.Mode = tar.TypeDir, name+"/", 0o755
		return w.WriteHeader(header)
	}
	content, err := trees.ReadFile(source)
	if err != nil {
		return err
	}
	header.Typeflag, header.Mode, header.Size = tar.TypeReg, 0o644, int64(len(content))
	if path.Base(path.Dir(name)) == "bin" || bytes.HasPrefix(content, []byte("#!")) {
		header.Mode = 0o755
	}
	if err := w.WriteHeader(header); err != nil {
		return err
	}
	_, err = w.Write(content)
	return err
}
