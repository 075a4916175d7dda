package tarlayer

import (
	"archive/tar"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math"
	"net/url"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	tarBlock      = 512
	paxXattr      = "SCHILY.xattr."
	paxLibarchive = "LIBARCHIVE.xattr."
	maxXattrName  = 255      // XATTR_NAME_MAX
	maxXattrValue = 64 << 10 // XATTR_SIZE_MAX
	typeDumpDir   = 'D'      // GNU: a directory and the names in it
	typeVolume    = 'V'      // GNU: the name of the archive
)

// scanner reads a tar from a stream into a builder.
type scanner struct {
	s       *stream
	b       *builder
	log     func(string, ...any)
	dataEnd int64 // where the data of the entry before ends
	last    string
}

// scan reads the whole tar.
func (sc *scanner) scan() error {
	tr := tar.NewReader(sc.s)
	for {
		sc.s.mark()
		hdr, err := tr.Next()
		if errors.Is(err, tar.ErrInsecurePath) && hdr != nil {
			err = nil // the builder looks after that
		}
		if errors.Is(err, tar.ErrHeader) || err == io.ErrUnexpectedEOF { //nolint:errorlint // from archive/tar itself
			return fmt.Errorf("tar entry after %q, near byte %d: %w: %w", sc.last, sc.s.pos, err, ErrInvalid)
		}
		if err != nil && err != io.EOF {
			return err
		}
		next := sc.s.capAt // of the header, or of what ends the tar
		if next < 0 {
			next = sc.s.pos
		}
		if next < sc.dataEnd {
			return fmt.Errorf("sparse file %q says it has more data than it has: %w", sc.last, ErrInvalid)
		}
		if err == io.EOF {
			return nil
		}
		sc.last = hdr.Name
		if err := sc.entry(hdr); err != nil {
			return err
		}
	}
}

// entry takes one entry, whose data begin where the stream stands.
func (sc *scanner) entry(hdr *tar.Header) error {
	n, err := inodeOf(hdr)
	if err != nil {
		return fmt.Errorf("entry %q: %w", hdr.Name, err)
	}
	switch hdr.Typeflag {
	case tar.TypeXGlobalHeader, typeVolume:
		sc.b.counts.skipped++
		return nil
	case tar.TypeLink:
		return sc.b.link(hdr.Name, hdr.Linkname, &n)
	case tar.TypeSymlink:
		if l := len(hdr.Linkname); l == 0 || l > maxTarget {
			return fmt.Errorf("symlink %q has a target of %d bytes: %w", hdr.Name, l, ErrInvalid)
		}
		if err := sc.b.countName(len(hdr.Linkname)); err != nil {
			return err
		}
		n.size, n.data = int64(len(hdr.Linkname)), uint64(len(sc.b.targets))
		sc.b.targets = append(sc.b.targets, hdr.Linkname)
	case tar.TypeReg, tar.TypeGNUSparse, tar.TypeCont, tar.TypeRegA: //nolint:staticcheck // old archives have it
		if err := sc.regular(hdr, &n); err != nil {
			return fmt.Errorf("file %q: %w", hdr.Name, err)
		}
	}
	if n.xattr, err = sc.xattrs(hdr, &n); err != nil {
		return err
	}
	return sc.b.add(hdr.Name, n)
}

