package difftest

import (
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// DumpOptions say what a dump shows beside names, types, modes, owners, sizes,
// device numbers, contents, modification times and extended attributes.
type DumpOptions struct {
	// Now is the time of the run: times near it are shown as "now". The zero
	// value shows all times exactly.
	Now time.Time
	// Raw is for a layer on disk: change times are shown, link counts of
	// directories too, and overlay marks as the attributes that they are.
	Raw bool
	// Holes shows where files have data, at the filesystem's granularity.
	Holes bool
}

// Dump writes the tree under root as text, one object a line, sorted by path.
// Two names of one inode say so; inode numbers themselves are not shown.
func Dump(root string, o DumpOptions) ([]string, error) {
	d := &dumper{root: root, o: o, first: map[[2]uint64]string{}}
	if err := d.walk("."); err != nil {
		return nil, err
	}
	return d.lines, nil
}

type dumper struct {
	root  string
	o     DumpOptions
	first map[[2]uint64]string // inode with several names -> its first name
	lines []string
}

func (d *dumper) walk(path string) error {
	full := filepath.Join(d.root, path)
	st, err := lstat(full)
	if err != nil {
		d.lines = append(d.lines, fmt.Sprintf("%q stat:%s", path, errName(err)))
		return nil
	}
	line := fmt.Sprintf("%q %s", path, statText(&st, d.o.Now))
	if d.o.Raw {
		line += fmt.Sprintf(" c=%d.%09d", st.Ctim.Sec, st.Ctim.Nsec)
	}
	c := typeChar(st.Mode)
	if c != 'd' && st.Nlink > 1 {
		key := [2]uint64{st.Dev, st.Ino}
		if d.first[key] == "" {
			d.first[key] = path
		}
		line += fmt.Sprintf(" first=%q", d.first[key])
	}
	line += xattrText(full)
	switch c {
	case 'f':
		line += contentText(full, d.o.Holes)
	case 'l':
		t, err := os.Readlink(full)
		line += fmt.Sprintf(" ->%q", t)
		if err != nil {
			line += errName(err)
		}
	}
	d.lines = append(d.lines, line)
	if c != 'd' {
		return nil
	}
	ents, err := os.ReadDir(full)
	if err != nil {
		d.lines = append(d.lines, fmt.Sprintf("%q readdir:%s", path, errName(err)))
		return nil
	}
	for _, e := range ents {
		if err := d.walk(filepath.Join(path, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

func xattrText(full string) string {
	names, err := xattrNames(func(b []byte) (int, error) { return unix.Llistxattr(full, b) })
	if err != nil {
		return " x=" + errName(err)
	}
	s := ""
	for _, name := range strings.Split(names, ",") {
		if name == "" {
			continue
		}
		v, err := xattrValue(func(b []byte) (int, error) { return unix.Lgetxattr(full, name, b) })
		if err != nil {
			v = errName(err)
		}
		s += fmt.Sprintf(" x:%s=%s", name, v)
	}
	return s
}

func contentText(full string, holes bool) string {
	fd, err := unix.Open(full, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return " open:" + errName(err)
	}
	defer unix.Close(fd) //nolint:errcheck // only read
	text, err := readText(fd)
	if err != nil {
		return " read:" + errName(err)
	}
	if holes {
		text += " data=" + extentText(fd)
	}
	return " =" + strings.ReplaceAll(text, " ", "_")
}

// extentText lists the data extents of a file as START+LENGTH.
func extentText(fd int) string {
	var s []string
	for off := int64(0); ; {
		start, err := unix.Seek(fd, off, unix.SEEK_DATA)
		if err != nil {
			break
		}
		end, err := unix.Seek(fd, start, unix.SEEK_HOLE)
		if err != nil {
			break
		}
		s = append(s, fmt.Sprintf("%d+%d", start, end-start))
		off = end
	}
	return strings.Join(s, ",")
}

// Marks lists what an upper layer says about the layers below, one mark a line:
// "whiteout PATH", "opaque PATH VALUE", "redirect PATH TARGET", "metacopy PATH".
// It reads the kernel's forms with the attribute prefix ns.
func Marks(upper, ns string) ([]string, error) {
	var out []string
	err := filepath.Walk(upper, func(full string, _ os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		path, err := filepath.Rel(upper, full)
		if err != nil {
			return err
		}
		st, err := lstat(full)
		if err != nil {
			return err
		}
		if st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0 {
			out = append(out, fmt.Sprintf("whiteout %q", path))
			return nil
		}
		for _, m := range []string{"opaque", "redirect", "metacopy", "whiteout"} {
			v, err := xattrValue(func(b []byte) (int, error) { return unix.Lgetxattr(full, ns+m, b) })
			if err != nil {
				continue
			}
			text, err := hex.DecodeString(v)
			if err != nil {
				return err
			}
			if m == "metacopy" {
				text = nil
			}
			out = append(out, strings.TrimSpace(fmt.Sprintf("%s %q %s", m, path, text)))
		}
		return nil
	})
	sort.Strings(out)
	return out, err
}
