package image

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/unionfs-go/unionfs/internal/pack"
	"github.com/unionfs-go/unionfs/internal/stack"
	"github.com/unionfs-go/unionfs/internal/sys"
)

// FuzzTarRoundTrip unpacks a layer, packs the directory that came out, and
// unpacks and packs again: the second tar must be the first. What is packed
// follows the rules of layers whatever was unpacked.
func FuzzTarRoundTrip(f *testing.F) {
	for _, c := range hardCases {
		f.Add(buildTar(f, c.tar))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		root, out, err := extractTo(t, data)
		if err != nil {
			return
		}
		first := packAll(t, root)
		again, _, err := extractTo(t, first)
		if err != nil {
			t.Fatalf("what was packed cannot be unpacked: %v", err)
		}
		if second := packAll(t, again); !bytes.Equal(first, second) && len(out.Notices) == 0 {
			t.Errorf("packed %d bytes, then %d", len(first), len(second))
		}
		for _, dir := range []string{root, again} {
			if err := sys.RemoveTree(dir); err != nil {
				t.Error(err)
			}
		}
	})
}

// packAll packs a directory with unknown lowers and checks the order of names.
func packAll(t *testing.T, dir string) []byte {
	t.Helper()
	l, err := stack.OpenDir(dir, stack.DirOptions{Namespace: testNS()})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // only read
	var buf bytes.Buffer
	_, err = pack.Write(context.Background(), stack.New([]stack.Layer{l}), &buf, pack.Options{LowersUnknown: true, Namespace: testNS()})
	if err != nil {
		t.Fatalf("what was unpacked cannot be packed: %v", err)
	}
	seen := map[string]bool{".": true}
	tr := tar.NewReader(bytes.NewReader(buf.Bytes()))
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return buf.Bytes()
		}
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(h.Name, "/")
		if seen[name] || !seen[filepath.Dir(name)] {
			t.Errorf("%q comes twice or before its parent", name)
		}
		seen[name] = true
	}
}

func TestPackedHardCasesUnpackTheSame(t *testing.T) {
	needRoot(t)
	for _, c := range hardCases {
		if c.err != "" {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			root, _, err := extractTo(t, buildTar(t, c.tar))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(root); err != nil {
				t.Fatal(err)
			}
			again, out, err := extractTo(t, packAll(t, root))
			if err != nil {
				t.Fatal(err)
			}
			want, got := strings.TrimSuffix(c.want, " ROOT-OPAQUE"), describeTree(t, again)
			if got != want || out.Opaque {
				t.Errorf("tree %q, want %q", got, want)
			}
		})
	}
}
