package difftest

import (
	"os"
	"testing"
)

// tree has a directory in both layers, one in the lower alone, and files.
var tree = []string{
	"file m/top top\nfile both over\n",
	"file m/low low\nfile low/a a\nfile low/sub/b b\nfile both under\nfile f file\nfile g other\nsymlink s f\ndir empty\n",
}

func TestTrap15RenameMergedDir(t *testing.T) {
	script(t, tree, `
		rename m m2 => ino=kept
		readall m2/top => 3:"top"
		readall m2/low => 3:"low"
		lstat m => ENOENT
		rename low m2/low2 => ino=kept
		readall m2/low2/sub/b => 1:"b"
		rename m2 low => ino=kept
		readall low/low2/sub/b => 1:"b"
		readall low/top => 3:"top"
		list low => ".":d "..":d "low":f "low2":d "top":f
		lstat low/a => ENOENT
		unlink low/low2/a
		mkdir m mode=0755
		list m => ".":d "..":d
	`)
	onBoth(t, tree, func(l *live) {
		l.ok(os.Rename(l.p("low"), l.p("moved")))
		l.ok(os.Rename(l.p("moved/sub"), l.p("moved/renamed")))
		l.want("redirect", l.rawXattr("moved", "trusted.overlay.redirect"), "low")
		l.want("redirect inside", l.rawXattr("moved/renamed", "trusted.overlay.redirect"), "sub")
		l.want("whiteout", l.raw("low"), "whiteout")
		l.remount()
		l.want("after remount", l.read("moved/renamed/b"), "b")
	})
	needRoot(t)
	v := Variants[1]
	runScript(t, Kernel{v.Kernel}, unionfs(t, v.Subject), tree, `
		rename low moved => EXDEV
		rename m moved => EXDEV
		readall low/a => 1:"a"
		mkdir new mode=0755
		rename new newer => ok
	`)
}

func TestTrap16UpperOnlyLeavesNoWhiteout(t *testing.T) {
	onBoth(t, tree, func(l *live) {
		l.write("fresh", "x")
		l.ok(os.Rename(l.p("fresh"), l.p("fresher")))
		l.want("fresh", l.raw("fresh"), "absent")
		l.ok(os.Rename(l.p("fresher"), l.p("m/inside")))
		l.want("fresher", l.raw("fresher"), "absent")
		l.ok(os.Remove(l.p("m/inside")))
		l.want("m/inside", l.raw("m/inside"), "absent")
		l.ok(os.Rename(l.p("f"), l.p("f2")))
		l.want("f", l.raw("f"), "whiteout")
		l.ok(os.Mkdir(l.p("newdir"), 0o755))
		l.ok(os.Rename(l.p("newdir"), l.p("newerdir")))
		l.want("newdir", l.raw("newdir"), "absent")
		l.ok(os.Remove(l.p("newerdir")))
		l.want("newerdir", l.raw("newerdir"), "absent")
	})
}

func TestTrap17RenameOverDirWithWhiteouts(t *testing.T) {
	script(t, tree, `
		mkdir src mode=0755
		rename src low => ENOTEMPTY
		unlink low/a
		rename src low => ENOTEMPTY
		unlink low/sub/b
		rmdir low/sub
		list low => ".":d "..":d
		rename src low => ok
		list low => ".":d "..":d
		rmdir low => ok
		lstat low => ENOENT
		unlink m/top
		rmdir m => ENOTEMPTY
		unlink m/low
		rmdir m => ok
		mkdir m mode=0700 => ok
		list m => ".":d "..":d
	`)
}

func TestTrap18DirOverLowerNameIsOpaque(t *testing.T) {
	script(t, tree, `
		unlink low/sub/b
		rmdir low/sub
		mkdir low/sub mode=0755
		list low/sub => ".":d "..":d
		mkdir other mode=0755
		mkdir other/sub mode=0755
		unlink low/a
		rmdir low/sub
		rename other low
		list low => ".":d "..":d "sub":d
		list low/sub => ".":d "..":d
		lstat low/sub/b => ENOENT
		unlink f
		mkdir f mode=0755
		list f => ".":d "..":d
		open f/x fd=0 flags=O_WRONLY|O_CREAT mode=0644 => ok
	`)
	// #478: an opaque directory made again inside an opaque one.
	script(t, []string{"file d/x/y/z/f deep\n"}, `
		unlink d/x/y/z/f
		rmdir d/x/y/z
		rmdir d/x/y
		rmdir d/x
		mkdir d/x mode=0755
		mkdir d/x/y mode=0755
		mkdir d/x/y/z mode=0755
		lstat d/x/y/z/f => ENOENT
		list d/x/y/z => ".":d "..":d
		open d/x/y/z/f fd=0 flags=O_WRONLY|O_CREAT|O_EXCL mode=0644 => ok
	`)
}

func TestTrap19RenameFlags(t *testing.T) {
	script(t, tree, `
		rename f g flags=RENAME_NOREPLACE => EEXIST
		unlink g
		rename f g flags=RENAME_NOREPLACE => ok
		lstat f => ENOENT
		rename g low flags=RENAME_EXCHANGE => ok
		readall low => 4:"file"
		readall g/sub/b => 1:"b"
		rename g m flags=RENAME_EXCHANGE => ok
		readall g/low => 3:"low"
		readall m/a => 1:"a"
		rename both none flags=RENAME_EXCHANGE => ENOENT
		rename both both2 flags=RENAME_WHITEOUT => EINVAL
		rename both both2 flags=RENAME_NOREPLACE|RENAME_EXCHANGE => EINVAL
		readall both => 4:"over"
	`)
	onBoth(t, tree, func(l *live) {
		l.ok(os.Remove(l.p("g")))
		l.want("g", l.raw("g"), "whiteout")
	})
}

func TestTrap20RenameOverOtherTypes(t *testing.T) {
	script(t, tree, `
		rename f low => EISDIR
		rename low f => ENOTDIR
		rename low s => ENOTDIR
		rename f s => ok
		readall s => 4:"file"
		rename empty low => ENOTEMPTY
		rename low empty => ok
		readall empty/a => 1:"a"
		unlink s
		rename empty s => ok
		readall s/sub/b => 1:"b"
		unlink g
		rename m g => ok
		readall g/low => 3:"low"
		symlink m2 nowhere
		rename m2 both => ok
		readlink both => "nowhere"
	`)
}

func TestTrap21RenameSameInode(t *testing.T) {
	script(t, linked, `
		rename d/a d/b => ok
		readall d/a => 6:"linked"
		readall d/b => 6:"linked"
		chmod d/a mode=0600
		rename d/a d/b => ok
		lstat d/a => ~ n=2
		rename d/single d/single => ok
	`)
}

func TestTrap22RenameIntoItself(t *testing.T) {
	script(t, tree, `
		rename low low/sub/x => EINVAL
		rename low low/x => EINVAL
		rename low/sub low => ENOTEMPTY
		rename low . => EBUSY
		rename none x => ENOENT
		rename f none/x => ENOENT
		rename f f/x => ENOTDIR
	`)
	script(t, []string{"dir t mode=1777\nfile t/root r\nfile t/mine m uid=1000 gid=1000\ndir o mode=0755\nfile o/x\n"}, `
		rename t/root t/x p=2 => EPERM
		unlink t/root p=2 => EPERM
		rename t/mine t/root p=2 => EPERM
		rename t/mine t/yours p=2 => ok
		unlink t/yours p=2 => ok
		rename o/x o/y p=2 => EACCES
		unlink o/x p=2 => EACCES
		mkdir o/d p=2 mode=0755 => EACCES
	`)
}
