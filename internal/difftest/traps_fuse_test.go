package difftest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestTrap59UnknownIoctl(t *testing.T) {
	script(t, merged, `
		open d/low fd=0 flags=O_RDONLY
		badioctl fd=0 => ENOTTY
		getflags fd=0
		badioctl fd=0 => ENOTTY
		getflags fd=0
		open d fd=1 flags=O_RDONLY|O_DIRECTORY
		badioctl fd=1 => ENOTTY
		getflags fd=1
	`)
}

// Trap 60: one answer of "not supported" must not switch an operation off for
// all other files, which ENOSYS would do.
func TestTrap60NothingIsSwitchedOff(t *testing.T) {
	script(t, merged, `
		getxattr d/p name=user.x => ENODATA
		setxattr d/p name=user.x data=1 => EPERM
		setxattr d/l name=user.x data=1 => EPERM
		setxattr d/low name=user.x data=1 => ok
		setxattr d/low name=nonsense.x data=1 => ENOTSUP
		getxattr d/low name=nonsense.x => ENOTSUP
		setxattr d/low name=user.y data=1 => ok
		open d/low fd=0 flags=O_RDWR
		fallocate fd=0 len=10 => ok
		lseek fd=0 off=999999 flags=SEEK_DATA => ENXIO
		lseek fd=0 off=0 flags=SEEK_DATA => 0
		open d/c fd=1 flags=O_RDWR
		fsync fd=1 => EINVAL
		fsync fd=0 => ok
		copyrange fd=1 fd2=0 len=1 => EINVAL
		open d/top fd=2 flags=O_RDONLY
		copyrange fd=2 fd2=0 len=3 => 3
		mknod d/w flags=S_IFCHR mode=0600 => EPERM
		mknod d/n flags=S_IFCHR mode=0600 off=1 off2=3 => ok
		link d d/hard => EPERM
		link d/low d/hard => ok
		rename d/low d/x flags=RENAME_WHITEOUT => EINVAL
		rename d/low d/x flags=RENAME_NOREPLACE => ok
	`)
}

// Trap 61 is about memory and trap 62 about descriptors: many more files than a
// process may have open are looked up, opened, kept open and changed.
func TestTrap62ManyFiles(t *testing.T) {
	onOurs(t, []string{"dir x\n", manyFiles("d", 300)}, func(l *live) {
		l.unmount()
		target := daemon(l.t, Variants[0].Subject)
		target.Wrap = func(c *exec.Cmd) {
			// A shell lowers the limit for the daemon alone.
			c.Args = append([]string{"sh", "-c", `ulimit -n 128; exec "$0" "$@"`, c.Path}, c.Args[1:]...)
			c.Path = "/bin/sh"
		}
		l.target = target
		l.mount()
		var open []int
		for i := range 300 {
			open = append(open, l.open(fmt.Sprintf("d/f%04d", i), unix.O_RDWR))
		}
		for i, fd := range open {
			_, err := unix.Write(fd, []byte(fmt.Sprint(i)))
			if err != nil {
				l.t.Fatalf("write to file %d of 300 open ones, with 128 descriptors: %v", i, err)
			}
		}
		for i := range 300 {
			l.want("content", l.read(fmt.Sprintf("d/f%04d", i)), fmt.Sprint(i))
		}
		for _, fd := range open {
			l.closeNow(fd)
		}
	})
}

func TestTrap63LayerBelowTheMountpoint(t *testing.T) {
	// The mountpoint is the upper's parent and holds all layers: overlaying a
	// folder onto itself.
	onOurs(t, merged, func(l *live) {
		l.unmount()
		l.mountOver(filepath.Dir(l.Upper))
	})
	// A symlink in a layer leads nowhere outside it.
	onBoth(t, []string{"dir x\n", "symlink abs /etc\nsymlink up ../../../../../../etc\ndir d\n"}, func(l *live) {
		for _, p := range []string{"abs", "up"} {
			l.want(p, l.stat(p).Mode&unix.S_IFMT, unix.S_IFLNK)
			l.ok(os.Lchown(l.p(p), 1, 1))
			l.want("copied as a link", l.raw(p), "l")
		}
	})
}

// mountOver mounts the layers over a directory that holds them.
func (l *live) mountOver(dir string) {
	l.t.Helper()
	done := make(chan error, 1)
	var m Mounted
	d := l.Dirs
	d.Mnt = dir
	go func() {
		var err error
		m, err = l.target.Mount(d)
		done <- err
	}()
	select {
	case err := <-done:
		if err != nil {
			// Refusing it is an answer; hanging is not.
			l.t.Logf("refused: %v", err)
			return
		}
	case <-time.After(120 * time.Second):
		l.t.Fatal("mount over the directory that holds the layers hangs")
	}
	b, err := os.ReadFile(filepath.Join(dir, "d/low"))
	if err != nil || string(b) != "low" {
		l.t.Errorf("read through the mount: %q, %v", b, err)
	}
	l.ok(os.WriteFile(filepath.Join(dir, "d/new"), []byte("new"), 0o644))
	l.ok(m.Unmount())
}

