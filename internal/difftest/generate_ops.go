package difftest

import "path/filepath"

// pick makes one operation.
func (g *Generator) pick() Op {
	if g.setup {
		return g.pickChange()
	}
	switch n := g.r.IntN(100); {
	case n < 38:
		return g.pickChange()
	case n < 54:
		return g.pickOpen()
	case n < 80:
		return g.pickHandle()
	case n < 88:
		return g.pickDir()
	default:
		return g.pickRead()
	}
}

// pickChange is a change to the tree that needs no handle.
func (g *Generator) pickChange() Op {
	switch g.r.IntN(22) {
	case 0, 1:
		return Op{Call: "mkdir", Path: g.fresh(), Mode: g.mode()}
	case 2, 3:
		return Op{Call: "rmdir", Path: g.any("d")}
	case 4, 5, 6:
		return Op{Call: "unlink", Path: g.any("flpscb")}
	case 7, 8, 9, 10, 11:
		return g.pickRename()
	case 12, 13:
		if g.setup && !g.links {
			return g.pickAttr()
		}
		if !g.links {
			// The kernel cannot keep links of special files together there.
			return Op{Call: "link", Path: g.m.some(g.r, "f"), To: g.fresh()}
		}
		return Op{Call: "link", Path: g.any("flpscb"), To: g.fresh()}
	case 14:
		return Op{Call: "symlink", Path: g.fresh(), To: g.oneOf("a", "b/c", "nowhere", "../a", "loop")}
	case 15:
		return g.pickMknod()
	case 16:
		return g.pickCreate()
	default:
		return g.pickAttr()
	}
}

func (g *Generator) pickRename() Op {
	op := Op{Call: "rename", Path: g.any("dfflpscbd"), To: g.fresh()}
	if g.r.IntN(3) == 0 {
		op.To = g.any("")
	}
	op.Flags = g.oneOf("", "", "", "", "RENAME_NOREPLACE", "RENAME_EXCHANGE", "RENAME_WHITEOUT")
	if op.Flags == "RENAME_EXCHANGE" {
		op.To = g.any("")
	}
	return op
}

func (g *Generator) pickMknod() Op {
	op := Op{Call: "mknod", Path: g.fresh(), Mode: g.mode(), Flags: g.oneOf("S_IFIFO", "S_IFSOCK", "S_IFCHR", "S_IFBLK", "S_IFREG")}
	switch op.Flags {
	case "S_IFCHR":
		op.Off, op.Off2 = 1, int64([]int{3, 5}[g.r.IntN(2)])
		if g.r.IntN(3) == 0 {
			op.Off, op.Off2 = 0, 0 // a whiteout, which nobody may make
		}
	case "S_IFBLK":
		op.Off, op.Off2 = 240, 99
	}
	return op
}

// pickCreate makes a file with content in one go.
func (g *Generator) pickCreate() Op {
	op := Op{Call: "open", Path: g.fresh(), FD: 7, Flags: g.oneOf("O_RDWR|O_CREAT", "O_WRONLY|O_CREAT|O_EXCL", "O_RDWR|O_CREAT|O_TRUNC"), Mode: g.mode()}
	g.queue = append(g.queue,
		Op{Call: "write", FD: 7, Data: g.oneOf("new", "more data "), Len: g.length()},
		Op{Call: "close", FD: 7})
	return op
}

// pickAttr changes attributes by path.
func (g *Generator) pickAttr() Op {
	switch g.r.IntN(8) {
	case 0, 1:
		return Op{Call: "chmod", Path: g.any(""), Mode: g.mode()}
	case 2:
		ids := []int{0, 1000, 2000, -1}
		return Op{Call: "chown", Path: g.any(""), UID: ids[g.r.IntN(4)], GID: ids[g.r.IntN(4)]}
	case 3:
		op := Op{Call: "utimens", Path: g.any(""), Off: int64(g.r.IntN(1e9)), Off2: int64(g.r.IntN(2e9)) - 1e9}
		op.Len, op.Flags = int64(g.r.IntN(1e9)), g.oneOf("", "", "OMIT", "NOW")
		return op
	case 4:
		return Op{Call: "truncate", Path: g.any("f"), Len: g.offset()}
	case 5, 6:
		return g.pickSetxattr()
	default:
		return Op{Call: "removexattr", Path: g.any(""), Name: g.xattrName()}
	}
}

