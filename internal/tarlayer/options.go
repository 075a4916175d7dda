package tarlayer

import (
	"errors"

	"github.com/opencontainers/go-digest"

	"github.com/unionfs-go/unionfs/whiteout"
)

// What a caller may want to tell apart; every error of Open wraps one of these
// or an error of the system.
var (
	// ErrInvalid: the blob is no tar that can be shown as a layer.
	ErrInvalid = errors.New("not a usable layer")
	// ErrMismatch: the blob is not the one that the caller named by digest.
	ErrMismatch = errors.New("content does not match its digest")
	// ErrLimit: the blob goes beyond a limit of Options.Limits.
	ErrLimit = errors.New("layer exceeds a limit")
	// ErrChanged: the blob was changed while it was read.
	ErrChanged = errors.New("blob changed while it was read")
)

// Options says how a blob is opened. The zero value works.
type Options struct {
	// Digest is the digest of the blob where the caller knows it. A cached
	// index is then found without reading the blob; while an index is made,
	// another content is ErrMismatch.
	Digest digest.Digest
	// DiffID is the expected digest of the uncompressed tar, or "".
	DiffID digest.Digest
	// CacheDir is where indexes are kept; "" is DefaultCacheDir.
	CacheDir string
	// NoCache keeps the index in memory (and a re-framed stream in an unlinked
	// temporary file) instead of in the cache.
	NoCache bool
	// CacheLimit, where it is not 0, prunes the cache to that many bytes after
	// an index was added.
	CacheLimit int64
	// Spans holds inflated spans; nil is one cache shared by the process.
	Spans *SpanCache
	// Namespace is that of the mount: attributes under its prefix are stored
	// escaped, see whiteout.Namespace.Escape.
	Namespace whiteout.Namespace
	// Limits bounds what a blob may ask for.
	Limits Limits
	// Progress is called now and then during the pass with the bytes of the
	// blob read so far and its size. It may be called from another goroutine,
	// but never from two at once.
	Progress func(done, total int64)
	// Log takes a line for what a person should know: a blob that changed, a
	// cache that cannot be written. nil is silence. It may be called
	// concurrently.
	Log func(format string, args ...any)
}

// Limits bounds what a blob may ask for; a field that is 0 has its default.
type Limits struct {
	Entries     int64 // inodes and names, implied ones too; default 16 Mi
	StreamBytes int64 // length of the uncompressed tar; default 1 TiB
	SpoolBytes  int64 // size of a re-framed copy in the cache; default 64 GiB
	NameBytes   int64 // all names and symlink targets together; default 1 GiB
	XattrBytes  int64 // all different sets of attributes; default 256 MiB
	Fragments   int64 // data fragments of all sparse files; default 4 Mi
	PathBytes   int   // one path; default 16 KiB
	Depth       int   // directories above one entry; default 1024
	WindowBytes int64 // window of a zstd frame; default 128 MiB
}

// The limits of the formats themselves.
const (
	maxName    = 255  // NAME_MAX
	maxTarget  = 4095 // PATH_MAX without its NUL
	maxFollows = 40   // symlinks followed for one path (include/linux/namei.h: MAXSYMLINKS)
)

func (l *Limits) fill() {
	def := func(p *int64, v int64) {
		if *p <= 0 {
			*p = v
		}
	}
	def(&l.Entries, 16<<20)
	def(&l.StreamBytes, 1<<40)
	def(&l.SpoolBytes, 64<<30)
	def(&l.NameBytes, 1<<30)
	def(&l.XattrBytes, 256<<20)
	def(&l.Fragments, 4<<20)
	def(&l.WindowBytes, 128<<20)
	if l.PathBytes <= 0 {
		l.PathBytes = 16 << 10
	}
	if l.Depth <= 0 {
		l.Depth = 1024
	}
	// Offsets into the tables are 32 bits wide, with one bit for a flag.
	l.Entries = min(l.Entries, 1<<30)
	l.NameBytes = min(l.NameBytes, 1<<32-1)
	l.XattrBytes = min(l.XattrBytes, 1<<31)
}

func (o *Options) fill() error {
	o.Limits.fill()
	if o.Spans == nil {
		o.Spans = sharedSpans()
	}
	if o.Log == nil {
		o.Log = func(string, ...any) {}
	}
	if o.Progress == nil {
		o.Progress = func(int64, int64) {}
	}
	if o.CacheDir == "" && !o.NoCache {
		o.CacheDir = DefaultCacheDir()
	}
	for _, d := range [...]digest.Digest{o.Digest, o.DiffID} {
		if d == "" {
			continue
		}
		if err := d.Validate(); err != nil {
			return errors.Join(ErrMismatch, err)
		}
	}
	return nil
}
