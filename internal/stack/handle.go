package stack

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// The header of the kernel's struct ovl_fb (fs/overlayfs/overlayfs.h).
const (
	fhVersion   = 0
	fhMagic     = 0xfb
	fhFlagUpper = 1 << 2 // the handle is of an object of the upper
	fhHeader    = 5 + 16
	// fhMaxFID is MAX_HANDLE_SZ of <linux/exportfs.h>.
	fhMaxFID = 128
)

// OriginHandle encodes the file handle of name in dirfd ("" is dirfd itself) as
// the kernel stores it in the origin and upper marks and in the names of the
// hardlink index: header, filesystem UUID, handle (fs/overlayfs/copy_up.c:
// ovl_encode_real_fh). ENOTSUP: the filesystem has no handles.
func OriginHandle(dirfd int, name string, uuid [16]byte, upper bool) ([]byte, error) {
	flags := 0
	if name == "" {
		flags = unix.AT_EMPTY_PATH
	}
	h, _, err := unix.NameToHandleAt(dirfd, name, flags)
	if err != nil {
		if err == unix.EOPNOTSUPP || err == unix.EOVERFLOW {
			return nil, unix.ENOTSUP
		}
		return nil, err
	}
	fid := h.Bytes()
	if len(fid) > fhMaxFID || h.Type() < 0 || h.Type() > 0xff {
		return nil, unix.ENOTSUP
	}
	b := make([]byte, fhHeader, fhHeader+len(fid))
	b[0], b[1], b[2] = fhVersion, fhMagic, byte(fhHeader+len(fid))
	if isBigEndian {
		b[3] = 1
	}
	if upper {
		b[3] |= fhFlagUpper
	}
	b[4] = byte(h.Type())
	copy(b[5:], uuid[:])
	return append(b, fid...), nil
}

// typeLayer is the handle type of objects that are on no filesystem; the kernel
// has no type of that number (include/linux/exportfs.h: enum fid_type) and knows
// no filesystem of such a UUID, so that it takes these handles for stale ones.
const typeLayer = 0xd1

// LayerHandle makes a handle in the form of OriginHandle for object ino of a
// layer that is on no filesystem; id tells the layer from every other one and
// stands in the place of the filesystem's UUID.
func LayerHandle(id [16]byte, ino uint64) []byte {
	b := make([]byte, fhHeader, fhHeader+8)
	b[0], b[1], b[2] = fhVersion, fhMagic, fhHeader+8
	if isBigEndian {
		b[3] = 1
	}
	b[4] = typeLayer
	copy(b[5:], id[:])
	return binary.NativeEndian.AppendUint64(b, ino)
}

var isBigEndian = binary.NativeEndian.Uint16([]byte{0, 1}) == 1

// HandleIno tells the inode number that an origin handle speaks of, for the
// handle types of ext2/3/4, xfs, btrfs and tmpfs (fs/libfs.c, fs/xfs/xfs_export.c,
// fs/btrfs/export.c, mm/shmem.c), and for those of LayerHandle. ok is false for
// any other. The caller must know by its UUID that the handle is of the
// filesystem it thinks of.
func HandleIno(h []byte, fsMagic int64) (ino uint64, ok bool) {
	if len(h) < fhHeader || h[0] != fhVersion || h[1] != fhMagic || int(h[2]) != len(h) {
		return 0, false
	}
	fid := h[fhHeader:]
	le := binary.NativeEndian
	switch typ := h[4]; {
	case typ == typeLayer && len(fid) == 8:
		return le.Uint64(fid), true
	case fsMagic == unix.TMPFS_MAGIC && typ == 1 && len(fid) >= 12:
		return uint64(le.Uint32(fid[4:])) | uint64(le.Uint32(fid[8:]))<<32, true
	case fsMagic == unix.BTRFS_SUPER_MAGIC && typ == 0x4d && len(fid) >= 8:
		return le.Uint64(fid), true
	case fsMagic == unix.XFS_SUPER_MAGIC && typ == 0x81 && len(fid) >= 8:
		return le.Uint64(fid), true
	case typ == 1 && len(fid) == 8 && (fsMagic == unix.EXT4_SUPER_MAGIC || fsMagic == unix.XFS_SUPER_MAGIC):
		return uint64(le.Uint32(fid)), true
	}
	return 0, false
}
