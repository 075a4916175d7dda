// Package image keeps images in an OCI image layout on disk and makes new ones
// from what was changed in a mount.
//
// The store is a layout that any OCI tool can read at any time (image-spec
// image-layout.md), with three things of its own beside it:
//
//	oci-layout  index.json  blobs/sha256/HEX    the layout
//	index.lock                                  flock: one writer of index.json
//	tmp/lock                                    flock: shared by every transaction
//	tmp/tx-*/                                   one transaction: temporary files, journal
//	unpacked/sha256/HEX/{fs,layer.json}         layers as directories, by DiffID
//
// Every change is a transaction: blobs are written to temporary files, synced,
// noted in the journal and renamed into place; last, index.json is replaced by
// one rename. A transaction that was killed leaves a directory under tmp; the
// next one that is alone removes it and the blobs of its journal that no image
// needs. What removes blobs holds tmp/lock alone, so it never meets a
// transaction that is about to refer to them.
//
// Reading trusts nothing: digests and sizes are checked while blobs are read,
// JSON is bounded, layers are unpacked by directory descriptor with every path
// resolved inside the layer.
package image
