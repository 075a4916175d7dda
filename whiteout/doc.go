// Package whiteout knows every mark that a union filesystem leaves on disk, how
// to read all of them and how to write the kernel's. It knows nothing of FUSE
// or of whole trees: its functions take a directory descriptor and one name.
//
// Deletion marks:
//
//	form                              read   written
//	character device 0:0              yes    yes, wherever the filesystem can (kernel overlayfs)
//	empty file + overlay.whiteout     yes    where devices cannot be made; its directory has opaque=x (kernel, 6.8)
//	empty file .wh.NAME               yes    never (AUFS, OCI unpackers, fuse-overlayfs)
//
// Marks on a directory that hides what lies below it:
//
//	form                              read   written
//	overlay.opaque=y                  yes    yes (trusted. or user., see Namespace)
//	user.fuseoverlayfs.opaque=y       yes    never (fuse-overlayfs up to 1.16)
//	file .wh..wh..opq                 yes    never (AUFS, OCI, fuse-overlayfs)
//	device .wh..opq                   hidden never (fuse-overlayfs 1.10, stray)
//
// A directory whose names are the kernel's, and so may begin with ".wh.", is
// told from an AUFS one by the root of its layer, see Native.
//
// The other marks are extended attributes: redirect, metacopy, origin, impure,
// nlink, upper, uuid, protattr (Documentation/filesystems/overlayfs.rst).
package whiteout