func (g *Generator) xattrName() string {
	return g.oneOf("user.n", "user.m", "trusted.t", "security.capability", "trusted.overlay.opaque", "trusted.overlay.foo",
		"trusted.overlay.overlay.x", "user.overlay.opaque", "user.overlay.foo", "system.posix_acl_access", "system.posix_acl_default")
}

func (g *Generator) pickSetxattr() Op {
	op := Op{Call: "setxattr", Path: g.any(""), Name: g.xattrName(), Data: g.oneOf("v", "value", "y", "")}
	op.Flags = g.oneOf("", "", "XATTR_CREATE", "XATTR_REPLACE")
	switch op.Name {
	case "security.capability":
		op.Data, op.Hex = "", capability
	case "system.posix_acl_access", "system.posix_acl_default":
		op.Data, op.Hex = "", acls[g.r.IntN(len(acls))]
	}
	if g.r.IntN(20) == 0 {
		op.Len = 5000
	}
	return op
}

// pickOpen opens a file or directory into a slot.
func (g *Generator) pickOpen() Op {
	access := g.oneOf("O_RDONLY", "O_RDONLY", "O_WRONLY", "O_RDWR", "O_RDWR")
	op := Op{Call: "open", FD: g.slot(), Path: g.any("ffff"), Mode: g.mode()}
	extra := g.oneOf("", "", "", "|O_APPEND", "|O_TRUNC", "|O_NOFOLLOW", "|O_CREAT", "|O_CREAT|O_EXCL", "|O_CREAT|O_TRUNC",
		"|O_DIRECTORY", "|O_PATH", "|O_SYNC", "TMPFILE", "DIR")
	switch extra {
	case "TMPFILE":
		op.Path = g.m.dir(g.r)
		op.Flags = g.oneOf("O_RDWR|O_TMPFILE", "O_WRONLY|O_TMPFILE", "O_RDWR|O_TMPFILE|O_EXCL")
		g.queue = append(g.queue, Op{Call: "write", FD: op.FD, Data: "tmp"}, Op{Call: "linkfd", FD: op.FD, Path: g.fresh()})
		return op
	case "DIR":
		op.Path, op.Flags = g.m.dir(g.r), "O_RDONLY|O_DIRECTORY"
		return op
	case "|O_CREAT", "|O_CREAT|O_EXCL", "|O_CREAT|O_TRUNC":
		if g.r.IntN(2) == 0 {
			op.Path = g.fresh()
		}
	}
	op.Flags = access + extra
	return op
}

// pickHandle does something with what is open.
func (g *Generator) pickHandle() Op {
	op := Op{FD: g.slot()}
	switch g.r.IntN(30) {
	case 0, 1:
		op.Call, op.Len = "read", g.length()
	case 2, 3:
		op.Call, op.Off, op.Len = "pread", g.offset(), g.length()
	case 4, 5, 6:
		op.Call, op.Data, op.Len = "write", g.oneOf("W", "write "), g.length()
	case 7, 8, 9:
		op.Call, op.Data, op.Off, op.Len = "pwrite", g.oneOf("P", "pwrite "), g.offset(), g.length()
	case 10, 11:
		op.Call, op.Off, op.Flags = "lseek", g.offset(), g.oneOf("SEEK_SET", "SEEK_CUR", "SEEK_END", "SEEK_DATA", "SEEK_HOLE")
	case 12, 13:
		op.Call = "fstat"
		if g.r.IntN(2) == 0 {
			op.Path = g.any("")
		}
	case 14:
		op.Call, op.Len = "ftruncate", g.offset()
	case 15, 16:
		op.Call, op.Off, op.Len = "fallocate", g.offset(), g.length()
		op.Flags = g.oneOf("", "FALLOC_KEEP_SIZE", "FALLOC_PUNCH_HOLE|FALLOC_KEEP_SIZE", "FALLOC_ZERO_RANGE", "FALLOC_ZERO_RANGE|FALLOC_KEEP_SIZE")
	case 17:
		op.Call, op.FD2, op.Off, op.Off2, op.Len = "copyrange", g.slot(), g.offset(), g.offset(), g.length()
	case 18:
		op.Call, op.Mode = "fchmod", g.mode()
	case 19:
		ids := []int{0, 1000, 2000, -1}
		op.Call, op.UID, op.GID = "fchown", ids[g.r.IntN(4)], ids[g.r.IntN(4)]
	case 20:
		op.Call, op.Off2, op.Len = "futimens", int64(g.r.IntN(1e9)), int64(g.r.IntN(1e9))
	case 21:
		op.Call = g.oneOf("fsync", "fdatasync", "syncfs")
	case 22:
		op.Call, op.Flags = "flock", g.oneOf("LOCK_SH", "LOCK_EX", "LOCK_UN")
	case 23:
		op.Call, op.Mode, op.Off, op.Len = "setlk", uint32(g.r.IntN(3)), g.offset(), g.length()
	case 24, 25:
		return g.pickMapping()
	case 26:
		x := g.pickSetxattr()
		op.Call, op.Name, op.Data, op.Hex, op.Flags = "fsetxattr", x.Name, x.Data, x.Hex, x.Flags
	case 27:
		op.Call, op.Name = g.oneOf("fgetxattr", "flistxattr", "fremovexattr"), g.xattrName()
	case 28:
		op.Call, op.FD2, op.Flags = "reopen", g.slot(), g.oneOf("O_RDONLY", "O_RDWR", "O_WRONLY")
	default:
		op.Call = g.oneOf("close", "freadall", "getflags", "badioctl", "linkfd")
		if op.Call == "linkfd" {
			op.Path = g.fresh()
		}
	}
	return op
}