func TestTrap64MountAnswersWhenTheCommandReturns(t *testing.T) {
	needRoot(t)
	target := daemon(t, "")
	base := tempDir(t)
	for _, d := range []string{"l", "m"} {
		if err := os.Mkdir(filepath.Join(base, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := Build(filepath.Join(base, "l"), "file f text\n"); err != nil {
		t.Fatal(err)
	}
	mnt := filepath.Join(base, "m")
	// Output waits for the pipe's end: a daemon that keeps it would hang here.
	out, err := exec.Command(target.Command, "mount", "--log", filepath.Join(base, "log"), filepath.Join(base, "l"), mnt).CombinedOutput()
	if err != nil {
		t.Fatalf("mount: %v: %s", err, out)
	}
	b, rerr := os.ReadFile(filepath.Join(mnt, "f"))
	if rerr != nil || string(b) != "text" {
		t.Errorf("read right after the command: %q, %v", b, rerr)
	}
	if out, err := exec.Command(target.Command, "umount", mnt).CombinedOutput(); err != nil {
		_ = unix.Unmount(mnt, unix.MNT_DETACH)
		t.Errorf("umount: %v: %s", err, out)
	}
}

func TestTrap66NegativeEntries(t *testing.T) {
	script(t, merged, `
		lstat d/none => ENOENT
		open d/none fd=0 flags=O_WRONLY|O_CREAT mode=0600 => ok
		lstat d/none => ~ f 0600
		lstat d/dir/x => ENOENT
		mkdir d/dir mode=0755
		open d/dir/x fd=0 flags=O_WRONLY|O_CREAT mode=0600 => ok
		lstat d/moved => ENOENT
		lstat d/moved/x => ENOENT
		rename d/dir d/moved
		lstat d/moved/x => ~ f 0600
		lstat d/dir => ENOENT
		lstat d/dir/x => ENOENT
		unlink d/moved/x
		lstat d/moved/x => ENOENT
		lstat d/gone => ENOENT
		link d/low d/gone
		lstat d/gone => ~ n=2
	`)
}

func TestTrap67Statfs(t *testing.T) {
	script(t, merged, `
		statfs . => ~ namelen=255
		statfs d/low => ~ namelen=255
	`)
	onBoth(t, merged, func(l *live) {
		var up, mnt unix.Statfs_t
		l.ok(unix.Statfs(l.Upper, &up))
		l.ok(unix.Statfs(l.Mnt, &mnt))
		l.want("size", mnt.Blocks*uint64(mnt.Bsize), up.Blocks*uint64(up.Bsize))
		l.want("inodes", mnt.Files, up.Files)
		name := strings.Repeat("x", 255)
		l.write(name, "text")
		l.want("255 bytes", l.read(name), "text")
		l.ok(os.Remove(l.p(name)))
		l.errno("256 bytes", os.WriteFile(l.p(name+"x"), nil, 0o600), "ENAMETOOLONG")
	})
}

func TestTrap68KilledDaemon(t *testing.T) {
	onOurs(t, merged, func(l *live) {
		l.write("d/new", "text")
		fd := l.open("d/new", unix.O_RDWR)
		l.ok(unix.Fsync(fd))
		m, ok := l.m.(*daemonMount)
		if !ok {
			l.t.Skip("needs a daemon")
		}
		l.ok(m.cmd.Process.Kill())
		<-m.done
		_, err := os.ReadFile(l.p("d/top"))
		l.errno("read after a kill", err, "ENOTCONN")
		l.closeNow(fd)
		l.m = nil
		l.ok(exec.Command("fusermount3", "-uz", l.Mnt).Run())
		l.mount()
		l.want("after the next mount", l.read("d/new"), "text")
	})
}

func TestTrap69LowerOfKernelOverlay(t *testing.T) {
	onOurs(t, merged, func(l *live) {
		base := filepath.Dir(l.Upper)
		d := Dirs{Layers: []string{l.Mnt}, Upper: base + "/ku", Work: base + "/kw", Mnt: base + "/km"}
		for _, dir := range []string{d.Upper, d.Work, d.Mnt} {
			l.ok(os.Mkdir(dir, 0o755))
		}
		m, err := Kernel{}.Mount(d)
		l.ok(err)
		err = firstError(
			os.WriteFile(d.Mnt+"/d/low", []byte("above"), 0o644),
			os.Remove(d.Mnt+"/d/top"),
			os.Chmod(d.Mnt+"/d/sub", 0o700))
		got, rerr := os.ReadFile(d.Mnt + "/d/low")
		ents, derr := os.ReadDir(d.Mnt + "/d")
		l.ok(firstError(err, rerr, derr, m.Unmount()))
		l.want("content", string(got), "above")
		l.want("entries", len(ents), 7)
		l.want("below", l.read("d/low"), "low")
	})
}
