package difftest

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// linked has one file with two names, and one with three.
var linked = []string{"file d/a linked\nlink d/b d/a\nfile d/x three\nlink d/y d/x\nlink e/z d/x\nfile d/single one\n"}

func TestTrap07EqualInosOnTwoDevices(t *testing.T) {
	onBoth(t, []string{"file t/dummy\n", "file low/a a\n"}, func(l *live) {
		// Two tmpfs: their inode numbers collide for sure.
		l.fresh()
		for i, dir := range l.Layers {
			l.ok(unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=0755"))
			defer unix.Unmount(dir, unix.MNT_DETACH) //nolint:errcheck // may be gone
			l.ok(Build(dir, fmt.Sprintf("file from%d/f x%d\nfile g%d\ndir both\n", i, i, i)))
		}
		l.mount()
		seen := map[[2]uint64]string{}
		for _, p := range []string{".", "both", "from0", "from1", "from0/f", "from1/f", "g0", "g1"} {
			st := l.stat(p)
			k := [2]uint64{st.Dev, st.Ino}
			if other, ok := seen[k]; ok {
				l.t.Errorf("%s and %s are both inode %d of device %d", p, other, st.Ino, st.Dev)
			}
			seen[k] = p
			if st.Dev != l.stat(".").Dev {
				l.t.Errorf("%s has another st_dev than the root", p)
			}
		}
		for _, bad := range badInos(l.p(".")) {
			l.t.Error(bad)
		}
		l.want("content", l.read("from0/f")+l.read("from1/f"), "x0x1")
		l.unmount()
		for _, dir := range l.Layers {
			l.ok(unix.Unmount(dir, 0))
		}
	})
}

func TestTrap08InoStableOverCopyUpAndRemount(t *testing.T) {
	paths := []string{"d", "d/low", "d/both", "d/sub", "d/p", "d/c", "d/s", "d/l"}
	onBoth(t, merged, func(l *live) {
		inos := func() string {
			s := ""
			for _, p := range paths {
				s += fmt.Sprintf("%s=%d ", p, l.stat(p).Ino)
			}
			return s
		}
		before := inos()
		for _, p := range paths {
			l.ok(os.Lchown(l.p(p), 1000, 1000))
		}
		l.want("after copy-up", inos(), before)
		l.remount()
		l.want("after remount", inos(), before)
		l.write("d/low", "other")
		l.ok(os.Rename(l.p("d/low"), l.p("d/low2")))
		l.want("after rename", l.stat("d/low2").Ino, l.inoIn(before, "d/low"))
	})
}

func (l *live) inoIn(list, path string) string {
	words, err := splitWords(list)
	l.ok(err)
	for _, w := range words {
		if len(w) > len(path) && w[:len(path)+1] == path+"=" {
			return w[len(path)+1:]
		}
	}
	return ""
}

func TestTrap09EqualInoIsNotTheSameFile(t *testing.T) {
	// The same directory twice as a layer below two names: the files are the
	// same inodes, and still two files of the union.
	onOurs(t, []string{"dir a\ndir b\n", "dir a\ndir b\n"}, func(l *live) {
		l.fresh()
		src := filepath.Join(filepath.Dir(l.Upper), "src")
		l.ok(os.Mkdir(src, 0o755))
		l.ok(Build(src, "file f same\n"))
		for i, dir := range l.Layers {
			at := filepath.Join(dir, []string{"a", "b"}[i])
			l.ok(unix.Mount(src, at, "", unix.MS_BIND, ""))
			defer unix.Unmount(at, unix.MNT_DETACH) //nolint:errcheck // may be gone
		}
		l.mount()
		a, b := l.read("a/f"), l.read("b/f")
		// Mounts inside a layer are not part of it, as in the kernel.
		if a == "same" && b == "same" {
			l.ok(os.WriteFile(l.p("a/f"), []byte("changed"), 0o644))
			l.want("b/f after a change to a/f", l.read("b/f"), "same")
		}
		l.unmount()
		for i, dir := range l.Layers {
			l.ok(unix.Unmount(filepath.Join(dir, []string{"a", "b"}[i]), 0))
		}
	})
}

func TestTrap10HardlinksOverCopyUp(t *testing.T) {
	script(t, linked, `
		sameino d/a d/b => true
		open d/a fd=0 flags=O_RDWR
		write fd=0 data=CHANGED
		readall d/b => 7:"CHANGED"
		lstat d/b => f 0644 0:0 n=2 sz=7 m=now
		sameino d/a d/b => true
		chmod e/z mode=0600
		lstat d/x => f 0600 0:0 n=3 sz=5 m=1500002000.123456789
		lstat d/y => f 0600 0:0 n=3 sz=5 m=1500002000.123456789
	`)
	onBoth(t, linked, func(l *live) {
		l.write("d/b", "more")
		l.remount()
		l.want("d/a after remount", l.read("d/a"), "more")
		l.want("nlink after remount", l.stat("d/a").Nlink, 2)
		l.want("same inode after remount", l.stat("d/a").Ino == l.stat("d/b").Ino, true)
	})
}

func TestTrap11NlinkCountsTheUnion(t *testing.T) {
	script(t, linked, `
		lstat d/y => ~ n=3
		unlink d/x => ok
		lstat d/y => ~ n=2
		link d/y e/new => ~ ino=kept
		lstat e/z => ~ n=3
		unlink e/z
		lstat d/y => ~ n=2
		rename d/y d/x
		lstat e/new => ~ n=2
		unlink e/new
		lstat d/x => ~ n=1
	`)
	// Looking up one name only must not change the count (#435).
	script(t, linked, `
		lstat e/z => ~ n=3
	`)
}

func TestTrap12LinkOfLowerFile(t *testing.T) {
	script(t, linked, `
		link d/single e/second => ino=kept
		lstat d/single => ~ n=2
		open e/second fd=0 flags=O_WRONLY|O_TRUNC
		write fd=0 data=both
		readall d/single => 4:"both"
		link d/single d/a => EEXIST
		link d e/dir => EPERM
		link d/none e/x => ENOENT
	`)
}

func TestTrap13UnlinkOneName(t *testing.T) {
	script(t, linked, `
		open d/a fd=0 flags=O_RDWR
		unlink d/a
		write fd=0 data=STILL
		readall d/b => 6:"STILLd"
		fstat fd=0 d/b => ~ path=true
		lstat d/b => ~ n=1
		unlink d/b
		fstat fd=0 => ~ n=0
		freadall fd=0 => 6:"STILLd"
	`)
}

func TestTrap14OpenUnlinked(t *testing.T) {
	script(t, linked, `
		open d/single fd=0 flags=O_RDWR
		unlink d/single
		fstat fd=0 => ~ n=0
		ftruncate fd=0 len=2 => ok
		fchmod fd=0 mode=0600 => ok
		pwrite fd=0 off=1 data=XY => 2
		fsync fd=0 => ok
		fstat fd=0 => ~ f 0600 0:0 n=0 sz=3
		freadall fd=0 => 3:"oXY"
		linkfd e/back fd=0 => ENOENT
		futimens fd=0 off=5 off2=7 => ok
		fsetxattr fd=0 name=user.x data=1 => ok
		fgetxattr fd=0 name=user.x => 31
		list d => ".":d "..":d "a":f "b":f "x":f "y":f
		close fd=0
		rmdir e => ENOTEMPTY
		open d fd=0 flags=O_RDWR|O_TMPFILE mode=0640
		write fd=0 data=temporary
		fstat fd=0 => ~ n=0
		linkfd e/named fd=0 => ok
		lstat e/named => f 0640 0:0 n=1 sz=9 m=now
		readall e/named => 9:"temporary"
		open d fd=1 flags=O_RDWR|O_TMPFILE|O_EXCL mode=0640
		linkfd e/never fd=1 => ENOENT
	`)
	onBoth(t, linked, func(l *live) {
		fd := l.open("d/single", unix.O_RDONLY)
		l.ok(os.Remove(l.p("d/single")))
		b := make([]byte, 3)
		_, err := unix.Pread(fd, b, 0)
		l.ok(err)
		l.want("content", string(b), "one")
		f, err := os.ReadFile("/proc/self/fd/" + strconv.Itoa(fd))
		l.ok(err)
		l.want("content through /proc", string(f), "one")
		l.want("no leftover", l.names("d"), "a b x y")
	})
}
