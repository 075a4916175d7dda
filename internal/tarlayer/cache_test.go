package tarlayer

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"

	"github.com/unionfs-go/unionfs/internal/stack"
)

// countingReader counts the bytes that are read.
type countingReader struct {
	*bytes.Reader
	mu sync.Mutex
	n  int64
}

func (r *countingReader) ReadAt(p []byte, off int64) (int, error) {
	n, err := r.Reader.ReadAt(p, off)
	r.mu.Lock()
	r.n += int64(n)
	r.mu.Unlock()
	return n, err
}

// TestSecondOpenReadsNothing: with the digest known, a cached layer is opened,
// and its tree read, without a byte of the blob.
func TestSecondOpenReadsNothing(t *testing.T) {
	for name, blob := range allForms(t, mixedTar(t, 2)) {
		t.Run(name, func(t *testing.T) {
			opt := testOptions(t)
			opt.Digest = digest.FromBytes(blob)
			first, err := openBytes(t, blob, opt)
			if err != nil {
				t.Fatal(err)
			}
			r := &countingReader{Reader: bytes.NewReader(blob)}
			l, err := OpenReaderAt(context.Background(), r, int64(len(blob)), "again", opt)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			walkLayer(t, l, func(string, stack.Object) {})
			if r.n != 0 || !l.Stats().Cached || first.Stats().Cached {
				t.Errorf("%d bytes were read; cached %v, then %v", r.n, first.Stats().Cached, l.Stats().Cached)
			}
			sameText(t, fullTree(t, l), fullTree(t, first))
			if r.n == 0 {
				t.Error("files were read from nowhere")
			}
		})
	}
}

