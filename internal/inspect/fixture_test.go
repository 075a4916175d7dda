package inspect

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/stack"
	"github.com/unionfs-go/unionfs/internal/tarlayer"
	"github.com/unionfs-go/unionfs/whiteout"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// layers splits a description into those of the layers, top first. A line "=="
// begins a layer; what follows on that line is the command that made it. Other
// lines are "TYPE PATH [KEY=VALUE]...":
//
//	dir, file, link, hard, wh, opq    with mode=, uid=, gid=, mtime=, size=, data=, to=, x.NAME=
func layers(text string) (layers [][]string, by []string) {
	for _, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		switch {
		case line == "":
		case strings.HasPrefix(line, "=="):
			layers, by = append(layers, nil), append(by, strings.TrimSpace(line[2:]))
		default:
			layers[len(layers)-1] = append(layers[len(layers)-1], line)
		}
	}
	return layers, by
}

// tarOf writes a layer as a tar.
func tarOf(t testing.TB, lines []string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, line := range lines {
		f := strings.Fields(line)
		h := tar.Header{Name: f[1], Mode: 0o644, Typeflag: tar.TypeReg, ModTime: time.Unix(1000, 0), PAXRecords: map[string]string{}}
		data := ""
		switch f[0] {
		case "dir":
			h.Typeflag, h.Mode, h.Name = tar.TypeDir, 0o755, f[1]+"/"
		case "link":
			h.Typeflag, h.Mode = tar.TypeSymlink, 0o777
		case "hard":
			h.Typeflag = tar.TypeLink
		case "wh":
			h.Name = filepath.Join(filepath.Dir(f[1]), whiteout.OCIName(filepath.Base(f[1])))
		case "opq":
			h.Name = filepath.Join(f[1], whiteout.OpaqueName)
		}
		for _, arg := range f[2:] {
			key, value, _ := strings.Cut(arg, "=")
			n, _ := strconv.ParseInt(value, 0, 64)
			switch {
			case key == "mode":
				h.Mode = n
			case key == "uid":
				h.Uid = int(n)
			case key == "gid":
				h.Gid = int(n)
			case key == "mtime":
				h.ModTime = time.Unix(n, 0)
			case key == "to":
				h.Linkname = value
			case key == "data":
				data = strings.ReplaceAll(value, "|", "\n")
			case key == "size":
				data = strings.Repeat(f[1][len(f[1])-1:], int(n))
			case strings.HasPrefix(key, "x."):
				h.PAXRecords["SCHILY.xattr."+key[2:]] = value
			default:
				t.Fatalf("fixture: %q", line)
			}
		}
		h.Size = int64(len(data))
		must(t, w.WriteHeader(&h))
		_, err := w.Write([]byte(data))
		must(t, err)
	}
	must(t, w.Close())
	return b.Bytes()
}

// model makes a model of layers that text describes.
func model(t testing.TB, text string) *Model {
	t.Helper()
	descriptions, by := layers(text)
	var sources []Source
	for i, lines := range descriptions {
		blob := tarOf(t, lines)
		l, err := tarlayer.OpenReaderAt(context.Background(), bytes.NewReader(blob), int64(len(blob)), fmt.Sprint("layer", i), tarlayer.Options{NoCache: true})
		must(t, err)
		sources = append(sources, Source{Layer: l, Info: Layer{CreatedBy: by[i]}})
	}
	m, err := OpenSources(context.Background(), sources)
	must(t, err)
	t.Cleanup(func() { must(t, m.Close()) })
	return m
}

// dirModel makes a model of directories, top first, whose marks are in the user
// namespace.
func dirModel(t testing.TB, dirs ...string) *Model {
	t.Helper()
	var sources []Source
	for _, d := range dirs {
		l, err := OpenPath(context.Background(), d, OpenOptions{UserXattr: true})
		must(t, err)
		sources = append(sources, Source{Layer: l})
	}
	m, err := OpenSources(context.Background(), sources)
	must(t, err)
	t.Cleanup(func() { must(t, m.Close()) })
	return m
}

// put makes an object of a layer that is a directory: "dir", "file", "wh" with
// content and marks of the user namespace.
func put(t testing.TB, layer, kind, path, content string, marks ...string) {
	t.Helper()
	full := filepath.Join(layer, path)
	must(t, os.MkdirAll(filepath.Dir(full), 0o755))
	switch kind {
	case "dir":
		must(t, os.MkdirAll(full, 0o755))
	case "file":
		must(t, os.WriteFile(full, []byte(content), 0o644))
		must(t, os.Chtimes(full, time.Unix(1000, 0), time.Unix(1000, 0)))
	case "wh":
		if err := unix.Mknod(full, unix.S_IFCHR, 0); err != nil {
			t.Skipf("whiteout devices cannot be made here: %v", err)
		}
	}
	for i := 0; i+1 < len(marks); i += 2 {
		if err := unix.Lsetxattr(full, "user.overlay."+marks[i], []byte(marks[i+1]), 0); err != nil {
			t.Skipf("no user attributes here: %v", err)
		}
	}
}

// show writes what a view of the model holds, one path a line.
func show(m *Model, view int) string {
	var b strings.Builder
	var walk func(n Node)
	walk = func(n Node) {
		for c := range m.Children(n) {
			v, ok := m.At(c, view)
			if !ok {
				continue
			}
			fmt.Fprintln(&b, showLine(m.Path(c), v.Mode, v.Size, v.Layer))
			if v.IsDir() {
				walk(c)
			}
		}
	}
	walk(Root)
	return b.String()
}

func showLine(path string, mode uint32, size int64, layer int) string {
	if isDir(mode) {
		size = 0
	}
	return fmt.Sprintf("%s %s %d layer %d", ModeString(mode), path, size, layer)
}

// showStack writes the same of a stack, by its own rule.
func showStack(t testing.TB, s *stack.Stack, view int) string {
	t.Helper()
	var b strings.Builder
	var walk func(path string, e stack.Entry)
	walk = func(path string, e stack.Entry) {
		ents, err := stack.ReadDir(e.Reals)
		must(t, err)
		names := map[string]bool{}
		var sorted []string
		for _, l := range ents {
			if !names[l.Name] {
				names[l.Name] = true
				sorted = append(sorted, l.Name)
			}
		}
		sortStrings(sorted)
		for _, name := range sorted {
			c, err := s.Lookup(e, name)
			if err == unix.EIO {
				fmt.Fprintln(&b, path+"/"+name, "dangling")
				continue
			}
			must(t, err)
			a := c.Top().Object.Attr()
			fmt.Fprintln(&b, showLine(path+"/"+name, a.Mode, a.Size, c.Top().Layer+view))
			if c.IsDir() {
				walk(path+"/"+name, c)
			}
		}
	}
	walk("", s.Root())
	return b.String()
}

func sortStrings(s []string) {
	for i := range s {
		for j := i; j > 0 && s[j] < s[j-1]; j-- {
			s[j], s[j-1] = s[j-1], s[j]
		}
	}
}
