package fs

import (
	"sync/atomic"

	"github.com/unionfs-go/unionfs/internal/sys"
)

// op is one kind of FUSE request.
type op uint8

const (
	opLookup op = iota
	opForget
	opGetattr
	opSetattr
	opStatx
	opMknod
	opMkdir
	opSymlink
	opCreate
	opTmpfile
	opLink
	opUnlink
	opRmdir
	opRename
	opReadlink
	opAccess
	opStatfs
	opOpen
	opOpendir
	opRelease
	opFlush
	opRead
	opWrite
	opLseek
	opCopyRange
	opFallocate
	opFsync
	opIoctl
	opReaddir
	opReaddirplus
	opGetxattr
	opListxattr
	opSetxattr
	opRemovexattr
	numOps
)

var opNames = [numOps]string{
	"LOOKUP", "FORGET", "GETATTR", "SETATTR", "STATX", "MKNOD", "MKDIR", "SYMLINK", "CREATE", "TMPFILE",
	"LINK", "UNLINK", "RMDIR", "RENAME", "READLINK", "ACCESS", "STATFS", "OPEN", "OPENDIR", "RELEASE",
	"FLUSH", "READ", "WRITE", "LSEEK", "COPY_FILE_RANGE", "FALLOCATE", "FSYNC", "IOCTL", "READDIR",
	"READDIRPLUS", "GETXATTR", "LISTXATTR", "SETXATTR", "REMOVEXATTR",
}

// counters counts the requests served.
type counters struct {
	n [numOps]atomic.Uint64
}

func (c *counters) count(o op) { c.n[o].Add(1) }

// snapshot is the counts that are not zero, by name.
func (c *counters) snapshot() map[string]uint64 {
	m := make(map[string]uint64)
	for i := range c.n {
		if v := c.n[i].Load(); v > 0 {
			m[opNames[i]] = v
		}
	}
	return m
}

func readlinkAt(p place) (string, error) { return sys.Readlinkat(p.fd, p.name) }
