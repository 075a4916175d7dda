package tarlayer

import (
	"bytes"
	"encoding/binary"
	"io"
	"math/rand"
	"testing"

	kflate "github.com/klauspost/compress/flate"
	kgzip "github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
)

// checkRandomAccess opens a blob and compares its stream, read from many
// places in any order, with the tar that it was made of.
func checkRandomAccess(t *testing.T, blob, plain []byte, minSpans int) *Layer {
	t.Helper()
	l := mustOpen(t, blob)
	if l.Digest() != digest.FromBytes(blob) || l.DiffID() != digest.FromBytes(plain) {
		t.Fatalf("digest %s, DiffID %s", l.Digest(), l.DiffID())
	}
	st := l.Stats()
	if st.TarBytes != int64(len(plain)) || st.Spans < minSpans {
		t.Fatalf("%d bytes in %d spans", st.TarBytes, st.Spans)
	}
	whole := make([]byte, len(plain))
	if err := l.readStream(whole, 0); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(whole, plain) {
		t.Fatal("the whole stream differs")
	}
	rng := rand.New(rand.NewSource(2))
	for range 200 {
		n := 1 + rng.Intn(9000)
		off := rng.Intn(max(1, len(plain)-n))
		got := make([]byte, min(n, len(plain)-off))
		if err := l.readStream(got, int64(off)); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, plain[off:off+len(got)]) {
			t.Fatalf("%d bytes at %d differ", len(got), off)
		}
	}
	return l
}

// klauspostGzip compresses parts to members of their own.
func klauspostGzip(t testing.TB, level int, parts ...[]byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	for _, p := range parts {
		w, err := kgzip.NewWriterLevel(&buf, level)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(p); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return buf.Bytes()
}

// flushedGzip is what pgzip and pigz make: one member whose blocks of size
// bytes end on byte boundaries.
func flushedGzip(t testing.TB, plain []byte, size int) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := kgzip.NewWriter(&buf)
	for p := range cut(plain, size) {
		if _, err := w.Write(p); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func cut(b []byte, size int) func(func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for len(b) > 0 {
			n := min(size, len(b))
			if !yield(b[:n]) {
				return
			}
			b = b[n:]
		}
	}
}

func parts(b []byte, size int) (out [][]byte) {
	for p := range cut(b, size) {
		out = append(out, p)
	}
	return out
}

func TestGzipRandomAccess(t *testing.T) {
	plain := mixedTar(t, 5)
	spans := len(plain)/spanSize/2 + 1
	for name, blob := range map[string]func(t *testing.T) []byte{
		"GNU gzip -1":              func(t *testing.T) []byte { return pipeThrough(t, plain, "gzip", "-1") },
		"GNU gzip -6":              func(t *testing.T) []byte { return pipeThrough(t, plain, "gzip", "-6") },
		"GNU gzip -9":              func(t *testing.T) []byte { return pipeThrough(t, plain, "gzip", "-9") },
		"Go gzip":                  func(t *testing.T) []byte { return gzipped(t, 6, plain) },
		"Go gzip, Huffman only":    func(t *testing.T) []byte { return gzipped(t, -2, plain) },
		"klauspost gzip":           func(t *testing.T) []byte { return klauspostGzip(t, 5, plain) },
		"klauspost gzip, stored":   func(t *testing.T) []byte { return klauspostGzip(t, 0, plain) },
		"blocks flushed each MiB":  func(t *testing.T) []byte { return flushedGzip(t, plain, 1<<20) },
		"blocks flushed each 1000": func(t *testing.T) []byte { return flushedGzip(t, plain, 1000) },
		"members of 1 MiB":         func(t *testing.T) []byte { return gzipped(t, 6, parts(plain, 1<<20)...) },
		"members of 3 KB":          func(t *testing.T) []byte { return klauspostGzip(t, 1, parts(plain, 3000)...) },
		"empty members":            func(t *testing.T) []byte { return gzipped(t, 6, nil, plain[:2<<20], nil, nil, plain[2<<20:], nil) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := checkRandomAccess(t, blob(t), plain, spans)
			if st := l.Stats(); st.Format != Gzip || st.Spooled {
				t.Errorf("%+v", st)
			}
		})
	}
}

// TestEmptyBlocks checks the prefixes with a decoder that knows nothing of them.
func TestEmptyBlocks(t *testing.T) {
	for r := range uint(8) {
		w := bitWriter{b: bytes.Clone(bitPrefixes[r].b), n: bitPrefixes[r].n}
		if w.n%8 != r {
			t.Errorf("prefix %d has %d bits", r, w.n)
		}
		w.put(0b001, 3) // final, stored
		for w.n%8 != 0 {
			w.put(0, 1)
		}
		w.b = append(w.b, 2, 0, 0xfd, 0xff, 'o', 'k')
		got, err := io.ReadAll(kflate.NewReader(bytes.NewReader(w.b)))
		if err != nil || string(got) != "ok" {
			t.Errorf("prefix %d: %q, %v", r, got, err)
		}
	}
}

func TestTrailingGarbageAfterGzip(t *testing.T) {
	plain := mixedTar(t, 2)
	blob := gzipped(t, 6, plain)
	for _, tail := range []string{"\x00", string(make([]byte, 5000)), "garbage", "\x1f"} {
		checkRandomAccess(t, append(bytes.Clone(blob), tail...), plain, 2)
	}
}