// pickMapping maps a file and reads or writes through the mapping, or goes on
// with a mapping that is there.
func (g *Generator) pickMapping() Op {
	op := Op{Call: "mmap", FD: g.slot(), Len: 8192, Flags: g.oneOf("MAP_SHARED", "MAP_SHARED", "MAP_PRIVATE"), Mode: uint32(g.r.IntN(2))}
	read := Op{Call: "mread", FD: op.FD, Off: g.offset(), Len: g.length()}
	writes := op.Mode != 0
	write := Op{Call: "mwrite", FD: op.FD, Off: g.offset(), Data: "M", Len: g.length()}
	if g.r.IntN(3) == 0 {
		return read
	}
	if writes && op.Flags == "MAP_SHARED" {
		// The store arrives as a write here, which drops the capability; in
		// the kernel it is none.
		g.queue = append(g.queue, op)
		op = Op{Call: "fremovexattr", FD: op.FD, Name: "security.capability"}
	}
	g.queue = append(g.queue, read)
	if writes {
		g.queue = append(g.queue, write, Op{Call: "msync", FD: op.FD}, read)
	}
	return op
}

// pickDir works on directory streams.
func (g *Generator) pickDir() Op {
	switch g.r.IntN(5) {
	case 0:
		return Op{Call: "open", FD: 4 + g.r.IntN(2), Path: g.m.dir(g.r), Flags: "O_RDONLY|O_DIRECTORY"}
	case 1, 2:
		return Op{Call: "readdir", FD: 4 + g.r.IntN(2), Len: int64([]int{300, 400, 8192}[g.r.IntN(3)])}
	case 3:
		return Op{Call: "rewind", FD: 4 + g.r.IntN(2)}
	default:
		return Op{Call: "list", Path: g.m.dir(g.r)}
	}
}

// pickRead only looks.
func (g *Generator) pickRead() Op {
	switch g.r.IntN(12) {
	case 0:
		return Op{Call: "stat", Path: g.any("")}
	case 1:
		return Op{Call: "lstat", Path: g.any("")}
	case 2:
		return Op{Call: "statx", Path: g.any("")}
	case 3:
		return Op{Call: "readlink", Path: g.any("l")}
	case 4:
		return Op{Call: "access", Path: g.any(""), Flags: g.oneOf("R_OK", "W_OK", "X_OK", "R_OK|W_OK")}
	case 5:
		return Op{Call: "getxattr", Path: g.any(""), Name: g.xattrName()}
	case 6:
		return Op{Call: "listxattr", Path: g.any("")}
	case 7:
		return Op{Call: "statfs", Path: g.any("")}
	case 8:
		return Op{Call: "sameino", Path: g.any("f"), To: g.any("f")}
	case 9:
		return Op{Call: "umask", Mode: []uint32{0o22, 0, 0o77}[g.r.IntN(3)]}
	case 10:
		// A name that is too long, and one below something that is no directory.
		return Op{Call: "lstat", Path: g.oneOf(long+"x", filepath.Join(g.m.some(g.r, "f"), "x"))}
	default:
		return Op{Call: "readall", Path: g.any("f")}
	}
}
