package fs

import (
	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/sys"
	"github.com/unionfs-go/unionfs/whiteout"
)

// maxRedirect bounds an absolute redirect in bytes; a rename that would need a
// longer one fails with EXDEV, as a rename without redirects does.
const maxRedirect = 2048

// mover carries one rename through its steps (fs/overlayfs/dir.c:ovl_rename).
type mover struct {
	f                *FS
	oldDir, newDir   *node
	oldName, newName string
	exchange         bool

	src, dst    *node // dst is nil when the union shows nothing there
	from, to    place // of the upper directories
	dstWhiteout bool  // the upper has a whiteout at the new name
	srcBelow    bool  // something below would show at the old name
	victimBelow bool  // the replaced name is below only, its object in the index
	temps       []string
	srcRedir    string // redirect that was written, "" for none
	dstRedir    string
}

// rename is RENAME with its flags NOREPLACE and EXCHANGE. A directory with
// content below gets a redirect mark; where that is not allowed the rename
// fails with EXDEV.
func (f *FS) rename(oldDir *node, oldName string, newDir *node, newName string, flags uint32) error {
	if flags&^(unix.RENAME_NOREPLACE|unix.RENAME_EXCHANGE) != 0 {
		return unix.EINVAL // RENAME_WHITEOUT, as in the kernel
	}
	if err := f.checkNewName(newName); err != nil {
		return err
	}
	if err := f.enterChange(); err != nil {
		return err
	}
	defer f.leaveChange()
	m := &mover{
		f: f, oldDir: oldDir, newDir: newDir, oldName: oldName, newName: newName,
		exchange: flags&unix.RENAME_EXCHANGE != 0,
	}
	if err := m.copyUp(); err != nil {
		return err
	}
	err := m.move(flags&unix.RENAME_NOREPLACE != 0)
	for _, temp := range m.temps {
		if terr := f.work.RemoveTemp(temp); terr != nil {
			f.log.Warn("cannot clean the workdir", "work", f.cfg.Work, "temp", temp, "err", terr)
		}
	}
	return err
}

// copyUp brings everything into the upper that the rename touches there. It
// runs before the tree is locked; what it does stays done.
func (m *mover) copyUp() error {
	f := m.f
	src, err := f.peek(m.oldDir, m.oldName)
	if err != nil {
		return err
	}
	dst, err := f.peek(m.newDir, m.newName)
	if err != nil && err != unix.ENOENT {
		return err
	}
	if err := m.allowed(src, dst); err != nil {
		return err
	}
	if dst != nil && dst.isDir() && src.isDir() && !m.exchange && src != dst {
		if err := f.checkRmdir(m.newDir, m.newName); err != nil {
			return err
		}
	}
	for _, d := range [...]*node{m.oldDir, m.newDir} {
		if err := f.copyUp(d, wantMeta); err != nil {
			return err
		}
	}
	if err := f.copyUpAs(src, m.oldDir, m.oldName, wantMeta); err != nil {
		return err
	}
	switch {
	case dst == nil:
	case m.exchange:
		return f.copyUpAs(dst, m.newDir, m.newName, wantMeta)
	case !dst.isDir():
		return f.keepCount(m.newDir, m.newName)
	}
	return nil
}

// allowed refuses a rename that would need a redirect mark where there may be
// none, before anything is copied up.
func (m *mover) allowed(src, dst *node) error {
	if m.f.cfg.RedirectDir {
		return nil
	}
	if src.isDir() && len(src.lower) > 0 || m.exchange && dst != nil && dst.isDir() && len(dst.lower) > 0 {
		return unix.EXDEV
	}
	return nil
}

// peek finds a child without counting a reference.
func (f *FS) peek(dir *node, name string) (*node, error) {
	f.treeMu.RLock()
	defer f.treeMu.RUnlock()
	dir.mu.Lock()
	defer dir.mu.Unlock()
	return f.childLocked(dir, name)
}

// move does the rename with the tree locked: nobody else looks at names now.
func (m *mover) move(noReplace bool) error {
	f := m.f
	f.treeMu.Lock()
	defer f.treeMu.Unlock()
	var err error
	if m.src, err = f.childLocked(m.oldDir, m.oldName); err != nil {
		return err
	}
	if m.dst, err = f.childLocked(m.newDir, m.newName); err != nil && err != unix.ENOENT {
		return err
	}
	switch {
	case m.dst == nil && m.exchange:
		return unix.ENOENT
	case m.dst != nil && noReplace:
		return unix.EEXIST
	case m.dst == m.src:
		return nil // two names of one object: rename(2) does nothing
	case !m.src.isUpper(), m.exchange && !m.dst.isUpper():
		return unix.ESTALE // changed since it was copied up: the kernel tries again
	}
	if err := m.checkKinds(); err != nil {
		return err
	}
	if m.from, err = f.enter(m.oldDir); err != nil {
		return err
	}
	defer f.leave(m.from)
	if m.to, err = f.enter(m.newDir); err != nil {
		return err
	}
	defer f.leave(m.to)
	if err := m.prepare(); err != nil {
		return err
	}
	orphan, err := m.keepVictim()
	if err != nil {
		return err
	}
	if err := m.renameUpper(); err != nil {
		if orphan >= 0 {
			_ = sys.Close(orphan)
		}
		return err
	}
	m.follow(orphan)
	if m.victimBelow {
		return f.markNlinkUpper(m.dst)
	}
	return nil
}

