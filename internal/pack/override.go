package pack

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// override is the value of user.containers.override_stat: what a file would be
// if the tool that made it had had the rights (containers/storage
// pkg/idtools: Stat, fuse-overlayfs).
type override struct {
	uid, gid uint32
	mode     uint32 // permission bits
	typ      uint32 // S_IF*, or 0: as on disk
	rdev     uint64
}

// parseOverride reads "UID:GID:0MODE[:TYPE]", TYPE being dir, file, symlink,
// pipe, socket, block-MAJ-MIN or char-MAJ-MIN.
func parseOverride(s string) (*override, error) {
	bad := fmt.Errorf("%w: %s has the value %q, which is not UID:GID:MODE[:TYPE]", ErrInput, overrideStat, s)
	f := strings.SplitN(strings.TrimRight(s, "\x00"), ":", 4)
	if len(f) < 3 {
		return nil, bad
	}
	uid, err1 := strconv.ParseUint(f[0], 10, 32)
	gid, err2 := strconv.ParseUint(f[1], 10, 32)
	mode, err3 := strconv.ParseUint(f[2], 8, 32)
	if err1 != nil || err2 != nil || err3 != nil {
		return nil, bad
	}
	o := &override{uid: uint32(uid), gid: uint32(gid), mode: uint32(mode) & 0o7777}
	if len(f) == 3 {
		return o, nil
	}
	switch kind, dev, _ := strings.Cut(f[3], "-"); kind {
	case "dir":
		o.typ = unix.S_IFDIR
	case "file":
		o.typ = unix.S_IFREG
	case "symlink":
		o.typ = unix.S_IFLNK
	case "pipe":
		o.typ = unix.S_IFIFO
	case "socket":
		o.typ = unix.S_IFSOCK
	case "block", "char":
		o.typ = unix.S_IFBLK
		if kind == "char" {
			o.typ = unix.S_IFCHR
		}
		major, minor, _ := strings.Cut(dev, "-")
		ma, err1 := strconv.ParseUint(major, 10, 32)
		mi, err2 := strconv.ParseUint(minor, 10, 32)
		if err1 != nil || err2 != nil {
			return nil, bad
		}
		o.rdev = unix.Mkdev(uint32(ma), uint32(mi))
	default:
		return nil, bad
	}
	return o, nil
}
