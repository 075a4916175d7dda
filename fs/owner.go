package fs

import (
	"strings"

	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/stack"
	"github.com/unionfs-go/unionfs/internal/sys"
	"github.com/unionfs-go/unionfs/whiteout"
)

// Remember says how owners, modes and device numbers are kept that this process
// may not give to an object, or shall not.
type Remember uint8

// The ways to remember. Either is also read where it was written before.
const (
	// RememberNone keeps all as the kernel does: on disk.
	RememberNone Remember = iota
	// RememberNeeded keeps in user.containers.override_stat what cannot be kept
	// on disk.
	RememberNeeded
	// RememberUser keeps all in user.containers.override_stat
	// (xattr_permissions=2); on disk everything is this process's own.
	RememberUser
	// RememberSecurity keeps all in security.fuseoverlayfs.override_stat
	// (xattr_permissions=1).
	RememberSecurity
)

// IDRange shows Count ids that begin with Disk on disk as those that begin with
// Shown.
type IDRange struct{ Disk, Shown, Count uint32 }

// Ownership says whose the objects of a mount are, where that is not what the
// filesystems below say. The zero value leaves it to them.
type Ownership struct {
	// UIDs and GIDs map ids, if not empty. An id on disk that is in no range is
	// shown as 65534; one that is to be stored and in no range is EOVERFLOW.
	UIDs, GIDs []IDRange
	// SquashUID and SquashGID show one id for all objects. A change of the id is
	// accepted and does nothing; new objects get it on disk.
	SquashUID, SquashGID *uint32
	// Remember is how owners and modes are kept.
	Remember Remember
}

// ownership is an Ownership at work: the one place in which what the mount shows
// and what is on disk are translated. There are three stages: what the layer's
// filesystem says, what is remembered in an attribute, and what is shown after
// mapping and squashing. A nil ownership changes nothing.
type ownership struct {
	Ownership
	attr     string // where something is remembered
	uid, gid uint32 // of this process
	groups   []int
}

// overflowID stands for an id that cannot be shown (/proc/sys/fs/overflowuid).
const overflowID = 65534

func newOwnership(o Ownership) *ownership {
	if len(o.UIDs) == 0 && len(o.GIDs) == 0 && o.SquashUID == nil && o.SquashGID == nil && o.Remember == RememberNone {
		return nil
	}
	w := &ownership{
		Ownership: o, attr: whiteout.OverrideContainers,
		uid: uint32(unix.Geteuid()), gid: uint32(unix.Getegid()),
	}
	if o.Remember == RememberSecurity {
		w.attr = whiteout.OverrideSecurity
	}
	w.groups, _ = unix.Getgroups() // without them more is remembered than must be
	return w
}

// remembers tells whether attributes are believed that remember owner and mode.
func (w *ownership) remembers() bool { return w != nil && w.Remember != RememberNone }

// unchecked tells whether it is not by owners that rights are decided: a process
// that remembers them because it has none serves its own user only.
func (w *ownership) unchecked() bool {
	return w != nil && w.Remember == RememberNeeded && !sys.HasCap(unix.CAP_CHOWN)
}

// readable are the attributes that are believed, the best first. With
// RememberSecurity those that any user can set are not.
func (w *ownership) readable() []string {
	if w.Remember == RememberSecurity {
		return []string{whiteout.OverrideSecurity}
	}
	return []string{whiteout.OverrideContainers, whiteout.OverrideFuseOverlayfs, whiteout.OverrideSecurity}
}

// load reads what is remembered of an object that is of the type on disk; nil:
// nothing. Only a regular file can stand for something else, and only for what
// has neither data nor children.
func (w *ownership) load(typ uint32, get func(attr string) ([]byte, error)) *whiteout.Override {
	for _, attr := range w.readable() {
		v, err := get(attr)
		if err != nil {
			continue
		}
		o, err := whiteout.ParseOverride(string(v))
		if err != nil {
			continue // somebody else's attribute
		}
		switch o.Type {
		case unix.S_IFCHR, unix.S_IFBLK, unix.S_IFIFO, unix.S_IFSOCK:
			if typ != unix.S_IFREG {
				o.Type = 0
			}
		default:
			o.Type = 0
		}
		return &o
	}
	return nil
}

