package tarlayer

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/whiteout"
)

// builder lays out the tree while the tar is read. Objects have numbers by
// first appearance, the root is 0; objects that a later entry replaced stay and
// are left out in the end.
type builder struct {
	limits *Limits
	nodes  []inode // data of symlinks: number of the target in targets
	names  map[nameKey]nameValue
	counts counts

	targets   []string
	pending   []pendingLink
	xattrs    []byte
	xattrSets map[string]uint32 // where a set is in xattrs
	sparse    []byte

	entries, nameBytes, fragments int64

	// The parent found last, which is the next one's most of the time.
	lastParent string
	lastDir    uint32
}

type nameKey struct {
	dir  uint32
	name string
}

// nameValue is what a name stands for: an object, a whiteout, or both.
type nameValue struct {
	node  uint32
	has   bool // node is set
	white bool // deleted from the layers below
}

// pendingLink is a hard link whose target had not come yet.
type pendingLink struct {
	node   uint32 // stands for the target
	path   string
	target string
}

func newBuilder(l *Limits) *builder {
	return &builder{
		limits:    l,
		nodes:     []inode{{mode: unix.S_IFDIR | 0o755, flags: flagImplied}},
		names:     make(map[nameKey]nameValue),
		xattrSets: make(map[string]uint32),
	}
}

// cleanPath turns an entry's name into a path below the root, "" for the root
// itself, as docker does: lexically.
func (b *builder) cleanPath(name string) (string, error) {
	if len(name) > b.limits.PathBytes {
		return "", fmt.Errorf("path %.40q... of %d bytes: %w", name, len(name), ErrLimit)
	}
	if strings.IndexByte(name, 0) >= 0 {
		return "", fmt.Errorf("name %q holds a NUL byte: %w", name, ErrInvalid)
	}
	var parts []string
	for part := range strings.SplitSeq(name, "/") {
		switch part {
		case "", ".":
		case "..":
			if len(parts) == 0 {
				return "", fmt.Errorf("name %q climbs out of the layer: %w", name, ErrInvalid)
			}
			parts = parts[:len(parts)-1]
		default:
			if len(part) > maxName {
				return "", fmt.Errorf("name %.40q... has a part of %d bytes, more than %d: %w", name, len(part), maxName, ErrInvalid)
			}
			parts = append(parts, part)
		}
	}
	if len(parts) > b.limits.Depth {
		return "", fmt.Errorf("path %.40q... is %d directories deep: %w", name, len(parts), ErrLimit)
	}
	return strings.Join(parts, "/"), nil
}

// splitPath cuts a clean path into its parent and its last part.
func splitPath(path string) (parent, base string) {
	i := strings.LastIndexByte(path, '/')
	if i < 0 {
		return "", path
	}
	return path[:i], path[i+1:]
}

// count counts objects and names.
func (b *builder) count(n int64) error {
	b.entries += n
	if b.entries > b.limits.Entries {
		return fmt.Errorf("more than %d entries: %w", b.limits.Entries, ErrLimit)
	}
	return nil
}

func (b *builder) countName(n int) error {
	b.nameBytes += int64(n)
	if b.nameBytes > b.limits.NameBytes {
		return fmt.Errorf("names of more than %d bytes: %w", b.limits.NameBytes, ErrLimit)
	}
	return nil
}

// parentDir returns the directory at a clean path, following symlinks inside
// the root. Directories that are missing are made, with the times of like.
func (b *builder) parentDir(path string, like *inode) (uint32, error) {
	if path == b.lastParent {
		return b.lastDir, nil
	}
	w := walker{b: b, make: like, dirs: []uint32{0}}
	if err := w.walk(path); err != nil {
		return 0, err
	}
	b.lastParent, b.lastDir = path, w.dir()
	return b.lastDir, nil
}

// walker follows one path in the tree that is being built.
type walker struct {
	b       *builder
	make    *inode   // what missing directories are like; nil: they are errors
	dirs    []uint32 // from the root down
	follows int
	steps   int
}

func (w *walker) dir() uint32 { return w.dirs[len(w.dirs)-1] }

