package pack

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/stack"
	"github.com/unionfs-go/unionfs/whiteout"
)

// walker goes through the upper once. Without a tar writer it only looks: that
// first pass finds every name and every missing layer before a byte is written.
type walker struct {
	ctx   context.Context
	opt   Options
	union *stack.Stack // all layers
	lower *stack.Stack // the layers below the upper
	tw    *tar.Writer  // nil: only look
	dry   bool         // only look, but at all that would be written

	links    map[inode]*link
	aliases  *aliasTree             // names that the hardlink index keeps with an upper file
	index    map[string]stack.Entry // hardlink index, by origin
	origins  map[string]string      // origin of an indexed upper file to its path
	indexed  map[inode]string       // file below an indexed upper file to its path
	badNames []string
	counts   Counts
	notices  []string
}

// inode names a file of some layer; layers on one filesystem share the device.
type inode struct{ dev, ino uint64 }

// link is a hard-linked file whose first name was written.
type link struct {
	path string
	left uint32 // names that may still come
}

// maxNotices bounds the list of notices.
const maxNotices = 1000

func newWalker(ctx context.Context, s *stack.Stack, opt Options, tw *tar.Writer) *walker {
	return &walker{
		ctx: ctx, opt: opt, union: s, tw: tw,
		lower: stack.New(s.Layers()[1:]),
		links: make(map[inode]*link), origins: make(map[string]string), indexed: make(map[inode]string),
	}
}

// dir is a directory on the way. Its header is written when it is needed: at
// once when it differs from the one below, else before the first thing in it.
type dir struct {
	path   string // "" is the root
	parent *dir
	entry  stack.Entry  // in the union
	below  []stack.Real // what the layers below (walker.lower) merge at this path
	// unknown: below is not known.
	unknown bool
	// delta: the union below the upper is what is below, so only what the upper
	// holds has to be written. Else the directory was moved or is opaque, and
	// all that the union shows has to be.
	delta   bool
	written bool
	aliases *aliasTree
	// attrs is what the header is made of: the union's, or of a directory that is
	// not to be changed the one below.
	attrs stack.Object
}

func (d *dir) join(name string) string {
	if d.path == "" {
		return name
	}
	return d.path + "/" + name
}

func (w *walker) run() error {
	root := &dir{
		entry: w.union.Root(), below: w.lower.Root().Reals,
		unknown: w.opt.LowersUnknown, delta: true, aliases: w.aliases,
	}
	root.attrs = root.entry.Top().Object
	if root.attrs.Marks().Opacity == whiteout.OpaqueDir {
		root.delta = false
	}
	if w.opt.Full {
		root.delta, root.below = false, nil
		if err := w.writeDir(root); err != nil {
			return err
		}
	}
	// The root is in every image: it comes alone, never for the sake of what is
	// in it, and its time is not worth a layer.
	if len(root.below) > 0 && !root.unknown && w.chosen("") {
		same, err := w.sameDir(root.entry.Top().Object, root.below[0].Object, true)
		if err != nil {
			return pathError(root.path, err)
		}
		if !same {
			if err := w.writeDir(root); err != nil {
				return err
			}
		}
	}
	root.written = true
	return w.walk(root)
}

// walk writes what is in d.
func (w *walker) walk(d *dir) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	names, gone, err := w.list(d)
	if err != nil {
		return pathError(d.path, err)
	}
	if err := w.writeGone(d, gone); err != nil {
		return err
	}
	slices.Sort(names)
	for i, name := range names {
		if i > 0 && name == names[i-1] || !w.leadsToChosen(d.join(name)) {
			continue
		}
		if err := w.child(d, name); err != nil {
			return err
		}
	}
	return nil
}

// goneNames is what a directory deletes from the layers below.
type goneNames struct {
	names  []string
	opaque bool // everything, by one mark
}

// list tells which names of d are to be written and which are deleted.
func (w *walker) list(d *dir) (names []string, gone goneNames, err error) {
	if !d.delta {
		return w.listFull(d)
	}
	names = d.aliases.names()
	top := d.entry.Top()
	if top.Layer != 0 {
		return names, gone, nil // only on the way to an alias
	}
	sub, _ := top.Dir()
	ents, err := sub.ReadDir()
	if err != nil {
		return nil, gone, err
	}
	present := make(map[string]bool, len(ents))
	for _, e := range ents {
		if !e.Whiteout {
			names = append(names, e.Name)
			present[e.Name] = true
		}
	}
	for _, e := range ents {
		if !e.Whiteout || present[e.Name] {
			continue // replaced, not deleted
		}
		needed, err := w.existsBelow(d, e.Name)
		if err != nil {
			return nil, gone, err
		}
		if (needed || w.opt.KeepWhiteouts) && w.chosen(d.join(e.Name)) {
			gone.names = append(gone.names, e.Name)
		}
	}
	return names, gone, nil
}

// listFull is list for a directory of which everything is written.
func (w *walker) listFull(d *dir) (names []string, gone goneNames, err error) {
	ents, err := stack.ReadDir(d.entry.Reals)
	if err != nil {
		return nil, gone, err
	}
	present := make(map[string]bool, len(ents))
	for _, e := range ents {
		names = append(names, e.Name)
		present[e.Name] = true
	}
	if w.opt.Full {
		return names, gone, nil
	}
	if d.unknown || w.opt.KeepWhiteouts && d.entry.Top().Object.Marks().Opacity == whiteout.OpaqueDir {
		gone.opaque = true
		return names, gone, nil
	}
	if len(d.below) == 0 {
		return names, gone, nil
	}
	old, err := stack.ReadDir(d.below)
	if err != nil {
		return nil, gone, err
	}
	for _, e := range old {
		if !present[e.Name] && w.chosen(d.join(e.Name)) {
			gone.names = append(gone.names, e.Name)
		}
	}
	if len(gone.names) > MaxExplicit && !w.choosy() {
		gone = goneNames{opaque: true}
	}
	return names, gone, nil
}

