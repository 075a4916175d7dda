package fs

import (
	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/sys"
)

// place is how to reach one object of the upper: a directory descriptor and a
// name in it, or a descriptor of the object itself and an empty name.
type place struct {
	fd   int
	name string
	slot *sys.Slot // to give back, or nil
}

func (f *FS) leave(p place) {
	if p.slot != nil {
		f.dirFDs.Release(p.slot)
	}
}

// enter returns the descriptor (O_PATH) of an upper directory as a place with an
// empty name. The caller must leave it.
//
// Preconditions: f.treeMu is held; n is a directory in the upper.
func (f *FS) enter(n *node) (place, error) {
	if n == f.root {
		return place{fd: f.upperFD}, nil
	}
	slot := &n.dir.slot
	if fd, ok := f.dirFDs.Try(slot); ok {
		return place{fd: fd, slot: slot}, nil
	}
	fd, err := f.dirFDs.Acquire(slot, func() (int, error) { return f.openDirPath(n) })
	if err != nil {
		return place{}, err
	}
	return place{fd: fd, slot: slot}, nil
}

// openDirPath opens an upper directory by its parent and name, or again through
// the descriptor kept when it was removed.
func (f *FS) openDirPath(n *node) (int, error) {
	l := n.dir.loc.Load()
	switch {
	case l == nil:
		return -1, unix.ENOENT
	case l.orphan != 0:
		return sys.Dup(int(l.orphan) - 1)
	}
	p, err := f.enter(l.parent)
	if err != nil {
		return -1, err
	}
	defer f.leave(p)
	return sys.Openat(p.fd, l.name, unix.O_PATH|unix.O_DIRECTORY, 0)
}

// placeOf reaches the upper object of n. The caller must leave the place.
// ENOENT: there is no way to it, which is an object that was removed without
// anybody holding it.
//
// Preconditions: f.treeMu and n.mu are held; n is in the upper.
func (f *FS) placeOf(n *node) (place, error) {
	if n == f.root {
		return place{fd: f.upperFD}, nil
	}
	if n.orphan != 0 {
		return place{fd: int(n.orphan) - 1}, nil
	}
	for _, l := range n.links {
		if l.below {
			continue
		}
		p, err := f.enter(l.parent)
		p.name = l.name
		return p, err
	}
	if n.hard != nil && n.hard.indexed {
		return place{fd: f.indexFD, name: n.hard.name}, nil
	}
	return place{}, unix.ENOENT
}

// at calls fn with the place of n's upper object.
//
// Preconditions: f.treeMu and n.mu are held; n is in the upper.
func (f *FS) at(n *node, fn func(p place) error) error {
	p, err := f.placeOf(n)
	if err != nil {
		return err
	}
	defer f.leave(p)
	return fn(p)
}