// checkKinds refuses what rename(2) refuses; the kernel has checked most of it.
func (m *mover) checkKinds() error {
	if m.src.isDir() && m.inside(m.newDir, m.src) || m.exchange && m.dst.isDir() && m.inside(m.oldDir, m.dst) {
		return unix.EINVAL
	}
	if m.dst == nil || m.exchange {
		return nil
	}
	switch {
	case m.dst.isDir() && !m.src.isDir():
		return unix.EISDIR
	case !m.dst.isDir() && m.src.isDir():
		return unix.ENOTDIR
	case m.dst.isDir():
		return m.f.checkEmpty(m.dst)
	}
	return nil
}

// inside tells whether dir is top or below it.
func (m *mover) inside(dir, top *node) bool {
	for d := dir; ; d = m.f.parentDir(d) {
		if d == top {
			return true
		}
		if d == m.f.root {
			return false
		}
	}
}

// prepare finds out what shows through at both names and writes the marks that
// must be there before the names change.
func (m *mover) prepare() error {
	f := m.f
	var err error
	if m.srcBelow, err = f.below(m.oldDir, m.oldName); err != nil {
		return err
	}
	if m.dst == nil {
		r, err := f.resolve(m.newDir, m.newName)
		if err != nil {
			return err
		}
		m.dstWhiteout = r.whiteout
	}
	for _, n := range [...]struct {
		n      *node
		parent *node
		name   string
	}{{m.src, m.oldDir, m.oldName}, {m.dst, m.newDir, m.newName}} {
		if n.n == nil || n.n == m.dst && !m.exchange {
			continue
		}
		if err := f.linkUp(n.n, n.parent, n.name); err != nil {
			return err
		}
		if n.n.fromBelow() {
			f.markImpureLocked(m.newDir, m.to)
			f.markImpureLocked(m.oldDir, m.from)
		}
	}
	if err := m.mark(m.src, m.from, m.oldDir, m.oldName, m.newDir, &m.srcRedir); err != nil {
		return err
	}
	if m.exchange {
		return m.mark(m.dst, m.to, m.newDir, m.newName, m.oldDir, &m.dstRedir)
	}
	if m.dst != nil && m.dst.isDir() && m.dst.isUpper() {
		temp, err := f.clearUpper(m.to, m.newName)
		if temp != "" {
			m.temps = append(m.temps, temp)
		}
		return err
	}
	return nil
}

// mark writes the redirect of an object that keeps content below, or makes a
// directory without any opaque, so that it does not merge with what is below
// its new place.
func (m *mover) mark(n *node, p place, parent *node, name string, target *node, redir *string) error {
	f := m.f
	merges := n.isDir() && len(n.lower) > 0 || n.upper.Load() == metaUpper
	if merges {
		r, err := f.redirectFor(n, parent, name, parent == target)
		if err != nil || r == "" {
			return err
		}
		if err := f.cfg.Namespace.Set(p.fd, name, whiteout.Redirect, []byte(r)); err != nil {
			if err == unix.ENOSPC || err == unix.EDQUOT || err == unix.EIO {
				return err
			}
			return unix.EXDEV // no place for the mark: let mv copy
		}
		*redir = r
		return nil
	}
	if n.isDir() && n.dir.opacity != whiteout.OpaqueDir && len(target.lower) > 0 {
		return f.setOpaque(n, p, name)
	}
	return nil
}

// redirectFor is the redirect mark that n needs, or "" when the one it has will
// do: its name when it stays in its directory, else its path in the layers
// below (fs/overlayfs/dir.c:ovl_set_redirect, ovl_get_redirect).
func (f *FS) redirectFor(n, parent *node, name string, sameDir bool) (string, error) {
	old := ""
	if n.dir != nil {
		old = n.dir.redirect
	} else if have, err := f.nodeRedirect(n); err != nil {
		return "", err
	} else {
		old = have
	}
	if old != "" && (sameDir || old[0] == '/') {
		return "", nil
	}
	if old == "" {
		old = name
	}
	// A file can get a second name elsewhere, so its redirect is absolute.
	if sameDir && n.dir != nil {
		return old, nil
	}
	path := "/" + old
	for d := parent; d != f.root; d = f.parentDir(d) {
		part := d.dir.redirect
		if part == "" {
			part = d.dir.loc.Load().name
		}
		if part[0] == '/' {
			path = part + path
			break
		}
		path = "/" + part + path
	}
	if len(path) > maxRedirect {
		return "", unix.EXDEV
	}
	return path, nil
}

