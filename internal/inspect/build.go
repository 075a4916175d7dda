package inspect

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sort"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/stack"
	"github.com/unionfs-go/unionfs/whiteout"
)

// ErrTooLarge says that the layers hold more than a model can number.
var ErrTooLarge = errors.New("too many files for one model")

// Build makes the model of layers, top first, which stay the caller's to close
// and must stay open as long as the model is used. Errors are those of reading
// the layers, of ctx, and ErrTooLarge.
func Build(ctx context.Context, sources []Source) (*Model, error) {
	if len(sources) == 0 || len(sources) > stack.MaxLayers {
		return nil, fmt.Errorf("a model has 1 to %d layers, not %d", stack.MaxLayers, len(sources))
	}
	m := &Model{data: map[int32]identity{}, moves: map[Node][]Move{}}
	layers := make([]stack.Layer, len(sources))
	for i, s := range sources {
		layers[i] = s.Layer
		info := s.Info
		info.Index = i
		if info.Name == "" {
			info.Name = s.Layer.Name()
		}
		m.layers = append(m.layers, info)
	}
	for i := range layers {
		m.stacks = append(m.stacks, stack.New(layers[i:]))
	}
	b := &builder{m: m, ctx: ctx, devs: map[uint64]uint16{}}
	if err := b.build(layers); err != nil {
		return nil, err
	}
	m.count()
	return m, nil
}

// builder makes a model.
type builder struct {
	m    *Model
	ctx  context.Context
	devs map[uint64]uint16
}

// place is a directory of one layer that takes part in a node. It is seen in
// the views until < K <= since.
type place struct {
	layer, since, until int
	why                 Why // what hides it from view until
	by                  Node
	dir                 stack.Dir
}

// item is what one layer says about one name.
type item struct {
	place             // of the object; until, why and by end with the version
	from        place // the directory it is in
	object      stack.Object
	marks       whiteout.Marks
	isDir       bool
	whiteout    bool
	hidden      int // contents are hidden from this view on: until of the places below
	hiddenWhy   Why
	hiddenBy    Node
	unseen      bool // no view shows it here
	implied     bool // a directory that its layer does not mention, with the attributes of one below
	covers      bool // it takes the place of something that a rename brings here
	attr        stack.Attr
	contentFrom []stack.Real // where a redirect leads
}

func (b *builder) build(layers []stack.Layer) error {
	items := make([]*item, 0, len(layers))
	for i, l := range layers {
		root := l.Root()
		it := b.item(place{layer: i, since: i, until: -1}, root)
		it.marks.Redirect = ""
		items = append(items, it)
	}
	b.m.nodes = append(b.m.nodes, node{parent: None})
	b.relate(Root, items)
	if err := b.record(Root, items); err != nil {
		return err
	}
	return b.directory(Root, below(items))
}

// item makes the item of an object in the directory from, nil for a whiteout.
func (b *builder) item(from place, o stack.Object) *item {
	it := &item{place: from, from: from, object: o, hidden: from.until, hiddenWhy: from.why, hiddenBy: from.by}
	if o == nil {
		it.whiteout = true
		return it
	}
	it.attr, it.marks = o.Attr(), o.Marks()
	it.dir, it.isDir = o.(stack.Dir)
	return it
}

// named is one name in one of several places.
type named struct {
	name  string
	place int
}

// directory reads the directory n out of the places that take part in it, and
// all below it.
func (b *builder) directory(n Node, places []place) error {
	if err := b.ctx.Err(); err != nil {
		return err
	}
	if len(places) == 0 {
		return nil
	}
	names, err := b.list(n, places)
	if err != nil || len(names) == 0 {
		return err
	}
	type todo struct {
		n      Node
		places []place
	}
	var subs []todo
	first := Node(len(b.m.nodes))
	for i := 0; i < len(names); {
		end := i + 1
		for end < len(names) && names[end].name == names[i].name {
			end++
		}
		c := Node(len(b.m.nodes))
		items, err := b.resolve(n, c, places, names[i:end])
		if err != nil {
			return fmt.Errorf("read %s: %w", strings.TrimSuffix(b.m.Path(n), "/")+"/"+names[i].name, err)
		}
		if len(items) > 0 {
			if err := b.add(n, names[i].name, items); err != nil {
				return err
			}
			if p := below(items); len(p) > 0 {
				subs = append(subs, todo{c, p})
			}
		}
		i = end
	}
	b.m.nodes[n].child, b.m.nodes[n].children = first, int32(Node(len(b.m.nodes))-first)
	for _, s := range subs {
		if err := b.directory(s.n, s.places); err != nil {
			return err
		}
	}
	return nil
}

