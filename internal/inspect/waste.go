package inspect

import (
	"cmp"
	"context"
	"slices"
)

// WasteKind says why bytes that are shipped are not shown.
type WasteKind string

// The kinds of waste.
const (
	WasteOverwritten WasteKind = "overwritten" // a layer above has other content there
	WasteDeleted     WasteKind = "deleted"     // a layer above deleted the path, or a directory above it
	WasteMetadata    WasteKind = "metadata"    // a layer above has the same content, for another mode, owner, time or attribute
)

// WasteSum is a number of files and their bytes.
type WasteSum struct {
	Files int   `json:"files"`
	Bytes int64 `json:"bytes"`
}

func (s *WasteSum) add(bytes int64) {
	s.Files++
	s.Bytes += bytes
}

// Waste is what the layers ship and the whole stack does not show. It counts
// bytes of regular files as they are in the layers, uncompressed; a file with
// several names in a layer counts once. Whiteouts, directories and links cost
// nothing.
type Waste struct {
	Shipped     int64   `json:"shippedBytes"`
	Live        int64   `json:"liveBytes"`
	Reclaimable int64   `json:"reclaimableBytes"`
	Efficiency  float64 `json:"efficiency"` // live part of what is shipped, 1 of nothing

	Overwritten WasteSum `json:"overwritten"`
	Deleted     WasteSum `json:"deleted"`
	Metadata    WasteSum `json:"metadata"`

	Layers []LayerWaste `json:"layers"` // top first
	Paths  []PathWaste  `json:"paths"`  // worst first
}

// LayerWaste is the waste of one layer.
type LayerWaste struct {
	Layer       int    `json:"layer"`
	CreatedBy   string `json:"createdBy,omitempty"`
	Shipped     int64  `json:"shippedBytes"`
	Live        int64  `json:"liveBytes"`
	Reclaimable int64  `json:"reclaimableBytes"` // of its own files
	// Caused are the bytes of the layers below that this one made useless.
	Caused int64 `json:"causedBytes"`
}

// PathWaste is what one path wastes, all its useless copies together.
type PathWaste struct {
	Path   string      `json:"path"`
	Bytes  int64       `json:"bytes"`
	Copies []WasteCopy `json:"copies"` // topmost first
	node   Node
}

// WasteCopy is one file that no longer shows.
type WasteCopy struct {
	Kind     WasteKind `json:"kind"`
	Layer    int       `json:"layer"`    // that ships it
	HiddenBy int       `json:"hiddenBy"` // layer that made it useless
	Bytes    int64     `json:"bytes"`
}

// Waste finds what is shipped and not shown. Files that were replaced by one of
// the same size are read to see whether their content changed; ctx ends that.
func (m *Model) Waste(ctx context.Context) (*Waste, error) {
	w := waster{m: m, ctx: ctx, out: &Waste{Paths: []PathWaste{}}, live: m.liveInodes(0), dead: map[identity]deadFile{}}
	for i := range m.layers {
		w.out.Layers = append(w.out.Layers, LayerWaste{Layer: i, CreatedBy: m.layers[i].CreatedBy})
	}
	seen := map[identity]bool{}
	for n := range Node(len(m.nodes)) {
		from, to := m.own(n)
		for i := from; i < to; i++ {
			v := &m.versions[i]
			if v.bytes() == 0 || v.since != v.layer {
				continue
			}
			w.version(n, i, v.countedOnce(seen))
		}
	}
	for _, d := range w.dead {
		w.list = append(w.list, d)
	}
	if err := w.compare(); err != nil {
		return nil, err
	}
	w.finish()
	return w.out, nil
}

// liveInodes are the files that a view shows, as far as one version alone does
// not tell: those with several names, those that a rename shows elsewhere, and
// those that hold the data of a metacopy file.
func (m *Model) liveInodes(view int) map[identity]bool {
	live := map[identity]bool{}
	for i := range m.versions {
		v := &m.versions[i]
		if !v.visibleIn(view) || !isFile(v.mode) {
			continue
		}
		if v.nlink > 1 || v.since != v.layer {
			live[v.identity()] = true
		}
		if d, ok := m.data[int32(i)]; ok {
			live[d] = true
		}
	}
	return live
}

