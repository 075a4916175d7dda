package image

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
)

// archive is the tar that an image was saved to, read at any place. Members are
// found whatever their order; of several with one name the last one counts.
type archive struct {
	name    string // for messages
	r       io.ReaderAt
	close   func() error
	members map[string]member
}

// member is one file of an archive.
type member struct {
	off, size int64
	link      string // of a symlink or hard link: the name of another member
}

// maxMembers bounds what an archive may hold, and maxLinks what may lead to a
// file in it.
const (
	maxMembers = 1 << 17
	maxLinks   = 8
)

// openArchive opens a saved image, plain or compressed. A compressed one is
// decompressed into an unlinked file in spoolDir first.
func openArchive(name, spoolDir string) (*archive, error) {
	f, err := openRegular(name)
	if err != nil {
		return nil, err
	}
	a, err := readArchive(name, f, spoolDir)
	if err != nil || a.r != io.ReaderAt(f) {
		_ = f.Close() // only read
	}
	return a, err
}

// readArchive is openArchive for a stream. A plain file is read in place and
// closed with the archive; everything else is spooled.
func readArchive(name string, r io.Reader, spoolDir string) (*archive, error) {
	a := &archive{name: name, members: make(map[string]member)}
	if f, ok := r.(*os.File); ok {
		var head [6]byte
		n, err := f.ReadAt(head[:], 0)
		if err == nil && sniff(head[:n]) == "none" {
			a.r, a.close = f, f.Close
			return a, a.index()
		}
	}
	stream, _, err := decompress(r)
	if err != nil {
		return nil, fmt.Errorf("read archive %s: %w", name, err)
	}
	defer stream.Close() //nolint:errcheck // only read
	spool, err := os.CreateTemp(spoolDir, "archive-")
	if err != nil {
		return nil, fmt.Errorf("decompress archive %s: %w", name, err)
	}
	_ = os.Remove(spool.Name())
	if _, err = io.Copy(spool, stream); err != nil {
		err = fmt.Errorf("decompress archive %s: %w", name, err)
	}
	a.r, a.close = spool, spool.Close
	if err == nil {
		err = a.index()
	}
	if err != nil {
		_ = spool.Close()
	}
	return a, err
}

// index lists the members.
func (a *archive) index() error {
	in := &offsetReader{r: io.NewSectionReader(a.r, 0, 1<<62)}
	tr := tar.NewReader(in)
	for n := 0; ; n++ {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil && n == maxMembers {
			err = fmt.Errorf("more than %d members", maxMembers)
		}
		if err != nil {
			return fmt.Errorf("read archive %s: %w: not the tar of an image: %w", a.name, ErrCorrupt, err)
		}
		name := memberName(h.Name)
		switch h.Typeflag {
		case tar.TypeReg:
			a.members[name] = member{off: in.off, size: h.Size}
		case tar.TypeSymlink:
			a.members[name] = member{link: memberName(path.Join(path.Dir("/"+name), h.Linkname))}
			if path.IsAbs(h.Linkname) {
				a.members[name] = member{link: memberName(h.Linkname)}
			}
		case tar.TypeLink:
			a.members[name] = member{link: memberName(h.Linkname)}
		}
	}
	return nil
}

// memberName is a name in its shortest form, from the root of the archive.
func memberName(s string) string { return strings.TrimPrefix(path.Clean("/"+s), "/") }

// offsetReader knows how far a tar was read. archive/tar reads no further than
// the header when it returns one, and seeks over data.
type offsetReader struct {
	r   *io.SectionReader
	off int64
}

func (o *offsetReader) Read(p []byte) (int, error) {
	n, err := o.r.Read(p)
	o.off += int64(n)
	return n, err
}

func (o *offsetReader) Seek(off int64, whence int) (int64, error) {
	n, err := o.r.Seek(off, whence)
	o.off = n
	return n, err
}

func (a *archive) has(name string) bool {
	_, ok := a.members[memberName(name)]
	return ok
}

// open opens a member, following links.
func (a *archive) open(name string) (*io.SectionReader, error) {
	want := memberName(name)
	for range maxLinks {
		m, ok := a.members[want]
		if !ok {
			return nil, fmt.Errorf("open %s in %s: %w", name, a.name, fs.ErrNotExist)
		}
		if m.link == "" {
			return io.NewSectionReader(a.r, m.off, m.size), nil
		}
		want = m.link
	}
	return nil, fmt.Errorf("open %s in %s: %w: links in a circle", name, a.name, ErrCorrupt)
}

// read reads a small member.
func (a *archive) read(name string) ([]byte, error) {
	r, err := a.open(name)
	if err != nil {
		return nil, err
	}
	return readBounded(r, name)
}
