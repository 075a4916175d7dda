package whiteout

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// The attributes in which tools without the rights remember what an object
// should have been (containers/storage pkg/idtools:Stat, fuse-overlayfs
// src/overlay.rs). The first one is what rootless podman writes and what
// fuse-overlayfs calls xattr_permissions=2, the last one xattr_permissions=1.
const (
	OverrideContainers    = "user.containers.override_stat"
	OverrideFuseOverlayfs = "user.fuseoverlayfs.override_stat"
	OverrideSecurity      = "security.fuseoverlayfs.override_stat"

	// OverridePrefix stands before the name of an attribute that only a
	// privileged process could set: user.containers.override_security.capability.
	OverridePrefix = "user.containers.override_"
)

// IsOverride tells whether attr is one that remembers owner and mode.
func IsOverride(attr string) bool {
	return attr == OverrideContainers || attr == OverrideFuseOverlayfs || attr == OverrideSecurity
}

// Override is what an object would be if whoever made it had had the rights.
type Override struct {
	UID, GID uint32
	Mode     uint32 // permission bits, set-id and sticky bits
	Type     uint32 // S_IF*, or 0: as on disk
	Rdev     uint64 // of a device
}

// ParseOverride reads "UID:GID:MODE[:TYPE]", MODE being octal and TYPE dir, file,
// symlink, pipe, socket, block-MAJ-MIN or char-MAJ-MIN. EINVAL: it is none.
func ParseOverride(s string) (Override, error) {
	var o Override
	bad := fmt.Errorf("%q is not UID:GID:MODE[:TYPE]: %w", s, unix.EINVAL)
	f := strings.SplitN(strings.TrimRight(s, "\x00"), ":", 4)
	if len(f) < 3 {
		return o, bad
	}
	uid, err1 := strconv.ParseUint(f[0], 10, 32)
	gid, err2 := strconv.ParseUint(f[1], 10, 32)
	mode, err3 := strconv.ParseUint(f[2], 8, 32)
	if err1 != nil || err2 != nil || err3 != nil {
		return o, bad
	}
	o = Override{UID: uint32(uid), GID: uint32(gid), Mode: uint32(mode) & 0o7777}
	if len(f) == 3 {
		return o, nil
	}
	kind, dev, _ := strings.Cut(f[3], "-")
	for _, t := range overrideTypes {
		if t.name == kind {
			o.Type = t.typ
		}
	}
	if o.Type == 0 {
		return o, bad
	}
	if !o.isDevice() {
		return o, nil
	}
	major, minor, _ := strings.Cut(dev, "-")
	ma, err1 := strconv.ParseUint(major, 10, 32)
	mi, err2 := strconv.ParseUint(minor, 10, 32)
	if err1 != nil || err2 != nil {
		return o, bad
	}
	o.Rdev = unix.Mkdev(uint32(ma), uint32(mi))
	return o, nil
}

var overrideTypes = [...]struct {
	name string
	typ  uint32
}{
	{"dir", unix.S_IFDIR},
	{"file", unix.S_IFREG},
	{"symlink", unix.S_IFLNK},
	{"pipe", unix.S_IFIFO},
	{"socket", unix.S_IFSOCK},
	{"block", unix.S_IFBLK},
	{"char", unix.S_IFCHR},
}

func (o *Override) isDevice() bool { return o.Type == unix.S_IFBLK || o.Type == unix.S_IFCHR }

// String is the value to store.
func (o Override) String() string {
	s := fmt.Sprintf("%d:%d:%04o", o.UID, o.GID, o.Mode)
	for _, t := range overrideTypes {
		if t.typ == o.Type {
			s += ":" + t.name
		}
	}
	if o.isDevice() {
		s += fmt.Sprintf("-%d-%d", unix.Major(o.Rdev), unix.Minor(o.Rdev))
	}
	return s
}
