package tarlayer

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// child is one name while the names are sorted.
type child struct {
	name string
	nameValue
}

// finisher turns what a builder collected into the tables of an index.
type finisher struct {
	*builder
	alias  map[uint32]uint32 // hard links that came before their target
	first  []uint32          // of each object: where its names begin in kids; one more at the end
	kids   []child
	number []uint32 // of each object: its inode number, 0 for one that is gone
	nlink  []uint32
}

// finish fills the tables of x.
func (b *builder) finish(x *index) error {
	f := &finisher{builder: b, alias: make(map[uint32]uint32)}
	if err := f.resolveLinks(); err != nil {
		return err
	}
	f.sortNames()
	f.reach()
	f.encode(x)
	return nil
}

// resolveLinks finds the targets of hard links that came before them.
func (f *finisher) resolveLinks() error {
	for left := f.pending; len(left) > 0; {
		var again []pendingLink
		for _, p := range left {
			node, err := f.linkTarget(p.target)
			if err != nil {
				return fmt.Errorf("hard link %q to %q, which %w; unpack the image over the layers below it instead", p.path, p.target, err)
			}
			if to, ok := f.alias[node]; ok {
				node = to
			}
			if f.nodes[node].has(flagPending) {
				again = append(again, p)
				continue
			}
			f.alias[p.node] = node
		}
		if len(again) == len(left) {
			return fmt.Errorf("hard links %q and %q only lead to each other: %w", again[0].path, again[0].target, ErrInvalid)
		}
		left = again
	}
	return nil
}

// sortNames brings the names of each directory together, sorted.
func (f *finisher) sortNames() {
	f.first = make([]uint32, len(f.nodes)+2)
	for key := range f.names {
		f.first[key.dir+2]++
	}
	for i := 2; i < len(f.first); i++ {
		f.first[i] += f.first[i-1]
	}
	f.kids = make([]child, len(f.names))
	for key, v := range f.names {
		if to, ok := f.alias[v.node]; ok && v.has {
			v.node = to
		}
		at := &f.first[key.dir+1]
		f.kids[*at] = child{key.name, v}
		*at++
	}
	f.names = nil
	for node := range f.nodes {
		slices.SortFunc(f.kidsOf(uint32(node)), func(a, b child) int { return strings.Compare(a.name, b.name) })
	}
}

func (f *finisher) kidsOf(node uint32) []child { return f.kids[f.first[node]:f.first[node+1]] }

// reach finds the objects that names lead to, numbers them and counts their
// names.
func (f *finisher) reach() {
	f.number = make([]uint32, len(f.nodes))
	f.nlink = make([]uint32, len(f.nodes))
	f.number[0], f.nlink[0] = 1, 2
	for queue := []uint32{0}; len(queue) > 0; {
		dir := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		for _, k := range f.kidsOf(dir) {
			if !k.has {
				continue
			}
			f.nlink[k.node]++
			if f.number[k.node] != 0 {
				continue
			}
			f.number[k.node] = 1
			if f.nodes[k.node].isDir() {
				f.nlink[k.node]++ // its own "."
				f.nlink[dir]++    // its ".."
				queue = append(queue, k.node)
			}
		}
	}
	next := uint32(1)
	for i, n := range f.number {
		if n != 0 {
			f.number[i] = next
			next++
		}
	}
}

// encode writes the tables.
func (f *finisher) encode(x *index) {
	for node := range f.nodes {
		if f.number[node] != 0 && f.nodes[node].isDir() {
			f.encodeDir(x, uint32(node))
		}
	}
	x.dents = x.dents.append(uint32(len(x.names)), 0)
	x.inodes = make(inodeTable, 0, len(f.nodes)*inodeRecord)
	for i := range f.nodes {
		if f.number[i] == 0 {
			continue
		}
		n := &f.nodes[i]
		n.nlink = f.nlink[i]
		if n.typ() == unix.S_IFLNK {
			target := f.targets[n.data]
			n.data = uint64(len(x.names))
			x.names = append(x.names, target...)
		}
		f.tally(n)
		x.inodes = x.inodes.append(n)
	}
	x.inodes = slices.Clip(x.inodes)
	x.xattrs, x.sparse, x.counts = f.xattrs, f.sparse, f.counts
}

// encodeDir writes the names of one directory.
func (f *finisher) encodeDir(x *index, node uint32) {
	kids := f.kidsOf(node)
	n := &f.nodes[node]
	n.data, n.size = uint64(len(x.dents)/dentRecord), int64(len(kids))
	for _, k := range kids {
		ino := uint32(0)
		if k.has {
			ino = f.number[k.node]
			if k.white && f.nodes[k.node].isDir() {
				f.nodes[k.node].flags |= flagOpaque // deleted, then made anew
			}
		} else {
			f.counts.whiteouts++
		}
		x.dents = x.dents.append(uint32(len(x.names)), ino)
		x.names = append(x.names, k.name...)
	}
}

func (f *finisher) tally(n *inode) {
	c := &f.counts
	switch n.typ() {
	case unix.S_IFREG:
		c.files++
		c.fileBytes += uint64(n.size)
	case unix.S_IFDIR:
		c.dirs++
	case unix.S_IFLNK:
		c.links++
	default:
		c.others++
	}
	if n.has(flagOpaque) {
		c.opaques++
	}
}