// errNotThere: a path of the tar leads to nothing in it.
var errNotThere = fmt.Errorf("is not in the layer: %w", ErrInvalid)

// walk follows a path from where the walker stands.
func (w *walker) walk(path string) error {
	for part := range strings.SplitSeq(path, "/") {
		if w.steps++; w.steps > 8*w.b.limits.Depth {
			return fmt.Errorf("path %.40q... leads over too many directories: %w", path, ErrLimit)
		}
		switch part {
		case "", ".":
			continue
		case "..":
			if len(w.dirs) > 1 {
				w.dirs = w.dirs[:len(w.dirs)-1]
			}
			continue
		}
		if err := w.step(part); err != nil {
			return err
		}
	}
	return nil
}

// step goes to one name of the directory.
func (w *walker) step(name string) error {
	v := w.b.names[nameKey{w.dir(), name}]
	if !v.has {
		if w.make == nil {
			return errNotThere
		}
		n := inode{mode: unix.S_IFDIR | 0o755, flags: flagImplied, mtime: w.make.mtime, nsec: w.make.nsec}
		if len(name) > maxName {
			return fmt.Errorf("directory name of %d bytes: %w", len(name), ErrInvalid)
		}
		if len(w.dirs) > w.b.limits.Depth {
			return fmt.Errorf("%q is %d directories deep: %w", name, len(w.dirs), ErrLimit)
		}
		node, err := w.b.put(w.dir(), name, n)
		if err != nil {
			return err
		}
		w.dirs = append(w.dirs, node)
		return nil
	}
	switch n := &w.b.nodes[v.node]; {
	case n.isDir():
		w.dirs = append(w.dirs, v.node)
		return nil
	case n.typ() == unix.S_IFLNK:
		if w.follows++; w.follows > maxFollows {
			return fmt.Errorf("%q: too many levels of symlinks: %w", name, ErrInvalid)
		}
		target := w.b.targets[n.data]
		if target[0] == '/' {
			w.dirs = w.dirs[:1]
		}
		return w.walk(target)
	default:
		return fmt.Errorf("%q is no directory but has names below it: %w", name, ErrInvalid)
	}
}

// put makes n the object under a name. A directory over a directory keeps its
// number and so its children.
func (b *builder) put(dir uint32, name string, n inode) (uint32, error) {
	key := nameKey{dir, name}
	v := b.names[key]
	if v.has && n.isDir() && b.nodes[v.node].isDir() {
		n.flags |= b.nodes[v.node].flags & flagOpaque
		b.nodes[v.node] = n
		return v.node, nil
	}
	if err := b.count(1); err != nil {
		return 0, err
	}
	node := uint32(len(b.nodes))
	b.nodes = append(b.nodes, n)
	return node, b.setName(key, v, node)
}

// setName lets a name stand for an object.
func (b *builder) setName(key nameKey, v nameValue, node uint32) error {
	if err := b.newName(&key, v); err != nil {
		return err
	}
	if v.has {
		b.lastParent, b.lastDir = "", 0 // it may have led over what is gone
	}
	v.node, v.has = node, true
	b.names[key] = v
	return nil
}

// newName counts a name that was not there before.
func (b *builder) newName(key *nameKey, v nameValue) error {
	if v.has || v.white {
		return nil
	}
	key.name = strings.Clone(key.name) // the rest of its path may go
	if err := b.count(1); err != nil {
		return err
	}
	return b.countName(len(key.name))
}

// add takes one entry of the tar, other than a hard link.
func (b *builder) add(name string, n inode) error {
	path, err := b.cleanPath(name)
	if err != nil {
		return err
	}
	if path == "" {
		if !n.isDir() {
			return fmt.Errorf("entry %q is the root but no directory: %w", name, ErrInvalid)
		}
		n.flags |= b.nodes[0].flags & flagOpaque
		b.nodes[0] = n
		return nil
	}
	dir, base, err := b.place(name, path, &n)
	if err != nil || base == "" {
		return err
	}
	if whiteout.IsDevice(uint32(n.mode), n.data) {
		key := nameKey{dir, base}
		v := b.names[key]
		if err := b.newName(&key, v); err != nil {
			return err
		}
		if v.has {
			b.lastParent, b.lastDir = "", 0
		}
		b.names[key] = nameValue{white: true}
		return nil
	}
	_, err = b.put(dir, base, n)
	return err
}

