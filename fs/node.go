package fs

import (
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/stack"
	"github.com/unionfs-go/unionfs/internal/sys"
	"github.com/unionfs-go/unionfs/whiteout"
)

// upperState is where a node's object is. It only ever grows.
type upperState = uint32

const (
	lowerOnly upperState = iota // the upper has nothing of it
	metaUpper                   // attributes in the upper, data still below (metacopy)
	fullUpper                   // all of it in the upper
)

// node is one FUSE inode: one object of the union.
//
// Everything that reads or changes links, children or redirect holds
// FS.treeMu, shared at least; rename holds it exclusively and needs no mu.
type node struct {
	id    uint64       // never reused; immutable
	typ   uint32       // S_IF* type; immutable
	lower []stack.Real // what lies below, visible object first; immutable
	dir   *dirState    // directories only; immutable
	// origin: the upper's object has an origin mark; immutable once shared.
	origin bool

	upper    atomic.Uint32 // upperState
	ino      atomic.Uint64 // st_ino; changes only when a broken hard link is copied up
	maybeXat atomic.Bool   // an extended attribute that users see may be stored
	mtime    atomic.Int64  // last mtime the kernel set, in ns, 0 for none; see write
	// over is what is remembered of the object, nil for nothing; see ownership.
	over atomic.Pointer[whiteout.Override]
	data atomic.Pointer[dataFiles] // what data goes through, once it was needed

	mu     sync.RWMutex
	links  []link    // names in the union; guarded by mu
	orphan int32     // descriptor plus one of an upper object without a name; guarded by mu
	hard   *hardlink // hardlink index entry; guarded by mu

	opened    atomic.Pointer[openState] // with io=passthrough, once it was opened
	successor atomic.Pointer[node]      // the node that took over its names; see passthrough.go

	nlookup uint64   // references of the kernel; guarded by table.mu
	keys    hardKeys // places in the table's hard link maps; guarded by table.mu
}

// link is one name of a node.
type link struct {
	parent *node
	name   string
	below  bool // the name is in the layers below only, the object in the index
}

// dirState is what only directories have.
type dirState struct {
	slot sys.Slot // O_PATH descriptor of the upper directory
	// loc repeats the node's one link for those who open slot's descriptor
	// and cannot take node.mu; written with node.mu held.
	loc atomic.Pointer[dirLoc]

	children map[string]*node // nodes the kernel may know; guarded by node.mu
	index    *dirIndex        // the merged listing once read; guarded by node.mu
	misses   uint8            // names that no layer has, looked for on disk; guarded by node.mu
	redirect string           // redirect mark in the upper; guarded by node.mu
	opacity  whiteout.Opacity // of the upper directory; guarded by node.mu
	impure   bool             // the impure mark is set; guarded by node.mu
	defACL   aclState         // default ACL of the directory; guarded by node.mu
}

// dirLoc is where a directory is: under a name, or removed and only reachable by
// the descriptor plus one in orphan.
type dirLoc struct {
	parent *node
	name   string
	orphan int32
}

// devIno names an object of the layers below.
type devIno struct{ dev, ino uint64 }

// hardKeys are a node's keys in the table's maps of objects with several names.
type hardKeys struct {
	upper   uint64 // inode number in the upper, 0 for none
	lower   devIno
	inLower bool
}

// isUpper tells whether the node has an object in the upper.
func (n *node) isUpper() bool { return n.upper.Load() != lowerOnly }

// isDir tells whether the node is a directory.
func (n *node) isDir() bool { return n.dir != nil }

// fromBelow tells whether the object came from the layers below, so that its
// inode number is not the upper's own.
func (n *node) fromBelow() bool { return len(n.lower) > 0 || n.origin }

// merges tells whether a directory shows more than one layer
// (fs/overlayfs/util.c:ovl_path_type, __OVL_PATH_MERGE).
func (n *node) merges() bool {
	if n.isUpper() {
		return len(n.lower) > 0
	}
	return len(n.lower) > 1
}

// hasLinkLocked tells whether (parent, name) is one of the node's names.
//
// Preconditions: n.mu is held.
func (n *node) hasLinkLocked(parent *node, name string) bool {
	for _, l := range n.links {
		if l.parent == parent && l.name == name {
			return true
		}
	}
	return false
}

