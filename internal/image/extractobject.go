package image

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/sys"
	"github.com/unionfs-go/unionfs/whiteout"
)

// object makes one object. An older one of the same layer under the name is
// replaced; a directory over a directory keeps what is in it.
func (x *extractor) object(parent int, name, base string, h *tar.Header, data io.Reader) error {
	if (h.Typeflag == tar.TypeChar || h.Typeflag == tar.TypeBlock) && !deviceOK(h) {
		x.notice("%s: device %d:%d is left out: it cannot be kept in a layer", name, h.Devmajor, h.Devminor)
		return nil
	}
	isDir := h.Typeflag == tar.TypeDir
	opaque := false
	var st unix.Statx_t
	switch err := sys.Statx(parent, base, &st); {
	case err == unix.ENOENT:
	case err != nil:
		return err
	case isDir && uint32(st.Mode)&unix.S_IFMT == unix.S_IFDIR:
		x.deferred = append(x.deferred, deferredDir{name, h})
		return nil
	case h.Typeflag == tar.TypeLink && x.isSelf(parent, base, h.Linkname):
		return nil
	default:
		opaque = isWhiteout(&st)
		if err := sys.RemoveAt(parent, base); err != nil {
			return err
		}
		if uint32(st.Mode)&unix.S_IFMT != unix.S_IFREG {
			x.parentPath = "\x00" // a directory or symlink is gone: resolve anew
		}
	}
	switch h.Typeflag {
	case tar.TypeDir:
		if err := sys.Mkdirat(parent, base, 0o700); err != nil {
			return err
		}
		x.deferred = append(x.deferred, deferredDir{name, h})
		if opaque {
			return x.ns.SetOpaque(parent, base)
		}
		return nil
	case tar.TypeLink:
		return x.link(parent, base, h)
	}
	if err := x.create(parent, base, h, data); err != nil {
		return err
	}
	return x.metadata(parent, base, h)
}

// deviceOK tells whether the device can be an object of a layer: 0:0 would be a
// whiteout, and numbers have 12 and 20 bits.
func deviceOK(h *tar.Header) bool {
	if h.Devmajor < 0 || h.Devminor < 0 || h.Devmajor >= 1<<12 || h.Devminor >= 1<<20 {
		return false
	}
	return h.Typeflag == tar.TypeBlock || h.Devmajor != 0 || h.Devminor != 0
}

func (x *extractor) create(parent int, base string, h *tar.Header, data io.Reader) error {
	switch h.Typeflag {
	case tar.TypeSymlink:
		return sys.Symlinkat(h.Linkname, parent, base)
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		typ := map[byte]uint32{tar.TypeChar: unix.S_IFCHR, tar.TypeBlock: unix.S_IFBLK, tar.TypeFifo: unix.S_IFIFO}[h.Typeflag]
		err := sys.Mknodat(parent, base, typ|0o600, unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor)))
		if err != unix.EPERM {
			return err
		}
		h.Size = 0 // a file stands for it, see metadata
	}
	return x.file(parent, base, h, data)
}

