// Package cow changes the upper layer in single steps: it copies one object up
// from the layers below, puts one whiteout in the place of an object, or fills
// one metacopy file. Each is all or nothing, whatever ends the process on the
// way: a kill, a full disk, a power failure. It knows nothing of FUSE, of
// stacks of layers, or of who wants the change; it takes descriptors and names.
//
// Everything is made aside first, in the mount's Workdir on the upper's
// filesystem, and gets its name in the upper by one system call. There is
// nothing to undo at the destination, ever.
//
// # Copy-up
//
// CopyUp is Prepare, which needs no lock of a directory and takes as long as
// the data takes, and Publish, which is short. The steps, why each stands where
// it does (compare fs/overlayfs/copy_up.c), and what a kill just before it
// leaves, beside a lower layer that is as it was:
//
//  1. create: a file without a name (O_TMPFILE), else a temp in work/ with mode
//     0600 or 0700. Devices, fifos and sockets are made, never opened. Left: nothing.
//  2. data: reflink, else copy_file_range, else read and write, extent by extent;
//     holes stay holes, the size is set last. First of all, since writing removes
//     suid bits and security.capability. Left, from here to 9: a temp, or nothing
//     with O_TMPFILE.
//  3. owner: before mode and capability, since chown removes both.
//  4. xattrs: before the mode, since a plain user cannot set user.* attributes of
//     his own 0444 file. All but marks and ACLs.
//  5. marks: origin, opaque, redirect, metacopy, nlink, protattr; before the mode
//     for the same reason. The name is never there without them.
//  6. acl: after user.*, since an ACL changes the mode.
//  7. mode: after owner and ACL, whose mask the group bits set again.
//  8. times: after everything that changes them.
//  9. sync: fsync of a regular file to which data was written; else the name
//     could reach the disk before the data, and hide good lower data by an empty
//     file. Left out by volatile mounts.
//  10. index: with a hardlink index only, the name in index/. Before it: nothing, or
//     a temp. After it the object is copied up, under all its lower names, and
//     complete: lookup finds it by the index.
//  11. publish: linkat or renameat2(RENAME_NOREPLACE) into the upper, which never
//     replaces anything. Before it: as before; after it: the copy is there, whole.
//  12. published: the parent's times are restored, and the nlink mark is set that
//     counts from the upper, as well as may be. A plain user can only move a
//     directory that he may write, so one of mode 0555 loses the owner's write bit
//     here. Left, when killed before it: a parent directory with the time of the
//     copy-up; that bit.
//
// What only metadata says (a directory, a symlink, a metacopy file, a new empty
// file) is not synced: on ext4, xfs and btrfs one journal or transaction holds
// the object's inode and its name, so that the name is never on disk without
// the rest. Nor is the parent directory synced: until the name is on disk the
// lower object shows, which is the state before.
//
// A step that fails ends the copy-up with its errno, and removes the temp.
//
// # Whiteouts
//
//  1. A whiteout is made in work/, as a hard link of one that is kept there.
//     Left: a temp.
//  2. whiteout-made: rename over the victim, or for a directory an exchange with
//     it; or, where the name is free, the link is made in the upper at once.
//     Before: the old object; after: the whiteout. Never neither, so that what lies
//     below cannot show.
//  3. swapped: the old directory, now a temp, is removed. Left: a temp.
//
// # Metacopy files
//
//  1. complete-data: the data is written into the file in the upper, which keeps its
//     metacopy mark, so that readers go on with the data below; mode, capability
//     and times are set again, and the file is synced. Left: data that nobody reads;
//     the next completion writes the same bytes over it.
//  2. complete-mark: the mark is removed. Before: a metacopy file; after: a whole one.
//
// # The workdir
//
// The layout is the kernel's, so that either can take over from the other:
// work/ for temps, index/ for the hardlink index, work/incompat/volatile for a
// volatile mount (made and synced before anything else). OpenWorkdir locks
// workdir and upper with flock(2) against a second mount, which ends with the
// process however it ends, and removes all temps. Close of a volatile workdir
// syncs the filesystem and removes the mark, where the kernel leaves it.
//
// FailPoint and ParseFailPoint stop the process or the step at any of the names
// above, for tests.
package cow
