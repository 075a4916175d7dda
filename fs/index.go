package fs

import (
	"encoding/hex"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/stack"
	"github.com/unionfs-go/unionfs/internal/sys"
	"github.com/unionfs-go/unionfs/whiteout"
)

// The hardlink index keeps the names of a hard-linked lower file together. When
// such a file is copied up, the copy is also linked into workdir/index under the
// hexadecimal origin handle of the lower file; a name that is still below is
// recognised by its inode and finds the copy there. The link count of the union
// is kept on the copy relative to its own link count or the lower one's
// (fs/overlayfs/namei.c:ovl_lookup_index, util.c:ovl_nlink_start).

// hardlink is what a node knows about its index entry.
type hardlink struct {
	name    string // entry of the index: the origin handle in hexadecimal
	nlink   int    // names in the union
	indexed bool   // the entry exists
	meta    bool   // the entry is a metacopy file
}

// indexes tells whether hard-linked lower files are indexed.
func (f *FS) indexes() bool { return f.indexFD >= 0 }

// linkedNode is nodeOf for an object with several names: all of them have one
// node.
//
// Preconditions: f.treeMu is held; dir.mu is held for writing.
func (f *FS) linkedNode(dir *node, name string, r *resolved) (*node, error) {
	keys, hard, err := f.hardOf(dir, name, r)
	if err != nil {
		return nil, err
	}
	l := link{parent: dir, name: name, below: !r.inUpper}
	if n := f.nodes.find(keys); n != nil && n.typ == r.attr.Type() {
		n.mu.Lock()
		if !n.hasLinkLocked(dir, name) {
			n.addLinkLocked(l)
		}
		if !l.below {
			f.takeFromOrphan(n) // it has a name again that leads to it
		}
		n.mu.Unlock()
		return n, nil
	}
	state := lowerOnly
	switch {
	case r.inUpper && r.marks.HasMetacopy, hard != nil && hard.meta:
		state = metaUpper
	case r.inUpper, hard != nil && hard.indexed:
		state = fullUpper
	}
	n := f.newNode(r.attr.Type(), r.lower, state)
	f.dress(n, dir, name, r)
	if keys.inLower {
		n.ino.Store(f.inos.number(keys.lower.dev, keys.lower.ino))
	}
	n.hard = hard
	if hard != nil && hard.indexed {
		n.maybeXat.Store(true) // the copy in the index was not asked
		if f.own.remembers() {
			n.over.Store(f.own.loadAt(unix.S_IFREG, f.indexFD, hard.name))
		}
	}
	n.addLinkLocked(l)
	f.nodes.setKeys(n, keys)
	return n, nil
}

// hardOf finds under which numbers the other names of an object would be known,
// and its index entry.
func (f *FS) hardOf(dir *node, name string, r *resolved) (hardKeys, *hardlink, error) {
	var k hardKeys
	if r.inUpper {
		k.upper = r.attr.Ino
		if !f.indexes() || !r.marks.HasOrigin {
			return k, nil, nil
		}
		return f.hardOfUpper(dir, name, r, k)
	}
	if f.upperFD >= 0 && !f.indexes() {
		return k, nil, nil // the names part when one of them is copied up
	}
	o := r.lower[0].Object
	a := o.Attr()
	if a.Nlink < 2 {
		return k, nil, nil
	}
	k.lower, k.inLower = devIno{a.Dev, a.Ino}, true
	if !f.indexes() {
		return k, nil, nil
	}
	h, err := o.Handle()
	if err == unix.ENOTSUP {
		return k, &hardlink{nlink: int(a.Nlink)}, nil
	}
	if err != nil {
		return k, nil, err
	}
	hard := &hardlink{name: hex.EncodeToString(h), nlink: int(a.Nlink)}
	return f.readIndex(k, hard, a.Nlink)
}

// hardOfUpper finds the index entry of a file that the upper holds.
func (f *FS) hardOfUpper(dir *node, name string, r *resolved, k hardKeys) (hardKeys, *hardlink, error) {
	p, err := f.enter(dir)
	if err != nil {
		return k, nil, err
	}
	h, err := f.cfg.Namespace.Get(p.fd, name, whiteout.Origin)
	f.leave(p)
	if err != nil || len(h) == 0 {
		return k, nil, nil //nolint:nilerr // without an origin it is an ordinary upper file
	}
	hard := &hardlink{name: hex.EncodeToString(h)}
	var st unix.Statx_t
	if sys.Statx(f.indexFD, hard.name, &st) != nil || st.Ino != r.attr.Ino {
		return k, nil, nil // not the indexed one
	}
	var lowerNlink uint32
	if reals, err := f.lowers.Find(dir.lower, stack.Search{Name: name}); err == nil && len(reals) > 0 {
		lowerNlink = reals[0].Object.Attr().Nlink
	}
	if o, ok := f.originIno(h); ok {
		k.lower, k.inLower = o, true
	}
	return f.readIndex(k, hard, lowerNlink)
}

