package inspect

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/stack"
)

// Why says what hides a version.
type Why uint8

// The reasons, see the package comment.
const (
	WhyNot Why = iota // nothing hides it
	WhyReplaced
	WhyWhiteout
	WhyOpaque
	WhyShadowed
	WhyMoved
)

// String is the reason in one word, as JSON has it.
func (w Why) String() string {
	return [...]string{"", "replaced", "whiteout", "opaque", "shadowed", "moved"}[w]
}

// Version is what one layer says about one path. It is plain data.
type Version struct {
	ID       int32 // number of the version in the model
	Node     Node
	Layer    int
	Whiteout bool // it only deletes what lies below; the attributes are zero
	Opaque   bool // a directory that hides all below it
	Metacopy bool // a file whose bytes are in a layer below
	Dangling bool // a metacopy file whose bytes are nowhere
	Implied  bool // a directory that the layer does not mention; the attributes are those of the one below
	Covers   bool // it takes the place of something that a rename brings here
	HasXattr bool // there are attributes besides the marks of the union
	Mode     uint32
	UID      uint32
	GID      uint32
	Nlink    uint32
	Size     int64
	Rdev     uint64
	Dev      uint64
	Ino      uint64 // with Dev and Layer, of the file in its layer
	Mtime    stack.Time

	// The version is visible in the views Until < K <= Since.
	Since int
	Until int // -1: it is visible in view 0
	Why   Why // what layer Until has
	By    Node
}

// VisibleIn tells whether a view shows the version.
func (v *Version) VisibleIn(view int) bool {
	return !v.Whiteout && v.Until < view && view <= v.Since
}

// Visible tells whether the whole stack shows the version.
func (v *Version) Visible() bool { return v.VisibleIn(0) }

// Borrowed tells that the version lies under another path of its layer and is
// seen here because a directory was renamed by a redirect.
func (v *Version) Borrowed() bool { return v.Since < v.Layer }

// Type is the file type part of the mode.
func (v *Version) Type() uint32 { return v.Mode & unix.S_IFMT }

// IsDir tells whether it is a directory.
func (v *Version) IsDir() bool { return v.Type() == unix.S_IFDIR }

// IsFile tells whether it is a regular file.
func (v *Version) IsFile() bool { return v.Type() == unix.S_IFREG }

// Bytes is what the version takes in its layer: the size of a regular file that
// has its own data, else 0.
func (v *Version) Bytes() int64 {
	if v.IsFile() && !v.Metacopy {
		return v.Size
	}
	return 0
}

// version is Version as it is kept.
type version struct {
	size  int64
	rdev  uint64
	ino   uint64
	mtime int64
	nsec  uint32
	mode  uint32
	uid   uint32
	gid   uint32
	nlink uint32
	by    Node
	dev   uint16 // index in Model.devs
	layer int16
	since int16
	until int16
	flags uint8
	why   Why
}

// The flags of a version.
const (
	flagWhiteout = 1 << iota
	flagOpaque
	flagMetacopy
	flagDangling
	flagXattr
	flagImplied
	flagCovers
)

func (v *version) visibleIn(view int) bool {
	return v.flags&flagWhiteout == 0 && int(v.until) < view && view <= int(v.since)
}

func (v *version) typ() uint32 { return v.mode & unix.S_IFMT }

func (v *version) identity() identity { return identity{v.ino, v.dev, v.layer} }

// bytes is Version.Bytes.
func (v *version) bytes() int64 {
	if v.typ() == unix.S_IFREG && v.flags&flagMetacopy == 0 {
		return v.size
	}
	return 0
}

// own are the indices of a node's versions.
func (m *Model) own(n Node) (from, to int32) {
	d := &m.nodes[n]
	return d.version, d.version + int32(d.versions)
}

// at is the index of the version of n that a view shows, -1 for none.
func (m *Model) at(n Node, view int) int32 {
	from, to := m.own(n)
	for i := from; i < to; i++ {
		if m.versions[i].visibleIn(view) {
			return i
		}
	}
	return -1
}