// place finds where an entry goes. If it is a mark, it is put into effect and
// base is "".
func (b *builder) place(name, path string, n *inode) (dir uint32, base string, err error) {
	parent, base := splitPath(path)
	if skip, err := b.markOnTheWay(parent); skip || err != nil {
		return 0, "", err
	}
	kind, victim := whiteout.ParseOCIName(base)
	if kind == whiteout.Reserved {
		if !isStray(base) {
			return 0, "", fmt.Errorf("entry %q is a whiteout of nothing: %w", name, ErrInvalid)
		}
		b.counts.skipped++
		return 0, "", nil
	}
	if dir, err = b.parentDir(parent, n); err != nil {
		return 0, "", fmt.Errorf("entry %q: %w", name, err)
	}
	switch kind {
	case whiteout.MakesOpaque:
		b.nodes[dir].flags |= flagOpaque
		return 0, "", nil
	case whiteout.Deletes:
		return 0, "", b.whiteout(dir, victim)
	default:
		return dir, base, nil
	}
}

// isStray tells a reserved name that some tool leaves from one that is wrong.
func isStray(base string) bool { return strings.Trim(base[len(whiteout.Prefix):], ".") != "" }

// markOnTheWay tells whether a path lies in a directory that is bookkeeping of
// AUFS; below any other mark nothing can be.
func (b *builder) markOnTheWay(parent string) (skip bool, err error) {
	if !strings.Contains(parent, whiteout.Prefix) {
		return false, nil
	}
	for part := range strings.SplitSeq(parent, "/") {
		switch kind, _ := whiteout.ParseOCIName(part); {
		case kind == whiteout.Reserved && isStray(part):
			b.counts.skipped++
			return true, nil
		case kind != whiteout.Plain:
			return false, fmt.Errorf("path %q leads over a whiteout: %w", parent, ErrInvalid)
		}
	}
	return false, nil
}

// whiteout deletes a name from the layers below.
func (b *builder) whiteout(dir uint32, name string) error {
	key := nameKey{dir, name}
	v := b.names[key]
	if err := b.newName(&key, v); err != nil {
		return err
	}
	v.white = true
	b.names[key] = v
	return nil
}

// link takes a hard link.
func (b *builder) link(name, target string, like *inode) error {
	path, err := b.cleanPath(name)
	if err != nil {
		return err
	}
	if path == "" {
		return fmt.Errorf("entry %q is the root but no directory: %w", name, ErrInvalid)
	}
	to, err := b.cleanPath(target)
	if err != nil {
		return fmt.Errorf("hard link %q: %w", name, err)
	}
	dir, base, err := b.place(name, path, like)
	if err != nil || base == "" {
		return err
	}
	key := nameKey{dir, base}
	v := b.names[key]
	node, err := b.linkTarget(to)
	if err == nil {
		if v.has && v.node == node {
			return nil
		}
		return b.setName(key, v, node)
	}
	if err != errNotThere { //nolint:errorlint // the very value
		return fmt.Errorf("hard link %q to %q: %w", name, target, err)
	}
	if node, err = b.put(dir, base, inode{mode: unix.S_IFREG, flags: flagPending}); err != nil {
		return err
	}
	if err := b.countName(len(path) + len(to)); err != nil {
		return err
	}
	b.pending = append(b.pending, pendingLink{node, path, to})
	return nil
}

// linkTarget finds what a hard link to a clean path links to.
func (b *builder) linkTarget(path string) (uint32, error) {
	parent, base := splitPath(path)
	w := walker{b: b, dirs: []uint32{0}}
	if err := w.walk(parent); err != nil {
		return 0, err
	}
	v := b.names[nameKey{w.dir(), base}]
	if !v.has {
		return 0, errNotThere
	}
	if b.nodes[v.node].isDir() {
		return 0, fmt.Errorf("is a directory: %w", ErrInvalid)
	}
	return v.node, nil
}
