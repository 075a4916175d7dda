package tarlayer

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/stack"
)

// allForms compresses a tar in each way that is read differently.
func allForms(t testing.TB, plain []byte) map[string][]byte {
	t.Helper()
	return map[string][]byte{
		"plain":       plain,
		"gzip":        gzipped(t, 6, plain),
		"zstd frames": bytes.Join(zstdFrames(t, zstd.SpeedFastest, parts(plain, 1<<20)...), nil),
	}
}

// readEverything reads all files of a layer and returns how many gave EIO;
// any other error, and any wrong byte, fails the test.
func readEverything(t *testing.T, l *Layer, want map[string]string) (bad int) {
	t.Helper()
	walkLayer(t, l, func(path string, o stack.Object) {
		if !isFile(o) {
			return
		}
		f, err := o.Open()
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(io.NewSectionReader(f, 0, o.Attr().Size))
		switch {
		case errors.Is(err, unix.EIO):
			bad++
		case err != nil:
			t.Errorf("%s: %v", path, err)
		case string(b) != want[path]:
			t.Errorf("%s: wrong bytes were read", path)
		}
	})
	return bad
}

func isFile(o stack.Object) bool { return o != nil && o.Attr().Mode&unix.S_IFMT == unix.S_IFREG }

func contents(t *testing.T, l *Layer) map[string]string {
	t.Helper()
	m := make(map[string]string)
	walkLayer(t, l, func(path string, o stack.Object) {
		if isFile(o) {
			m[path] = string(readAll(t, o))
		}
	})
	return m
}

