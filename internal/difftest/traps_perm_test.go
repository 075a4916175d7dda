package difftest

import (
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

func TestTrap54CapabilitiesVanishOnWriteAndChown(t *testing.T) {
	file := func(name string) string {
		return "file " + name + " text mode=6755\nxattr " + name + " security.capability hex:" + capability + "\n"
	}
	script(t, []string{"dir x\n", file("w") + file("c") + file("t") + file("m") + file("f") + file("fc") + file("k")}, `
		open w fd=0 flags=O_WRONLY
		getxattr w name=security.capability => `+capability+`
		write fd=0 data=x
		getxattr w name=security.capability => ENODATA
		lstat w
		chown c uid=0 gid=0
		getxattr c name=security.capability => ENODATA
		lstat c => ~ f 0755
		truncate t len=1
		getxattr t name=security.capability => ENODATA
		lstat t
		chmod m mode=4711
		getxattr m name=security.capability => `+capability+`
		open f fd=1 flags=O_RDWR
		fallocate fd=1 off=0 len=100
		getxattr f name=security.capability
		lstat f
		open fc fd=2 flags=O_RDWR
		fchown fd=2 uid=1000 gid=1000
		getxattr fc name=security.capability => ENODATA
		lstat fc => ~ f 0755 1000:1000
		utimens k off=1 off2=1
		getxattr k name=security.capability => `+capability+`
	`)
}

func TestTrap55PermissionsOfTheCaller(t *testing.T) {
	script(t, []string{"dir x mode=0777\n", `
dir open mode=0777
dir shared mode=2777 gid=2000
dir closed mode=0700
file closed/f secret
file open/root text mode=0600
file open/group text mode=0640 gid=2000
file open/mine text mode=0600 uid=1000 gid=1000
`}, `
		open open/new p=2 fd=0 flags=O_WRONLY|O_CREAT mode=0644 => f 0644 1000:1000 n=1 sz=0 m=now
		mkdir open/dir p=2 mode=0755
		lstat open/dir => ~ d 0755 1000:1000
		mkdir shared/dir p=2 mode=0755
		lstat shared/dir => ~ d 2755 1000:2000
		open shared/f p=2 fd=1 flags=O_WRONLY|O_CREAT mode=2755
		lstat shared/f => ~ 1000:2000
		open shared/root fd=1 flags=O_WRONLY|O_CREAT mode=0600
		lstat shared/root => ~ 0:2000
		symlink open/l x p=2
		lstat open/l => ~ 1000:1000
		mknod open/p p=2 flags=S_IFIFO mode=0600
		lstat open/p => ~ 1000:1000
		open open/root p=2 fd=2 flags=O_RDONLY => EACCES
		open open/group p=2 fd=2 flags=O_RDONLY => ok
		open open/group p=2 fd=2 flags=O_WRONLY => EACCES
		lstat closed/f p=2 => EACCES
		list closed p=2 => EACCES
		chmod open/root p=2 mode=0777 => EPERM
		chown open/mine p=2 uid=0 gid=-1 => EPERM
		chown open/mine p=2 uid=-1 gid=2000 => ok
		chmod open/mine p=2 mode=2644
		lstat open/mine => ~ f 2644 1000:2000
		chown open/mine uid=-1 gid=3000
		chmod open/mine p=2 mode=2644
		lstat open/mine => ~ f 0644 1000:3000
		utimens open/group p=2 off=1 off2=1 => EPERM
		setxattr open/root p=2 name=user.x data=1 => EACCES
		setxattr open/mine p=2 name=trusted.x data=1 => EPERM
		getxattr open/mine p=2 name=trusted.x => ENODATA
		link open/root open/hard p=2
		access open/root p=2 flags=R_OK => EACCES
		access open/group p=2 flags=R_OK => ok
		open closed p=2 fd=3 flags=O_RDWR|O_TMPFILE mode=0600 => EACCES
		open open p=2 fd=3 flags=O_RDWR|O_TMPFILE mode=0640 => ok
		linkfd open/tmp p=2 fd=3 => ok
		lstat open/tmp => ~ f 0640 1000:1000
		rename open/root open/moved p=2 => ok
		unlink open/moved p=2 => ok
	`)
}

func TestTrap58SetIDAndDevices(t *testing.T) {
	id, err := os.ReadFile("/usr/bin/id")
	if err != nil {
		t.Skip("needs /usr/bin/id")
	}
	onBoth(t, []string{"dir x\n", "chr null 1:3 mode=0666\n"}, func(l *live) {
		l.unmount()
		l.ok(os.WriteFile(l.Layers[1]+"/id", id, 0o755))
		l.ok(os.Chown(l.Layers[1]+"/id", 1000, 1000))
		l.ok(unix.Chmod(l.Layers[1]+"/id", 0o6755))
		l.before = l.rawLayers()
		l.mount()
		out, err := exec.Command(l.p("id"), "-u").Output()
		l.ok(err)
		l.want("effective user of a set-id program", string(out), "1000\n")
		l.ok(os.WriteFile(l.p("null"), []byte("gone"), 0))
	})
}
