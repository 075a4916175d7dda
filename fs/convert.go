package fs

import (
	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/sys"
	"github.com/unionfs-go/unionfs/whiteout"
)

// An upper that was not written by the kernel or by unionfs (fuse-overlayfs, an
// OCI unpacker) may hold the marks of AUFS, empty files named ".wh.NAME" and
// ".wh..wh..opq". They are turned into the kernel's form directory by directory,
// when a directory is first looked at: first the new mark is made, then the old
// one goes, so that a crash in between leaves both, which means the same. In
// such an upper no name may begin with ".wh.".

// adopt turns the AUFS marks of one directory of a foreign upper into the
// kernel's.
//
// Preconditions: n is not yet shared, or f.treeMu and n.mu are held.
func (f *FS) adopt(n *node) error {
	if !f.foreign || !n.isUpper() {
		return nil
	}
	p, err := f.enter(n)
	if err != nil {
		return err
	}
	defer f.leave(p)
	ents, err := sys.ReadDir(p.fd, "")
	if err != nil {
		return err
	}
	for _, e := range ents {
		kind, victim := whiteout.ParseOCIName(e.Name)
		switch kind {
		case whiteout.Plain:
			continue
		case whiteout.MakesOpaque:
			if err := f.cfg.Namespace.SetOpaque(p.fd, ""); err != nil {
				return err
			}
			n.dir.opacity = whiteout.OpaqueDir
			n.lower = nil
		case whiteout.Deletes:
			if mark, err := f.adoptWhiteout(p.fd, e.Name, victim); err != nil || !mark {
				if err != nil {
					return err
				}
				continue
			}
		case whiteout.Reserved:
		}
		if err := sys.Unlinkat(p.fd, e.Name, 0); err != nil && err != unix.EISDIR {
			return err
		}
	}
	return nil
}

// adoptWhiteout makes a whiteout for one named ".wh.NAME". Where NAME is there
// as well it was deleted and made again: a directory is then opaque.
func (f *FS) adoptWhiteout(fd int, name, victim string) (bool, error) {
	var st unix.Statx_t
	if err := sys.Statx(fd, name, &st); err != nil {
		return false, err
	}
	if uint32(st.Mode)&unix.S_IFMT != unix.S_IFREG || st.Size != 0 {
		return false, nil
	}
	switch err := sys.Statx(fd, victim, &st); {
	case err == unix.ENOENT:
		return true, f.work.Whiteout(fd, victim, f.style)
	case err != nil:
		return false, err
	case uint32(st.Mode)&unix.S_IFMT == unix.S_IFDIR:
		return true, f.cfg.Namespace.SetOpaque(fd, victim)
	}
	return true, nil
}

// checkNewName refuses names that a foreign upper cannot tell from marks.
func (f *FS) checkNewName(name string) error {
	if len(name) > maxName {
		return unix.ENAMETOOLONG
	}
	if f.foreign && !whiteout.Representable(name) {
		return unix.EINVAL
	}
	return nil
}
