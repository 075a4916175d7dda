// Package stack is the union rule, without FUSE: which object of which layer is
// visible under a name, and what a merged directory lists. The filesystem, the
// packer and the inspector share it.
//
// A Stack is a list of read-only layers; index 0 is the top layer, everywhere.
// A layer gives Objects, one for each inode of its tree, reached from its root
// one name at a time; objects and their attributes never change, as layers do
// not. An Entry is what the union shows under one path: the visible object
// and, for a merged directory, the directories below it that take part.
//
// The rule is that of fs/overlayfs/namei.c:ovl_lookup. Going down from the top:
// the first object wins; a whiteout ends the search; a directory merges with
// directories below it until an opaque one, or anything that is no directory,
// ends it; a redirect changes the name (or, when absolute, the place) that the
// layers below are asked for; a metacopy file takes its data from the first
// file below it that has some.
package stack
