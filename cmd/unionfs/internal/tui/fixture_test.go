package tui

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/unionfs-go/unionfs/internal/inspect"
	"github.com/unionfs-go/unionfs/internal/tarlayer"
	"github.com/unionfs-go/unionfs/whiteout"
)

// object is one entry of a layer of a fixture. A name that ends in "/" is a
// directory, "-" before it a whiteout, "!" an opaque mark.
type object struct {
	name, data string
	mode       int64
	target     string
}

// layerOf writes a layer as a tar.
func layerOf(t testing.TB, objects ...object) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, o := range objects {
		h := &tar.Header{Name: o.name, Mode: 0o644, Typeflag: tar.TypeReg, ModTime: time.Unix(1700000000, 0), Size: int64(len(o.data))}
		switch {
		case strings.HasSuffix(o.name, "/"):
			h.Typeflag, h.Mode = tar.TypeDir, 0o755
		case o.name[0] == '-':
			h.Name = filepath.Join(filepath.Dir(o.name[1:]), whiteout.OCIName(filepath.Base(o.name)))
			if !strings.Contains(o.name, "/") {
				h.Name = whiteout.OCIName(o.name[1:])
			}
		case o.name[0] == '!':
			h.Name = filepath.Join(o.name[1:], whiteout.OpaqueName)
		case o.target != "":
			h.Typeflag, h.Linkname = tar.TypeSymlink, o.target
		}
		if o.mode != 0 {
			h.Mode = o.mode
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(o.data)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// modelOf makes a model of layers, top first, each with its command.
func modelOf(t testing.TB, by []string, blobs ...[]byte) *inspect.Model {
	t.Helper()
	var sources []inspect.Source
	for i, blob := range blobs {
		l, err := tarlayer.OpenReaderAt(context.Background(), bytes.NewReader(blob), int64(len(blob)), fmt.Sprint("layer", i), tarlayer.Options{NoCache: true})
		if err != nil {
			t.Fatal(err)
		}
		sources = append(sources, inspect.Source{Layer: l, Info: inspect.Layer{
			Name: fmt.Sprint("layer", i), CreatedBy: by[i], BlobBytes: int64(len(blob)) / 3, Digest: "sha256:0123456789abcdef",
		}})
	}
	m, err := inspect.OpenSources(context.Background(), sources)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

// webModel is the image of the golden screens.
func webModel(t testing.TB) *inspect.Model {
	config := "listen 80\nroot /srv\nworkers 2\n"
	top := layerOf(t,
		object{name: "etc/app.conf", data: strings.Replace(config, "80", "8080", 1), mode: 0o600},
		object{name: "-var/cache/index"},
		object{name: "srv/"}, object{name: "!srv"},
		object{name: "srv/index.html", data: "<p>new</p>\n"},
	)
	middle := layerOf(t,
		object{name: "etc/app.conf", data: config},
		object{name: "usr/bin/app", data: "\x7fELF\x00" + strings.Repeat("x", 250_000), mode: 0o755},
		object{name: "var/cache/index", data: strings.Repeat("i", 40_000)},
		object{name: "srv/index.html", data: "<p>old</p>\n"},
		object{name: "srv/big.bin", data: strings.Repeat("b", 120_000)},
		object{name: "etc/evil\x1b[31mname", data: "\x1b]0;title\x07"},
		object{name: "usr/share/日本語.txt", data: "こんにちは\n\ttab\n"},
	)
	base := layerOf(t,
		object{name: "bin", target: "usr/bin"},
		object{name: "etc/"}, object{name: "etc/passwd", data: "root:x:0:0:root:/root:/bin/sh\n"},
		object{name: "etc/app.conf", data: "listen 80\n"},
		object{name: "usr/bin/"}, object{name: "usr/bin/sh", data: strings.Repeat("s", 90_000), mode: 0o4755},
		object{name: "usr/bin/dash", target: "sh"},
	)
	return modelOf(t, []string{"/bin/sh -c #(nop) COPY site /srv", "RUN make install # buildkit", "ADD rootfs.tar /"}, top, middle, base)
}

// session is an explorer that is used without a terminal.
type session struct {
	t testing.TB
	*Explorer
}

func newSession(t testing.TB, m *inspect.Model, width, height int) *session {
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	s := &session{t, New(ctx, m, "oci:/images:web")}
	s.Resize(width, height)
	s.settle()
	s.work()
	return s
}

// work runs all tasks and those that come of them.
func (s *session) work() {
	for tasks := s.takeTasks(); len(tasks) > 0; tasks = s.takeTasks() {
		for _, t := range tasks {
			s.Done(t())
		}
	}
}

// keys presses keys, which spaces part; what begins with "'" is typed.
func (s *session) keys(names string) *session {
	for _, k := range strings.Fields(names) {
		if typed, ok := strings.CutPrefix(k, "'"); ok {
			for _, r := range typed {
				s.Key(string(r), string(r))
				s.work()
			}
			continue
		}
		text := ""
		if len(k) == 1 {
			text = k
		}
		s.Key(k, text)
		s.work()
	}
	return s
}

// must checks that the screen shows something.
func (s *session) must(wants ...string) {
	s.t.Helper()
	screen := strings.Join(s.Plain(), "\n")
	for _, w := range wants {
		if !strings.Contains(screen, w) {
			s.t.Errorf("the screen has no %q:\n%s", w, screen)
		}
	}
}
