package tarlayer

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand"
	"os"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
)

// benchForms are blobs of one tar; UNIONFS_BENCH_TAR names one to take instead
// of the made up one.
func benchForms(b *testing.B) (plain []byte, forms []struct {
	name string
	blob []byte
},
) {
	b.Helper()
	plain = mixedTar(b, 48)
	if path := os.Getenv("UNIONFS_BENCH_TAR"); path != "" {
		var err error
		if plain, err = os.ReadFile(path); err != nil {
			b.Fatal(err)
		}
	}
	add := func(name string, blob []byte) {
		forms = append(forms, struct {
			name string
			blob []byte
		}{name, blob})
	}
	add("plain", plain)
	add("gzip", klauspostGzip(b, 6, plain))
	add("zstd-frames", bytes.Join(zstdFrames(b, zstd.SpeedDefault, parts(plain, 1<<20)...), nil))
	add("zstd-one-frame", zstdFrames(b, zstd.SpeedDefault, plain)[0])
	return plain, forms
}

func benchOpen(b *testing.B, blob []byte, opt Options) *Layer {
	b.Helper()
	l, err := OpenReaderAt(context.Background(), bytes.NewReader(blob), int64(len(blob)), "bench", opt)
	if err != nil {
		b.Fatal(err)
	}
	return l
}

// BenchmarkIndex is the first open: one pass over the blob.
func BenchmarkIndex(b *testing.B) {
	plain, forms := benchForms(b)
	for _, f := range forms {
		b.Run(f.name, func(b *testing.B) {
			b.SetBytes(int64(len(plain)))
			for b.Loop() {
				_ = benchOpen(b, f.blob, Options{NoCache: true}).Close()
			}
		})
	}
}

// BenchmarkInflate compares the decoders that the pass can use.
func BenchmarkInflate(b *testing.B) {
	plain, forms := benchForms(b)
	blob := forms[1].blob
	b.Run("pass", func(b *testing.B) {
		b.SetBytes(int64(len(plain)))
		for b.Loop() {
			d := newInflater(bytes.NewReader(blob[10:]))
			d.emit, d.block = func([]byte) error { return nil }, func() error { return nil }
			if err := d.inflate(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("klauspost", func(b *testing.B) {
		b.SetBytes(int64(len(plain)))
		for b.Loop() {
			if n, err := io.Copy(io.Discard, klauspostReader(b, blob)); err != nil || n != int64(len(plain)) {
				b.Fatal(n, err)
			}
		}
	})
}

// BenchmarkOpenCached is the second open of a layer with as many entries.
func BenchmarkOpenCached(b *testing.B) {
	for _, n := range []int{1e4, 1e5, 1e6} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			blob := manyFiles(b, n)
			opt := Options{CacheDir: b.TempDir(), Digest: digest.FromBytes(blob)}
			l := benchOpen(b, blob, opt)
			st := l.Stats()
			_ = l.Close()
			for b.Loop() {
				_ = benchOpen(b, blob, opt).Close()
			}
			b.ReportMetric(float64(st.IndexBytes)/float64(n), "B/entry")
		})
	}
}

func manyFiles(b *testing.B, n int) []byte {
	b.Helper()
	ents := make([]ent, n)
	for i := range ents {
		ents[i] = file1(fmt.Sprintf("usr/share/d%d/file-%07d", i/100, i), "")
	}
	return tarBytes(b, ents...)
}

// BenchmarkRandomRead4K reads 4 KiB from anywhere; nearly all spans are cold.
func BenchmarkRandomRead4K(b *testing.B) {
	plain, forms := benchForms(b)
	for _, f := range forms {
		b.Run(f.name, func(b *testing.B) {
			l := benchOpen(b, f.blob, Options{CacheDir: b.TempDir(), Spans: NewSpanCache(4 << 20)})
			defer l.Close()
			rng := rand.New(rand.NewSource(1))
			buf := make([]byte, 4096)
			for b.Loop() {
				if err := l.readStream(buf, rng.Int63n(int64(len(plain)-len(buf)))); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkSequentialRead reads the stream in pieces of 128 KiB, as FUSE does.
func BenchmarkSequentialRead(b *testing.B) {
	plain, forms := benchForms(b)
	for _, f := range forms {
		b.Run(f.name, func(b *testing.B) {
			l := benchOpen(b, f.blob, Options{CacheDir: b.TempDir(), Spans: NewSpanCache(8 << 20)})
			defer l.Close()
			b.SetBytes(int64(len(plain)))
			buf := make([]byte, 128<<10)
			for b.Loop() {
				for off := 0; off < len(plain); off += len(buf) {
					if err := l.readStream(buf[:min(len(buf), len(plain)-off)], int64(off)); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}
