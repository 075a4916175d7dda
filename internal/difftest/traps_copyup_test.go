package difftest

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// rich has an object of every kind with attributes that a copy-up must keep.
var rich = []string{"dir other\n", strings.Join([]string{
	"dir d mode=3775 uid=1000 gid=2000 mtime=1000000001.000000001",
	"file d/f content mode=4755 uid=1000 gid=2000 mtime=-12345.987654321",
	"xattr d/f user.a value",
	"xattr d/f trusted.b value",
	"xattr d/f security.capability hex:" + capability,
	"symlink d/l target uid=1000 gid=2000 mtime=-5.25",
	"xattr d/l trusted.on-link value",
	"fifo d/p mode=0640 uid=1000",
	"socket d/s mode=0640 uid=1000",
	"chr d/c 1:3 mode=0640 uid=1000",
	"blk d/b 240:99 mode=0640 uid=1000",
	"file d/acl acl mode=0640",
	"xattr d/acl system.posix_acl_access hex:" + acls[0],
	"xattr d system.posix_acl_default hex:" + acls[1],
	"file d/r0 readable mode=0444 uid=1000 gid=1000",
	"file d/r1 none mode=0000 uid=1000 gid=1000",
	"file d/r2 exec mode=0555 uid=1000 gid=1000",
}, "\n")}

func TestTrap30AttributesSurviveCopyUp(t *testing.T) {
	script(t, rich, `
		setxattr d/f name=user.new data=1 => ino=kept
		lstat d/f => f 4755 1000:2000 n=1 sz=7 m=-12345.987654321
		getxattr d/f name=security.capability => 0100000200200000000000000000000000000000
		getxattr d/f name=user.a => 76616c7565
		getxattr d/f name=trusted.b => 76616c7565
		setxattr d name=user.new data=1 => ino=kept
		lstat d => d 3775 1000:2000 dn=2 m=1000000001.000000001
		utimens d/l off=1 off2=2 len=3 => ino=kept
		lstat d/l => l 0777 1000:2000 n=1 sz=6 m=2.000000003
		getxattr d/l name=trusted.on-link => 76616c7565
		chown d/f uid=1000 gid=2000 => ino=kept
		lstat d/f => ~ f 0755
		getxattr d/f name=security.capability => ENODATA
		chown d uid=0 gid=0
		lstat d => ~ d 3775 0:0
	`)
}

func TestTrap31DataIsSyncedBeforePublishing(t *testing.T) {
	// What can be seen without a power cut: nothing half-made is in the upper
	// after a kill, see TestCrash, and copy-up of a file that cannot be read
	// leaves nothing. Package cow stops at each step of the protocol.
	onBoth(t, rich, func(l *live) {
		l.ok(os.Chmod(l.p("d/f"), 0o600))
		ents, err := os.ReadDir(l.Work + "/work")
		if err == nil {
			l.want("left in the workdir", len(withoutMarks(ents)), 0)
		}
	})
}

// withoutMarks leaves out what the kernel keeps in its workdir.
func withoutMarks(ents []os.DirEntry) []os.DirEntry {
	var out []os.DirEntry
	for _, e := range ents {
		if e.Name() != "incompat" && !strings.HasPrefix(e.Name(), "#") {
			out = append(out, e)
		}
	}
	return out
}

