package difftest

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// The scenarios of fuse-overlayfs' own suites that no trap covers.

func TestPeerReadOnlyMount(t *testing.T) {
	onBoth(t, merged, func(l *live) {
		l.unmount()
		upper, work := l.Upper, l.Work
		l.Upper, l.Work = "", ""
		l.mount()
		l.want("top", l.read("d/both"), "top")
		l.want("names", l.names("d"), "both c l low p s sub top")
		_, err := os.Create(l.p("new"))
		l.errno("create", err, "EROFS")
		l.errno("mkdir", os.Mkdir(l.p("d/new"), 0o755), "EROFS")
		l.errno("link", os.Link(l.p("d/low"), l.p("d/hard")), "EROFS")
		l.errno("symlink", os.Symlink("x", l.p("d/sym")), "EROFS")
		l.errno("unlink", os.Remove(l.p("d/low")), "EROFS")
		l.errno("rename", os.Rename(l.p("d/low"), l.p("d/other")), "EROFS")
		l.errno("chmod", os.Chmod(l.p("d/low"), 0o600), "EROFS")
		l.errno("truncate", os.Truncate(l.p("d/low"), 0), "EROFS")
		l.errno("setxattr", unix.Setxattr(l.p("d/low"), "user.x", nil, 0), "EROFS")
		_, err = os.OpenFile(l.p("d/low"), os.O_RDWR, 0)
		l.errno("open for writing", err, "EROFS")
		l.errno("access", unix.Access(l.p("d/low"), unix.W_OK), "EROFS")
		l.unmount()
		l.Upper, l.Work = upper, work
		l.mount()
	})
}

func TestPeerSymlinkAndWhiteout(t *testing.T) {
	// #279 and #337: symlinks over whiteouts, directories over symlinks.
	script(t, []string{
		"file dir/upper u\nwhiteout gone\n",
		"symlink dir elsewhere\nfile elsewhere/x x\nfile gone g\nfile f f\nsymlink s f\n",
	}, `
		list dir
		readall dir/upper => 1:"u"
		lstat dir/x => ENOENT
		symlink gone elsewhere
		readlink gone => "elsewhere"
		readall gone/x => 1:"x"
		unlink f
		symlink f s
		stat f => ELOOP
		unlink s
		open s fd=0 flags=O_WRONLY|O_CREAT|O_EXCL mode=0600 => ok
		readall f => ELOOP
		chmod f mode=0640
		lstat s => ~ f 0640
		open gone fd=1 flags=O_RDONLY|O_NOFOLLOW => ELOOP
		open gone fd=1 flags=O_RDONLY|O_DIRECTORY => ok
		unlink gone
		mkdir gone mode=0755
		list gone => ".":d "..":d
	`)
}

func TestPeerLinkCycle(t *testing.T) {
	// What containers/storage does to every file of a layer with another owner.
	script(t, linked, `
		chown d/a uid=7 gid=7
		link d/a d/tmp
		unlink d/a
		link d/tmp d/a
		unlink d/tmp
		chown d/b uid=8 gid=8
		lstat d/a => ~ f 0644 8:8 n=2
		sameino d/a d/b => true
		unlink d/a
		unlink d/b
		lstat d/a => ENOENT
		list d
		link d/single d/a
		unlink d/single
		lstat d/a => ~ n=1
	`)
}

func TestPeerFiveLayers(t *testing.T) {
	var layers []string
	for i := range 5 {
		layers = append(layers, fmt.Sprintf("file only%d %d\nfile all %d\nfile d/from%d %d\nfile d/all %d\nwhiteout d/x%d\nfile d/x%d %d\n", i, i, i, i, i, i, i+1, i, i))
	}
	script(t, layers, `
		readall all => 1:"0"
		readall d/all => 1:"0"
		readall only4 => 1:"4"
		list .
		list d
		readall d/x0 => 1:"0"
		lstat d/x1 => ENOENT
		unlink d/all
		lstat d/all => ENOENT
		rename d e
		list e
		chmod e/from4 mode=0600
		readall e/from4 => 1:"4"
	`)
}

func TestPeerDeepTree(t *testing.T) {
	deep := strings.TrimSuffix(strings.Repeat("n/", 200), "/")
	onBoth(t, []string{"dir x\n", "file " + deep + "/f deep\n"}, func(l *live) {
		l.want("content", l.read(deep+"/f"), "deep")
		l.ok(os.Chmod(l.p(deep+"/f"), 0o600))
		l.ok(os.Rename(l.p(deep+"/f"), l.p("up")))
		l.ok(os.MkdirAll(l.p(deep+"/more/and/more"), 0o755))
		l.remount()
		l.want("content", l.read("up"), "deep")
		l.ok(os.RemoveAll(l.p("n")))
		l.want("names", l.names("."), "up x")
		l.want("mark", l.raw("n"), "whiteout")
	})
}

