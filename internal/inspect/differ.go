package inspect

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/stack"
	"github.com/unionfs-go/unionfs/whiteout"
)

// Differences is the set of what differs between two versions.
type Differences uint8

// What may differ.
const (
	DiffType Differences = 1 << iota
	DiffContent
	DiffMode
	DiffOwner
	DiffTarget // of a symlink
	DiffDevice // number of a device
	DiffXattr
	DiffMtime
)

var differenceNames = []string{"type", "content", "mode", "owner", "target", "device", "xattr", "mtime"}

// Names are the differences as words.
func (d Differences) Names() []string {
	names := []string{}
	for i, name := range differenceNames {
		if d&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return names
}

// String is the names with commas between them.
func (d Differences) String() string { return strings.Join(d.Names(), ",") }

// MarshalJSON writes the names as a list.
func (d Differences) MarshalJSON() ([]byte, error) { return json.Marshal(d.Names()) }

// Differences tells what differs between the version a of m and b of other,
// which may be m. The bytes of files are compared where their sizes do not tell;
// ctx ends that. Times of directories are not compared.
func (m *Model) Differences(ctx context.Context, a Version, other *Model, b Version) (Differences, error) {
	d := attrDifferences(&a, &b)
	if d&DiffType != 0 || m.same(&a, other, &b) {
		return d, nil
	}
	if a.HasXattr || b.HasXattr {
		same, err := sameXattrs(m, a, other, b)
		if err != nil {
			return d, err
		}
		if !same {
			d |= DiffXattr
		}
	}
	switch a.Type() {
	case unix.S_IFREG:
		same, err := m.SameContent(ctx, a, other, b)
		if err != nil {
			return d, err
		}
		if !same {
			d |= DiffContent
		}
	case unix.S_IFLNK:
		ta, err := m.Readlink(a)
		if err != nil {
			return d, err
		}
		tb, err := other.Readlink(b)
		if err != nil {
			return d, err
		}
		if ta != tb {
			d |= DiffTarget
		}
	}
	return d, nil
}

// attrDifferences compares what needs no reading.
func attrDifferences(a, b *Version) Differences {
	var d Differences
	if a.Type() != b.Type() {
		d |= DiffType
	}
	if (a.Mode^b.Mode)&0o7777 != 0 {
		d |= DiffMode
	}
	if a.UID != b.UID || a.GID != b.GID {
		d |= DiffOwner
	}
	if (a.Type() == unix.S_IFCHR || a.Type() == unix.S_IFBLK) && a.Rdev != b.Rdev {
		d |= DiffDevice
	}
	if a.Mtime != b.Mtime && !a.IsDir() {
		d |= DiffMtime
	}
	return d
}

// same tells whether two versions are one object, of one layer or of two layers
// with the same content.
func (m *Model) same(a *Version, other *Model, b *Version) bool {
	if a.Ino != b.Ino {
		return false
	}
	if m == other {
		return a.Layer == b.Layer && a.Dev == b.Dev
	}
	la, lb := &m.layers[a.Layer], &other.layers[b.Layer]
	return la.Digest != "" && la.Digest == lb.Digest
}

// SameContent tells whether two regular files have the same bytes.
func (m *Model) SameContent(ctx context.Context, a Version, other *Model, b Version) (bool, error) {
	if a.Size != b.Size {
		return false, nil
	}
	if a.Size == 0 || m.same(&a, other, &b) && !a.Metacopy && !b.Metacopy {
		return true, nil
	}
	if a.Dangling || b.Dangling {
		return false, nil
	}
	if ia, ok := m.data[a.ID]; ok && m == other && !b.Metacopy {
		if dev := m.devs[ia.dev]; ia.ino == b.Ino && int(ia.layer) == b.Layer && dev == b.Dev {
			return true, nil
		}
	}
	if ib, ok := m.data[b.ID]; ok && m == other && !a.Metacopy {
		if dev := m.devs[ib.dev]; ib.ino == a.Ino && int(ib.layer) == a.Layer && dev == a.Dev {
			return true, nil
		}
	}
	fa, err := m.Open(a)
	if err != nil {
		return false, err
	}
	defer fa.Close()
	fb, err := other.Open(b)
	if err != nil {
		return false, err
	}
	defer fb.Close()
	same, err := sameBytes(ctx, fa, fb, a.Size)
	if err != nil {
		return false, fmt.Errorf("compare versions of %s: %w", m.Path(a.Node), err)
	}
	return same, nil
}

// compareChunk is how much of two files is compared at once.
const compareChunk = 256 << 10

func sameBytes(ctx context.Context, a, b io.ReaderAt, size int64) (bool, error) {
	chunk := min(size, compareChunk)
	pa, pb := make([]byte, chunk), make([]byte, chunk)
	for off := int64(0); off < size; off += chunk {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		na, err := readFull(a, pa, off)
		if err != nil {
			return false, err
		}
		nb, err := readFull(b, pb, off)
		if err != nil {
			return false, err
		}
		if !bytes.Equal(pa[:na], pb[:nb]) {
			return false, nil
		}
	}
	return true, nil
}

func readFull(r io.ReaderAt, p []byte, off int64) (int, error) {
	n, err := r.ReadAt(p, off)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

// Xattrs returns the extended attributes of a version without the marks of the
// union, sorted by name.
func (m *Model) Xattrs(v Version) ([]Xattr, error) {
	o, err := m.Object(v)
	if err != nil {
		return nil, err
	}
	list, err := objectXattrs(o)
	if err != nil {
		return nil, fmt.Errorf("read the attributes of %s in layer %d: %w", m.Path(v.Node), v.Layer, err)
	}
	return list, nil
}

// Xattr is one extended attribute.
type Xattr struct {
	Name  string `json:"name"`
	Value []byte `json:"value"` // base64 in JSON
}

func objectXattrs(o stack.Object) ([]Xattr, error) {
	names, err := o.Xattrs()
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	list := []Xattr{}
	for _, name := range names {
		if whiteout.IsMark(name) {
			continue
		}
		value, err := o.Xattr(name)
		if errors.Is(err, unix.ENODATA) {
			continue
		}
		if err != nil {
			return nil, err
		}
		list = append(list, Xattr{name, value})
	}
	return list, nil
}

func sameXattrs(m *Model, a Version, other *Model, b Version) (bool, error) {
	la, err := m.Xattrs(a)
	if err != nil {
		return false, err
	}
	lb, err := other.Xattrs(b)
	if err != nil {
		return false, err
	}
	return slices.EqualFunc(la, lb, func(x, y Xattr) bool { return x.Name == y.Name && bytes.Equal(x.Value, y.Value) }), nil
}