type waster struct {
	m    *Model
	ctx  context.Context
	out  *Waste
	live map[identity]bool
	dead map[identity]deadFile // by inode, since one may have several names
	list []deadFile
}

// deadFile is a file that no longer shows.
type deadFile struct {
	node Node
	old  int32 // its version
	now  int32 // version that took its place, -1: it was deleted
	copy WasteCopy
}

func (w *waster) version(n Node, id int32, first bool) {
	v := &w.m.versions[id]
	l := &w.out.Layers[v.layer]
	size := v.bytes()
	if first {
		l.Shipped += size
	}
	if v.visibleIn(0) || w.live[v.identity()] {
		if first {
			l.Live += size
		}
		return
	}
	d := deadFile{
		node: n, old: id, now: w.m.at(n, int(v.until)),
		copy: WasteCopy{Kind: WasteDeleted, Layer: int(v.layer), HiddenBy: int(v.until), Bytes: size},
	}
	if d.now >= 0 {
		d.copy.Kind = WasteOverwritten
	}
	if v.nlink <= 1 {
		w.list = append(w.list, d)
		return
	}
	// Of several names the one that was not simply deleted says most.
	if old, ok := w.dead[v.identity()]; !ok || old.copy.Kind == WasteDeleted && d.copy.Kind != WasteDeleted {
		w.dead[v.identity()] = d
	}
}

// compare finds the copies that differ in nothing but attributes. Files are read
// in the order of their layer, so that each part of a blob is inflated once.
func (w *waster) compare() error {
	versions := w.m.versions
	var same []*deadFile
	for i := range w.list {
		d := &w.list[i]
		if d.now >= 0 && isFile(versions[d.now].mode) && versions[d.now].size == versions[d.old].size {
			same = append(same, d)
		}
	}
	slices.SortFunc(same, func(a, b *deadFile) int {
		return cmp.Or(cmp.Compare(a.copy.Layer, b.copy.Layer), cmp.Compare(versions[a.old].ino, versions[b.old].ino))
	})
	for _, d := range same {
		equal, err := w.m.SameContent(w.ctx, w.m.version(d.node, d.old), w.m, w.m.version(d.node, d.now))
		if err != nil {
			return err
		}
		if equal {
			d.copy.Kind = WasteMetadata
		}
	}
	return nil
}

// finish adds everything up.
func (w *waster) finish() {
	slices.SortFunc(w.list, func(a, b deadFile) int {
		return cmp.Or(cmp.Compare(a.node, b.node), cmp.Compare(a.copy.Layer, b.copy.Layer))
	})
	out := w.out
	for _, d := range w.list {
		size := d.copy.Bytes
		switch d.copy.Kind {
		case WasteOverwritten:
			out.Overwritten.add(size)
		case WasteDeleted:
			out.Deleted.add(size)
		case WasteMetadata:
			out.Metadata.add(size)
		}
		out.Layers[d.copy.Layer].Reclaimable += size
		out.Layers[d.copy.HiddenBy].Caused += size
		if k := len(out.Paths) - 1; k >= 0 && out.Paths[k].node == d.node {
			out.Paths[k].Bytes += size
			out.Paths[k].Copies = append(out.Paths[k].Copies, d.copy)
			continue
		}
		out.Paths = append(out.Paths, PathWaste{Path: w.m.Path(d.node), Bytes: size, Copies: []WasteCopy{d.copy}, node: d.node})
	}
	slices.SortStableFunc(out.Paths, func(a, b PathWaste) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.Path, b.Path))
	})
	for _, l := range out.Layers {
		out.Shipped += l.Shipped
		out.Live += l.Live
		out.Reclaimable += l.Reclaimable
	}
	out.Efficiency = 1
	if out.Shipped > 0 {
		out.Efficiency = float64(out.Live) / float64(out.Shipped)
	}
}
