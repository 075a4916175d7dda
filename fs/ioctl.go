package fs

import (
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/sys"
	"github.com/unionfs-go/unionfs/whiteout"
)

// The ioctls of chattr and lsattr, in their 64-bit form (<linux/fs.h>); the
// argument is an int all the same.
const (
	iocGetFlags    = 0x80086601
	iocSetFlags    = 0x40086602
	iocFSGetXattr  = 0x801c581f
	iocFSSetXattr  = 0x401c5820
	flagsArg       = 4
	fsxattrArg     = 28
	flagAppend     = 0x20
	flagImmutable  = 0x10
	xflagAppend    = 0x10
	xflagImmutable = 0x08
)

// fileless is set in the device numbers of layers that are on no filesystem, see
// package tarlayer.
const fileless = 1 << 63

// ioctl is IOCTL. It knows the file attribute flags; everything else is ENOTTY
// (never ENOSYS, which the kernel would remember).
func (f *FS) ioctl(n *node, cmd uint32, in, out []byte) error {
	switch cmd {
	case iocGetFlags, iocFSGetXattr:
		size := flagsArg
		if cmd == iocFSGetXattr {
			size = fsxattrArg
		}
		if len(out) < size {
			return unix.EINVAL
		}
		return f.getFlags(n, cmd, out)
	case iocSetFlags, iocFSSetXattr:
		if len(in) < flagsArg || cmd == iocFSSetXattr && len(in) < fsxattrArg {
			return unix.EINVAL
		}
		return f.setFlags(n, cmd, in)
	}
	return unix.ENOTTY
}

// withObject opens a file or directory for an ioctl. ENOTTY for other types.
func (f *FS) withObject(n *node, fn func(fd int) error) error {
	switch {
	case n.typ == unix.S_IFREG:
		ok, err := f.withData(n, fn)
		if !ok && err == nil {
			return unix.ENOTTY
		}
		return err
	case n.isDir() && n.isUpper():
		fd, err := f.openUpperDir(n)
		if err != nil {
			return err
		}
		defer sys.Close(fd) //nolint:errcheck // nothing was written
		return fn(fd)
	}
	return unix.ENOTTY
}

func (f *FS) getFlags(n *node, cmd uint32, out []byte) error {
	if n.isDir() && !n.isUpper() {
		clear(out)
		return nil // a directory below: no flag that counts
	}
	if n.typ == unix.S_IFREG && !n.isUpper() && n.lowerData().Attr().Dev&fileless != 0 {
		clear(out)
		return nil // on no filesystem that could have flags
	}
	if err := f.withObject(n, func(fd int) error {
		_, err := sys.Ioctl(fd, cmd, out)
		return err
	}); err != nil {
		return err
	}
	f.addProtected(n, cmd, out)
	return nil
}

// addProtected shows the flags that the kernel's overlayfs keeps in a mark
// instead of on the file (fs/overlayfs/util.c:ovl_check_protattr).
func (f *FS) addProtected(n *node, cmd uint32, out []byte) {
	if !n.isUpper() {
		return
	}
	f.treeMu.RLock()
	defer f.treeMu.RUnlock()
	n.mu.RLock()
	defer n.mu.RUnlock()
	_ = f.at(n, func(p place) error {
		v, err := f.cfg.Namespace.Get(p.fd, p.name, whiteout.Protattr)
		if err != nil {
			return nil //nolint:nilerr // no mark: nothing to add
		}
		for _, c := range v {
			switch {
			case c == 'i' && cmd == iocGetFlags:
				out[0] |= flagImmutable
			case c == 'a' && cmd == iocGetFlags:
				out[0] |= flagAppend
			case c == 'i':
				out[0] |= xflagImmutable
			case c == 'a':
				out[0] |= xflagAppend
			}
		}
		return nil
	})
}

// setFlags sets the flags on the upper file itself, where its filesystem obeys
// them.
func (f *FS) setFlags(n *node, cmd uint32, in []byte) error {
	if err := f.enterChange(); err != nil {
		return err
	}
	defer f.leaveChange()
	if err := f.copyUp(n, wantData); err != nil {
		return err
	}
	return f.withObject(n, func(fd int) error {
		_, err := sys.Ioctl(fd, cmd, append([]byte(nil), in...))
		return err
	})
}

// statFS is STATFS: the upper's filesystem, or that of the top layer.
func (f *FS) statFS(out *fuse.StatfsOut) error {
	var st unix.Statfs_t
	fd := f.upperFD
	if fd < 0 {
		d, ok := f.cfg.Lowers[0].(interface{ RootFD() int })
		if !ok {
			*out = fuse.StatfsOut{Bsize: 4096, Frsize: 4096, NameLen: maxName}
			return nil
		}
		fd = d.RootFD()
	}
	if err := sys.Fstatfs(fd, &st); err != nil {
		return err
	}
	*out = fuse.StatfsOut{
		Blocks: st.Blocks, Bfree: st.Bfree, Bavail: st.Bavail,
		Files: st.Files, Ffree: st.Ffree,
		Bsize: uint32(st.Bsize), Frsize: uint32(st.Frsize), NameLen: uint32(st.Namelen),
	}
	return nil
}