// version makes a Version of what is kept under an index.
func (m *Model) version(n Node, id int32) Version {
	v := &m.versions[id]
	return Version{
		ID: id, Node: n, Layer: int(v.layer),
		Whiteout: v.flags&flagWhiteout != 0, Opaque: v.flags&flagOpaque != 0, Metacopy: v.flags&flagMetacopy != 0,
		Dangling: v.flags&flagDangling != 0, HasXattr: v.flags&flagXattr != 0,
		Implied: v.flags&flagImplied != 0, Covers: v.flags&flagCovers != 0,
		Mode: v.mode, UID: v.uid, GID: v.gid, Nlink: v.nlink, Size: v.size, Rdev: v.rdev, Dev: m.devs[v.dev], Ino: v.ino,
		Mtime: stack.Time{Sec: v.mtime, Nsec: v.nsec},
		Since: int(v.since), Until: int(v.until), Why: v.why, By: v.by,
	}
}

// Versions returns what the layers say about a path, the topmost first.
func (m *Model) Versions(n Node) []Version {
	from, to := m.own(n)
	out := make([]Version, 0, to-from)
	for i := from; i < to; i++ {
		out = append(out, m.version(n, i))
	}
	return out
}

// At returns the version of a path that a view shows.
func (m *Model) At(n Node, view int) (Version, bool) {
	id := m.at(n, view)
	if id < 0 {
		return Version{}, false
	}
	return m.version(n, id), true
}

// In returns what one layer itself says about a path.
func (m *Model) In(n Node, layer int) (Version, bool) {
	from, to := m.own(n)
	for i := from; i < to; i++ {
		if v := &m.versions[i]; int(v.layer) == layer && v.since == v.layer {
			return m.version(n, i), true
		}
	}
	return Version{}, false
}

// Hidden tells whether an object is not shown by the whole stack. A directory
// that takes part in the one that is shown is not hidden.
func (m *Model) Hidden(v *Version) bool {
	if v.Whiteout || v.Visible() {
		return false
	}
	for at := v.Until; v.IsDir() && v.Why == WhyReplaced; at-- {
		id := m.at(v.Node, at)
		if id < 0 {
			return true
		}
		above := &m.versions[id]
		if !isDir(above.mode) || above.flags&flagOpaque != 0 {
			return true
		}
		if above.until < 0 {
			return false
		}
		at = int(above.until) + 1
	}
	return true
}

// Entry finds the objects behind a version, which must be no whiteout: the
// first is its own, and, as Stack.Lookup has it, those below it that take part.
func (m *Model) Entry(v Version) (stack.Entry, error) {
	path := m.Path(v.Node)
	e, err := m.stacks[v.Since].Walk(path)
	if err != nil {
		return stack.Entry{}, fmt.Errorf("look up %s in layer %d: %w", path, v.Layer, err)
	}
	return e, nil
}

// Object returns the object of a version, which must be no whiteout.
func (m *Model) Object(v Version) (stack.Object, error) {
	e, err := m.Entry(v)
	if err != nil {
		return nil, err
	}
	return e.Top().Object, nil
}

// Open opens the bytes of a version that is a regular file, those of a metacopy
// file in the layer that has them. The caller closes the file.
func (m *Model) Open(v Version) (stack.File, error) {
	e, err := m.Entry(v)
	if err != nil {
		return nil, err
	}
	f, err := e.Data().Object.Open()
	if err != nil {
		return nil, fmt.Errorf("open %s of layer %d: %w", m.Path(v.Node), v.Layer, err)
	}
	return f, nil
}

// Readlink returns the target of a version that is a symlink.
func (m *Model) Readlink(v Version) (string, error) {
	o, err := m.Object(v)
	if err != nil {
		return "", err
	}
	target, err := o.Readlink()
	if err != nil {
		return "", fmt.Errorf("read the link %s of layer %d: %w", m.Path(v.Node), v.Layer, err)
	}
	return target, nil
}