// nodeRedirect reads the redirect mark of a metacopy file.
func (f *FS) nodeRedirect(n *node) (old string, err error) {
	err = f.at(n, func(p place) error {
		v, err := f.cfg.Namespace.Get(p.fd, p.name, whiteout.Redirect)
		if err == unix.ENODATA {
			return nil
		}
		old = string(v)
		return err
	})
	return old, err
}

// keepVictim opens what the rename replaces, if that was its last name.
func (m *mover) keepVictim() (int, error) {
	if m.dst == nil || m.exchange || !m.dst.isUpper() {
		return -1, nil
	}
	m.victimBelow = m.f.linkIsBelow(m.dst, m.newDir, m.newName)
	if !m.victimBelow {
		if err := m.f.markNlinkUpper(m.dst); err != nil {
			return -1, err
		}
	}
	if len(m.dst.links) > 1 {
		return -1, nil
	}
	return m.f.hold(m.dst)
}

// renameUpper is the one step that publishes the rename.
func (m *mover) renameUpper() error {
	f := m.f
	if m.exchange {
		return sys.Renameat2(m.from.fd, m.oldName, m.to.fd, m.newName, unix.RENAME_EXCHANGE)
	}
	switch {
	case m.srcBelow && m.dstWhiteout:
		// The whiteout moves to the old name.
		if f.style == whiteout.Xattr {
			if err := f.cfg.Namespace.MarkHoldsXWhiteouts(m.from.fd, ""); err != nil {
				return err
			}
		}
		return sys.Renameat2(m.from.fd, m.oldName, m.to.fd, m.newName, unix.RENAME_EXCHANGE)
	case m.srcBelow:
		return m.renameWhiteout()
	case m.dstWhiteout && m.src.isDir():
		// A directory cannot replace a file: swap, then drop the whiteout.
		if err := sys.Renameat2(m.from.fd, m.oldName, m.to.fd, m.newName, unix.RENAME_EXCHANGE); err != nil {
			return err
		}
		if err := sys.Unlinkat(m.from.fd, m.oldName, 0); err != nil {
			f.log.Warn("cannot remove a whiteout", "dir", f.pathOf(m.oldDir), "name", m.oldName, "err", err)
		}
		return nil
	}
	return sys.Renameat2(m.from.fd, m.oldName, m.to.fd, m.newName, 0)
}

// renameWhiteout renames and leaves a whiteout at the old name. Where the
// filesystem cannot do both in one step the whiteout comes second: a crash in
// between shows the object twice, and loses nothing.
func (m *mover) renameWhiteout() error {
	f := m.f
	if f.style == whiteout.Device {
		err := sys.Renameat2(m.from.fd, m.oldName, m.to.fd, m.newName, unix.RENAME_WHITEOUT)
		if err != unix.EINVAL && err != unix.EPERM && err != unix.ENOSYS {
			return err
		}
	}
	if err := sys.Renameat2(m.from.fd, m.oldName, m.to.fd, m.newName, 0); err != nil {
		return err
	}
	return f.work.Whiteout(m.from.fd, m.oldName, f.style)
}

// follow makes the nodes follow what happened on disk.
func (m *mover) follow(orphan int) {
	f := m.f
	if m.dst != nil && !m.exchange {
		f.unlinkNode(m.dst, m.newDir, m.newName, orphan)
	}
	m.oldDir.noteRemoved(m.oldName)
	if m.exchange {
		m.newDir.noteRemoved(m.newName)
		moveLink(m.dst, m.newDir, m.newName, m.oldDir, m.oldName)
		m.oldDir.noteAdded(m.oldName, m.dst)
		if m.dstRedir != "" && m.dst.dir != nil {
			m.dst.dir.redirect = m.dstRedir
		}
	}
	moveLink(m.src, m.oldDir, m.oldName, m.newDir, m.newName)
	m.newDir.noteAdded(m.newName, m.src)
	if m.srcRedir != "" && m.src.dir != nil {
		m.src.dir.redirect = m.srcRedir
	}
}

// moveLink changes one name of a node.
//
// Preconditions: FS.treeMu is held exclusively.
func moveLink(n, oldDir *node, oldName string, newDir *node, newName string) {
	links := make([]link, 0, len(n.links))
	for _, l := range n.links {
		if l.parent == oldDir && l.name == oldName {
			l = link{parent: newDir, name: newName}
		}
		links = append(links, l)
	}
	n.links = links
	if n.dir != nil {
		n.dir.loc.Store(&dirLoc{parent: newDir, name: newName})
	}
}
