package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/opencontainers/go-digest"

	"github.com/unionfs-go/unionfs/internal/control"
	"github.com/unionfs-go/unionfs/internal/image"
	"github.com/unionfs-go/unionfs/internal/pack"
	"github.com/unionfs-go/unionfs/internal/tarlayer"
	"github.com/unionfs-go/unionfs/mountinfo"
)

// commitSource is what a commit reads: an upper and the layers below it.
type commitSource struct {
	client *control.Client // of the mount that has the upper, or nil
	mount  string          // its mountpoint
	upper  string
	work   string // workdir of the mount, or ""
	user   bool   // marks are in user.overlay.*, where the upper itself does not tell
	lowers []control.Layer
	stack  layerStack
	// what becomes of the upper
	drop             bool
	include, exclude []string
}

func (c *commitSource) close() {
	c.stack.close()
	if c.client != nil {
		_ = c.client.Close() // ends a freeze too
	}
}

// findCommitSource finds the mount that arg is the mountpoint or the upper of;
// an upper that is not mounted comes with its lowers in the options.
func findCommitSource(ctx context.Context, opts *CommitOptions, arg string) (*commitSource, error) {
	c := &commitSource{user: opts.UserXattr, drop: opts.Drop, include: opts.Include, exclude: opts.Exclude}
	m, merr := findMount(arg)
	if merr == nil {
		client, err := dialMount(&m)
		if err != nil {
			return nil, fmt.Errorf("commit %s: %w; commit its upper directory instead", arg, err)
		}
		return c, c.fromMount(ctx, client, arg, opts)
	}
	upper, err := resolveDir("upper", arg)
	if err != nil {
		return nil, err
	}
	client, st := mountOfUpper(ctx, upper)
	if client != nil {
		if len(opts.Lower) > 0 {
			_ = client.Close()
			return nil, usagef("%s is the upper of the mount %s, whose layers are known: leave --lower out", arg, st.Mountpoint)
		}
		return c, c.fromMount(ctx, client, arg, opts)
	}
	if len(opts.Lower) == 0 {
		return nil, refusef("%s is not the mountpoint or the upper of a live mount; "+
			"mount it, or name its lower layers, top first, with --lower", arg)
	}
	low, err := resolveSources(opts.Lower, formAsIs)
	if err != nil {
		return nil, err
	}
	c.upper, c.lowers = upper, low.Layers
	return c, nil
}

// fromMount asks the daemon what the mount is made of.
func (c *commitSource) fromMount(ctx context.Context, client *control.Client, arg string, opts *CommitOptions) error {
	c.client = client
	st, err := client.Status(ctx)
	if err == nil && st.Upper == "" {
		err = refusef("%s is mounted read-only: there is nothing to commit", arg)
	}
	if err == nil && len(opts.Lower) > 0 {
		err = usagef("the layers of %s are known: leave --lower out", arg)
	}
	if err != nil {
		c.close()
		return err
	}
	var fs struct {
		Namespace string `json:"namespace"`
	}
	if err := json.Unmarshal(st.Filesystem, &fs); err == nil {
		c.user = fs.Namespace == "user"
	}
	c.upper, c.work, c.lowers, c.mount = st.Upper, st.Work, st.Layers, st.Mountpoint
	return nil
}

// mountOfUpper finds the live mount whose upper is the directory dir.
func mountOfUpper(ctx context.Context, dir string) (*control.Client, control.Status) {
	table, err := mountinfo.Mounts()
	if err != nil {
		return nil, control.Status{}
	}
	for _, m := range table.Ours() {
		client, err := dialMount(&m)
		if err != nil {
			continue
		}
		st, err := client.Status(ctx)
		if err == nil && st.Upper == dir {
			return client, st
		}
		_ = client.Close()
	}
	return nil, control.Status{}
}

// freeze holds back writes until the upper is packed.
func (c *commitSource) freeze(ctx context.Context, store *image.Store, upper *image.Part) error {
	if c.client == nil {
		return nil
	}
	if mountinfo.Within(store.Root(), c.mount) {
		return refusef("the image store %s is in the mount itself, whose writes would be held back; "+
			"use a store elsewhere, or --no-pause", store.Root())
	}
	// What programs have written is in the upper before writes are held back;
	// while they are, nothing can be written back any more.
	if err := flushMount(ctx, c.mount); err != nil {
		return fmt.Errorf("flush the mount before reading it: %w", err)
	}
	if err := c.client.Freeze(ctx, 0); err != nil {
		return fmt.Errorf("hold back writes: %w; --no-pause goes without", err)
	}
	upper.Pack.Frozen = true
	upper.Retry = 0
	upper.Packed = func() error {
		if err := c.client.Thaw(ctx); err != nil {
			return fmt.Errorf("writes were let through before all was read: %w; try again, or with --no-pause", err)
		}
		return nil
	}
	return nil
}

