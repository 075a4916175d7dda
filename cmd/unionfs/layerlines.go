package main

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/unionfs-go/unionfs/internal/image"
)

// layerLines shows how the layers of an image get on, a line for each, as docker
// does: on a terminal the lines change, elsewhere there is one for each end.
type layerLines struct {
	w        io.Writer
	terminal bool

	mu    sync.Mutex
	order []digest.Digest
	last  map[digest.Digest]image.LayerProgress
	drawn time.Time
}

func newLayerLines(w io.Writer) *layerLines {
	return &layerLines{w: w, terminal: isTerminal(w), last: make(map[digest.Digest]image.LayerProgress)}
}

// redraw is how long a change of the bytes alone waits to be shown.
const redraw = 100 * time.Millisecond

// update takes news of a layer.
func (l *layerLines) update(p image.LayerProgress) {
	l.mu.Lock()
	defer l.mu.Unlock()
	old, known := l.last[p.Digest]
	news := !known || old.Phase != p.Phase
	l.last[p.Digest] = p
	if !l.terminal {
		moving := p.Phase == image.PhaseWaiting || p.Phase == image.PhaseDownloading || p.Phase == image.PhasePushing
		if news && !moving {
			fmt.Fprintln(l.w, layerLine(p))
		}
		return
	}
	if !known {
		l.order = append(l.order, p.Digest)
		fmt.Fprintln(l.w)
	}
	if !news && time.Since(l.drawn) < redraw {
		return
	}
	l.drawn = time.Now()
	var b strings.Builder
	fmt.Fprintf(&b, "\x1b[%dA", len(l.order))
	for _, d := range l.order {
		fmt.Fprintf(&b, "\r\x1b[K%s\n", layerLine(l.last[d]))
	}
	fmt.Fprint(l.w, b.String())
}

// barWidth is how wide a bar is between its brackets.
const barWidth = 40

func layerLine(p image.LayerProgress) string {
	s := shortID(p.Digest, false) + ": " + string(p.Phase)
	switch p.Phase {
	case image.PhaseDownloading, image.PhasePushing:
		n := 0
		if p.Total > 0 {
			n = int(p.Done * barWidth / p.Total)
		}
		n = min(max(n, 0), barWidth)
		bar := strings.Repeat("=", n) + ">" + strings.Repeat(" ", barWidth-n)
		return fmt.Sprintf("%s [%s] %s/%s", s, bar[:barWidth], humanSize(p.Done), humanSize(p.Total))
	case image.PhaseMounted:
		return s + " from " + printable(p.Detail)
	case image.PhaseRetrying:
		return s + ": " + printable(p.Detail)
	default:
		return s
	}
}
