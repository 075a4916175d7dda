package pack

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"math/rand/v2"
	"os/exec"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// sample is compressible data of n bytes, always the same.
func sample(n int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	block := make([]byte, 64<<10)
	for i := range block {
		block[i] = byte(r.IntN(7)) + 'a'
	}
	b := make([]byte, 0, n+len(block))
	for len(b) < n {
		b = append(b, block[:r.IntN(len(block))]...)
	}
	return b[:n]
}

func TestCompressedStreamsAreValid(t *testing.T) {
	for _, size := range []int{0, 1, gzipBlock - 1, gzipBlock, gzipBlock + 1, zstdBlock + 5} {
		in := sample(size)
		for _, c := range []Compression{None, Gzip, Zstd} {
			var buf bytes.Buffer
			w, err := NewCompressor(&buf, c, 1)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(w, bytes.NewReader(in)); err != nil {
				t.Fatal(err)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			out := buf.Bytes()
			switch c {
			case Gzip:
				zr, err := gzip.NewReader(bytes.NewReader(out))
				if err != nil {
					t.Fatal(err)
				}
				zr.Multistream(false)
				if out, err = io.ReadAll(zr); err != nil {
					t.Fatalf("gzip of %d bytes: %v", size, err)
				}
			case Zstd:
				dec, err := zstd.NewReader(nil)
				if err != nil {
					t.Fatal(err)
				}
				if out, err = dec.DecodeAll(out, nil); err != nil {
					t.Fatalf("zstd of %d bytes: %v", size, err)
				}
				dec.Close()
			case None:
			}
			if !bytes.Equal(in, out) {
				t.Errorf("%s: %d bytes became %d others", c, size, len(out))
			}
		}
	}
}

func TestPeersReadTheStreams(t *testing.T) {
	in := sample(3 << 20)
	for c, tool := range map[Compression]string{Gzip: "gzip", Zstd: "zstd"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Logf("without %s", tool)
			continue
		}
		var buf bytes.Buffer
		w, err := NewCompressor(&buf, c, 0)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = w.Write(in)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(tool, "-dc")
		cmd.Stdin = &buf
		if out, err := cmd.Output(); err != nil || !bytes.Equal(out, in) {
			t.Errorf("%s: %d bytes, %v", tool, len(out), err)
		}
	}
}

var errFull = errors.New("full")

// fullWriter fails after n bytes.
type fullWriter struct{ n int }

func (f *fullWriter) Write(p []byte) (int, error) {
	if f.n -= len(p); f.n < 0 {
		return 0, errFull
	}
	return len(p), nil
}

func TestAFailedWriteEndsTheCompressor(t *testing.T) {
	for _, c := range []Compression{None, Gzip, Zstd} {
		w, err := NewCompressor(&fullWriter{100}, c, 0)
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.Copy(w, bytes.NewReader(sample(8*zstdBlock)))
		if cerr := w.Close(); !errors.Is(err, errFull) && !errors.Is(cerr, errFull) {
			t.Errorf("%s: errors %v and %v", c, err, cerr)
		}
	}
	for _, bad := range []struct {
		c     Compression
		level int
	}{{Gzip, 10}, {Gzip, -1}, {Zstd, 23}, {"lz4", 0}} {
		if _, err := NewCompressor(io.Discard, bad.c, bad.level); err == nil {
			t.Errorf("%s level %d was accepted", bad.c, bad.level)
		}
	}
}
