// Package tarlayer reads a layer straight out of its blob: a tar file, plain or
// compressed with gzip or zstd, seen as a stack.Layer without being unpacked.
//
// The first time a blob is opened it is read once from end to end. That pass
// computes the digest of the blob and of the stream in it (the DiffID), lays
// out the tree that the tar describes, and cuts the stream into spans that can
// be read alone:
//
//	blob              span                               read again by
//	plain tar         128 KiB                            reading in place
//	gzip              about 1 MiB, from one deflate      an ordinary inflate, started in the middle with the
//	                  block boundary to another          32 KiB before it as dictionary (see restart.go)
//	zstd, many frames frames, about 1 MiB together       an ordinary zstd decoder
//	zstd, huge frames 1 MiB, re-framed into the cache    the same, on the copy (see spool.go)
//
// Each span has a CRC-32C which is checked whenever the span is read, so a blob
// that was changed or damaged afterwards gives EIO and never other bytes. The
// result, the index, is kept in a cache under the blob's digest.
//
// The tree is the one docker's and containerd's unpackers would make:
//
//   - Names are relative to the layer's root, however they are written; one that
//     climbs out of it is refused. A parent that is a symlink is followed inside
//     the root; one that is missing is made (0755, root, time of the entry). Like
//     the root of a tar without an entry for it, it shows the attributes of the
//     directory that it merges with in the layers below (stack.Implier).
//   - Of entries with the same name the last one wins. A directory over a
//     directory replaces its attributes and keeps its children.
//   - ".wh.NAME" deletes NAME in the layers below, ".wh..wh..opq" all that they
//     hold of its directory, wherever in the tar they stand. A directory beside
//     its own whiteout is opaque. A character device 0:0 is a whiteout too, as it
//     is for the kernel. Other names that begin with ".wh..wh." are bookkeeping of
//     AUFS and are skipped; ".wh." and ".wh.." alone are refused.
//   - A hard link is another name of an inode of the same layer, also when its
//     target comes later in the tar. A target that is not in the layer is an
//     error: what the link should show cannot be known here.
//   - PAX global headers are skipped, as docker skips them.
//
// Nothing of a blob is trusted: see Limits.
package tarlayer
