package tarlayer

import (
	"encoding/binary"
	"errors"
	"sort"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// Format is how a blob is compressed.
type Format uint8

// The formats.
const (
	Plain Format = iota
	Gzip
	Zstd
	numFormats
)

// String names the format.
func (f Format) String() string {
	if f >= numFormats {
		return "unknown"
	}
	return [numFormats]string{"tar", "tar+gzip", "tar+zstd"}[f]
}

// index is all that is known of a blob. It is kept in the form in which it is
// stored, so that opening it costs no more than reading it; its parts are
// decoded when they are asked for. It is immutable.
type index struct {
	format     Format
	spooled    bool // the spans are of the spool, not of the blob
	blobSize   int64
	streamSize int64
	spoolSize  int64
	digest     digest.Digest
	diffID     digest.Digest
	counts     counts

	inodes  inodeTable
	dents   dentTable
	names   []byte // names in the order of dents, then symlink targets
	xattrs  []byte // sets of attributes, see appendXattrSet
	sparse  []byte // maps of sparse files, see appendSparse
	spans   spanTable
	windows int64 // length of the windows, which are read when needed
}

// counts is what Stats tells of the tree.
type counts struct {
	files, dirs, links, others, whiteouts, opaques, skipped uint64
	fileBytes                                               uint64
}

// inode is one object of the tree.
type inode struct {
	size int64 // of a directory: how many names it has
	// data is, of a regular file, the offset of its data in the stream, or of
	// its map in sparse; of a symlink the offset of its target in names; of a
	// directory the number of its first name in dents; of a device its number.
	data  uint64
	mtime int64 // seconds
	nsec  uint32
	mode  uint16
	flags uint16
	uid   uint32
	gid   uint32
	nlink uint32
	xattr uint32 // 1 + offset in xattrs, 0 for none
}

// Flags of an inode.
const (
	flagOpaque = 1 << iota
	flagSparse
	flagACL
	flagCaps
	flagOther // any attribute, see whiteout.Marks.HasOther
	flagPending
	flagImplied // a directory that the tar does not mention
)

func (n *inode) typ() uint32    { return uint32(n.mode) & unix.S_IFMT }
func (n *inode) isDir() bool    { return n.typ() == unix.S_IFDIR }
func (n *inode) has(f int) bool { return int(n.flags)&f != 0 }

var errIndex = errors.New("damaged index")

const inodeRecord = 48

// inodeTable holds the inodes; number 1 is the root.
type inodeTable []byte

func (t inodeTable) len() int { return len(t) / inodeRecord }

func (t inodeTable) at(ino uint32) (inode, error) {
	if ino == 0 || int(ino) > t.len() {
		return inode{}, errIndex
	}
	b := t[(int(ino)-1)*inodeRecord:][:inodeRecord]
	le := binary.LittleEndian
	return inode{
		size:  int64(le.Uint64(b)),
		data:  le.Uint64(b[8:]),
		mtime: int64(le.Uint64(b[16:])),
		nsec:  le.Uint32(b[24:]),
		mode:  le.Uint16(b[28:]),
		flags: le.Uint16(b[30:]),
		uid:   le.Uint32(b[32:]),
		gid:   le.Uint32(b[36:]),
		nlink: le.Uint32(b[40:]),
		xattr: le.Uint32(b[44:]),
	}, nil
}

func (t inodeTable) append(n *inode) inodeTable {
	le := binary.LittleEndian
	t = le.AppendUint64(t, uint64(n.size))
	t = le.AppendUint64(t, n.data)
	t = le.AppendUint64(t, uint64(n.mtime))
	t = le.AppendUint32(t, n.nsec)
	t = le.AppendUint16(t, n.mode)
	t = le.AppendUint16(t, n.flags)
	t = le.AppendUint32(t, n.uid)
	t = le.AppendUint32(t, n.gid)
	t = le.AppendUint32(t, n.nlink)
	return le.AppendUint32(t, n.xattr)
}

const dentRecord = 8

// dentTable holds all names, those of one directory side by side and sorted:
// the offset of the name, and its inode or 0 for a whiteout. The last record
// only says where the name before it ends.
type dentTable []byte

func (t dentTable) len() int { return max(len(t)/dentRecord-1, 0) }

func (t dentTable) append(name, ino uint32) dentTable {
	t = binary.LittleEndian.AppendUint32(t, name)
	return binary.LittleEndian.AppendUint32(t, ino)
}

// dent returns name number i and its inode.
func (x *index) dent(i int) (name []byte, ino uint32) {
	b := x.dents[i*dentRecord:][:2*dentRecord]
	le := binary.LittleEndian
	from, to := le.Uint32(b), le.Uint32(b[dentRecord:])
	if from > to || int(to) > len(x.names) {
		return nil, 0
	}
	return x.names[from:to], le.Uint32(b[4:])
}

// children returns the range of a directory's names in dents.
func (x *index) children(dir *inode) (from, to int, err error) {
	end := dir.data + uint64(dir.size)
	if !dir.isDir() || dir.size < 0 || end < dir.data || end > uint64(x.dents.len()) {
		return 0, 0, errIndex
	}
	return int(dir.data), int(end), nil
}

// find looks a name up in a directory. ino 0 with found: a whiteout.
func (x *index) find(dir *inode, name string) (ino uint32, found bool, err error) {
	from, to, err := x.children(dir)
	if err != nil {
		return 0, false, err
	}
	i := from + sort.Search(to-from, func(i int) bool {
		n, _ := x.dent(from + i)
		return string(n) >= name
	})
	if i == to {
		return 0, false, nil
	}
	n, ino := x.dent(i)
	return ino, string(n) == name, nil
}

// target returns what a symlink holds.
func (x *index) target(n *inode) (string, error) {
	end := n.data + uint64(n.size)
	if n.size < 0 || end < n.data || end > uint64(len(x.names)) {
		return "", errIndex
	}
	return string(x.names[n.data:end]), nil
}

// xattr is one extended attribute as the tar has it.
type xattr struct {
	name  string
	value []byte
}

// appendXattrSet stores attributes: their number, then each name and value
// behind its length.
func appendXattrSet(b []byte, set []xattr) []byte {
	b = binary.AppendUvarint(b, uint64(len(set)))
	for _, x := range set {
		b = binary.AppendUvarint(b, uint64(len(x.name)))
		b = append(b, x.name...)
		b = binary.AppendUvarint(b, uint64(len(x.value)))
		b = append(b, x.value...)
	}
	return b
}

// eachXattr calls f with the attributes of an inode until it returns false.
func (x *index) eachXattr(n *inode, f func(name, value []byte) bool) error {
	if n.xattr == 0 {
		return nil
	}
	if int64(n.xattr)-1 > int64(len(x.xattrs)) {
		return errIndex
	}
	b := x.xattrs[n.xattr-1:]
	count, w := binary.Uvarint(b)
	if w <= 0 {
		return errIndex
	}
	b = b[w:]
	field := func() []byte {
		l, w := binary.Uvarint(b)
		if w <= 0 || l > uint64(len(b)-w) {
			return nil
		}
		v := b[w : w+int(l) : w+int(l)]
		b = b[w+int(l):]
		return v
	}
	for ; count > 0; count-- {
		name, value := field(), field()
		if len(name) == 0 || value == nil {
			return errIndex
		}
		if !f(name, value) {
			return nil
		}
	}
	return nil
}

// fragment is a piece of a sparse file that is not a hole.
type fragment struct {
	off, length int64
	data        int64 // offset of its data in the stream
}

const (
	fragmentRecord = 24
	sparseCount    = 8
)

// appendSparse stores the map of a sparse file whose data begin at an offset of
// the stream: the number of fragments, then the fragments in order.
func appendSparse(b []byte, data int64, frags []fragment) []byte {
	le := binary.LittleEndian
	b = le.AppendUint64(b, uint64(len(frags)))
	for _, f := range frags {
		b = le.AppendUint64(b, uint64(f.off))
		b = le.AppendUint64(b, uint64(f.length))
		b = le.AppendUint64(b, uint64(data))
		data += f.length
	}
	return b
}

// sparseMap is the map of one sparse file: its fragments as they are stored.
type sparseMap []byte

func (x *index) sparseMap(n *inode) (sparseMap, error) {
	if n.data > uint64(len(x.sparse)) || uint64(len(x.sparse))-n.data < sparseCount {
		return nil, errIndex
	}
	b := x.sparse[n.data:]
	count := binary.LittleEndian.Uint64(b)
	b = b[sparseCount:]
	if count > uint64(len(b))/fragmentRecord {
		return nil, errIndex
	}
	return sparseMap(b[:count*fragmentRecord]), nil
}

func (m sparseMap) len() int { return len(m) / fragmentRecord }

func (m sparseMap) at(i int) fragment {
	b := m[i*fragmentRecord:][:fragmentRecord]
	le := binary.LittleEndian
	return fragment{int64(le.Uint64(b)), int64(le.Uint64(b[8:])), int64(le.Uint64(b[16:]))}
}