// loadAt is load for name in dirfd.
func (w *ownership) loadAt(typ uint32, dirfd int, name string) *whiteout.Override {
	return w.load(typ, func(attr string) ([]byte, error) { return sys.ReadXattr(dirfd, name, attr) })
}

// recall puts what is remembered of an object in the place of what its layer
// says. A symlink can have no attribute: one of this user's is root's, as nearly
// all in images are.
func (w *ownership) recall(over *whiteout.Override, a *stack.Attr) {
	switch {
	case !w.remembers():
	case over != nil:
		a.UID, a.GID = over.UID, over.GID
		a.Mode = a.Mode&unix.S_IFMT | over.Mode
		if over.Type != 0 {
			a.Mode, a.Rdev, a.Size = over.Type|over.Mode, over.Rdev, 0
		}
	case a.Type() == unix.S_IFLNK && a.UID == w.uid:
		a.UID, a.GID = 0, 0
	}
}

// show is recall followed by the mapping and squashing of ids.
func (w *ownership) show(over *whiteout.Override, a *stack.Attr) {
	if w == nil {
		return
	}
	w.recall(over, a)
	a.UID = showID(w.UIDs, w.SquashUID, a.UID)
	a.GID = showID(w.GIDs, w.SquashGID, a.GID)
}

func showID(ranges []IDRange, squash *uint32, id uint32) uint32 {
	if squash != nil {
		return *squash
	}
	if len(ranges) == 0 {
		return id
	}
	for _, r := range ranges {
		if id >= r.Disk && id-r.Disk < r.Count {
			return r.Shown + (id - r.Disk)
		}
	}
	return overflowID
}

// storeID is the id on disk of one that a user of the mount means.
func storeID(ranges []IDRange, id uint32) (uint32, error) {
	if len(ranges) == 0 {
		return id, nil
	}
	for _, r := range ranges {
		if id >= r.Shown && id-r.Shown < r.Count {
			return r.Disk + (id - r.Shown), nil
		}
	}
	return 0, unix.EOVERFLOW
}

// mayOwn tells whether this process can make objects that belong to uid and gid.
func (w *ownership) mayOwn(uid, gid uint32) bool {
	if sys.HasCap(unix.CAP_CHOWN) {
		return true
	}
	if uid != w.uid {
		return false
	}
	for _, g := range w.groups {
		if uint32(g) == gid {
			return true
		}
	}
	return gid == w.gid
}

// storedXattr is the name under which an attribute of a user of the mount is
// stored; false: users of the mount have no such attribute.
func (f *FS) storedXattr(attr string) (string, bool) {
	if f.own.remembers() {
		if strings.HasPrefix(attr, whiteout.OverridePrefix) || whiteout.IsOverride(attr) {
			return "", false
		}
		if f.own.Remember != RememberSecurity && strings.HasPrefix(attr, "security.") {
			return whiteout.OverridePrefix + attr, true
		}
	}
	return f.cfg.Namespace.Escape(attr), true
}

// shownXattr is the inverse of storedXattr.
func (f *FS) shownXattr(stored string) (string, bool) {
	if f.own.remembers() {
		if rest, ok := strings.CutPrefix(stored, whiteout.OverridePrefix); ok {
			return rest, f.own.Remember != RememberSecurity && strings.HasPrefix(rest, "security.")
		}
		if strings.HasPrefix(stored, "security.") {
			return stored, f.own.Remember == RememberSecurity && !whiteout.IsOverride(stored)
		}
	}
	return f.cfg.Namespace.Unescape(stored)
}