// TestFileIsRemembered: a file is known again by its identity, and is new after
// any change.
func TestFileIsRemembered(t *testing.T) {
	a, b := tarBytes(t, file1("a", "x")), tarBytes(t, file1("b", "y"))
	path := writeTemp(t, a)
	opt := testOptions(t)
	for i, want := range []struct {
		write  []byte
		tree   string
		cached bool
	}{{nil, "file a x\n", false}, {nil, "file a x\n", true}, {b, "file b y\n", false}, {a, "file a x\n", false}, {nil, "file a x\n", true}} {
		if want.write != nil {
			if err := os.WriteFile(path, want.write, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		l, err := Open(context.Background(), path, opt)
		if err != nil {
			t.Fatal(err)
		}
		sameText(t, shortTree(t, l), want.tree)
		if l.Stats().Cached != want.cached {
			t.Errorf("step %d: cached is %v", i, l.Stats().Cached)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestDamagedCacheIsRebuilt flips and cuts each file of the cache.
func TestDamagedCacheIsRebuilt(t *testing.T) {
	plain := mixedTar(t, 2)
	spooled := oneBlockGzip(t, tarBytes(t, file1("zeros", strings.Repeat("z", 17<<20))))
	forms := allForms(t, plain)
	forms["re-framed"] = spooled
	for name, blob := range forms {
		t.Run(name, func(t *testing.T) {
			opt := testOptions(t)
			opt.Digest = digest.FromBytes(blob)
			l, err := openBytes(t, blob, opt)
			if err != nil {
				t.Fatal(err)
			}
			want := fullTree(t, l)
			idx := cache(opt.CacheDir).idxPath(opt.Digest)
			whole, err := os.ReadFile(idx)
			if err != nil {
				t.Fatal(err)
			}
			body := len(whole) - int(l.cached.index.windows)
			for at := 0; at < body; at += body/25 + 1 {
				flipped := bytes.Clone(whole)
				flipped[at] ^= 1
				for _, bad := range [][]byte{flipped, whole[:at], append(bytes.Clone(whole), 0)} {
					if err := os.WriteFile(idx, bad, 0o600); err != nil {
						t.Fatal(err)
					}
					l, err := openBytes(t, blob, opt)
					if err != nil {
						t.Fatalf("changed at %d: %v", at, err)
					}
					if l.Stats().Cached {
						t.Errorf("an index changed at %d is taken", at)
					}
				}
			}
			l, err = openBytes(t, blob, opt)
			if err != nil || !l.Stats().Cached {
				t.Fatalf("the new index is not taken: %v", err)
			}
			sameText(t, fullTree(t, l), want)
		})
	}
}

// TestDamagedSpoolAndWindows: what is read later from the cache gives EIO when
// it is damaged, and is made anew the next time.
func TestDamagedSpoolAndWindows(t *testing.T) {
	for name, blob := range map[string][]byte{
		"windows": gzipped(t, 6, mixedTar(t, 3)),
		"spool":   zstdFrames(t, zstd.SpeedFastest, mixedTar(t, 20))[0],
	} {
		t.Run(name, func(t *testing.T) {
			opt := testOptions(t)
			opt.Digest = digest.FromBytes(blob)
			l, err := openBytes(t, blob, opt)
			if err != nil {
				t.Fatal(err)
			}
			want := contents(t, l)
			c := cache(opt.CacheDir)
			path, at := c.idxPath(opt.Digest), -l.cached.index.windows/2
			if l.Stats().Spooled {
				path, at = c.spoolPath(l.cached.index), -l.cached.spoolSize/2
			}
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for i := range 64 {
				b[len(b)+int(at)+i] ^= 0xff
			}
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			if l, err = openBytes(t, blob, opt); err != nil {
				t.Fatal(err)
			}
			if bad := readEverything(t, l, want); bad == 0 || !l.Stats().Cached {
				t.Errorf("%d files give EIO", bad)
			}
			if l, err = openBytes(t, blob, opt); err != nil {
				t.Fatal(err)
			}
			if bad := readEverything(t, l, want); bad != 0 || l.Stats().Cached {
				t.Errorf("%d files give EIO with a new index", bad)
			}
		})
	}
}

// TestManyOpenersAtOnce: openers and writers of the same blob do not disturb
// each other, and leave no temporary files.
func TestManyOpenersAtOnce(t *testing.T) {
	for name, blob := range map[string][]byte{
		"gzip":  gzipped(t, 1, mixedTar(t, 2)),
		"spool": zstdFrames(t, zstd.SpeedFastest, mixedTar(t, 20))[0],
	} {
		t.Run(name, func(t *testing.T) {
			path := writeTemp(t, blob)
			opt := testOptions(t)
			want := contents(t, mustOpen(t, blob))
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() {
					l, err := Open(context.Background(), path, opt)
					if err != nil {
						t.Error(err)
						return
					}
					defer l.Close()
					if bad := readEverything(t, l, want); bad != 0 {
						t.Errorf("%d files give EIO", bad)
					}
				})
			}
			wg.Wait()
			err := filepath.WalkDir(opt.CacheDir, func(path string, d os.DirEntry, err error) error {
				if strings.HasPrefix(d.Name(), cacheTemp) {
					t.Errorf("left behind: %s", path)
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
}

func TestPrune(t *testing.T) {
	opt := testOptions(t)
	if n, err := Prune(opt.CacheDir, 0); n != 0 || err != nil {
		t.Errorf("no cache: %d, %v", n, err)
	}
	blobs := [][]byte{gzipped(t, 1, mixedTar(t, 2)), zstdFrames(t, zstd.SpeedFastest, mixedTar(t, 20))[0], tarBytes(t, file1("a", "x"))}
	var layers []*Layer
	for i, b := range blobs {
		opt.Digest = digest.FromBytes(b)
		l, err := openBytes(t, b, opt)
		if err != nil {
			t.Fatal(err)
		}
		layers = append(layers, l)
		used := time.Unix(int64(1000*(i+1)), 0)
		for _, p := range []string{cache(opt.CacheDir).idxPath(opt.Digest), cache(opt.CacheDir).spoolPath(l.cached.index)} {
			if err := os.Chtimes(p, used, used); err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
		}
	}
	temp := cache(opt.CacheDir).path("sha256", cacheTemp+"old")
	if err := os.WriteFile(temp, []byte("left"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(temp, time.Unix(1, 0), time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	before, err := Usage(opt.CacheDir)
	if err != nil {
		t.Fatal(err)
	}
	freed, err := Prune(opt.CacheDir, before-1)
	if err != nil {
		t.Fatal(err)
	}
	after, err := Usage(opt.CacheDir)
	if err != nil || after >= before || before-after != freed-int64(len("left")) {
		t.Errorf("%d bytes, then %d, %d freed: %v", before, after, freed, err)
	}
	for i, b := range blobs {
		_, err := os.Stat(cache(opt.CacheDir).idxPath(digest.FromBytes(b)))
		if (err != nil) != (i == 0) {
			t.Errorf("index %d: %v", i, err)
		}
	}
	if _, err := Prune(opt.CacheDir, 0); err != nil {
		t.Fatal(err)
	}
	if n, err := Usage(opt.CacheDir); n != 0 || err != nil {
		t.Errorf("%d bytes left: %v", n, err)
	}
	for _, l := range layers {
		if bad := readEverything(t, l, contents(t, l)); bad != 0 {
			t.Errorf("%d files of an open layer give EIO after its cache is gone", bad)
		}
	}
}

// TestCacheThatCannotBeWritten: the layer opens all the same.
func TestCacheThatCannotBeWritten(t *testing.T) {
	opt := testOptions(t)
	opt.CacheDir = filepath.Join(writeTemp(t, nil), "below a file")
	for name, blob := range map[string][]byte{"gzip": gzipped(t, 1, mixedTar(t, 2)), "spool": zstdFrames(t, zstd.SpeedFastest, mixedTar(t, 20))[0]} {
		l, err := openBytes(t, blob, opt)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if bad := readEverything(t, l, contents(t, mustOpen(t, blob))); bad != 0 {
			t.Errorf("%s: %d files give EIO", name, bad)
		}
	}
}

func TestCacheLimitIsKept(t *testing.T) {
	opt := testOptions(t)
	opt.CacheLimit = 1
	blob := gzipped(t, 1, mixedTar(t, 2))
	l, err := openBytes(t, blob, opt)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := Usage(opt.CacheDir); n > 1 || err != nil {
		t.Errorf("the cache has %d bytes: %v", n, err)
	}
	if bad := readEverything(t, l, contents(t, mustOpen(t, blob))); bad != 0 {
		t.Errorf("%d files give EIO", bad)
	}
}
