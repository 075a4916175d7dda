package fs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// run carries out one operation, written as words:
//
//	create|mkdir|fifo PATH [MODE]     symlink PATH TARGET     link NEW OLD
//	unlink|rmdir PATH                 rename|exchange|noreplace OLD NEW
//	write PATH OFFSET DATA            truncate PATH SIZE      punch PATH OFFSET LENGTH
//	chmod PATH MODE                   chown PATH UID GID      utime PATH SECONDS
//	setxattr PATH NAME VALUE          rmxattr PATH NAME       copy SRC DST LENGTH
//	stat PATH                         read PATH CONTENT       ls PATH NAMES...
func (u *union) run(line string) error {
	w := strings.Fields(line)
	op, path := w[0], w[1]
	w = append(w, "", "", "")
	switch op {
	case "create", "mkdir", "fifo", "symlink":
		return u.runMake(op, path, w[2])
	case "link":
		return u.runLink(path, w[2])
	case "unlink", "rmdir":
		dir, name, err := u.at(path)
		if err != nil {
			return err
		}
		if _, err := u.get(path); err != nil {
			return err // the kernel looks up what it removes
		}
		return u.f.remove(dir, name, op == "rmdir")
	case "rename", "exchange", "noreplace":
		return u.runRename(op, path, w[2])
	case "write":
		return u.write(path, num(w[2]), w[3])
	}
	n, err := u.get(path)
	if err != nil {
		return err
	}
	switch op {
	case "stat":
		_, err = u.f.getAttr(n)
	case "read":
		var got string
		if got, err = u.read(n); err == nil && got != w[2] {
			err = fmt.Errorf("content %q, want %q", got, w[2])
		}
	case "ls":
		err = u.runList(n, strings.Join(strings.Fields(line)[2:], " "))
	case "setxattr":
		err = u.f.setXattr(n, &fuse.SetXAttrIn{}, w[2], []byte(w[3]))
	case "rmxattr":
		err = u.f.removeXattr(n, w[2])
	case "punch":
		err = u.f.fallocate(n, &fuse.FallocateIn{
			Offset: uint64(num(w[2])), Length: uint64(num(w[3])), Mode: unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE,
		})
	case "copy":
		dst, derr := u.get(w[2])
		if derr != nil {
			return derr
		}
		_, err = u.f.copyFileRange(n, dst, &fuse.CopyFileRangeIn{Len: uint64(num(w[3]))})
	default:
		err = u.runSetAttr(op, n, w[2], w[3])
	}
	return err
}

func num(s string) int64 {
	v, _ := strconv.ParseInt(s, 0, 64)
	return v
}

func (u *union) runMake(op, path, arg string) error {
	o := newObject{mode: uint32(num(arg))}
	switch op {
	case "create":
		o.mode |= unix.S_IFREG | 0o600
	case "mkdir":
		o.mode |= unix.S_IFDIR | 0o700
	case "fifo":
		o.mode |= unix.S_IFIFO | 0o600
	case "symlink":
		o.mode, o.target = unix.S_IFLNK|0o777, arg
	}
	_, err := u.create(path, o)
	return err
}

func (u *union) runLink(path, old string) error {
	n, err := u.get(old)
	if err != nil {
		return err
	}
	dir, name, err := u.at(path)
	if err != nil {
		return err
	}
	if _, err = u.f.link(n, dir, name); err == nil {
		u.refs[n.id]++
	}
	return err
}

func (u *union) runRename(op, old, path string) error {
	from, oldName, err := u.at(old)
	if err != nil {
		return err
	}
	to, newName, err := u.at(path)
	if err != nil {
		return err
	}
	for _, p := range []string{old, path} { // as the kernel does
		if _, err := u.get(p); err != nil && err != unix.ENOENT {
			return err
		}
	}
	flags := map[string]uint32{"exchange": unix.RENAME_EXCHANGE, "noreplace": unix.RENAME_NOREPLACE}[op]
	return u.f.rename(from, oldName, to, newName, flags)
}

