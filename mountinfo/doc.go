// Package mountinfo reads /proc/self/mountinfo: which mounts there are, which of
// them are ours, and on which mount a path lies. It never touches a mounted
// filesystem, so that it answers when one of them hangs. It is a leaf: it
// imports nothing but the standard library.
//
// A line of the table (proc_pid_mountinfo(5)); (7) is any number of fields, and
// a space, tab, newline or backslash in a field is an octal escape:
//
//	36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
//	(1)(2)(3)  (4)   (5)   (6)        (7)     (8) (9)  (10)     (11)
package mountinfo