func TestTrap32ConcurrentCopyUpOnce(t *testing.T) {
	onBoth(t, []string{"dir x\n", "file f size=8388608\ndata f 0 8388608 abcdefgh\n"}, func(l *live) {
		var wg sync.WaitGroup
		errs := make([]error, 8)
		for i := range errs {
			wg.Go(func() {
				f, err := os.OpenFile(l.p("f"), os.O_RDWR, 0)
				if err == nil {
					_, err = f.WriteAt([]byte{byte('0' + i)}, int64(i)*1000)
					err = firstError(err, f.Close())
				}
				errs[i] = err
			})
		}
		wg.Wait()
		for _, err := range errs {
			l.ok(err)
		}
		want := bytes.Repeat([]byte("abcdefgh"), 1<<20)
		for i := range errs {
			want[i*1000] = byte('0' + i)
		}
		got, err := os.ReadFile(l.p("f"))
		l.ok(err)
		if !bytes.Equal(got, want) {
			l.t.Error("a write was lost, or the copy is not the original")
		}
	})
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func TestTrap33ReadersDuringCopyUp(t *testing.T) {
	onBoth(t, []string{"dir x\n", "file f size=33554432\ndata f 0 33554432 abcdefgh\n"}, func(l *live) {
		stop := make(chan struct{})
		bad := make(chan string, 4)
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					b, err := os.ReadFile(l.p("f"))
					if err != nil || len(b) != 33554432 || string(b[33554424:]) != "abcdefgh" {
						bad <- fmt.Sprintf("%d bytes, %v", len(b), err)
						return
					}
				}
			})
		}
		l.ok(os.Chmod(l.p("f"), 0o600))
		f, err := os.OpenFile(l.p("f"), os.O_WRONLY, 0)
		l.ok(err)
		_, err = f.WriteAt([]byte("X"), 0)
		l.ok(firstError(err, f.Close()))
		close(stop)
		wg.Wait()
		close(bad)
		for s := range bad {
			l.t.Error("a reader saw", s)
		}
	})
}

func TestTrap34ParentTimesKept(t *testing.T) {
	script(t, []string{"dir x\n", "file p/q/r/f text\n"}, `
		lstat p/q/r
		chmod p/q/r/f mode=0600
		lstat p/q/r => ~ m=1500000000.123456789
		lstat p/q => ~ m=1500000000.123456789
		lstat p => ~ m=1500000000.123456789
		open p/q/r/f fd=0 flags=O_WRONLY|O_APPEND
		write fd=0 data=more
		lstat p/q/r => ~ m=1500000000.123456789
		open p/q/r/new fd=0 flags=O_WRONLY|O_CREAT mode=0644
		lstat p/q/r => ~ m=now
		lstat p/q => ~ m=1500000000.123456789
	`)
}

func TestTrap35DirCopyUpIsMetadataOnly(t *testing.T) {
	onBoth(t, []string{"dir x\n", manyFiles("d", 50) + "file d/sub/deep x\n"}, func(l *live) {
		l.ok(os.Chmod(l.p("d"), 0o700))
		ents, err := os.ReadDir(l.up("d"))
		l.ok(err)
		l.want("entries copied with the directory", len(ents), 0)
		l.want("still merged", l.read("d/sub/deep"), "x")
		l.want("mode", fmt.Sprintf("%o", l.stat("d").Mode&0o7777), "700")
	})
	script(t, []string{"dir d mode=0711 uid=1000\n", "dir d mode=0755\nfile d/f\n"}, `
		lstat d => ~ d 0711 1000:0
	`)
}

func TestTrap36TruncatingOpen(t *testing.T) {
	script(t, []string{"dir x\n", "file f size=1048576\nfile g text\nfile h text\n"}, `
		open f fd=0 flags=O_WRONLY|O_TRUNC => f 0644 0:0 n=1 sz=0 m=now
		fstat fd=0 => ~ sz=0
		lstat f => ~ sz=0
		write fd=0 data=new
		readall f => 3:"new"
		open g fd=1 flags=O_RDONLY|O_TRUNC
		lstat g => ~ sz=0
		truncate h len=2 => ino=kept
		readall h => 2:"te"
		truncate h len=5 => ino=kept
		readall h => 5:"te\x00\x00\x00"
	`)
}

func TestTrap37UnreadableLowerFiles(t *testing.T) {
	script(t, rich, `
		chmod d/r0 p=2 mode=0644 => ino=kept
		open d/r0 fd=0 flags=O_WRONLY|O_APPEND p=2 => ok
		write fd=0 data=+ p=2 => 1 at 9
		chmod d/r1 p=2 mode=0600 => ino=kept
		readall d/r1 p=2 => 4:"none"
		utimens d/r2 p=2 off=1 off2=2 => ino=kept
		open d/r2 fd=1 flags=O_WRONLY p=2 => EACCES
		rename d/r2 d/r3 p=2 => ino=kept
		unlink d/r3 p=2 => ok
		open d/f fd=2 flags=O_WRONLY p=2
	`)
	script(t, []string{"dir x\n", "file d/f text mode=0444 uid=1000 gid=1000\ndir d mode=0777\n"}, `
		unlink d/f p=2 => ok
		lstat d/f => ENOENT
	`)
}

