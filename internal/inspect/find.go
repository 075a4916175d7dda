package inspect

import (
	"cmp"
	"context"
	"slices"
)

// Search calls found with every version at and below the node from that meets
// the filter, in the order of a walk: of view 0, or of all layers where the
// filter asks for a state or a layer. An error of found ends it.
func (m *Model) Search(ctx context.Context, from Node, f *Filter, found func(Version) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	first, to := m.own(from)
	for i := first; i < to; i++ {
		v := m.version(from, i)
		if !f.AnyState && !f.Layers && !v.Visible() || v.Borrowed() && !v.Visible() {
			continue
		}
		if f.Layers && !f.AnyState && v.Whiteout {
			continue
		}
		ok, err := f.Match(m, &v)
		if err == nil && ok {
			err = found(v)
		}
		if err != nil {
			return err
		}
	}
	for c := range m.Children(from) {
		if err := m.Search(ctx, c, f, found); err != nil {
			return err
		}
	}
	return nil
}

// Sizes are the bytes of regular files at and below each node, as a view shows
// them, or as the layer alone has them if own is set; files with several names
// count under each.
func (m *Model) Sizes(layer int, own bool) []int64 {
	sizes := make([]int64, len(m.nodes))
	for n := Node(len(m.nodes)) - 1; n >= 0; n-- {
		from, to := m.own(n)
		for i := from; i < to; i++ {
			v := &m.versions[i]
			if isFile(v.mode) && (own && int(v.layer) == layer && v.since == v.layer || !own && v.visibleIn(layer)) {
				sizes[n] += v.size
				break
			}
		}
		if p := m.nodes[n].parent; p != None {
			sizes[p] += sizes[n]
		}
	}
	return sizes
}

// Listed returns the versions that a view shows in a directory, or that one
// layer alone has there if own is set (whiteouts included), sorted by name.
func (m *Model) Listed(n Node, layer int, own bool) []Version {
	var out []Version
	for c := range m.Children(n) {
		v, ok := m.At(c, layer)
		if own {
			v, ok = m.In(c, layer)
		}
		if ok {
			out = append(out, v)
		}
	}
	slices.SortFunc(out, func(a, b Version) int { return cmp.Compare(a.Node, b.Node) })
	return out
}
