package fs

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/sys"
)

// aclState is what is known about a directory's default ACL.
type aclState uint8

const (
	aclUnknown aclState = iota
	aclNone
	aclSome
)

// The attributes that hold POSIX ACLs, and their layout
// (include/uapi/linux/posix_acl_xattr.h).
const (
	aclAccessAttr  = "system.posix_acl_access"
	aclDefaultAttr = "system.posix_acl_default"

	aclHeader  = 4
	aclEntry   = 8
	aclVersion = 2

	aclUserObj  = 0x01
	aclGroupObj = 0x04
	aclMask     = 0x10
	aclOther    = 0x20
)

// defaultACL returns the default ACL of an upper directory, or nil.
//
// Preconditions: dir.mu is held for writing; p is the directory.
func (f *FS) defaultACL(dir *node, p place) ([]byte, error) {
	if dir.dir.defACL == aclNone {
		return nil, nil
	}
	acl, err := sys.ReadXattr(p.fd, "", aclDefaultAttr)
	switch err {
	case nil:
		dir.dir.defACL = aclSome
		return acl, nil
	case unix.ENODATA, unix.EOPNOTSUPP:
		dir.dir.defACL = aclNone
		return nil, nil
	}
	return nil, err
}

// inheritACL makes the access ACL and the mode of an object that is created
// with the given permission bits in a directory with this default ACL: the bits
// limit the owner's, the mask's (or group's) and others' entries (fs/posix_acl.c:
// posix_acl_create_masq). The ACL is nil when the mode says it all. EINVAL: not
// an ACL.
func inheritACL(def []byte, mode uint32) (access []byte, newMode uint32, err error) {
	if len(def) < aclHeader || (len(def)-aclHeader)%aclEntry != 0 || binary.LittleEndian.Uint32(def) != aclVersion {
		return nil, 0, unix.EINVAL
	}
	access = append([]byte(nil), def...)
	perm := mode & 0o777
	var group, mask []byte
	extended := false
	for b := access[aclHeader:]; len(b) > 0; b = b[aclEntry:] {
		e := b[:aclEntry]
		switch binary.LittleEndian.Uint16(e) {
		case aclUserObj:
			perm = limitACL(e, perm, 6)
		case aclGroupObj:
			group = e
		case aclOther:
			perm = limitACL(e, perm, 0)
		case aclMask:
			mask, extended = e, true
		default:
			extended = true
		}
	}
	switch {
	case mask != nil:
		perm = limitACL(mask, perm, 3)
	case group != nil:
		perm = limitACL(group, perm, 3)
	default:
		return nil, 0, unix.EINVAL
	}
	newMode = mode&^0o777 | perm
	if !extended {
		access = nil
	}
	return access, newMode, nil
}

// limitACL reduces one entry by the mode's bits at shift, and those bits by the
// entry, and returns the new mode.
func limitACL(e []byte, perm uint32, shift uint) uint32 {
	bits := uint32(binary.LittleEndian.Uint16(e[2:])) & (perm >> shift) & 7
	binary.LittleEndian.PutUint16(e[2:], uint16(bits))
	return perm&^(7<<shift) | bits<<shift
}
