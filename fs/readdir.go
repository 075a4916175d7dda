package fs

import (
	"sort"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/stack"
	"github.com/unionfs-go/unionfs/internal/sys"
)

// dirIndex is the merged listing of one directory, read once and kept up with
// every change. An entry's cookie never changes and is never used for another
// name, so a reader that stopped anywhere goes on right, whatever was added or
// removed meanwhile: what is removed is not seen again, what is added comes at
// the end. A name that is removed and made again gets its old place back, so
// that no reader sees it twice.
type dirIndex struct {
	ents   []indexEnt // in the order of their cookies
	byName map[string]uint64
	next   uint64            // cookie of the next entry
	dead   int               // removed entries still in ents
	gone   map[string]uint64 // their cookies
}

type indexEnt struct {
	name   string
	ino    uint64
	typ    uint32
	cookie uint64
	below  bool // the upper has nothing under the name
	dead   bool // the name was removed
}

// Cookies of "." and ".."; the others follow.
const (
	cookieDot    = 1
	cookieDotDot = 2
	cookieFirst  = 3
)

func newDirIndex(size int) *dirIndex {
	return &dirIndex{
		ents:   make([]indexEnt, 0, size),
		byName: make(map[string]uint64, size),
		next:   cookieFirst,
	}
}

func (ix *dirIndex) has(name string) bool {
	_, ok := ix.byName[name]
	return ok
}

func (ix *dirIndex) empty() bool { return len(ix.byName) == 0 }

// add appends a name; one that is there already gets the new object's number.
func (ix *dirIndex) add(name string, ino uint64, typ uint32) {
	if c, ok := ix.byName[name]; ok {
		if i := ix.at(c); i < len(ix.ents) && ix.ents[i].cookie == c {
			ix.ents[i].ino, ix.ents[i].typ, ix.ents[i].below = ino, typ, false
			return
		}
	}
	if c, ok := ix.gone[name]; ok {
		delete(ix.gone, name)
		ix.dead--
		ix.ents[ix.at(c)] = indexEnt{name: name, ino: ino, typ: typ, cookie: c}
		ix.byName[name] = c
		return
	}
	ix.ents = append(ix.ents, indexEnt{name: name, ino: ino, typ: typ, cookie: ix.next})
	ix.byName[name] = ix.next
	ix.next++
}

// entry is the entry of a name, or nil.
func (ix *dirIndex) entry(name string) *indexEnt {
	c, ok := ix.byName[name]
	if !ok {
		return nil
	}
	if i := ix.at(c); i < len(ix.ents) && ix.ents[i].cookie == c {
		return &ix.ents[i]
	}
	return nil
}

// isBelow tells whether a name is known to be in the layers below only.
func (ix *dirIndex) isBelow(name string) bool {
	e := ix.entry(name)
	return e != nil && e.below
}

// setBelow notes where the object of a name is: in the layers below only, or in
// the upper.
func (ix *dirIndex) setBelow(name string, below bool) {
	if e := ix.entry(name); e != nil {
		e.below = below
	}
}

// remove drops a name.
func (ix *dirIndex) remove(name string) {
	c, ok := ix.byName[name]
	if !ok {
		return
	}
	delete(ix.byName, name)
	if i := ix.at(c); i < len(ix.ents) && ix.ents[i].cookie == c {
		ix.ents[i].dead = true
		ix.dead++
		if ix.gone == nil {
			ix.gone = make(map[string]uint64)
		}
		ix.gone[name] = c
	}
	if ix.dead > 64 && ix.dead > len(ix.ents)/2 {
		ix.compact()
	}
}

// at is the position of the first entry whose cookie is at least c.
func (ix *dirIndex) at(c uint64) int {
	return sort.Search(len(ix.ents), func(i int) bool { return ix.ents[i].cookie >= c })
}

func (ix *dirIndex) compact() {
	kept := ix.ents[:0]
	for _, e := range ix.ents {
		if !e.dead {
			kept = append(kept, e)
		}
	}
	clear(ix.ents[len(kept):])
	ix.ents, ix.dead, ix.gone = kept, 0, nil
}

