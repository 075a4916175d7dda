package main

import (
	"context"
	"log/slog"
	"os"

	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/control"
	"github.com/unionfs-go/unionfs/internal/pack"
	"github.com/unionfs-go/unionfs/internal/stack"
	"github.com/unionfs-go/unionfs/internal/sys"
	"github.com/unionfs-go/unionfs/whiteout"
)

// layerStack is layers opened to be packed, top first.
type layerStack struct {
	layers []stack.Layer
	ns     []whiteout.Namespace
	native []bool
}

// open adds the directory of one more layer below the others. userXattr says
// that its marks are in user.overlay.* when nothing on its root tells.
func (s *layerStack) open(dir string, userXattr bool) error {
	fd, err := sys.Openat(unix.AT_FDCWD, dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return refusef("layer %s cannot be opened: %w", dir, err)
	}
	ns, known := whiteout.DetectNamespace(fd)
	_ = sys.Close(fd)
	if !known {
		ns = markNamespace()
		if userXattr {
			ns = whiteout.User
		}
	}
	l, err := stack.OpenDir(dir, stack.DirOptions{Namespace: ns})
	if err != nil {
		return refusef("layer %s cannot be opened: %w", dir, err)
	}
	s.layers = append(s.layers, l)
	s.ns = append(s.ns, ns)
	s.native = append(s.native, known)
	return nil
}

// openLayer adds a layer that a SOURCE or a mount names.
func (s *layerStack) openLayer(ctx context.Context, l control.Layer) error {
	if l.Blob == "" {
		return s.open(l.Dir, false)
	}
	ns := markNamespace()
	if len(s.ns) > 0 {
		ns = s.ns[0]
	}
	tars := tarOpener{ns: ns, log: slog.New(slog.DiscardHandler), terminal: isTerminal(os.Stderr)}
	layer, err := tars.open(ctx, &l)
	if err != nil {
		return err
	}
	s.layers = append(s.layers, layer)
	s.ns = append(s.ns, ns)
	s.native = append(s.native, true)
	return nil
}

// adjust sets what the top layer's own format says about packing it. Remembered
// owners count in uppers of rootless mounts; in those of root anybody in the
// container could have written them.
func (s *layerStack) adjust(opt *pack.Options) {
	opt.Namespace = s.ns[0]
	opt.OverrideStat = !s.native[0] || s.ns[0] == whiteout.User
}

// from is the part of the stack that begins with layer i.
func (s *layerStack) from(i int) *layerStack {
	return &layerStack{layers: s.layers[i:], ns: s.ns[i:], native: s.native[i:]}
}

func (s *layerStack) stack() *stack.Stack { return stack.New(s.layers) }

func (s *layerStack) close() {
	for _, l := range s.layers {
		_ = l.Close()
	}
}