func TestPeerWideDirectory(t *testing.T) {
	onBoth(t, []string{"dir x\n", manyFiles("d", 5000)}, func(l *live) {
		for i := range 200 {
			l.ok(os.Remove(l.p(fmt.Sprintf("d/f%04d", i*20))))
			l.write(fmt.Sprintf("d/new%d", i), "")
		}
		l.remount()
		l.want("entries", len(strings.Fields(l.names("d"))), 5000)
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				for range 5 {
					if n := len(strings.Fields(l.names("d"))); n < 5000 {
						l.t.Errorf("a listing had %d entries", n)
					}
				}
			})
		}
		wg.Go(func() {
			for i := range 100 {
				l.write(fmt.Sprintf("d/while%d", i), "")
			}
		})
		wg.Wait()
	})
}

func TestPeerWhiteoutsOverRemount(t *testing.T) {
	onBoth(t, []string{"dir x\n", manyFiles("d", 30) + manyFiles("e/sub", 10)}, func(l *live) {
		for round := range 3 {
			for i := range 10 {
				l.ok(os.Remove(l.p(fmt.Sprintf("d/f%04d", round*10+i))))
			}
			l.remount()
			l.want("entries", len(strings.Fields(l.names("d"))), 30-10*(round+1))
		}
		l.ok(os.Remove(l.p("d")))
		l.ok(os.RemoveAll(l.p("e")))
		l.remount()
		l.want("names", l.names("."), "x")
		l.ok(os.Mkdir(l.p("e"), 0o755))
		l.ok(os.Mkdir(l.p("e/sub"), 0o755))
		l.remount()
		l.want("e/sub", l.names("e/sub"), "")
	})
}

func TestPeerUnixSocket(t *testing.T) {
	onBoth(t, merged, func(l *live) {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		l.ok(err)
		defer unix.Close(fd) //nolint:errcheck // a test's socket
		l.t.Chdir(l.p("d"))  // a socket's address is short; undone before the unmount
		l.ok(unix.Bind(fd, &unix.SockaddrUnix{Name: "live"}))
		l.ok(unix.Listen(fd, 1))
		c, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		l.ok(err)
		defer unix.Close(c) //nolint:errcheck // a test's socket
		l.ok(unix.Connect(c, &unix.SockaddrUnix{Name: "live"}))
		l.ok(os.Chmod(l.p("d/live"), 0o600))
	})
}

func TestPeerInotify(t *testing.T) {
	onBoth(t, merged, func(l *live) {
		in, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
		l.ok(err)
		defer unix.Close(in) //nolint:errcheck // only read
		_, err = unix.InotifyAddWatch(in, l.p("d"), unix.IN_CREATE|unix.IN_DELETE|unix.IN_MOVE|unix.IN_MODIFY|unix.IN_ATTRIB)
		l.ok(err)
		l.write("d/new", "text")
		l.ok(os.Chmod(l.p("d/low"), 0o600))
		l.write("d/low", "changed")
		l.ok(os.Rename(l.p("d/new"), l.p("d/renamed")))
		l.ok(os.Remove(l.p("d/top")))
		buf := make([]byte, 8192)
		n, err := unix.Read(in, buf)
		l.ok(err)
		got := string(buf[:n])
		for _, name := range []string{"new", "low", "renamed", "top"} {
			if !strings.Contains(got, name+"\x00") {
				l.t.Errorf("no event names %s", name)
			}
		}
	})
}

func TestPeerVolatile(t *testing.T) {
	needRoot(t)
	runLive(t, daemon(t, Variants[0].Subject+",volatile"), merged, func(l *live) {
		fd := l.open("d/low", unix.O_RDWR)
		_, err := unix.Write(fd, []byte("LOW"))
		l.ok(err)
		l.ok(unix.Fsync(fd))
		l.ok(unix.Syncfs(fd))
		l.closeNow(fd)
		l.remount()
		l.want("content", l.read("d/low"), "LOW")
		// After a crash the mount is refused, as the kernel refuses it.
		m, ok := l.m.(*daemonMount)
		if !ok {
			l.t.Fatal("the target is no daemon")
		}
		l.m = nil
		l.ok(m.Kill())
		again, err := l.target.Mount(l.Dirs)
		if err == nil {
			l.ok(again.Unmount())
			l.t.Error("mounted again after a crash of a volatile mount")
		}
		l.ok(os.RemoveAll(l.Work))
		l.ok(os.Mkdir(l.Work, 0o755))
		l.mount()
	})
}