// prefer makes one name of a file with several the one that a copy-up gives to
// the upper: the name that somebody is using, as far as that can be known.
//
// Preconditions: FS.treeMu is held; n.mu is not.
func (n *node) prefer(dir *node, name string) {
	if n.isUpper() || n.isDir() {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for i, l := range n.links {
		if i > 0 && l.parent == dir && l.name == name {
			links := append([]link{l}, n.links[:i]...)
			n.links = append(links, n.links[i+1:]...)
			return
		}
	}
}

// missed counts a name that no layer has, see missesForIndex.
//
// Preconditions: n.mu is held for writing.
func (n *node) missed() {
	if n.dir.misses < missesForIndex {
		n.dir.misses++
	}
}

// addLinkLocked records one more name.
//
// Preconditions: n.mu is held, or FS.treeMu exclusively, or n is not yet shared.
func (n *node) addLinkLocked(l link) {
	n.links = append(n.links[:len(n.links):len(n.links)], l)
	if n.dir != nil {
		n.dir.loc.Store(&dirLoc{parent: l.parent, name: l.name})
	}
}

// dropLinkLocked forgets one name.
//
// Preconditions: n.mu is held, or FS.treeMu exclusively.
func (n *node) dropLinkLocked(parent *node, name string) {
	for i, l := range n.links {
		if l.parent == parent && l.name == name {
			n.links = append(n.links[:i:i], n.links[i+1:]...)
			break
		}
	}
	if n.dir != nil && len(n.links) == 0 {
		n.dir.loc.Store(&dirLoc{orphan: n.orphan})
	}
}

// parentLocked is some parent directory of the node, nil for the root and for an
// object without a name.
//
// Preconditions: n.mu is held.
func (n *node) parentLocked() *node {
	if len(n.links) == 0 {
		return nil
	}
	return n.links[0].parent
}

// table finds nodes by what the kernel and the layers call them.
type table struct {
	mu      sync.RWMutex
	byID    map[uint64]*node // guarded by mu
	byUpper map[uint64]*node // upper files with several names; guarded by mu
	byLower map[devIno]*node // lower files with several names; guarded by mu
	nextID  uint64           // guarded by mu
}

func newTable() *table {
	return &table{
		byID:    make(map[uint64]*node),
		byUpper: make(map[uint64]*node),
		byLower: make(map[devIno]*node),
		nextID:  rootID,
	}
}

// rootID is the kernel's id of the root (FUSE_ROOT_ID).
const rootID = 1

// get returns the node that a request about an id is about, or nil.
func (t *table) get(id uint64) *node {
	n := t.entry(id)
	for n != nil {
		next := n.successor.Load()
		if next == nil {
			break
		}
		n = next
	}
	return n
}

// entry returns the node that the kernel was given an id for, or nil.
func (t *table) entry(id uint64) *node {
	t.mu.RLock()
	n := t.byID[id]
	t.mu.RUnlock()
	return n
}

// replace lets a new node be found in the place of n among the objects with
// several names. n keeps its id.
func (t *table) replace(n, next *node) {
	t.mu.Lock()
	defer t.mu.Unlock()
	next.keys = n.keys
	if t.byUpper[n.keys.upper] == n {
		delete(t.byUpper, n.keys.upper)
	}
	if t.byLower[n.keys.lower] == n {
		delete(t.byLower, n.keys.lower)
	}
	n.keys = hardKeys{}
	t.putKeysLocked(next)
}

// size is how many nodes the kernel holds.
func (t *table) size() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return len(t.byID)
}

// add gives a new node its id. The kernel holds it once ref was called.
func (t *table) add(n *node) {
	t.mu.Lock()
	n.id = t.nextID
	t.nextID++
	t.mu.Unlock()
}

// ref counts one more reference of the kernel to n.
func (t *table) ref(n *node) {
	t.mu.Lock()
	n.nlookup++
	if n.nlookup == 1 {
		t.byID[n.id] = n
		t.putKeysLocked(n)
	}
	t.mu.Unlock()
}

// putKeysLocked enters n in the hard link maps.
//
// Preconditions: t.mu is held for writing.
func (t *table) putKeysLocked(n *node) {
	if n.keys.upper != 0 {
		t.byUpper[n.keys.upper] = n
	}
	if n.keys.inLower {
		t.byLower[n.keys.lower] = n
	}
}

// setKeys records under which inode numbers other names of n are recognised.
func (t *table) setKeys(n *node, k hardKeys) {
	t.mu.Lock()
	if k.upper != 0 {
		n.keys.upper = k.upper
	}
	if k.inLower {
		n.keys.lower, n.keys.inLower = k.lower, true
	}
	t.putKeysLocked(n)
	t.mu.Unlock()
}

// find returns the node that has one of the keys, or nil.
func (t *table) find(k hardKeys) *node {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if k.upper != 0 {
		if n := t.byUpper[k.upper]; n != nil {
			return n
		}
	}
	if k.inLower {
		return t.byLower[k.lower]
	}
	return nil
}

// unref takes n references of the kernel away and tells whether none is left;
// the node is then out of the table.
func (t *table) unref(n *node, count uint64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n.id == rootID {
		return false
	}
	n.nlookup -= min(count, n.nlookup)
	if n.nlookup > 0 {
		return false
	}
	delete(t.byID, n.id)
	if t.byUpper[n.keys.upper] == n {
		delete(t.byUpper, n.keys.upper)
	}
	if t.byLower[n.keys.lower] == n {
		delete(t.byLower, n.keys.lower)
	}
	return true
}

// held tells whether the kernel holds references to n.
func (t *table) held(n *node) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return n.nlookup > 0
}

// forget drops references of the kernel and, with the last one, everything that
// the node keeps open. The object on disk is not touched.
func (f *FS) forget(id, count uint64) {
	n := f.nodes.entry(id)
	if n == nil || !f.nodes.unref(n, count) {
		return
	}
	f.dropBacking(n)
	f.treeMu.RLock()
	defer f.treeMu.RUnlock()
	n.mu.RLock()
	links := slices.Clone(n.links)
	n.mu.RUnlock()
	for _, l := range links {
		l.parent.mu.Lock()
		// A lookup may have taken the node up again meanwhile.
		if l.parent.dir.children[l.name] == n && !f.nodes.held(n) {
			delete(l.parent.dir.children, l.name)
		}
		l.parent.mu.Unlock()
	}
	if f.nodes.held(n) {
		return
	}
	n.mu.Lock()
	f.takeFromOrphan(n) // a name that was found since leads to the index
	n.mu.Unlock()
	if d := n.data.Load(); d != nil {
		d.drop(f)
	}
	if n.dir != nil {
		f.dirFDs.Drop(&n.dir.slot)
	}
}

// newNode makes a node of the given type with an id of its own.
func (f *FS) newNode(typ uint32, lower []stack.Real, upper upperState) *node {
	n := &node{typ: typ, lower: lower}
	n.upper.Store(upper)
	if typ == unix.S_IFDIR {
		n.dir = &dirState{children: make(map[string]*node)}
	}
	f.nodes.add(n)
	return n
}
