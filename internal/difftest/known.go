package difftest

import (
	"regexp"
	"strconv"
	"strings"
)

// Known is a difference on purpose, or one that nothing can be done about. Each
// is explained in docs/semantics.md.
type Known struct {
	Name   string
	Reason string
	// Variant is the only one where this is expected; empty is all.
	Variant string
	// Ends tells that the trees go different ways from here, so that the
	// rest of the case has no meaning.
	Ends bool
	// Match tells whether this is what makes the two results differ.
	Match func(op Op, oracle, subject Result) bool
}

// Differences are those of unionfs.
var Differences = []Known{
	{
		Name:   "mmap-coherent",
		Reason: "a shared mapping made before a copy-up sees later writes here, and stays stale in the kernel",
		Match: func(op Op, oracle, subject Result) bool {
			return op.Call == "mread" && strings.HasSuffix(oracle.Val, staleMark) && !strings.HasSuffix(subject.Val, staleMark)
		},
	},
	{
		Name:   "file-handles",
		Reason: "name_to_handle_at works without nfs_export=on here",
		Match: func(op Op, oracle, subject Result) bool {
			return op.Call == "handle" && oracle.Err == "EOPNOTSUPP" && subject.Err == ""
		},
	},
	{
		Name:   "orphan-whiteout",
		Reason: "the kernel lists a whiteout of a directory that merges with nothing, though a lookup says ENOENT",
		Match: func(op Op, oracle, subject Result) bool {
			return op.Call == "list" && oracle.Err == subject.Err &&
				orphans.ReplaceAllString(oracle.Val, "") == subject.Val
		},
	},
	{
		Name:   "stale-d-ino",
		Reason: "the kernel's list of a new directory can hold an inode number from before a copy-up; here d_ino is always st_ino",
		Match: func(op Op, oracle, subject Result) bool {
			return op.Call == "list" && oracle.Err == subject.Err &&
				strings.ReplaceAll(oracle.Val, "!d_ino", "") == subject.Val
		},
	},
	{
		Name:   "seek-hole-in-directory",
		Reason: "FUSE directories take any whence (fs/fuse/dir.c: generic_file_llseek); the request never arrives here",
		Match: func(op Op, oracle, subject Result) bool {
			return op.Call == "lseek" && strings.HasPrefix(op.Flags, "SEEK_") && oracle.Val == "dir" && subject.Val == "dir"
		},
	},
	{
		Name:   "copy-up-without-a-name",
		Reason: "a lower file that was unlinked and is still open can be changed here; the kernel finds no name to copy up",
		Ends:   true,
		Match: func(op Op, oracle, subject Result) bool {
			noName := oracle.Err == "ENOENT" || oracle.Err == "EEXIST" || oracle.Err == "ESTALE"
			return noName && op.Path == "" && op.Flags != "XATTR_CREATE" && (subject.Err == "" || subject.Err == "ENODATA")
		},
	},
	{
		Name:   "unlinked-lower-nlink",
		Reason: "an open lower file that was unlinked has a link count of 0 here; the kernel shows that of the layer",
		Match: func(op Op, oracle, subject Result) bool {
			return strings.Contains(subject.Val, " n=0 ") &&
				nlinkWord.ReplaceAllString(oracle.Val, " ") == nlinkWord.ReplaceAllString(subject.Val, " ")
		},
	},
	{
		Name:    "long-metacopy-redirect",
		Reason:  "as long-redirect, for a file without data whose origin has a long path",
		Variant: "metacopy",
		Ends:    true,
		Match: func(op Op, oracle, subject Result) bool {
			return (op.Call == "rename" || op.Call == "link") && oracle.Err == "EXDEV" && subject.Err == ""
		},
	},
	{
		Name:   "read-of-a-sought-directory",
		Reason: "read(2) of a directory that lseek moved far is EINVAL in the kernel for the position, before it is EISDIR",
		Match: func(op Op, oracle, subject Result) bool {
			return op.Call == "read" && oracle.Err == "EINVAL" && subject.Err == "EISDIR"
		},
	},
	{
		Name:   "more-holes",
		Reason: "a copy keeps every hole of the file here; the kernel fills the one at the end",
		Match: func(op Op, oracle, subject Result) bool {
			if op.Call != "lseek" {
				return false
			}
			o, err := strconv.ParseInt(oracle.Val, 10, 64)
			if err != nil || oracle.Err != "" {
				return false
			}
			s, err := strconv.ParseInt(subject.Val, 10, 64)
			switch op.Flags {
			case "SEEK_HOLE":
				return err == nil && s < o
			case "SEEK_DATA":
				return subject.Err == "ENXIO" || err == nil && s > o
			}
			return false
		},
	},
	{
		Name:   "remove-absent-acl",
		Reason: "the kernel refuses to remove an ACL that a lower object does not have, not so for an upper one; it copies up at an open, this at the first write",
		Match: func(op Op, oracle, subject Result) bool {
			return strings.HasSuffix(op.Call, "removexattr") && strings.HasPrefix(op.Name, "system.posix_acl_") &&
				oracle.Err == "" && subject.Err == "ENODATA"
		},
	},
	{
		Name:   "long-redirect",
		Reason: "the kernel refuses redirects above redirect_max (256 bytes); here a page may be used",
		Ends:   true,
		Match: func(op Op, oracle, subject Result) bool {
			return (op.Call == "rename" || op.Call == "link") && (oracle.Err == "EXDEV" || oracle.Err == "ENAMETOOLONG") &&
				subject.Err == "" && max(len(op.Path), len(op.To)) > 200
		},
	},
}

// nlinkWord is a link count in statText.
var nlinkWord = regexp.MustCompile(` n=[0-9]+ `)

// orphans are entries that callList found but could not stat.
var orphans = regexp.MustCompile(` "[^ ]*":c!ENOENT`)

// orphanLine is how Dump shows such an entry.
var orphanLine = regexp.MustCompile(` stat:ENOENT$`)