func (u *union) runList(n *node, want string) error {
	ents, err := u.list(n)
	if err != nil {
		return err
	}
	have := map[string]bool{}
	for _, e := range ents {
		have[e.Name] = true
	}
	for _, name := range strings.Fields(want) {
		if !have[name] {
			return fmt.Errorf("%s is not listed", name)
		}
		delete(have, name)
	}
	if len(have) != 0 {
		return fmt.Errorf("listed beside %q: %v", want, have)
	}
	return nil
}

func (u *union) runSetAttr(op string, n *node, a, b string) error {
	in := &fuse.SetAttrIn{}
	switch op {
	case "truncate":
		in.Valid, in.Size = fuse.FATTR_SIZE, uint64(num(a))
	case "chmod":
		in.Valid, in.Mode = fuse.FATTR_MODE, uint32(num(a))
	case "chown":
		in.Valid, in.Owner = fuse.FATTR_UID|fuse.FATTR_GID, fuse.Owner{Uid: uint32(num(a)), Gid: uint32(num(b))}
	case "utime":
		in.Valid, in.Mtime, in.Mtimensec = fuse.FATTR_MTIME, uint64(num(a)), 123456789
	default:
		return fmt.Errorf("no operation %q", op)
	}
	_, err := u.f.setAttr(n, in)
	return err
}

// script runs lines "OPERATION" or "OPERATION -> ERRNO".
func (u *union) script(t *testing.T, text string) {
	t.Helper()
	for _, line := range strings.Split(text, "\n") {
		if strings.TrimSpace(line) == "" {
			continue
		}
		op, want, _ := strings.Cut(line, " -> ")
		err := u.run(op)
		got := ""
		var errno unix.Errno
		if errors.As(err, &errno) {
			got = unix.ErrnoName(errno)
		} else if err != nil {
			got = err.Error()
		}
		if got != strings.TrimSpace(want) {
			t.Errorf("%s: %q, want %q", strings.TrimSpace(op), got, want)
		}
	}
}

// checkUnion makes sure that what the filesystem shows is on disk: a filesystem
// that is opened anew, and the kernel's overlayfs, show the same. It closes u.
func checkUnion(t *testing.T, b *bed, u *union, change ...func(*Config)) {
	t.Helper()
	live := u.dump(t)
	u.close(t)
	if ents, err := os.ReadDir(filepath.Join(b.work, "work")); err != nil || len(ents) != 0 {
		t.Errorf("left in the workdir: %v, %v", ents, err)
	}
	again := b.open(t, change...)
	if got := again.dump(t); got != live {
		t.Errorf("after a remount:\n%s", diffLines(live, got))
	}
	again.close(t)
	if got, ok := b.kernelView(t); ok && got != live {
		t.Errorf("seen by the kernel (+), by us (-):\n%s", diffLines(live, got))
	}
}

const scriptLower = `
file a aaa
file d/x xxx
file d/y yyy
dir d/empty
file d/sub/deep deep
link l a
fifo p
file big 0123456789
attr user.k v
hard h1 a
==
file d/z zzz
file d/x hidden
file e/one 1
file e/two 2
file only lower
`

