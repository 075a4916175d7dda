package fs

import (
	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/stack"
	"github.com/unionfs-go/unionfs/internal/sys"
	"github.com/unionfs-go/unionfs/whiteout"
)

// remove is UNLINK and RMDIR. What lies below the name is hidden by a whiteout;
// without anything below, nothing is left (fs/overlayfs/dir.c:ovl_do_remove).
func (f *FS) remove(dir *node, name string, rmdir bool) error {
	if err := f.enterChange(); err != nil {
		return err
	}
	defer f.leaveChange()
	if rmdir && !dir.isUpper() {
		// What is refused must not copy anything up.
		if err := f.checkRmdir(dir, name); err != nil {
			return err
		}
	}
	if err := f.copyUp(dir, wantMeta); err != nil {
		return err
	}
	if !rmdir {
		if err := f.keepCount(dir, name); err != nil {
			return err
		}
	}
	temp, err := f.removeName(dir, name, rmdir)
	if temp != "" {
		// What was in an emptied directory: whiteouts. It takes a while, so no
		// lock is held; what is left after a crash goes at the next mount.
		if terr := f.work.RemoveTemp(temp); terr != nil {
			f.log.Warn("cannot clean the workdir", "work", f.cfg.Work, "temp", temp, "err", terr)
		}
	}
	return err
}