// TestGzipBlockTooLong: a stream without restart points is re-framed.
func TestGzipBlockTooLong(t *testing.T) {
	body := make([]byte, 40<<20)
	rand.New(rand.NewSource(3)).Read(body[:1<<20])
	plain := tarBytes(t, file1("zeros", string(body)))
	l := checkRandomAccess(t, oneBlockGzip(t, plain), plain, 30)
	if st := l.Stats(); !st.Spooled {
		t.Errorf("%+v", st)
	}
}

// oneBlockGzip makes a single block with the fixed codes: runs of a byte are
// matches, everything else literals.
func oneBlockGzip(t testing.TB, plain []byte) []byte {
	t.Helper()
	w := bitWriter{b: []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255}, n: 80}
	code := func(v uint32, n uint) { // Huffman codes go most significant bit first
		for i := range n {
			w.put(v>>(n-1-i)&1, 1)
		}
	}
	w.put(0b011, 3) // final, fixed codes
	for i := 0; i < len(plain); {
		run := 0
		for i > 0 && run < 258 && i+run < len(plain) && plain[i+run] == plain[i-1] {
			run++
		}
		if run == 258 {
			code(0b11000101, 8) // length 258
			code(0, 5)          // distance 1
			i += run
			continue
		}
		if c := uint32(plain[i]); c < 144 {
			code(0x30+c, 8)
		} else {
			code(0x190+c-144, 9)
		}
		i++
	}
	code(0, 7)
	z := gzipped(t, 1, plain)
	return append(w.b, z[len(z)-8:]...)
}

func zstdFrames(t testing.TB, level zstd.EncoderLevel, parts ...[]byte) (frames [][]byte) {
	t.Helper()
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(level), zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	defer enc.Close()
	for _, p := range parts {
		frames = append(frames, enc.EncodeAll(p, nil))
	}
	return frames
}

func skippable(n int) []byte {
	b := binary.LittleEndian.AppendUint32(nil, skippableMagic+3)
	b = binary.LittleEndian.AppendUint32(b, uint32(n))
	return append(b, make([]byte, n)...)
}

func TestZstdRandomAccess(t *testing.T) {
	plain := mixedTar(t, 5)
	join := func(frames [][]byte, between []byte) []byte {
		return append(bytes.Clone(between), bytes.Join(append(frames, nil), between)...)
	}
	for name, c := range map[string]struct {
		blob  func(t *testing.T) []byte
		spans int
	}{
		"zstd -1":               {func(t *testing.T) []byte { return pipeThrough(t, plain, "zstd", "-1", "-c") }, 1},
		"zstd -9 without sum":   {func(t *testing.T) []byte { return pipeThrough(t, plain, "zstd", "-9", "--no-check", "-c") }, 1},
		"frames of 1 MiB":       {func(t *testing.T) []byte { return join(zstdFrames(t, 1, parts(plain, 1<<20)...), nil) }, 5},
		"frames of 10 KB":       {func(t *testing.T) []byte { return join(zstdFrames(t, 3, parts(plain, 10000)...), nil) }, 5},
		"skippable frames":      {func(t *testing.T) []byte { return join(zstdFrames(t, 2, parts(plain, 300000)...), skippable(11)) }, 5},
		"long skippable frames": {func(t *testing.T) []byte { return join(zstdFrames(t, 2, parts(plain, 2<<20)...), skippable(1<<18)) }, 3},
		"empty frames": {func(t *testing.T) []byte {
			return join(zstdFrames(t, 2, plain[:1<<20], nil, nil, plain[1<<20:3<<20], nil, plain[3<<20:]), nil)
		}, 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := checkRandomAccess(t, c.blob(t), plain, c.spans)
			if st := l.Stats(); st.Format != Zstd || st.Spooled {
				t.Errorf("%+v", st)
			}
		})
	}
}

// TestZstdOneFrame: a frame that is too long to be read at once is re-framed,
// with a cache and without one.
func TestZstdOneFrame(t *testing.T) {
	plain := mixedTar(t, 24)
	blob := zstdFrames(t, zstd.SpeedFastest, plain)[0]
	if st := checkRandomAccess(t, blob, plain, 10).Stats(); !st.Spooled || st.SpoolBytes == 0 {
		t.Errorf("%+v", st)
	}
	opt := testOptions(t)
	opt.NoCache = true
	l, err := openBytes(t, blob, opt)
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 1<<20)
	if err := l.readStream(got, 9<<20); err != nil || !bytes.Equal(got, plain[9<<20:10<<20]) {
		t.Errorf("read without a cache: %v", err)
	}
}

func TestPlainRandomAccess(t *testing.T) {
	plain := mixedTar(t, 3)
	checkRandomAccess(t, plain, plain, 20)
	long := append(bytes.Clone(plain), "garbage behind the end"...)
	checkRandomAccess(t, long, long, 20)
}

// TestEmptyBlobs: blobs whose stream is empty or a tar of nothing.
func TestEmptyBlobs(t *testing.T) {
	none := make([]byte, 1024)
	for name, blob := range map[string][]byte{
		"no byte": {}, "tar of nothing": none, "gzip of no byte": gzipped(t, 6, nil), "gzip of nothing": gzipped(t, 6, none),
		"zstd of no byte": zstdFrames(t, 1, nil)[0], "zstd of nothing": zstdFrames(t, 1, none)[0],
	} {
		t.Run(name, func(t *testing.T) { sameText(t, shortTree(t, mustOpen(t, blob)), "") })
	}
}

func klauspostReader(t testing.TB, blob []byte) io.Reader {
	t.Helper()
	r, err := kgzip.NewReader(bytes.NewReader(blob))
	if err != nil {
		t.Fatal(err)
	}
	return r
}