func TestTrap38SpecialFiles(t *testing.T) {
	script(t, rich, `
		chmod d/p mode=0600 => ino=kept
		lstat d/p => ~ p 0600 1000:0
		chown d/s uid=7 gid=7 => ino=kept
		lstat d/s => ~ s 0640 7:7
		chmod d/c mode=0600 => ino=kept
		lstat d/c => ~ dev=1:3
		open d/c fd=0 flags=O_RDWR
		write fd=0 data=gone => ok
		utimens d/b off=1 off2=2 => ino=kept
		lstat d/b => ~ dev=240:99 m=2.000000000
		chown d/l uid=7 gid=7 => ino=kept
		lstat d/l => ~ l 0777 7:7
		readlink d/l => "target"
		rename d/p other/p => ino=kept
		link d/s other/s => ino=kept
		open other/p fd=1 flags=O_RDWR => ok
		write fd=1 data=through
		read fd=1 len=10 => 7:"through"
	`)
}

func TestTrap39HolesAreKept(t *testing.T) {
	onBoth(t, []string{"dir x\n", "file s size=67108864\ndata s 33554432 10 0123456789\n"}, func(l *live) {
		fd := l.open("s", unix.O_RDONLY)
		end, err := unix.Seek(fd, 0, unix.SEEK_HOLE)
		l.ok(err)
		l.want("first hole", end, 0)
		at, err := unix.Seek(fd, 0, unix.SEEK_DATA)
		l.ok(err)
		l.want("first data", at, 33554432)
		f, err := os.OpenFile(l.p("s"), os.O_WRONLY, 0)
		l.ok(err)
		_, err = f.WriteAt([]byte("x"), 0)
		l.ok(firstError(err, f.Sync(), f.Close()))
		st, err := lstat(l.up("s"))
		l.ok(err)
		if st.Blocks*512 > 4<<20 {
			l.t.Errorf("the copy of a file with a 64 MiB hole takes %d bytes", st.Blocks*512)
		}
		l.want("size", st.Size, 67108864)
		at, err = unix.Seek(fd, 8192, unix.SEEK_DATA)
		l.ok(err)
		l.want("data after copy-up", at, 33554432)
	})
}

func TestTrap40AttributesThatCannotBeCopied(t *testing.T) {
	// The upper is a tmpfs: it takes no security.capability-sized surprises,
	// but a lower on ext4 has attributes that it may not take.
	onBoth(t, rich, func(l *live) {
		l.fresh()
		base := l.Upper[:len(l.Upper)-2]
		l.ok(os.Mkdir(base+"/tmpfs", 0o755))
		l.ok(unix.Mount("tmpfs", base+"/tmpfs", "tmpfs", 0, "size=2m"))
		defer unix.Unmount(base+"/tmpfs", unix.MNT_DETACH) //nolint:errcheck // may be gone
		l.Upper, l.Work = base+"/tmpfs/u", base+"/tmpfs/w"
		l.ok(os.Mkdir(l.Upper, 0o755))
		l.ok(os.Mkdir(l.Work, 0o755))
		l.mount()
		l.ok(os.Chmod(l.p("d/acl"), 0o600))
		l.ok(os.Lchown(l.p("d/l"), 3, 3))
		l.want("content", l.read("d/acl"), "acl")
		// ENOSPC reaches the caller, and leaves the lower file visible.
		big := l.Layers[1] + "/big"
		l.unmount()
		l.ok(os.WriteFile(big, bytes.Repeat([]byte("x"), 4<<20), 0o644))
		l.before = l.rawLayers()
		l.mount()
		f, err := os.OpenFile(l.p("big"), os.O_WRONLY, 0)
		if err == nil {
			_, err = f.WriteAt([]byte("y"), 0)
			err = firstError(err, f.Close())
		}
		l.errno("write to a file that does not fit", err, "ENOSPC")
		l.want("upper", l.raw("big"), "absent")
		b, err := os.ReadFile(l.p("big"))
		l.ok(err)
		l.want("still there", fmt.Sprint(len(b), string(b[:1])), "4194304x")
		l.unmount()
		l.ok(unix.Unmount(base+"/tmpfs", 0))
	})
}