// inodeOf converts what all types of entry have.
func inodeOf(hdr *tar.Header) (inode, error) {
	typ := uint16(0)
	switch hdr.Typeflag {
	case tar.TypeReg, tar.TypeRegA, tar.TypeCont, tar.TypeGNUSparse, tar.TypeLink: //nolint:staticcheck // old archives have it
		typ = unix.S_IFREG
	case tar.TypeDir, typeDumpDir:
		typ = unix.S_IFDIR
	case tar.TypeSymlink:
		typ = unix.S_IFLNK
	case tar.TypeChar:
		typ = unix.S_IFCHR
	case tar.TypeBlock:
		typ = unix.S_IFBLK
	case tar.TypeFifo:
		typ = unix.S_IFIFO
	case tar.TypeXGlobalHeader, typeVolume:
	default:
		return inode{}, fmt.Errorf("unknown type %q: %w", hdr.Typeflag, ErrInvalid)
	}
	for _, id := range [...]int{hdr.Uid, hdr.Gid} {
		if int64(id) < 0 || int64(id) >= math.MaxUint32 {
			return inode{}, fmt.Errorf("owner %d: %w", id, ErrInvalid)
		}
	}
	n := inode{
		mode:  typ | uint16(hdr.Mode&0o7777),
		uid:   uint32(hdr.Uid),
		gid:   uint32(hdr.Gid),
		mtime: hdr.ModTime.Unix(),
		nsec:  uint32(hdr.ModTime.Nanosecond()),
	}
	if typ == unix.S_IFLNK {
		n.mode = unix.S_IFLNK | 0o777 // as lstat shows it everywhere
	}
	if typ == unix.S_IFCHR || typ == unix.S_IFBLK {
		const most = 1 << 20
		if hdr.Devmajor < 0 || hdr.Devminor < 0 || hdr.Devmajor > most || hdr.Devminor > most {
			return inode{}, fmt.Errorf("device %d:%d: %w", hdr.Devmajor, hdr.Devminor, ErrInvalid)
		}
		n.data = unix.Mkdev(uint32(hdr.Devmajor), uint32(hdr.Devminor))
	}
	return n, nil
}

// regular finds where a file's data are.
func (sc *scanner) regular(hdr *tar.Header, n *inode) error {
	n.size = hdr.Size
	frags, sparse, err := sparseFragments(hdr, sc.s.capture)
	if err != nil {
		return err
	}
	if !sparse {
		n.data = uint64(sc.s.pos)
		sc.dataEnd = sc.s.pos + hdr.Size
		return nil
	}
	sc.b.fragments += int64(len(frags))
	if sc.b.fragments > sc.b.limits.Fragments {
		return fmt.Errorf("more than %d fragments of sparse files: %w", sc.b.limits.Fragments, ErrLimit)
	}
	n.flags |= flagSparse
	n.data = uint64(len(sc.b.sparse))
	sc.b.sparse = appendSparse(sc.b.sparse, sc.s.pos, frags)
	sc.dataEnd = sc.s.pos
	for _, f := range frags {
		sc.dataEnd += f.length
	}
	return nil
}

// xattrs stores an entry's attributes and returns where.
func (sc *scanner) xattrs(hdr *tar.Header, n *inode) (uint32, error) {
	var set []xattr
	for key, value := range hdr.PAXRecords {
		name, v, ok := paxAttr(key, value, hdr.PAXRecords)
		if !ok {
			continue
		}
		if len(name) == 0 || len(name) > maxXattrName || len(v) > maxXattrValue || strings.IndexByte(name, 0) >= 0 {
			sc.log("%s: leaving out attribute %.40q of %d bytes, which no file can have", hdr.Name, name, len(v))
			continue
		}
		set = append(set, xattr{name, v})
	}
	if len(set) == 0 {
		return 0, nil
	}
	return sc.b.addXattrs(set, n)
}

// paxAttr returns the attribute that a PAX record is, if it is one.
func paxAttr(key, value string, all map[string]string) (name string, v []byte, ok bool) {
	if name, ok := strings.CutPrefix(key, paxXattr); ok {
		return name, []byte(value), true
	}
	name, ok = strings.CutPrefix(key, paxLibarchive)
	if !ok {
		return "", nil, false
	}
	name, err := url.PathUnescape(name)
	if err != nil {
		return "", nil, false
	}
	if _, both := all[paxXattr+name]; both {
		return "", nil, false
	}
	v, err = base64.RawStdEncoding.DecodeString(strings.TrimRight(value, "="))
	return name, v, err == nil
}
