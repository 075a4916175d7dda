// Package sys holds every raw system call of unionfs, and the only use of
// package unsafe. Its functions add three things to golang.org/x/sys/unix:
// they retry EINTR (the Go runtime preempts threads with signals), they always
// set O_CLOEXEC, and they take a directory descriptor plus one name, so that a
// symlink or a rename inside a hostile layer cannot lead outside it.
//
// Errors are plain errno values (syscall.Errno), never wrapped: callers decide
// what a path is called in a message.
package sys
