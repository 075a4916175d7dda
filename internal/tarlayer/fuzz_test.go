package tarlayer

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"

	kgzip "github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/stack"
)

// fuzzLimits keep one run of a fuzz target short.
var fuzzLimits = Limits{Entries: 4096, StreamBytes: 8 << 20, SpoolBytes: 8 << 20, NameBytes: 1 << 20, XattrBytes: 1 << 20, Fragments: 1 << 12, WindowBytes: 1 << 20}

func fuzzOpen(t *testing.T, b []byte) *Layer {
	t.Helper()
	opt := Options{NoCache: true, Limits: fuzzLimits, Spans: NewSpanCache(1 << 20)}
	l, err := OpenReaderAt(context.Background(), bytes.NewReader(b), int64(len(b)), "fuzz", opt)
	if err != nil {
		if !ours(err) {
			t.Fatalf("undocumented error: %v", err)
		}
		return nil
	}
	return l
}

// fuzzWalk reads all of a layer; names must be ones that a filesystem can have.
func fuzzWalk(t *testing.T, l *Layer) {
	t.Helper()
	names := 0
	walkLayer(t, l, func(path string, o stack.Object) {
		if names++; names > 2*int(fuzzLimits.Entries) {
			t.Fatal("more names than entries")
		}
		if o == nil {
			return
		}
		a := o.Attr()
		if a.Ino == 0 || a.Nlink == 0 || a.Size < 0 {
			t.Fatalf("%q: %+v", path, a)
		}
		switch a.Type() {
		case unix.S_IFREG:
			f, err := o.Open()
			if err != nil {
				t.Fatal(err)
			}
			var b [100]byte
			for _, off := range []int64{0, a.Size / 2, max(0, a.Size-50)} {
				if _, err := f.ReadAt(b[:], off); err != nil && !errors.Is(err, io.EOF) {
					t.Fatalf("%q at %d: %v", path, off, err)
				}
			}
		case unix.S_IFLNK:
			if to, err := o.Readlink(); err != nil || to == "" {
				t.Fatalf("%q -> %q: %v", path, to, err)
			}
		}
		if _, err := o.Xattrs(); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzTar(f *testing.F) {
	for _, c := range treeCases {
		f.Add(tarBytes(f, c.ents...))
	}
	f.Add(append(sparseHeader("20", "0,5,10,5", "0123456789"), make([]byte, 1024)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		if l := fuzzOpen(t, b); l != nil {
			defer l.Close()
			fuzzWalk(t, l)
		}
	})
}

// FuzzGzip compares the inflate of the pass with klauspost's, on whatever comes,
// and reads each span alone.
func FuzzGzip(f *testing.F) {
	plain := tarBytes(f, file1("a", "hello hello hello"), dir1("b"))
	for level := -2; level <= 9; level++ {
		f.Add(gzipped(f, level, plain))
	}
	f.Add(gzipped(f, 6, nil, plain[:700], plain[700:], nil))
	f.Add(oneBlockGzip(f, plain))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < 3 || b[0] != 0x1f || b[1] != 0x8b || b[2] != 8 {
			return
		}
		got, end, err := inflateAll(b)
		var want []byte
		zr, zerr := kgzip.NewReader(bytes.NewReader(b))
		if zerr == nil {
			want, zerr = io.ReadAll(io.LimitReader(zr, fuzzLimits.StreamBytes))
		}
		if err == nil && end == len(b) && (zerr != nil || !bytes.Equal(got, want)) {
			t.Fatalf("%d bytes are taken, klauspost gives %d bytes and %v", len(got), len(want), zerr)
		}
		if zerr == nil && err != nil && !errors.Is(err, ErrLimit) {
			t.Fatalf("klauspost gives %d bytes, here %v", len(want), err)
		}
		if l := fuzzOpen(t, b); l != nil {
			defer l.Close()
			back := make([]byte, l.Stats().TarBytes)
			if err := l.readStream(back, 0); err != nil || !bytes.Equal(back, got) {
				t.Fatalf("spans differ from the stream: %v", err)
			}
		}
	})
}

// inflateAll decodes a gzip blob as the pass does; end is how much of it was
// gzip.
func inflateAll(b []byte) (out []byte, end int, err error) {
	limits := fuzzLimits
	p := &pass{
		ctx: context.Background(), blob: &blob{r: bytes.NewReader(b), size: int64(len(b))}, limits: &limits,
		progress: func(int64, int64) {}, log: func(string, ...any) {}, hash: algorithm("").Hash(), out: newStream(nil),
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for c := range p.out.ch {
			out = append(out, c...)
		}
	}()
	err = produceGzip(p)
	p.out.finish(err)
	<-done
	return out, int(p.dataEnd+7) / 8, err
}

func FuzzZstdFrames(f *testing.F) {
	plain := tarBytes(f, file1("a", "hello hello hello"), dir1("b"))
	for _, frames := range [][][]byte{zstdFrames(f, 1, plain), zstdFrames(f, 3, plain[:700], nil, plain[700:])} {
		f.Add(bytes.Join(frames, nil))
		f.Add(bytes.Join(frames, skippable(5)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		groups, err := walkFrames(bytes.NewReader(b), int64(len(b)), func() error { return nil })
		if err == nil {
			at := int64(0)
			for _, g := range groups {
				if g.off < at || g.end <= g.off || g.end > int64(len(b)) || g.bound > maxSpan {
					t.Fatalf("groups %+v of %d bytes", groups, len(b))
				}
				at = g.end
			}
		}
		l := fuzzOpen(t, b)
		if l == nil || l.Stats().Format != Zstd {
			return
		}
		defer l.Close()
		dec, err := zstd.NewReader(bytes.NewReader(b), zstd.WithDecoderConcurrency(1))
		if err != nil {
			t.Fatal(err)
		}
		defer dec.Close()
		want, err := io.ReadAll(dec)
		got := make([]byte, l.Stats().TarBytes)
		if rerr := l.readStream(got, 0); rerr != nil || err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%d bytes, %v; klauspost gives %d and %v", len(got), rerr, len(want), err)
		}
	})
}

// FuzzIndexFile: whatever stands in the cache, reading it ends in an error or
// an index that can be walked.
func FuzzIndexFile(f *testing.F) {
	b := tarBytes(f, file1("a/b", "x"), sym1("c", "d"), file1(".wh.e", ""))
	l, err := OpenReaderAt(context.Background(), bytes.NewReader(b), int64(len(b)), "seed", Options{NoCache: true})
	if err != nil {
		f.Fatal(err)
	}
	var file bytes.Buffer
	if err := l.cached.write(&file, nil); err != nil {
		f.Fatal(err)
	}
	f.Add(file.Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		if x, _, err := readIndex(bytes.NewReader(b), int64(len(b))); err == nil {
			if _, err := x.inodes.at(1); err != nil {
				t.Fatal(err)
			}
		}
	})
}