// noteAdded and noteRemoved keep a directory's listing true.
//
// Preconditions: dir.mu is held for writing, or FS.treeMu exclusively.
func (n *node) noteAdded(name string, child *node) {
	n.dir.children[name] = child
	if n.dir.index != nil {
		n.dir.index.add(name, child.ino.Load(), child.typ)
	}
}

func (n *node) noteRemoved(name string) {
	delete(n.dir.children, name)
	if n.dir.index != nil {
		n.dir.index.remove(name)
	}
}

// missesForIndex is after how many names that no layer has the listing of a
// directory is read, which then answers for all names at once.
const missesForIndex = 16

// indexSoon returns the directory's listing if it was read, or if so many names
// were asked for that reading it pays; otherwise nil.
//
// Preconditions: f.treeMu is held; dir.mu is held for writing.
func (f *FS) indexSoon(dir *node) (*dirIndex, error) {
	if dir.dir.index != nil {
		return dir.dir.index, nil
	}
	if len(dir.lower) == 0 {
		return nil, nil //nolint:nilnil // no listing, and no error
	}
	if dir.dir.misses < missesForIndex {
		return nil, nil //nolint:nilnil // not yet
	}
	return f.indexOf(dir)
}

// indexOf returns the directory's listing, read now if it was not.
//
// Preconditions: f.treeMu is held; dir.mu is held for writing.
func (f *FS) indexOf(dir *node) (*dirIndex, error) {
	if dir.dir.index != nil {
		return dir.dir.index, nil
	}
	up, err := f.readUpper(dir)
	if err != nil {
		return nil, err
	}
	low, err := stack.ReadDir(dir.lower)
	if err != nil {
		return nil, err
	}
	ix := newDirIndex(len(up) + len(low))
	hidden := make(map[string]struct{}, len(up))
	inLower := lowerNames(up, low)
	for _, e := range up {
		hidden[e.Name] = struct{}{}
		if e.Whiteout {
			continue
		}
		ino, err := f.listedIno(dir, e, inLower)
		if err == unix.ENOENT {
			continue // gone from below our feet
		}
		if err != nil {
			return nil, err
		}
		ix.add(e.Name, ino, f.listedType(dir, e))
	}
	for _, e := range low {
		if _, ok := hidden[e.Name]; ok {
			continue
		}
		if e.Type == 0 || e.Ino == 0 {
			if e.Dirent, err = f.lookListed(dir, e.Dirent); err != nil {
				return nil, err
			}
		}
		ix.add(e.Name, f.inos.number(e.Dev, e.Ino), f.listedType(dir, e.Dirent))
		ix.setBelow(e.Name, true)
	}
	dir.dir.index = ix
	return ix, nil
}

// lookListed looks up a listed name whose layer did not tell its type.
func (f *FS) lookListed(dir *node, e stack.Dirent) (stack.Dirent, error) {
	reals, err := f.lowers.Find(dir.lower, stack.Search{Name: e.Name})
	if err != nil || len(reals) == 0 {
		return e, err
	}
	a := reals[0].Object.Attr()
	e.Ino, e.Dev, e.Type = a.Ino, a.Dev, a.Type()
	return e, nil
}

// listedType is the type that a listing tells. Of a regular file that may stand
// for something else, see ownership, it is unknown as long as nobody has looked.
func (f *FS) listedType(dir *node, e stack.Dirent) uint32 {
	if e.Type != unix.S_IFREG || !f.own.remembers() {
		return e.Type
	}
	if c := dir.dir.children[e.Name]; c != nil {
		return c.typ
	}
	return 0
}

// lowerNames is the set of names that stand in both listings; nil when there
// are none.
func lowerNames(up []stack.Dirent, low []stack.Listed) map[string]struct{} {
	if len(up) == 0 || len(low) == 0 {
		return nil
	}
	set := make(map[string]struct{}, len(low))
	for _, e := range low {
		set[e.Name] = struct{}{}
	}
	return set
}