func TestTrap41OverlayAttributes(t *testing.T) {
	script(t, rich, `
		setxattr d/f name=trusted.overlay.foo data=nested => ino=kept
		getxattr d/f name=trusted.overlay.foo => 6e6573746564
		listxattr d/f => security.capability,trusted.b,trusted.overlay.foo,user.a
		setxattr d name=trusted.overlay.opaque data=y => ino=kept
		getxattr d name=trusted.overlay.opaque => 79
		lstat d/f => ~ f 4755
		list d
		removexattr d name=trusted.overlay.opaque => ino=kept
		getxattr d name=trusted.overlay.opaque => ENODATA
		getxattr d name=trusted.overlay.origin => ENODATA
		listxattr other => 
		setxattr d/f name=user.overlay.foo data=u => ino=kept
		getxattr d/f name=user.overlay.foo => 75
	`)
	onBoth(t, rich, func(l *live) {
		l.ok(unix.Lsetxattr(l.p("d"), "trusted.overlay.opaque", []byte("y"), 0))
		l.want("stored escaped", l.rawXattr("d", "trusted.overlay.overlay.opaque"), "y")
	})
}

func TestTrap42ACLs(t *testing.T) {
	script(t, rich, `
		getxattr d/acl name=system.posix_acl_access => `+acls[0]+`
		chmod d/acl mode=0640 => ino=kept
		getxattr d/acl name=system.posix_acl_access
		lstat d/acl => ~ f 0640
		umask mode=077
		open d/inherits fd=0 flags=O_WRONLY|O_CREAT mode=0666
		lstat d/inherits
		getxattr d/inherits name=system.posix_acl_access
		mkdir d/sub mode=0777
		lstat d/sub
		getxattr d/sub name=system.posix_acl_default => `+acls[1]+`
		getxattr d/sub name=system.posix_acl_access
		mknod d/node flags=S_IFIFO mode=0666
		getxattr d/node name=system.posix_acl_access
		symlink d/link x
		open d fd=1 flags=O_RDWR|O_TMPFILE mode=0666
		linkfd d/tmp fd=1
		getxattr d/tmp name=system.posix_acl_access
		setxattr d/f name=system.posix_acl_access hex=`+acls[0]+`
		lstat d/f
		open d/acl fd=2 p=2 flags=O_RDWR
		removexattr d name=system.posix_acl_default
		mkdir d/sub2 mode=0777
		getxattr d/sub2 name=system.posix_acl_default => ENODATA
		lstat d/sub2 => ~ d 2700
	`)
}

func TestTrap43InodeFlags(t *testing.T) {
	onBoth(t, rich, func(l *live) {
		flags := func(path string) int {
			fd, err := unix.Open(l.p(path), unix.O_RDONLY|unix.O_CLOEXEC, 0)
			l.ok(err)
			defer unix.Close(fd) //nolint:errcheck // only read
			v, err := unix.IoctlGetInt(fd, unix.FS_IOC_GETFLAGS)
			l.ok(err)
			return v
		}
		l.want("flags of a lower file", flags("d/acl")&0x70, 0)
		// nodump set through the mount is there afterwards.
		fd, err := unix.Open(l.p("d/acl"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		l.ok(err)
		v, err := unix.IoctlGetInt(fd, unix.FS_IOC_GETFLAGS)
		l.ok(err)
		l.ok(unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, v|0x40))
		l.ok(unix.Close(fd))
		l.want("nodump", flags("d/acl")&0x40, 0x40)
	})
}