func (w *walker) existsBelow(d *dir, name string) (bool, error) {
	if d.unknown {
		return true, nil
	}
	if len(d.below) == 0 {
		return false, nil
	}
	reals, err := w.lower.Find(d.below, stack.Search{Name: name})
	return len(reals) > 0, err
}

// writeGone writes the whiteouts of d, or its opaque mark.
func (w *walker) writeGone(d *dir, gone goneNames) error {
	if gone.opaque {
		d.below, d.unknown = nil, false
		w.counts.Opaques++
		return w.writeMark(d, whiteout.OpaqueName)
	}
	slices.Sort(gone.names)
	for _, name := range gone.names {
		if !whiteout.Representable(name) {
			w.badNames = append(w.badNames, d.join(name))
			continue
		}
		w.counts.Whiteouts++
		if err := w.writeMark(d, whiteout.OCIName(name)); err != nil {
			return err
		}
	}
	return nil
}

// child writes one name of d and what is in it.
func (w *walker) child(d *dir, name string) error {
	path := d.join(name)
	if !whiteout.Representable(name) {
		w.badNames = append(w.badNames, path)
		return nil
	}
	e, err := w.lookup(d, name)
	switch {
	case errors.Is(err, unix.ENOENT):
		return w.vanished(d, name)
	case err != nil:
		return w.lookupError(path, err)
	}
	if !e.IsDir() {
		if !w.chosen(path) {
			return nil // a directory is on the way to what is, a file is not
		}
		return w.file(d, name, e)
	}
	top := e.Top().Object
	sub := &dir{
		path: path, parent: d, entry: e, unknown: d.unknown,
		delta:   d.delta && top.Marks().Opacity != whiteout.OpaqueDir && top.Marks().Redirect == "",
		aliases: d.aliases.child(name), attrs: top,
	}
	if err := w.checkRedirect(path, e); err != nil {
		return err
	}
	var old stack.Object
	if len(d.below) > 0 {
		reals, err := w.lower.Find(d.below, stack.Search{Name: name})
		if err != nil {
			return pathError(path, err)
		}
		if len(reals) > 0 {
			if _, isDir := reals[0].Dir(); isDir {
				sub.below, old = reals, reals[0].Object
			}
		}
	}
	same := !w.chosen(path)
	if same && old != nil {
		sub.attrs = old
	}
	if old != nil && !same {
		if same, err = w.sameDir(top, old, false); err != nil {
			return pathError(path, err)
		}
	}
	if !same {
		if err := w.writeDir(sub); err != nil {
			return err
		}
	}
	return w.walk(sub)
}

// lookup finds what the union shows under a name of d.
func (w *walker) lookup(d *dir, name string) (stack.Entry, error) {
	if src, ok := d.aliases.source(name); ok {
		if src.path == "" {
			return src.entry, nil
		}
		return w.union.Walk(src.path)
	}
	return w.union.Lookup(d.entry, name)
}

// vanished handles a name that was listed and is gone: it was deleted during
// the walk, so it is deleted in the layer too.
func (w *walker) vanished(d *dir, name string) error {
	old, err := w.existsBelow(d, name)
	if err != nil || !old || !w.chosen(d.join(name)) {
		return err
	}
	w.counts.Whiteouts++
	return w.writeMark(d, whiteout.OCIName(name))
}

func (w *walker) lookupError(path string, err error) error {
	if errors.Is(err, unix.EIO) {
		return pathError(path, fmt.Errorf("%w: it is a metadata-only copy (metacopy) and no layer below holds its data; "+
			"name all lower layers, top first (--lower)", ErrInput))
	}
	if errors.Is(err, unix.EINVAL) {
		return pathError(path, fmt.Errorf("%w: its redirect mark leads nowhere", ErrInput))
	}
	return pathError(path, err)
}

// checkRedirect finds moved directories whose content no layer holds.
func (w *walker) checkRedirect(path string, e stack.Entry) error {
	m := e.Top().Object.Marks()
	if m.Redirect == "" || m.Opacity == whiteout.OpaqueDir || len(e.Reals) > 1 {
		return nil
	}
	return pathError(path, fmt.Errorf("%w: it is a directory moved from %q and no layer below holds that; "+
		"name all lower layers, top first (--lower)", ErrInput, m.Redirect))
}

func (w *walker) notice(format string, args ...any) {
	if len(w.notices) < maxNotices {
		w.notices = append(w.notices, fmt.Sprintf(format, args...))
	}
}

// entryError says which path of the union an error is about.
type entryError struct {
	path string
	err  error
}

func (e *entryError) Error() string { return e.path + ": " + e.err.Error() }
func (e *entryError) Unwrap() error { return e.err }

// pathError names the path of an error, unless it names one already.
func pathError(path string, err error) error {
	var have *entryError
	if errors.As(err, &have) {
		return err
	}
	return &entryError{"/" + path, err}
}