// listedIno is the number shown for an entry of the upper. Only objects that
// may come from below are looked at (fs/overlayfs/readdir.c:ovl_cache_update).
func (f *FS) listedIno(dir *node, e stack.Dirent, inLower map[string]struct{}) (uint64, error) {
	if c := dir.dir.children[e.Name]; c != nil {
		return c.ino.Load(), nil
	}
	_, both := inLower[e.Name]
	if !both && !dir.dir.impure {
		return f.inos.number(e.Dev, e.Ino), nil
	}
	r, err := f.resolve(dir, e.Name)
	if err != nil {
		return 0, err
	}
	if !r.visible() {
		return 0, unix.ENOENT
	}
	return f.findIno(dir, e.Name, &r), nil
}

// readUpper lists the upper's part of a directory, whiteouts marked as such.
//
// Preconditions: f.treeMu and dir.mu are held.
func (f *FS) readUpper(dir *node) ([]stack.Dirent, error) {
	if !dir.isUpper() {
		return nil, nil
	}
	p, err := f.enter(dir)
	if err != nil {
		return nil, err
	}
	defer f.leave(p)
	raw, err := sys.ReadDir(p.fd, "")
	if err != nil {
		return nil, err
	}
	out := make([]stack.Dirent, 0, len(raw))
	for _, e := range raw {
		de := stack.Dirent{Name: e.Name, Ino: e.Ino, Dev: f.upperDev, Type: uint32(e.Type) << 12}
		maybeX := f.holdsXWhiteouts(dir) && e.Type == unix.DT_REG
		if e.Type == unix.DT_CHR || e.Type == unix.DT_UNKNOWN || maybeX {
			var r resolved
			if _, err := f.resolveUpper(dir, e.Name, &r, &stack.Search{}); err != nil {
				return nil, err
			}
			de.Whiteout, de.Type = r.whiteout, r.attr.Type()
		}
		out = append(out, de)
	}
	return out, nil
}

// readDir is READDIR: it lists from a cookie on until the reply is full.
func (f *FS) readDir(dir *node, from uint64, out *fuse.DirEntryList) error {
	return f.listDir(dir, from, func(e fuse.DirEntry, _ bool) bool {
		return out.AddDirEntry(e)
	})
}

// readDirPlus is READDIRPLUS: readDir and a LOOKUP of every name.
func (f *FS) readDirPlus(dir *node, from uint64, out *fuse.DirEntryList) error {
	return f.listDir(dir, from, func(e fuse.DirEntry, real bool) bool {
		eo := out.AddDirLookupEntry(e)
		if eo == nil {
			return false
		}
		if !real {
			return true
		}
		// An entry that cannot be looked up is listed all the same.
		if c, err := f.childLocked(dir, e.Name); err == nil {
			if _, a, err := f.refAttr(c); err == nil {
				fillEntry(eo, c, &a)
			}
		}
		return true
	})
}

// listDir calls add for each entry from a cookie on, "." and ".." first, until
// it answers false. real is false for these two.
func (f *FS) listDir(dir *node, from uint64, add func(e fuse.DirEntry, real bool) bool) error {
	if !dir.isDir() {
		return unix.ENOTDIR
	}
	f.treeMu.RLock()
	defer f.treeMu.RUnlock()
	dir.mu.Lock()
	defer dir.mu.Unlock()
	if l := dir.dir.loc.Load(); dir != f.root && (l == nil || l.parent == nil) {
		return nil // removed: not even "." is listed
	}
	if from < cookieDot && !add(fuse.DirEntry{Name: ".", Mode: unix.S_IFDIR, Ino: dir.ino.Load(), Off: cookieDot}, false) {
		return nil
	}
	if from < cookieDotDot {
		e := fuse.DirEntry{Name: "..", Mode: unix.S_IFDIR, Ino: f.parentDir(dir).ino.Load(), Off: cookieDotDot}
		if !add(e, false) {
			return nil
		}
	}
	ix, err := f.indexOf(dir)
	if err != nil {
		return err
	}
	for i := ix.at(max(from, cookieDotDot) + 1); i < len(ix.ents); i++ {
		e := &ix.ents[i]
		if e.dead {
			continue
		}
		if !add(fuse.DirEntry{Name: e.name, Mode: e.typ, Ino: e.ino, Off: e.cookie}, true) {
			return nil
		}
	}
	return nil
}