// readIndex reads the index entry named in hard, where it exists.
func (f *FS) readIndex(k hardKeys, hard *hardlink, lowerNlink uint32) (hardKeys, *hardlink, error) {
	var st unix.Statx_t
	switch err := sys.Statx(f.indexFD, hard.name, &st); err {
	case nil:
	case unix.ENOENT, unix.ENAMETOOLONG:
		return k, hard, nil
	default:
		return k, nil, err
	}
	if whiteout.IsDevice(uint32(st.Mode), unix.Mkdev(st.Rdev_major, st.Rdev_minor)) {
		return k, hard, nil
	}
	hard.indexed = true
	k.upper = st.Ino
	_, err := sys.Getxattrat(f.indexFD, hard.name, f.cfg.Namespace.Attr(whiteout.Metacopy), nil)
	hard.meta = err == nil
	mark, err := f.cfg.Namespace.Get(f.indexFD, hard.name, whiteout.Nlink)
	if err != nil {
		mark = nil
	}
	hard.nlink = unionNlink(string(mark), int(st.Nlink), int(lowerNlink))
	return k, hard, nil
}

// unionNlink evaluates an nlink mark: "U+1" is relative to the link count of
// the upper file (which includes the index), "L-1" to that of the lower file
// (fs/overlayfs/inode.c:ovl_get_nlink).
func unionNlink(mark string, upper, lower int) int {
	base := upper - 1 // without a mark: the names in the upper
	if len(mark) < 3 {
		return base
	}
	d, err := strconv.Atoi(mark[1:])
	if err != nil {
		return base
	}
	switch {
	case mark[0] == 'U':
		return upper + d
	case mark[0] == 'L' && lower > 0:
		return lower + d
	}
	return base
}

// markNlinkUpper stores the union's link count relative to the upper's, before
// an operation that changes both alike (fs/overlayfs/util.c:ovl_nlink_start).
//
// Preconditions: f.treeMu and n.mu are held; n is in the upper.
func (f *FS) markNlinkUpper(n *node) error {
	if n.hard == nil || !n.hard.indexed {
		return nil
	}
	var st unix.Statx_t
	if err := sys.Statx(f.indexFD, n.hard.name, &st); err != nil {
		return err
	}
	mark := fmt.Sprintf("U%+d", n.hard.nlink-int(st.Nlink))
	return f.cfg.Namespace.Set(f.indexFD, n.hard.name, whiteout.Nlink, []byte(mark))
}

// addNlink follows the union's link count, and lets the index entry go with the
// last name (fs/overlayfs/util.c:ovl_cleanup_index).
//
// Preconditions: f.treeMu is held; n.mu is held for writing.
func (f *FS) addNlink(n *node, delta int) {
	if n.hard == nil {
		return
	}
	n.hard.nlink += delta
	if n.hard.nlink <= 0 && n.hard.indexed {
		if err := sys.Unlinkat(f.indexFD, n.hard.name, 0); err != nil && err != unix.ENOENT {
			f.log.Warn("cannot remove index entry", "entry", n.hard.name, "err", err)
			return
		}
		n.hard.indexed = false
	}
}

// linkUp gives a name that is only below its own link in the upper, so that it
// can be renamed (fs/overlayfs/copy_up.c:ovl_link_up).
//
// Preconditions: f.treeMu is held exclusively; the parent is in the upper; n is
// in the upper.
func (f *FS) linkUp(n, parent *node, name string) error {
	i := -1
	for j, l := range n.links {
		if l.parent == parent && l.name == name && l.below {
			i = j
		}
	}
	if i < 0 {
		return nil
	}
	if n.hard != nil && n.hard.indexed && len(n.lower) > 0 {
		mark := fmt.Sprintf("L%+d", n.hard.nlink-int(n.lower[0].Object.Attr().Nlink))
		if err := f.cfg.Namespace.Set(f.indexFD, n.hard.name, whiteout.Nlink, []byte(mark)); err != nil {
			return err
		}
	}
	dir, err := f.enter(parent)
	if err != nil {
		return err
	}
	defer f.leave(dir)
	restore, err := keepTimes(dir)
	if err != nil {
		return err
	}
	err = f.at(n, func(p place) error {
		if p.name == "" {
			return sys.LinkFD(p.fd, dir.fd, name)
		}
		return sys.Linkat(p.fd, p.name, dir.fd, name)
	})
	if err != nil {
		return err
	}
	n.links[i].below = false
	if ix := parent.dir.index; ix != nil {
		ix.setBelow(name, false)
	}
	if err := restore(); err != nil {
		return err
	}
	return f.markNlinkUpper(n)
}