// checkRmdir tells whether a directory can be removed.
func (f *FS) checkRmdir(dir *node, name string) error {
	f.treeMu.RLock()
	defer f.treeMu.RUnlock()
	dir.mu.Lock()
	defer dir.mu.Unlock()
	n, err := f.childLocked(dir, name)
	if err != nil {
		return err
	}
	if !n.isDir() {
		return unix.ENOTDIR
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return f.checkEmpty(n)
}

// keepCount copies up a hard-linked lower file one name of which goes, so that
// the index can keep its link count (fs/overlayfs/util.c:ovl_nlink_start).
func (f *FS) keepCount(dir *node, name string) error {
	f.treeMu.RLock()
	dir.mu.Lock()
	n, err := f.childLocked(dir, name)
	dir.mu.Unlock()
	need := false
	if err == nil {
		n.mu.RLock()
		need = !n.isUpper() && n.hard != nil && n.hard.name != "" && n.hard.nlink > 1
		n.mu.RUnlock()
	}
	f.treeMu.RUnlock()
	if err != nil || !need {
		return err
	}
	return f.copyUpAs(n, dir, name, wantData)
}

// removeName removes the name on disk and in memory. The returned temp in the
// workdir is to be removed.
func (f *FS) removeName(dir *node, name string, rmdir bool) (temp string, err error) {
	f.treeMu.RLock()
	defer f.treeMu.RUnlock()
	dir.mu.Lock()
	defer dir.mu.Unlock()
	n, err := f.childLocked(dir, name)
	if err != nil {
		return "", err
	}
	if rmdir != n.isDir() {
		if rmdir {
			return "", unix.ENOTDIR
		}
		return "", unix.EISDIR
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.isDir() {
		if err := f.checkEmpty(n); err != nil {
			return "", err
		}
	}
	exposes, err := f.below(dir, name)
	if err != nil {
		return "", err
	}
	p, err := f.enter(dir)
	if err != nil {
		return "", err
	}
	defer f.leave(p)
	inUpper := n.isUpper() && !f.linkIsBelow(n, dir, name)
	if inUpper {
		if err := f.markNlinkUpper(n); err != nil {
			return "", err
		}
	}
	orphan := -1
	if n.isUpper() && len(n.links) == 1 {
		if orphan, err = f.hold(n); err != nil {
			return "", err
		}
	}
	if !inUpper {
		err = f.work.Whiteout(p.fd, name, f.style)
	} else {
		temp, err = f.eraseUpper(n, p, name, exposes)
	}
	if err != nil {
		if orphan >= 0 {
			_ = sys.Close(orphan)
		}
		return temp, err
	}
	f.unlinkNode(n, dir, name, orphan)
	if !inUpper {
		// The upper's link count stayed, the union's did not. After a crash in
		// between the count is one too many, which keeps the index entry.
		return temp, f.markNlinkUpper(n)
	}
	return temp, nil
}

// hold opens (O_PATH) the upper object of a node that is about to lose its last
// known name, for whoever has it open.
//
// Preconditions: as placeOf.
func (f *FS) hold(n *node) (fd int, err error) {
	fd = -1
	err = f.at(n, func(p place) (err error) {
		if p.name == "" {
			fd, err = sys.Dup(p.fd)
		} else {
			fd, err = sys.Openat(p.fd, p.name, unix.O_PATH, 0)
		}
		return err
	})
	return fd, err
}

// linkIsBelow tells whether a name of n exists in the layers below only.
//
// Preconditions: n.mu is held.
func (f *FS) linkIsBelow(n, dir *node, name string) bool {
	for _, l := range n.links {
		if l.parent == dir && l.name == name {
			return l.below
		}
	}
	return false
}

// eraseUpper removes an object of the upper, and leaves a whiteout where the
// layers below would show through.
func (f *FS) eraseUpper(n *node, p place, name string, exposes bool) (temp string, err error) {
	switch {
	case !n.isDir() && exposes:
		return "", f.work.WhiteoutOver(p.fd, name, f.style)
	case !n.isDir():
		return "", sys.Unlinkat(p.fd, name, 0)
	case exposes:
		return f.work.SwapWhiteout(p.fd, name, f.style)
	}
	err = sys.Unlinkat(p.fd, name, unix.AT_REMOVEDIR)
	if err != unix.ENOTEMPTY {
		return "", err
	}
	// Whiteouts are in it: move it aside whole.
	temp = f.work.TempName()
	if err := sys.Renameat2(p.fd, name, f.work.FD(), temp, unix.RENAME_NOREPLACE); err != nil {
		return "", err
	}
	return temp, nil
}

// unlinkNode takes a name from a node. orphan is a descriptor (O_PATH) of the
// upper object for when that was the last name, or -1; the node owns it then.
//
// Preconditions: f.treeMu is held with dir.mu and n.mu for writing, or
// exclusively.
func (f *FS) unlinkNode(n, dir *node, name string, orphan int) {
	if orphan >= 0 {
		f.takeFromOrphan(n)
		n.orphan = int32(orphan) + 1
	}
	n.dropLinkLocked(dir, name)
	f.addNlink(n, -1)
	dir.noteRemoved(name)
}

// checkEmpty tells by ENOTEMPTY that the union shows something in a directory.
//
// Preconditions: f.treeMu is held; n.mu is held for writing, or f.treeMu
// exclusively.
func (f *FS) checkEmpty(n *node) error {
	if ix := n.dir.index; ix != nil {
		if ix.empty() {
			return nil
		}
		return unix.ENOTEMPTY
	}
	up, err := f.readUpper(n)
	if err != nil {
		return err
	}
	hidden := make(map[string]struct{}, len(up))
	for _, e := range up {
		if !e.Whiteout {
			return unix.ENOTEMPTY
		}
		hidden[e.Name] = struct{}{}
	}
	low, err := stack.ReadDir(n.lower)
	if err != nil {
		return err
	}
	for _, e := range low {
		if _, ok := hidden[e.Name]; !ok {
			return unix.ENOTEMPTY
		}
	}
	return nil
}

// clearUpper empties an upper directory that the union shows as empty, so that
// rename can replace it: the directory changes places with an empty opaque one
// (fs/overlayfs/dir.c:ovl_clear_empty). The returned temp is to be removed.
//
// Preconditions: f.treeMu is held exclusively.
func (f *FS) clearUpper(p place, name string) (temp string, err error) {
	ents, err := sys.ReadDir(p.fd, name)
	if err != nil || len(ents) == 0 {
		return "", err
	}
	var st unix.Statx_t
	if err := sys.Statx(p.fd, name, &st); err != nil {
		return "", err
	}
	temp = f.work.TempName()
	wfd := f.work.FD()
	if err := sys.Mkdirat(wfd, temp, 0o700); err != nil {
		return "", err
	}
	err = sys.Chownat(wfd, temp, int(st.Uid), int(st.Gid))
	if err == unix.EPERM && !sys.HasCap(unix.CAP_CHOWN) {
		err = nil
	}
	if err == nil {
		err = sys.Chmodat(wfd, temp, uint32(st.Mode)&0o7777)
	}
	if err == nil {
		err = f.cfg.Namespace.SetOpaque(wfd, temp)
	}
	if err == nil {
		err = sys.Renameat2(wfd, temp, p.fd, name, unix.RENAME_EXCHANGE)
	}
	if err != nil {
		_ = sys.Unlinkat(wfd, temp, unix.AT_REMOVEDIR)
		return "", err
	}
	return temp, nil
}

// setOpaque makes an upper directory hide what is below.
//
// Preconditions: n.mu is held for writing, or f.treeMu exclusively.
func (f *FS) setOpaque(n *node, p place, name string) error {
	if err := f.cfg.Namespace.SetOpaque(p.fd, name); err != nil {
		return err
	}
	n.dir.opacity = whiteout.OpaqueDir
	return nil
}