// list reads all names of the places, sorted by name and place, each once.
func (b *builder) list(n Node, places []place) ([]named, error) {
	var names []named
	for i, p := range places {
		ents, err := p.dir.ReadDir()
		if err != nil {
			return nil, fmt.Errorf("list %s of layer %d: %w", b.m.Path(n), p.layer, err)
		}
		for _, e := range ents {
			names = append(names, named{e.Name, i})
		}
	}
	sort.Slice(names, func(i, j int) bool {
		if names[i].name != names[j].name {
			return names[i].name < names[j].name
		}
		return names[i].place < names[j].place
	})
	out := names[:0]
	for i, e := range names {
		if i == 0 || e != names[i-1] { // a whiteout may stand beside what replaces it
			out = append(out, e)
		}
	}
	return out, nil
}

// resolve asks the places for one name, whose node will be c in the directory n.
func (b *builder) resolve(n, c Node, places []place, names []named) ([]*item, error) {
	items := make([]*item, 0, len(names))
	for _, e := range names {
		p := places[e.place]
		o, presence, err := p.dir.Lookup(e.name)
		switch {
		case err != nil:
			return nil, err
		case presence == stack.Absent:
			continue // gone since the listing, on a live mount
		}
		items = append(items, b.item(p, o))
	}
	b.relate(c, items)
	for _, it := range items {
		if err := b.follow(n, names[0].name, places, it); err != nil {
			return nil, err
		}
	}
	kept := items[:0]
	for _, it := range items {
		if !it.unseen || it.isDir {
			kept = append(kept, it)
		}
	}
	return kept, nil
}

// relate finds what hides each item from which view on. The items are those of
// the node c, topmost first.
func (b *builder) relate(c Node, items []*item) {
	for i, it := range items {
		for _, above := range items[:i] {
			if max(above.from.until, it.from.until) >= min(above.since, it.since) {
				continue // no view has both
			}
			view := min(above.since, it.since)
			why, content := WhyReplaced, WhyShadowed
			switch {
			case above.whiteout:
				why, content = WhyWhiteout, WhyWhiteout
			case !above.isDir || !it.isDir:
			case above.marks.Opacity == whiteout.OpaqueDir:
				content = WhyOpaque
			case above.marks.Redirect != "":
				content = WhyMoved
			default:
				content = WhyNot
			}
			if view == it.since {
				above.covers = true
			}
			if view >= it.until {
				it.until, it.why, it.by = view, why, c
			}
			if content != WhyNot && view >= it.hidden {
				it.hidden, it.hiddenWhy, it.hiddenBy = view, content, c
			}
		}
		it.unseen = it.until >= it.since
	}
	for i := len(items) - 1; i >= 0; i-- {
		items[i].borrow(items[i+1:])
	}
}

// borrow gives a directory that its layer only names things in the attributes
// of the one below it, as package stack shows it (stack.Implier).
func (it *item) borrow(lower []*item) {
	d, ok := it.dir.(stack.Implier)
	if !ok || !d.Implied() || it.marks.Opacity == whiteout.OpaqueDir {
		return
	}
	for _, b := range lower {
		if b.isDir && b.until == it.since && b.hidden < it.since {
			it.implied, it.attr = true, b.attr
			it.marks.HasOther, it.marks.HasACL, it.marks.HasCaps = b.marks.HasOther, b.marks.HasACL, b.marks.HasCaps
			return
		}
	}
}

// follow finds the layers below that a redirect or a metacopy file takes its
// content from.
func (b *builder) follow(n Node, name string, places []place, it *item) error {
	redirect := it.marks.Redirect
	if it.isDir && (redirect == "" || it.marks.Opacity == whiteout.OpaqueDir) || !it.isDir && !it.metacopy() {
		return nil
	}
	next := it.layer + 1
	if next < len(b.m.stacks) {
		var parents []stack.Real
		for _, p := range places {
			if p.layer >= next && p.until < it.since && it.since <= p.since {
				parents = append(parents, stack.Real{Layer: p.layer - next, Object: p.dir})
			}
		}
		q := stack.Search{Name: name, DirAbove: it.isDir, DataAbove: !it.isDir, Redirect: redirect}
		reals, err := b.m.stacks[next].Find(parents, q)
		if err != nil && (!errors.Is(err, unix.EIO) || it.isDir) {
			return err
		}
		it.contentFrom = reals
	}
	if redirect != "" && it.since == it.layer && !it.unseen {
		from := redirect
		if from[0] != '/' {
			from = strings.TrimSuffix(b.formerPath(n, it.layer), "/") + "/" + from
		}
		b.m.moves[Node(len(b.m.nodes))] = append(b.m.moves[Node(len(b.m.nodes))], Move{Layer: it.layer, From: from})
	}
	return nil
}