// TestChangedBlobGivesEIO: with the times of the file set back, only the sums
// of the spans can tell.
func TestChangedBlobGivesEIO(t *testing.T) {
	for name, blob := range allForms(t, mixedTar(t, 3)) {
		t.Run(name, func(t *testing.T) {
			want := contents(t, mustOpen(t, blob))
			path := writeTemp(t, blob)
			lines := 0
			opt := testOptions(t)
			opt.Log = func(string, ...any) { lines++ }
			l, err := Open(context.Background(), path, opt)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			fi, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			for at := int64(5000); at < int64(len(blob)); at += int64(len(blob)) / 3 {
				if _, err := f.WriteAt([]byte{blob[at] ^ 0x55}, at); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Chtimes(path, fi.ModTime(), fi.ModTime()); err != nil {
				t.Fatal(err)
			}
			if bad := readEverything(t, l, want); bad == 0 || lines == 0 {
				t.Errorf("%d files give EIO, %d lines in the log", bad, lines)
			}
			if err := os.Truncate(path, int64(len(blob)/2)); err != nil {
				t.Fatal(err)
			}
			l.spans.drop(l.dev)
			if bad := readEverything(t, l, want); bad != len(want) {
				t.Errorf("%d of %d files give EIO after the file was cut", bad, len(want))
			}
		})
	}
}

// TestLinkedBlobStaysReadable: what a store does to a blob in use, which moves
// its change time, does no harm.
func TestLinkedBlobStaysReadable(t *testing.T) {
	blob := gzipped(t, 6, mixedTar(t, 2))
	path := writeTemp(t, blob)
	l, err := Open(context.Background(), path, testOptions(t))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := os.Link(path, path+"2"); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if bad := readEverything(t, l, contents(t, mustOpen(t, blob))); bad != 0 {
		t.Errorf("%d files give EIO", bad)
	}
}

func TestExpectedDigests(t *testing.T) {
	plain := mixedTar(t, 1)
	other := digest.FromString("other")
	for name, blob := range allForms(t, plain) {
		t.Run(name, func(t *testing.T) {
			opt := testOptions(t)
			opt.Digest, opt.DiffID = digest.FromBytes(blob), digest.FromBytes(plain)
			for range 2 {
				if _, err := openBytes(t, blob, opt); err != nil {
					t.Fatal(err)
				}
			}
			opt.DiffID = other
			if _, err := openBytes(t, blob, opt); !errors.Is(err, ErrMismatch) {
				t.Errorf("cached, other DiffID: %v", err)
			}
			opt.NoCache = true
			if _, err := openBytes(t, blob, opt); !errors.Is(err, ErrMismatch) {
				t.Errorf("other DiffID: %v", err)
			}
			opt.Digest, opt.DiffID = other, ""
			if _, err := openBytes(t, blob, opt); !errors.Is(err, ErrMismatch) {
				t.Errorf("other digest: %v", err)
			}
			opt.Digest, opt.DiffID = digest.SHA512.FromBytes(blob), digest.SHA512.FromBytes(plain)
			opt.NoCache = false
			for range 2 {
				if l, err := openBytes(t, blob, opt); err != nil || l.Digest() != opt.Digest || l.DiffID() != opt.DiffID {
					t.Errorf("sha512: %v", err)
				}
			}
			opt.Digest = "sha256:../../../etc/passwd"
			if _, err := openBytes(t, blob, opt); !errors.Is(err, ErrMismatch) {
				t.Errorf("bad digest: %v", err)
			}
		})
	}
}

// TestDamagedBlobIsRefused flips and cuts blobs before they are opened: the
// checksums in them, or the tar headers, or the DiffID must tell.
func TestDamagedBlobIsRefused(t *testing.T) {
	plain := mixedTar(t, 1)
	for name, blob := range allForms(t, plain) {
		for at := 3; at < len(blob); at += len(blob)/40 + 1 {
			bad := bytes.Clone(blob)
			bad[at] ^= 0x10
			opt := testOptions(t)
			opt.NoCache, opt.DiffID = true, digest.FromBytes(plain)
			opt.Log = nil
			if _, err := openBytes(t, bad, opt); err == nil && (name != "gzip" || at > 20) {
				t.Errorf("%s with a change at %d is taken", name, at)
			} else if !ours(err) && err != nil {
				t.Errorf("%s with a change at %d: %v", name, at, err)
			}
			if _, err := openBytes(t, blob[:at], opt); !ours(err) {
				t.Errorf("%s cut at %d: %v", name, at, err)
			}
		}
	}
}

// ours tells an error that is documented.
func ours(err error) bool {
	for _, e := range []error{ErrInvalid, ErrMismatch, ErrLimit, ErrChanged} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// slowReader is a blob whose reading can be waited for.
type slowReader struct {
	bytes.Reader
	once   sync.Once
	begun  chan struct{}
	resume chan struct{}
}

func (r *slowReader) ReadAt(p []byte, off int64) (int, error) {
	if off > 0 {
		r.once.Do(func() { close(r.begun); <-r.resume })
	}
	return r.Reader.ReadAt(p, off)
}

func TestCancelAndProgress(t *testing.T) {
	blob := gzipped(t, 1, mixedTar(t, 4))
	ctx, cancel := context.WithCancel(context.Background())
	r := &slowReader{Reader: *bytes.NewReader(blob), begun: make(chan struct{}), resume: make(chan struct{})}
	go func() { <-r.begun; cancel(); close(r.resume) }()
	if _, err := OpenReaderAt(ctx, r, int64(len(blob)), "x", testOptions(t)); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	opt := testOptions(t)
	var last, calls int64
	opt.Progress = func(done, total int64) {
		if done < last || total != int64(len(blob)) {
			t.Errorf("progress %d of %d after %d", done, total, last)
		}
		last = done
		calls++
	}
	if _, err := openBytes(t, blob, opt); err != nil || last != int64(len(blob)) || calls < 2 {
		t.Errorf("progress ended at %d of %d after %d calls: %v", last, len(blob), calls, err)
	}
}

// TestBlobChangedDuringPass: an index is never made of two states.
func TestBlobChangedDuringPass(t *testing.T) {
	path := writeTemp(t, mixedTar(t, 4))
	opt := testOptions(t)
	var once sync.Once
	opt.Progress = func(int64, int64) {
		once.Do(func() {
			if err := os.Chtimes(path, time.Time{}, time.Unix(1, 0)); err != nil {
				t.Error(err)
			}
		})
	}
	if _, err := Open(context.Background(), path, opt); !errors.Is(err, ErrChanged) {
		t.Errorf("changed: %v", err)
	}
}

func TestOpenRefusesWhatIsNoBlob(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mkfifo(dir+"/fifo", 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, dir + "/fifo"} {
		if _, err := Open(context.Background(), path, testOptions(t)); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if _, err := Open(context.Background(), dir+"/none", testOptions(t)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	for _, text := range []string{strings.Repeat("no tar ", 200), "BZh9", "\xfd7zXZ\x00....", "\x1f\x8b\x08", "\x28\xb5\x2f\xfd"} {
		if _, err := openBytes(t, []byte(text), testOptions(t)); !errors.Is(err, ErrInvalid) {
			t.Errorf("%.10q: %v", text, err)
		}
	}
}