// group is neighbouring lower layers of one origin, or one directory.
type group struct {
	first   int // index in commitSource.lowers
	n       int
	name    string
	diffIDs []digest.Digest // top first; none of a directory
	cut     bool            // an opaque root hides what the image has below
}

// parts makes what the image is to be made of, bottom first. all: also lower
// layers that are of no image.
func (c *commitSource) parts(ctx context.Context, store *image.Store, po pack.Options, all bool) ([]image.Part, error) {
	if err := c.stack.open(c.upper, c.user); err != nil {
		return nil, err
	}
	for _, l := range c.lowers {
		if err := c.stack.openLayer(ctx, l); err != nil {
			return nil, err
		}
	}
	var parts []image.Part
	groups := c.groups(store)
	for i := len(groups) - 1; i >= 0; i-- {
		g := groups[i]
		img, err := findBase(store, g)
		if err != nil {
			return nil, err
		}
		if img != nil {
			parts = append(parts, image.Part{Image: img})
			continue
		}
		for j := g.first + g.n - 1; j >= g.first && all; j-- {
			if c.lowers[j].Blob != "" {
				parts = append(parts, c.taken(j+1))
				continue
			}
			parts = append(parts, c.packed(j+1, po, "unionfs commit (lower directory)"))
		}
	}
	if c.work != "" {
		po.Index = filepath.Join(c.work, "index")
	}
	po.DropUnchanged, po.Include, po.Exclude = c.drop, c.include, c.exclude
	return append(parts, c.packed(0, po, "unionfs commit")), nil
}

// squash makes one part of all parts, for an image with the configuration of the
// topmost image among them.
func (c *commitSource) squash(req *image.CommitRequest) {
	for _, p := range req.Parts {
		if p.Image != nil {
			req.Base = p.Image
		}
	}
	top := req.Parts[len(req.Parts)-1]
	top.Pack.Full, top.CreatedBy = true, "unionfs commit --squash"
	req.Parts = []image.Part{top}
}

// packed is layer i of the stack as a part to be packed.
func (c *commitSource) packed(i int, po pack.Options, createdBy string) image.Part {
	s := c.stack.from(i)
	s.adjust(&po)
	return image.Part{Stack: s.stack(), Pack: po, CreatedBy: createdBy, Retry: 3}
}

// taken is layer i of the stack, a layer file, as a part that is taken over as it
// is.
func (c *commitSource) taken(i int) image.Part {
	l, ok := c.stack.layers[i].(*tarlayer.Layer)
	if !ok {
		return image.Part{}
	}
	return image.Part{CreatedBy: "unionfs commit (layer file)", Blob: &image.LayerFile{
		Path: c.lowers[i-1].Blob, Digest: l.Digest(), DiffID: l.DiffID(), Format: l.Stats().Format,
	}}
}

func (c *commitSource) groups(store *image.Store) []group {
	var out []group
	for i, l := range c.lowers {
		u, ok := store.UnpackedAt(l.Dir)
		if l.Blob != "" && l.Image != "" {
			u, ok = image.Unpacked{DiffID: digest.Digest(l.DiffID)}, true
		}
		if !ok {
			out = append(out, group{first: i, n: 1, name: l.Name})
			continue
		}
		if k := len(out) - 1; k >= 0 && out[k].name == l.Name && out[k].diffIDs != nil && !out[k].cut {
			out[k].n++
			out[k].diffIDs = append(out[k].diffIDs, u.DiffID)
			out[k].cut = u.Opaque
			continue
		}
		out = append(out, group{first: i, n: 1, name: l.Name, diffIDs: []digest.Digest{u.DiffID}, cut: u.Opaque})
	}
	return out
}

// findBase finds the image that layers came from: the one of the name they were
// mounted by, if it has these layers still, else any that has. Nil: none; the
// layers are packed again.
func findBase(store *image.Store, g group) (*image.Image, error) {
	if g.diffIDs == nil {
		return nil, nil
	}
	img, _, err := findImage(store, g.name)
	if err == nil && img.Matches(g.diffIDs, g.cut) {
		return img, nil
	}
	img, err = store.FindByLayers(g.diffIDs, g.cut)
	if errors.Is(err, image.ErrNotFound) {
		return nil, nil
	}
	return img, err
}