// formerPath is where a directory was before a layer moved it, or its path.
func (b *builder) formerPath(n Node, layer int) string {
	if n == Root {
		return "/"
	}
	for _, mv := range b.m.moves[n] {
		if mv.Layer == layer {
			return mv.From
		}
	}
	return strings.TrimSuffix(b.formerPath(b.m.nodes[n].parent, layer), "/") + "/" + b.m.Name(n)
}

func (it *item) metacopy() bool {
	return it.object != nil && it.marks.HasMetacopy && it.attr.Type() == unix.S_IFREG
}

// below are the places that take part in the directory whose items are given,
// topmost first.
func below(items []*item) []place {
	var out []place
	for _, it := range items {
		if !it.isDir || it.hidden >= it.since {
			continue
		}
		p := it.place
		p.until, p.why, p.by = it.hidden, it.hiddenWhy, it.hiddenBy
		out = append(out, p)
		for _, r := range it.contentFrom {
			dir, ok := r.Dir()
			if !ok {
				continue
			}
			q := p
			q.layer, q.dir = r.Layer+it.layer+1, dir
			out = append(out, q)
		}
	}
	sort.SliceStable(out, func(i, j int) bool { return out[i].layer < out[j].layer })
	return out
}

// add makes the next node.
func (b *builder) add(parent Node, name string, items []*item) error {
	m := b.m
	if len(m.nodes) >= math.MaxInt32 || len(m.names)+len(name) > math.MaxUint32 || len(name) > math.MaxUint16 {
		return ErrTooLarge
	}
	c := Node(len(m.nodes))
	m.nodes = append(m.nodes, node{parent: parent, name: uint32(len(m.names)), nameLen: uint16(len(name))})
	m.names = append(m.names, name...)
	return b.record(c, items)
}

// record keeps the versions of the node c.
func (b *builder) record(c Node, items []*item) error {
	m := b.m
	d := &m.nodes[c]
	d.version = int32(len(m.versions))
	for _, it := range items {
		if it.unseen {
			continue
		}
		if len(m.versions) >= math.MaxInt32 {
			return ErrTooLarge
		}
		v, err := b.version(it)
		if err != nil {
			return err
		}
		if it.metacopy() {
			if err := b.keepData(it, &v); err != nil {
				return err
			}
		}
		m.versions = append(m.versions, v)
		d.versions++
	}
	return nil
}

// keepData remembers which file of a layer below holds the bytes of a metacopy
// file.
func (b *builder) keepData(it *item, v *version) error {
	if len(it.contentFrom) == 0 {
		v.flags |= flagDangling
		return nil
	}
	r := it.contentFrom[len(it.contentFrom)-1]
	a := r.Object.Attr()
	dev, err := b.dev(a.Dev)
	if err != nil {
		return err
	}
	b.m.data[int32(len(b.m.versions))] = identity{a.Ino, dev, int16(r.Layer + it.layer + 1)}
	return nil
}

// version is an item as it is kept.
func (b *builder) version(it *item) (version, error) {
	a := &it.attr
	dev, err := b.dev(a.Dev)
	if err != nil {
		return version{}, err
	}
	v := version{
		size: a.Size, rdev: a.Rdev, ino: a.Ino, mtime: a.Mtime.Sec, nsec: a.Mtime.Nsec, mode: a.Mode, uid: a.UID, gid: a.GID,
		nlink: a.Nlink, by: it.by, dev: dev, layer: int16(it.layer), since: int16(it.since), until: int16(it.until), why: it.why,
	}
	if it.until < 0 {
		v.by = None
	}
	if it.whiteout {
		v.flags |= flagWhiteout
	}
	if it.isDir && it.marks.Opacity == whiteout.OpaqueDir {
		v.flags |= flagOpaque
	}
	if it.metacopy() {
		v.flags |= flagMetacopy
	}
	if it.implied {
		v.flags |= flagImplied
	}
	if it.covers {
		v.flags |= flagCovers
	}
	if it.marks.HasOther || it.marks.HasACL || it.marks.HasCaps {
		v.flags |= flagXattr
	}
	return v, nil
}

// dev numbers the devices of all layers.
func (b *builder) dev(d uint64) (uint16, error) {
	i, ok := b.devs[d]
	if !ok {
		if len(b.m.devs) > math.MaxUint16 {
			return 0, ErrTooLarge
		}
		i = uint16(len(b.m.devs))
		b.devs[d], b.m.devs = i, append(b.m.devs, d)
	}
	return i, nil
}
