package fs

import (
	"encoding/binary"
	"hash/fnv"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/stack"
	"github.com/unionfs-go/unionfs/internal/sys"
)

// Inode numbers that the mount shows (st_ino, d_ino):
//
//	63       48 47                                  0
//	[ device   ][ inode number on that device        ]
//
// device is 0 for the upper's device and counts the other devices of the layers
// from the top, in the order of the stack, so that the same stack shows the same
// numbers after a remount; with a single device st_ino is the real number. A
// number that needs more than 48 bits is hashed into the upper half of the
// space. It is the kernel's xino=on with a fixed width
// (fs/overlayfs/inode.c:ovl_map_dev_ino).
const (
	inoBits = 48
	inoHash = 1 << 63
)

// inoMap gives every device its number.
type inoMap struct {
	mu   sync.RWMutex
	devs map[uint64]uint64 // guarded by mu
}

// number maps an inode number of a device to the one shown.
func (m *inoMap) number(dev, ino uint64) uint64 {
	m.mu.RLock()
	idx, ok := m.devs[dev]
	m.mu.RUnlock()
	if !ok {
		idx = m.learn(dev)
	}
	if ino>>inoBits == 0 {
		return idx<<inoBits | ino
	}
	h := fnv.New64a()
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:], idx)
	binary.LittleEndian.PutUint64(b[8:], ino)
	_, _ = h.Write(b[:])
	return h.Sum64() | inoHash
}

// learn gives a device the next number.
func (m *inoMap) learn(dev uint64) uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if idx, ok := m.devs[dev]; ok {
		return idx
	}
	idx := uint64(len(m.devs)) & (1<<(63-inoBits) - 1)
	m.devs[dev] = idx
	return idx
}

// originFS is a filesystem that lower layers are on, for reading origin marks.
type originFS struct {
	dev   uint64
	magic int64
	uuid  [16]byte
}

// learnLayers numbers the devices and notes the filesystems of all layers, the
// upper first.
func (f *FS) learnLayers() {
	f.inos.devs = make(map[uint64]uint64)
	if f.upperFD >= 0 {
		f.inos.learn(f.upperDev)
	}
	for _, l := range f.cfg.Lowers {
		a := l.Root().Attr()
		f.inos.learn(a.Dev)
		d, ok := l.(*stack.DirLayer)
		if !ok {
			f.learnFileless(l.Root(), a.Dev)
			continue
		}
		var st unix.Statfs_t
		if sys.Fstatfs(d.RootFD(), &st) != nil {
			continue
		}
		o := originFS{a.Dev, st.Type, sys.FSUUID(d.RootFD())}
		if !containsOrigin(f.origins, o.dev) {
			f.origins = append(f.origins, o)
		}
	}
}

// learnFileless notes a layer that is on no filesystem, if it has handles.
func (f *FS) learnFileless(root stack.Object, dev uint64) {
	h, err := root.Handle()
	if err != nil || len(h) < originUUID+16 {
		return
	}
	f.origins = append(f.origins, originFS{dev: dev, uuid: [16]byte(h[originUUID : originUUID+16])})
}

func containsOrigin(s []originFS, dev uint64) bool {
	for _, o := range s {
		if o.dev == dev {
			return true
		}
	}
	return false
}

// originHeader is where the UUID stands in an origin handle.
const originUUID = 5

// originIno tells the object that an origin mark speaks of.
func (f *FS) originIno(handle []byte) (devIno, bool) {
	for _, o := range f.origins {
		if len(handle) < originUUID+16 || [16]byte(handle[originUUID:originUUID+16]) != o.uuid {
			continue
		}
		if ino, ok := stack.HandleIno(handle, o.magic); ok {
			return devIno{o.dev, ino}, true
		}
	}
	return devIno{}, false
}

// inoOf is the number shown for an object of the layers below or of the upper.
func (f *FS) inoOf(a *stack.Attr) uint64 { return f.inos.number(a.Dev, a.Ino) }
