package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/unionfs-go/unionfs/internal/control"
	"github.com/unionfs-go/unionfs/internal/tarlayer"
	"github.com/unionfs-go/unionfs/whiteout"
)

// indexCacheLimit is how many bytes the index cache may take before what was not
// used for longest goes.
const indexCacheLimit = 8 << 30

// tarOpener opens layer files.
type tarOpener struct {
	ns       whiteout.Namespace // of the mount
	cache    string             // directory of the indexes, "" is the default
	log      *slog.Logger
	terminal bool // progress is shown
}

// open opens the layer file l, which is indexed first where the cache does not
// know it, and notes its digests in l. ctx ends the indexing.
func (o *tarOpener) open(ctx context.Context, l *control.Layer) (*tarlayer.Layer, error) {
	bar := &indexProgress{name: l.Name, off: !o.terminal}
	layer, err := tarlayer.Open(ctx, l.Blob, tarlayer.Options{
		Digest: digest.Digest(l.Digest), DiffID: digest.Digest(l.DiffID),
		CacheDir: o.cache, CacheLimit: indexCacheLimit, Namespace: o.ns, Progress: bar.update,
		Log: func(format string, args ...any) { o.log.Warn(fmt.Sprintf(format, args...)) },
	})
	bar.end()
	if err == nil {
		l.Digest, l.DiffID = layer.Digest().String(), layer.DiffID().String()
		return layer, nil
	}
	for _, is := range []error{tarlayer.ErrInvalid, tarlayer.ErrMismatch, tarlayer.ErrLimit} {
		if errors.Is(err, is) {
			return nil, &refusedError{err}
		}
	}
	return nil, err
}

// indexProgress is a line on the terminal that tells how far indexing a layer
// is. It appears when it takes a moment.
type indexProgress struct {
	name  string
	off   bool // no terminal
	begun time.Time
	last  time.Time
	lines bool
}

func (p *indexProgress) update(done, total int64) {
	if p.off || total <= 0 {
		return
	}
	now := time.Now()
	if p.begun.IsZero() {
		p.begun, p.last = now, now
	}
	if now.Sub(p.last) < 200*time.Millisecond {
		return
	}
	p.last, p.lines = now, true
	fmt.Fprintf(os.Stderr, "\r\x1b[Kunionfs: indexing %s: %d%% of %s", printable(p.name), done*100/total, humanSize(total))
}

// end removes the line.
func (p *indexProgress) end() {
	if p.lines {
		fmt.Fprint(os.Stderr, "\r\x1b[K")
	}
}
