// Package fs is the filesystem of unionfs: a stack of read-only layers under one
// writable upper directory, served over FUSE with the semantics of the kernel's
// overlayfs.
//
// # Objects
//
// An FS is one union. A node is one FUSE inode: one object of the union, with
// all its names, its object in the upper if it has one, and its objects in the
// layers below (package stack). A node's state moves one way, from "below only"
// over "attributes in the upper" (metacopy) to "in the upper", and the number
// that the kernel calls it by is never used again. What a node knows can be
// thrown away at any time and read from disk again, but for what is removed and
// still open.
//
// raw decodes requests and calls the operations, which are cut by family as in
// the kernel's fs/overlayfs: lookup, attr and setattr, readdir, create (with
// link and O_TMPFILE), remove, rename, copyup, file and datafd, xattr and acl,
// ioctl, index (hard links), ino.
//
// # Kernel caching
//
// The mount owns its layers, so everything that the kernel is told it may keep
// for ever: names, also of what is not there, attributes, symlinks, directories
// and file data. OPEN (but for io=passthrough, see passthrough.go) and OPENDIR are answered ENOSYS once; from then on the
// kernel opens without asking, a file is copied up by the first write or change
// of an attribute, and there is one page cache per node, so a descriptor or a
// mapping opened before a copy-up sees what is written after it. The kernel
// drops by itself what its own requests change. The one thing it cannot know is
// that copying up a directory changes its size and ctime; notifier tells it.
//
// # Lock order
//
//	openState.mu             of one node, around its open and release
//	FS.gate                  shared: every change · exclusive: Freeze
//	  copyCall               one copy-up per node; others wait for it with no lock held
//	    FS.treeMu            shared: everything that looks at names · exclusive: rename
//	      node.mu            a directory before its children
//	        table.mu, inoMap.mu, notifier.mu, dataFiles.mu, sys.FDCache.mu
//	                         leaves: no call out while held
//
// Where the locks of two nodes are needed, the directory is locked before the
// object in it; no more than one directory is locked at a time, for rename holds
// treeMu exclusively and needs no other lock. treeMu is never taken twice by one
// request. No lock but the gate is held while file data is read, written, copied
// or flushed (but for pages written back to a file with attributes, which hold
// that node's), and none while the kernel is notified.
//
// # Changing the upper
//
// Every change that others could see half done is prepared in the workdir and
// published by one rename, link or mknod (package cow). A whiteout is replaced
// by rename, never unlinked first, so that what it hides never shows.
package fs
