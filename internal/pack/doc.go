// Package pack turns the top layer of a stack into an OCI image layer: a tar
// stream with its DiffID and, compressed, its digest, in one pass.
//
// It walks only what the top layer (the upper) holds and takes decisions from
// it, contents from the union:
//
//	in the upper                       in the layer
//	whiteout                           .wh.NAME where the layers below show NAME
//	opaque directory                   .wh.NAME for each name below that is gone; beyond
//	                                   MaxExplicit names one .wh..wh..opq
//	redirected directory               all it shows in the union, and .wh. at the old place
//	metacopy file                      the whole file, data from below
//	hard links, by device and inode    one file and links to it; names that the hardlink
//	                                   index keeps together are links too
//	directory equal to the one below   nothing, unless something in it is written
//	file equal to the one below        nothing with DropUnchanged
//	path that is not chosen            nothing (Include, Exclude): it stays as it is below
//	socket                             nothing, with a notice
//	name beginning with ".wh."         an error that lists all of them
//
// Names are sorted by bytes, parents come first, whiteouts come first in their
// directory, no path comes twice (image-spec layer.md). The bytes depend on
// nothing but the layers and the options. Memory does not grow with the layer,
// but for the table of hard links. Whole directories are listed in memory.
//
// A file that changes while it is read is read again; one that never settles is
// an error. What was written is never torn and never padded.
package pack
