package difftest

import (
	"os"
	"testing"
)

func TestTrap23NoWhiteoutInOpaqueDir(t *testing.T) {
	onBoth(t, []string{"file d/a a\nfile d/b b\n"}, func(l *live) {
		l.ok(os.RemoveAll(l.p("d")))
		l.want("d", l.raw("d"), "whiteout")
		l.ok(os.Mkdir(l.p("d"), 0o755))
		l.want("opaque", l.rawXattr("d", "trusted.overlay.opaque"), "y")
		l.write("d/a", "new")
		l.ok(os.Remove(l.p("d/a")))
		l.want("d/a", l.raw("d/a"), "absent")
		l.want("d", l.names("d"), "")
	})
}

func TestTrap24NoNeedlessWhiteout(t *testing.T) {
	onBoth(t, []string{"file d/a a\n", "file e/b b\nfile d/gone\n"}, func(l *live) {
		for _, p := range []string{"d/new", "e/new", "new"} {
			l.write(p, "x")
			l.ok(os.Remove(l.p(p)))
			l.want(p, l.raw(p), "absent")
		}
		l.ok(os.Remove(l.p("e/b")))
		l.want("e/b", l.raw("e/b"), "whiteout")
		l.write("e/b", "again")
		l.want("e/b", l.raw("e/b"), "f")
		l.ok(os.Remove(l.p("e/b")))
		l.want("e/b", l.raw("e/b"), "whiteout")
	})
}

func TestTrap25WhiteoutHidesOnlyBelow(t *testing.T) {
	script(t, []string{
		"file a top\nfile p/q/new new\n",
		"whiteout a\nwhiteout p\nfile c middle\n",
		"file a bottom\nfile p/q/old old\nfile c bottom\nfile p/x x\n",
	}, `
		readall a => 3:"top"
		list p/q => ".":d "..":d "new":f
		lstat p/x => ENOENT
		lstat p/q/old => ENOENT
		readall c => 6:"middle"
		unlink a
		lstat a => ENOENT
		unlink c
		list . => ".":d "..":d "p":d
	`)
	// The same with the marks of OCI layers, which the kernel does not read.
	onOurs(t, []string{
		"file a top\nfile p/q/new new\n",
		"file .wh.a\nfile .wh.p\nfile k/.wh.x\nfile k/x same-layer\n",
		"file a bottom\nfile p/q/old old\nfile p/x x\nfile k/x lower\n",
	}, func(l *live) {
		l.want("a", l.read("a"), "top")
		l.want("p", l.names("p"), "q")
		l.want("p/q", l.names("p/q"), "new")
		l.want("k/x", l.read("k/x"), "same-layer")
	})
}

// Trap 26: what mknod 0:0 claims to have made is looked at; where devices cannot
// be made, whiteouts have the xattr form. Package whiteout probes; here the
// outcome on this filesystem is the kernel's form.
func TestTrap26WhiteoutFormIsProbed(t *testing.T) {
	onBoth(t, []string{"file a a\n"}, func(l *live) {
		l.ok(os.Remove(l.p("a")))
		st, err := lstat(l.up("a"))
		l.ok(err)
		l.want("type", string(typeChar(st.Mode)), "c")
		l.want("rdev", st.Rdev, 0)
	})
}

func TestTrap27UserCannotMakeWhiteout(t *testing.T) {
	script(t, []string{"file a a\ndir t mode=1777\n"}, `
		mknod w flags=S_IFCHR mode=0644 => EPERM
		mknod t/w flags=S_IFCHR mode=0644 p=2 => EPERM
		mknod t/null flags=S_IFCHR mode=0644 off=1 off2=3 p=2 => EPERM
		mknod t/null flags=S_IFCHR mode=0644 off=1 off2=3 => ok
		mknod t/fifo flags=S_IFIFO mode=0644 p=2 => ok
		mknod t/sock flags=S_IFSOCK mode=0644 p=2 => ok
		lstat w => ENOENT
		rename a b flags=RENAME_WHITEOUT => EINVAL
	`)
}

func TestTrap28SharedWhiteouts(t *testing.T) {
	onBoth(t, []string{"file a\nfile b\nfile c\nfile d/e\n"}, func(l *live) {
		for _, p := range []string{"a", "b", "c", "d/e"} {
			l.ok(os.Remove(l.p(p)))
		}
		l.remount()
		l.want("names", l.names("."), "d")
		l.write("a", "again")
		l.want("a", l.read("a"), "again")
		l.want("b", l.raw("b"), "whiteout")
		l.want("d/e", l.raw("d/e"), "whiteout")
		l.want("nlink", l.stat("a").Nlink, 1)
	})
}

func TestTrap29CreateOverWhiteout(t *testing.T) {
	script(t, []string{"file a a\nfile b b\nfile c c\nfile d/x x\nfile e e\nfile g g\nfile h h\n"}, `
		unlink a
		open a fd=0 flags=O_WRONLY|O_CREAT|O_EXCL mode=0640 => f 0640 0:0 n=1 sz=0 m=now
		unlink b
		symlink b a
		readlink b => "a"
		unlink c
		mkdir c mode=0700
		lstat c => d 0700 0:0 dn=2 m=now
		unlink d/x
		rmdir d
		mknod d flags=S_IFIFO mode=0600
		lstat d => p 0600 0:0 n=1 sz=0 m=now
		unlink e
		link a e => ok
		lstat e => ~ n=2
		unlink g
		rename h g => ok
		lstat h => ENOENT
		readall g => 1:"h"
		open . fd=1 flags=O_RDWR|O_TMPFILE mode=0600
		unlink g
		linkfd g fd=1 => ok
		lstat g => f 0600 0:0 n=1 sz=0 m=now
	`)
}
