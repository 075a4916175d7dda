package stack

import (
	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/sys"
	"github.com/unionfs-go/unionfs/whiteout"
)

// Lookup finds one name of the directory; see Dir.
func (d *dirObject) Lookup(name string) (Object, Presence, error) {
	if !d.layer.literal {
		if kind, _ := whiteout.ParseOCIName(name); kind != whiteout.Plain {
			// Only a mark when it is an empty file; loadAUFS looks.
			if err := d.loadAUFS(); err != nil {
				return nil, Absent, err
			}
			if _, mark := d.aufs[name]; mark {
				return nil, Absent, nil
			}
		}
	}
	fd, err := d.acquire()
	if err != nil {
		return nil, Absent, err
	}
	defer d.release()
	var st unix.Statx_t
	switch err := sys.Statx(fd, name, &st); err {
	case nil:
		return d.found(fd, name, &st)
	case unix.ENOENT, unix.ENAMETOOLONG:
		return d.missing(name)
	default:
		return nil, Absent, err
	}
}

// missing answers for a name that is not on disk: an AUFS whiteout may stand
// for it.
func (d *dirObject) missing(name string) (Object, Presence, error) {
	if d.layer.literal {
		return nil, Absent, nil
	}
	if err := d.loadAUFS(); err != nil {
		return nil, Absent, err
	}
	if _, ok := d.aufs[whiteout.OCIName(name)]; ok {
		return nil, WhitedOut, nil
	}
	return nil, Absent, nil
}

func (d *dirObject) found(fd int, name string, st *unix.Statx_t) (Object, Presence, error) {
	o := leaf{layer: d.layer, parent: d, name: name, attr: AttrOf(st)}
	if whiteout.IsDevice(o.attr.Mode, o.attr.Rdev) {
		return nil, WhitedOut, nil
	}
	isDir := o.attr.IsDir()
	marks, err := d.layer.readMarks(fd, name, isDir)
	if err != nil {
		return nil, Absent, err
	}
	o.marks = marks
	if !isDir {
		if d.isXWhiteout(&o) {
			return nil, WhitedOut, nil
		}
		return &o, Present, nil
	}
	sub := &dirObject{leaf: o}
	if d.layer.literal {
		return sub, Present, nil
	}
	if err := d.layer.markSentinel(fd, name, sub); err != nil {
		return nil, Absent, err
	}
	// A whiteout beside the directory: deleted, then made anew.
	if _, p, err := d.missing(name); err != nil {
		return nil, Absent, err
	} else if p == WhitedOut {
		sub.marks.Opacity = whiteout.OpaqueDir
	}
	return sub, Present, nil
}

// isXWhiteout tells whether o is a whiteout of the kernel's second form
// (fs/overlayfs/util.c:ovl_path_is_whiteout).
func (d *dirObject) isXWhiteout(o *leaf) bool {
	return o.marks.XWhiteout && o.attr.Size == 0 && o.attr.Type() == unix.S_IFREG &&
		d.marks.Opacity == whiteout.HoldsXWhiteouts
}

// loadAUFS reads once which names of the directory are AUFS marks: the names of
// the empty files, so "NAME is deleted" is asked as ".wh.NAME".
func (d *dirObject) loadAUFS() error {
	d.aufsOnce.Do(func() {
		d.aufsErr = d.withFD(func(fd int) error {
			ents, err := sys.ReadDir(fd, "")
			if err != nil {
				return err
			}
			return d.collectAUFS(fd, ents)
		})
	})
	return d.aufsErr
}

func (d *dirObject) collectAUFS(fd int, ents []sys.Dirent) error {
	for _, e := range ents {
		kind, _ := whiteout.ParseOCIName(e.Name)
		if kind == whiteout.Plain {
			continue
		}
		mark, err := isAUFSMark(fd, e.Name, kind)
		if err != nil {
			return err
		}
		if mark {
			if d.aufs == nil {
				d.aufs = make(map[string]struct{})
			}
			d.aufs[e.Name] = struct{}{}
		}
	}
	return nil
}

// isAUFSMark tells whether the object behind a mark name is a mark: an empty
// regular file, or anything under a name that is reserved.
func isAUFSMark(fd int, name string, kind whiteout.NameKind) (bool, error) {
	if kind == whiteout.Reserved || kind == whiteout.MakesOpaque {
		return true, nil
	}
	var st unix.Statx_t
	if err := sys.Statx(fd, name, &st); err != nil {
		return false, err
	}
	return uint32(st.Mode)&unix.S_IFMT == unix.S_IFREG && st.Size == 0, nil
}

func (d *dirObject) withFD(f func(fd int) error) error {
	fd, err := d.acquire()
	if err != nil {
		return err
	}
	defer d.release()
	return f(fd)
}

// ReadDir lists the directory; see Dir.
func (d *dirObject) ReadDir() (out []Dirent, err error) {
	err = d.withFD(func(fd int) error {
		ents, err := sys.ReadDir(fd, "")
		if err != nil {
			return err
		}
		out = make([]Dirent, 0, len(ents))
		for _, e := range ents {
			de, keep, err := d.dirent(fd, e)
			if err != nil {
				return err
			}
			if keep {
				out = append(out, de)
			}
		}
		return nil
	})
	return out, err
}

// dirent interprets one raw entry; only those that may be marks are looked at.
func (d *dirObject) dirent(fd int, e sys.Dirent) (Dirent, bool, error) {
	de := Dirent{Name: e.Name, Ino: e.Ino, Dev: d.attr.Dev, Type: uint32(e.Type) << 12}
	if !d.layer.literal {
		kind, victim := whiteout.ParseOCIName(e.Name)
		if kind != whiteout.Plain {
			mark, err := isAUFSMark(fd, e.Name, kind)
			if err != nil {
				return de, false, err
			}
			if mark && kind != whiteout.Deletes {
				return de, false, nil
			}
			if mark {
				return Dirent{Name: victim, Whiteout: true}, true, nil
			}
		}
	}
	maybeX := d.marks.Opacity == whiteout.HoldsXWhiteouts && (e.Type == unix.DT_REG || e.Type == unix.DT_UNKNOWN)
	if e.Type != unix.DT_CHR && e.Type != unix.DT_UNKNOWN && !maybeX {
		return de, true, nil
	}
	o, p, err := d.Lookup(e.Name)
	if err != nil {
		return de, false, err
	}
	switch p {
	case WhitedOut:
		de.Whiteout = true
	case Present:
		a := o.Attr()
		de.Type, de.Ino, de.Dev = a.Type(), a.Ino, a.Dev
	case Absent:
		return de, false, nil // gone since the listing
	}
	return de, true, nil
}