func TestScripts(t *testing.T) {
	for _, c := range []struct{ what, text string }{
		{"look", `
			read a aaa
			read d/x xxx
			read d/z zzz
			ls d x y z empty sub
			ls . a d l p big h1 e only
			stat nothing -> ENOENT
			stat a/x -> ENOTDIR`},
		{"create", `
			create new
			write new 0 hello
			read new hello
			create new -> EEXIST
			create a -> EEXIST
			mkdir nd
			create nd/f
			symlink nd/l target
			fifo nd/p
			create d/sub/new
			ls d/sub deep new`},
		{"write copies up", `
			write a 1 BB
			read a aBB
			write d/sub/deep 4 er
			read d/sub/deep deeper
			write d -> EINVAL`},
		{"remove and make again", `
			unlink a
			stat a -> ENOENT
			unlink a -> ENOENT
			create a
			read a
			rmdir e -> ENOTEMPTY
			unlink e/one
			unlink e/two
			ls e
			rmdir e
			stat e -> ENOENT
			mkdir e
			ls e
			create e/three
			ls e three
			unlink only
			mkdir only
			ls only
			rmdir a -> ENOTDIR
			unlink d -> EISDIR`},
		{"rename files", `
			rename a b
			stat a -> ENOENT
			read b aaa
			rename b d/x
			read d/x aaa
			rename only a
			read a lower
			noreplace a big -> EEXIST
			noreplace a free
			exchange free big
			read free 0123456789
			read big lower
			exchange free nothing -> ENOENT
			rename nothing x -> ENOENT`},
		{"rename directories", `
			rename d dd
			ls dd x y z empty sub
			stat d -> ENOENT
			rename dd e/ddd
			ls e/ddd x y z empty sub
			rename e f
			read f/ddd/sub/deep deep
			mkdir d
			ls d
			rename d f/ddd -> ENOTEMPTY
			rename f/ddd f/ddd/sub/no -> EINVAL
			rename f/ddd/empty d
			ls d
			exchange f/ddd/sub d
			ls d deep
			rename a d -> EISDIR
			rename d a -> ENOTDIR`},
		{"rename over a whiteout", `
			unlink a
			rename big a
			read a 0123456789
			unlink e/one
			unlink e/two
			rmdir e
			rename d e
			ls e x y z empty sub
			mkdir d
			ls d`},
		{"links", `
			link n1 a
			write n1 0 ZZZ
			read a ZZZ
			read h1 ZZZ
			unlink a
			read h1 ZZZ
			link a n1
			link d/n2 a
			unlink n1
			read d/n2 ZZZ
			link d/dir d -> EPERM
			link l2 l`},
		{"attributes", `
			chmod a 0640
			chmod d 0700
			chown l 1 2
			chown big 3 4
			utime p -5
			utime e 7
			setxattr a user.x 1
			setxattr d user.y 2
			rmxattr big user.k
			rmxattr big user.k -> ENODATA
			setxattr p user.x 1 -> EPERM`},
		{"sizes", `
			truncate big 4
			read big 0123
			truncate a 0
			read a
			truncate d/x 5
			truncate d 0 -> EISDIR
			copy big d/y 4
			read d/y 0123`},
		{"escapes", `
			mkdir n
			setxattr n user.overlay.opaque y
			setxattr d user.overlay.overlay.x z
			setxattr e user.fuse v`},
	} {
		t.Run(c.what, func(t *testing.T) {
			if os.Geteuid() != 0 && c.what == "attributes" {
				t.Skip("changing owners needs root")
			}
			for _, metacopy := range []bool{false, true} {
				t.Run(fmt.Sprintf("metacopy %v", metacopy), func(t *testing.T) {
					opt := func(cfg *Config) { cfg.Metacopy = metacopy }
					b := newBed(t, scriptLower)
					hash := b.lowerHash(t)
					u := b.open(t, opt)
					u.script(t, c.text)
					checkUnion(t, b, u, opt)
					if b.lowerHash(t) != hash {
						t.Error("a lower layer was changed")
					}
				})
			}
		})
	}
}

func TestRedirectDirOff(t *testing.T) {
	b := newBed(t, scriptLower)
	u := b.open(t, func(c *Config) { c.RedirectDir = false })
	u.script(t, `
		rename d dd -> EXDEV
		exchange a d -> EXDEV
		mkdir n
		rename n m
		rename m d/n
		ls d x y z empty sub n`)
	checkUnion(t, b, u)
}

func TestReadOnly(t *testing.T) {
	b := newBed(t, scriptLower)
	u := b.open(t, func(c *Config) { c.Upper, c.Work = "", "" })
	u.script(t, `
		read a aaa
		ls d x y z empty sub
		create n -> EROFS
		write a 0 x -> EROFS
		unlink a -> EROFS
		rename a b -> EROFS
		link n a -> EROFS
		chmod a 0600 -> EROFS
		truncate a 0 -> EROFS
		setxattr a user.x 1 -> EROFS`)
}