func (x *extractor) file(parent int, base string, h *tar.Header, data io.Reader) error {
	if x.out.Bytes += h.Size; x.out.Bytes > x.limits.Bytes {
		return fmt.Errorf("%w: the layer holds more than %d bytes", ErrCorrupt, x.limits.Bytes)
	}
	fd, err := sys.Openat(parent, base, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	err = copyTo(fd, data, h.Size)
	if cerr := sys.Close(fd); err == nil {
		err = cerr
	}
	return err
}

// copyTo writes size bytes of r to fd.
func copyTo(fd int, r io.Reader, size int64) error {
	buf := make([]byte, min(size, 256<<10))
	for off := int64(0); off < size; {
		n, err := io.ReadFull(r, buf[:min(size-off, int64(len(buf)))])
		if err != nil {
			return fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		if _, err := sys.Pwrite(fd, buf[:n], off); err != nil {
			return err
		}
		off += int64(n)
	}
	return nil
}

// linkTarget opens the directory of a hard link's target, which must be in the
// layer. ENOENT: it is not.
func (x *extractor) linkTarget(linkname string) (dirfd int, base string, err error) {
	target, err := cleanName(linkname)
	if err != nil {
		return -1, "", err
	}
	if target == "" {
		return -1, "", fmt.Errorf("%w: a hard link to the root", ErrCorrupt)
	}
	dir, base := path.Split(target)
	if dir == "" {
		dir = "."
	}
	fd, err := sys.OpenInRoot(x.root, dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	return fd, base, err
}

// isSelf tells whether a hard link's target is the name itself, by whatever
// path.
func (x *extractor) isSelf(parent int, base, linkname string) bool {
	dirfd, target, err := x.linkTarget(linkname)
	if err != nil {
		return false
	}
	defer sys.Close(dirfd) //nolint:errcheck // O_PATH
	var a, b unix.Statx_t
	return target == base && sys.Statx(dirfd, "", &a) == nil && sys.Statx(parent, "", &b) == nil && a.Ino == b.Ino
}

func (x *extractor) link(parent int, base string, h *tar.Header) error {
	dirfd, target, err := x.linkTarget(h.Linkname)
	if err == unix.ENOENT {
		x.links = append(x.links, h)
		return nil
	}
	if err != nil {
		return err
	}
	defer sys.Close(dirfd) //nolint:errcheck // O_PATH
	var st unix.Statx_t
	err = sys.Statx(dirfd, target, &st)
	if err == unix.ENOENT || err == nil && isWhiteout(&st) {
		x.links = append(x.links, h)
		return nil
	}
	if err != nil {
		return err
	}
	if uint32(st.Mode)&unix.S_IFMT == unix.S_IFDIR {
		return fmt.Errorf("%w: a hard link to the directory %q", ErrCorrupt, h.Linkname)
	}
	return sys.Linkat(dirfd, target, parent, base)
}

// lateLinks makes the hard links that came before their targets.
func (x *extractor) lateLinks() error {
	late := x.links
	for {
		x.links = nil
		for _, h := range late {
			name, err := cleanName(h.Name)
			if err != nil {
				return err
			}
			dir, base := path.Split(name)
			parent, err := x.parent(strings.TrimSuffix(dir, "/"))
			if err == nil {
				err = x.object(parent, name, base, h, nil)
			}
			if err != nil {
				return fmt.Errorf("unpack %q: %w", h.Name, err)
			}
		}
		if len(x.links) == 0 {
			return nil
		}
		if len(x.links) == len(late) {
			h := x.links[0]
			return fmt.Errorf("unpack %q: %w: it is a hard link to %q, which is not in the layer", h.Name, ErrCorrupt, h.Linkname)
		}
		late = x.links
	}
}

// finishDirs sets what directories could not be given before all was in them,
// the deepest first. The last entry of a directory counts.
func (x *extractor) finishDirs() error {
	last := make(map[string]*tar.Header, len(x.deferred))
	order := make([]string, 0, len(x.deferred))
	for _, d := range x.deferred {
		if _, seen := last[d.path]; !seen {
			order = append(order, d.path)
		}
		if d.hdr != nil || last[d.path] == nil {
			last[d.path] = d.hdr
		}
	}
	slices.SortFunc(order, func(a, b string) int { return strings.Compare(b, a) })
	for _, p := range order {
		if err := x.finishDir(p, last[p]); err != nil {
			return fmt.Errorf("unpack %q: %w", p, err)
		}
	}
	return nil
}

// finishDir gives a directory its attributes; a nil header is an implied one.
func (x *extractor) finishDir(p string, h *tar.Header) error {
	if p == "" {
		return x.metadata(x.root, "", h)
	}
	fd, err := sys.OpenInRoot(x.root, p, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return nil // replaced by something else later in the layer
	}
	if err != nil {
		return err
	}
	defer sys.Close(fd) //nolint:errcheck // O_PATH
	if h == nil {
		if h, err = x.impliedHeader(p, fd); err != nil {
			return err
		}
	}
	return x.metadata(fd, "", h)
}

// impliedHeader is the header that a layer should have had for a directory: what
// the directory is in the layers below, unless this one hides it.
func (x *extractor) impliedHeader(p string, fd int) (*tar.Header, error) {
	x.out.Implied++
	h := &tar.Header{Typeflag: tar.TypeDir, Mode: 0o755}
	if x.below == nil {
		return h, nil
	}
	m, err := whiteout.ReadMarks(fd, "", true, x.ns)
	if err != nil || m.Opacity == whiteout.OpaqueDir {
		return h, err
	}
	e, err := x.below.Walk(p)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || err == nil && !e.IsDir() {
		return h, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look it up in the layers below: %w", err)
	}
	o := e.Top().Object
	a := o.Attr()
	h.Mode, h.Uid, h.Gid = int64(a.Mode&0o7777), int(a.UID), int(a.GID)
	h.ModTime = time.Unix(a.Mtime.Sec, int64(a.Mtime.Nsec))
	names, err := o.Xattrs()
	if err != nil {
		return nil, err
	}
	h.PAXRecords = make(map[string]string)
	for _, n := range names {
		shown, ok := x.ns.Unescape(n)
		if !ok {
			continue
		}
		v, err := o.Xattr(n)
		if err != nil {
			return nil, err
		}
		h.PAXRecords[xattrRecord+shown] = string(v)
	}
	return h, nil
}

// metadata sets owner, attributes, mode and times, in the order in which none
// undoes another: chown clears set-user-ID bits and capabilities, and everything
// changes the time.
func (x *extractor) metadata(dirfd int, name string, h *tar.Header) error {
	symlink := h.Typeflag == tar.TypeSymlink
	if h.Uid < 0 || h.Gid < 0 || int64(h.Uid) >= 1<<32-1 || int64(h.Gid) >= 1<<32-1 {
		return fmt.Errorf("%w: owner %d:%d", ErrCorrupt, h.Uid, h.Gid)
	}
	foreign := false
	switch err := sys.Chownat(dirfd, name, h.Uid, h.Gid); err {
	case nil:
	case unix.EPERM, unix.EINVAL:
		foreign = true
	default:
		return fmt.Errorf("set owner: %w", err)
	}
	var st unix.Statx_t
	if err := sys.Statx(dirfd, name, &st); err != nil {
		return err
	}
	device := (h.Typeflag == tar.TypeChar || h.Typeflag == tar.TypeBlock) && uint32(st.Mode)&unix.S_IFMT == unix.S_IFREG
	// Attributes come before the mode, which may forbid them to the owner.
	if err := x.setXattrs(dirfd, name, h); err != nil {
		return err
	}
	kept := (foreign || device) && x.remember(dirfd, name, h, device)
	if !symlink {
		mode := uint32(h.Mode & 0o7777)
		if foreign {
			mode &^= 0o6000 // not with this owner
		}
		if kept {
			mode |= 0o600 // what it should be is remembered; this user must read it
			if h.Typeflag == tar.TypeDir {
				mode |= 0o700
			}
		}
		if err := sys.Chmodat(dirfd, name, mode); err != nil {
			return fmt.Errorf("set mode: %w", err)
		}
	}
	ts := unix.NsecToTimespec(0)
	ts.Sec, ts.Nsec = h.ModTime.Unix(), int64(h.ModTime.Nanosecond())
	if h.ModTime.IsZero() {
		ts = unix.Timespec{}
	}
	if err := sys.Utimensat(dirfd, name, &[2]unix.Timespec{ts, ts}); err != nil {
		return fmt.Errorf("set times: %w", err)
	}
	return nil
}

// remember writes what the object should have been where this process may not
// make it so.
func (x *extractor) remember(dirfd int, name string, h *tar.Header, device bool) bool {
	v := fmt.Sprintf("%d:%d:%04o", h.Uid, h.Gid, h.Mode&0o7777)
	if device {
		kind := "block"
		if h.Typeflag == tar.TypeChar {
			kind = "char"
		}
		v += fmt.Sprintf(":%s-%d-%d", kind, h.Devmajor, h.Devminor)
	}
	if err := sys.Setxattrat(dirfd, name, "user.containers.override_stat", []byte(v), 0); err != nil {
		x.notice("%s: owner %d:%d cannot be kept: %v", h.Name, h.Uid, h.Gid, err)
		return false
	}
	return true
}

const xattrRecord = "SCHILY.xattr."

func (x *extractor) setXattrs(dirfd int, name string, h *tar.Header) error {
	for key, value := range h.PAXRecords {
		attr, ok := strings.CutPrefix(key, xattrRecord)
		if !ok {
			continue
		}
		stored := x.ns.Escape(attr)
		if stored == attr && whiteout.IsMark(attr) || attr == "security.selinux" {
			continue // another union filesystem's bookkeeping
		}
		err := sys.Setxattrat(dirfd, name, stored, []byte(value), 0)
		switch err {
		case nil:
		case unix.EPERM, unix.ENOTSUP, unix.EACCES, unix.EINVAL:
			x.notice("%s: attribute %s cannot be kept here: %v", h.Name, attr, err)
		default:
			return fmt.Errorf("set attribute %s: %w", attr, err)
		}
	}
	return nil
}
