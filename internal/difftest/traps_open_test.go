package difftest

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

func TestTrap44ReaderSeesWritesAfterCopyUp(t *testing.T) {
	script(t, []string{"dir x\n", "file f original\nfile g original\n"}, `
		open f fd=0 flags=O_RDONLY p=1
		read fd=0 len=4 p=1 => 4:"orig"
		open f fd=0 flags=O_RDWR
		pwrite fd=0 data=CHANGED off=0
		pread fd=0 len=20 p=1 => 8:"CHANGEDl"
		read fd=0 len=20 p=1 => 4:"GEDl"
		fstat fd=0 p=1 f => ~ same=true path=true
		ftruncate fd=0 len=2
		fstat fd=0 p=1 => ~ sz=2
		open g fd=1 flags=O_RDONLY p=1
		open g fd=1 flags=O_WRONLY|O_TRUNC
		freadall fd=1 p=1 => 0:""
		write fd=1 data=new
		freadall fd=1 p=1 => 3:"new"
	`)
	// The kernel's mappings of a lower file stay as they were; ours follow.
	scriptOurs(t, Variants[0].Subject, []string{"dir x\n", "file f original\n"}, `
		open f fd=0 flags=O_RDONLY p=1
		mmap fd=0 len=4096 flags=MAP_SHARED p=1 => ok
		mread fd=0 len=8 p=1 => 8:"original"
		open f fd=0 flags=O_RDWR
		pwrite fd=0 data=CHANGED off=0
		mread fd=0 len=8 p=1 => 8:"CHANGEDl"
		mmap fd=0 len=4096 flags=MAP_SHARED mode=1 => ok
		mwrite fd=0 data=M => ok
		mread fd=0 len=8 p=1 => 8:"MHANGEDl"
		msync fd=0 => ok
		pread fd=0 len=8 p=1 => 8:"MHANGEDl"
	`)
	script(t, []string{"dir x\n", "file f original\n"}, `
		open f fd=0 flags=O_RDWR
		mmap fd=0 len=4096 flags=MAP_PRIVATE mode=1 => ok
		mwrite fd=0 data=private => ok
		mread fd=0 len=8 
		readall f => 8:"original"
		mmap fd=0 len=4096 flags=MAP_SHARED mode=1 => ok
		mwrite fd=0 data=shared => ok
		msync fd=0 => ok
		readall f => 8:"sharedal"
	`)
}

func TestTrap45OperationsOnHandlesOfMovedFiles(t *testing.T) {
	layers := []string{"dir x mode=1777\n", "file d/f content mode=0444 uid=1000 gid=1000\nfile d/src 0123456789\n"}
	script(t, layers, `
		chmod d/f mode=0600
		open d/f fd=0 flags=O_RDWR p=2 => ok
		open d/src fd=1 flags=O_RDONLY p=2 => ok
		rename d e
		unlink e/f
		unlink e/src
		ftruncate fd=0 len=4 p=2 => ok
		fchmod fd=0 mode=0400 p=2 => ok
		copyrange fd=1 fd2=0 off=2 off2=1 len=3 p=2 => 3
		fallocate fd=0 len=8 p=2 => ok
		fsync fd=0 p=2 => ok
		freadall fd=0 p=2 => 8:"c234\x00\x00\x00\x00"
		fstat fd=0 p=2 => ~ f 0400 1000:1000 n=0 sz=8
		reopen fd=0 fd2=2 flags=O_RDONLY p=2 => ok
		freadall fd=2 p=2 => 8:"c234\x00\x00\x00\x00"
	`)
}

func TestTrap46LowerUnlinkedInTheUnion(t *testing.T) {
	layers := []string{"dir x\n", "file f text\nfile d/g text\n"}
	script(t, layers, `
		open f fd=0 flags=O_RDONLY
		unlink f
		freadall fd=0 => 4:"text"
		open d/g fd=2 flags=O_RDONLY
		open d fd=3 flags=O_RDONLY|O_DIRECTORY
		unlink d/g
		rmdir d
		readdir fd=3 len=400
		fstat fd=3 => ~ d 0755
		open f fd=4 flags=O_WRONLY|O_CREAT mode=0600
		write fd=4 data=other
		freadall fd=0 => 4:"text"
		freadall fd=2 => 4:"text"
	`)
	// The kernel cannot copy up what has no name any more (ENOENT, EEXIST).
	scriptOurs(t, Variants[0].Subject, layers, `
		open f fd=0 flags=O_RDONLY
		unlink f
		fstat fd=0 => ~ n=0 sz=4
		reopen fd=0 fd2=1 flags=O_RDWR => ok
		pwrite fd=1 data=TEXT => 4
		freadall fd=0 => 4:"TEXT"
		fchmod fd=0 mode=0600 => ok
		fstat fd=0 => ~ f 0600 0:0 n=0
		open f fd=4 flags=O_WRONLY|O_CREAT mode=0600
		write fd=4 data=other
		freadall fd=0 => 4:"TEXT"
	`)
}

func TestTrap47LocksAndTextBusy(t *testing.T) {
	script(t, []string{"dir x\n", "file f text\n"}, `
		open f fd=0 flags=O_RDONLY
		flock fd=0 flags=LOCK_EX => ok
		open f fd=0 flags=O_RDONLY p=1
		flock fd=0 flags=LOCK_EX p=1 => EAGAIN
		chmod f mode=0600
		open f fd=1 flags=O_RDWR p=1
		flock fd=1 flags=LOCK_SH p=1 => EAGAIN
		flock fd=0 flags=LOCK_UN => ok
		flock fd=1 flags=LOCK_SH p=1 => ok
		open f fd=2 flags=O_RDWR
		setlk fd=2 mode=1 off=0 len=10 => ok
		setlk fd=1 mode=1 off=5 len=10 p=1 => EAGAIN
		setlk fd=1 mode=1 off=10 len=10 p=1 => ok
		close fd=2
		setlk fd=1 mode=1 off=5 len=10 p=1 => ok
	`)
	truth, err := os.ReadFile("/bin/sleep")
	if err != nil {
		t.Skip("needs /bin/sleep")
	}
	onBoth(t, []string{"dir x\n", "dir bin\n"}, func(l *live) {
		l.unmount()
		l.ok(os.WriteFile(l.Layers[1]+"/bin/nap", truth, 0o755))
		l.before = l.rawLayers()
		l.mount()
		cmd := exec.Command(l.p("bin/nap"), "60")
		l.ok(cmd.Start())
		_, err := unix.Open(l.p("bin/nap"), unix.O_WRONLY|unix.O_CLOEXEC, 0)
		l.errno("open of a running program for writing", err, "ETXTBSY")
		l.ok(cmd.Process.Kill())
		_ = cmd.Wait() // killed
		fd := l.open("bin/nap", unix.O_WRONLY)
		err = exec.Command(l.p("bin/nap"), "0").Run()
		l.errno("run of a program that is being written", err, "ETXTBSY")
		l.closeNow(fd)
		l.ok(exec.Command(l.p("bin/nap"), "0").Run())
	})
}

// Trap 48 is about passthrough; whatever the I/O mode, a lower file must not be
// written, and every reader must see the upper.
func TestTrap48LowerIsNeverWritten(t *testing.T) {
	onBoth(t, []string{"dir x\n", "file f size=8388608\ndata f 0 8388608 abcdefgh\n"}, func(l *live) {
		reader := l.open("f", unix.O_RDONLY)
		buf := make([]byte, 16)
		_, err := unix.Pread(reader, buf, 0)
		l.ok(err)
		writer := l.open("f", unix.O_RDWR)
		_, err = unix.Pwrite(writer, []byte("WRITTEN"), 4<<20)
		l.ok(err)
		l.ok(unix.Fsync(writer))
		for _, fd := range []int{reader, writer, l.open("f", unix.O_RDONLY)} {
			_, err = unix.Pread(fd, buf, 4<<20)
			l.ok(err)
			l.want("read", string(buf), "WRITTENhabcdefgh")
		}
		up, err := os.Open(l.up("f"))
		l.ok(err)
		defer up.Close() //nolint:errcheck // only read
		_, err = up.ReadAt(buf, 4<<20)
		l.ok(err)
		l.want("the upper's copy", string(buf), "WRITTENhabcdefgh")
	})
}

// Traps 49 to 53 are about a writeback cache, which is not used; their outcomes
// hold for any cache.
func TestTrap49WriteOnlyAndAppendHandles(t *testing.T) {
	script(t, []string{"dir x\n", "file f 0123456789\n"}, `
		open f fd=0 flags=O_WRONLY
		pwrite fd=0 data=X off=5 => 1
		read fd=0 len=3 => EBADF
		readall f => 10:"01234X6789"
		open f fd=1 flags=O_WRONLY|O_APPEND
		write fd=1 data=end => 3 at 13
		open f fd=2 flags=O_RDWR|O_APPEND p=1
		write fd=2 data=more p=1 => 4 at 17
		write fd=1 data=last => 4 at 21
		pwrite fd=1 off=0 data=atend => 5
		readall f => 26:"01234X6789endmorelastatend"
	`)
}

func TestTrap50SizeIsNeverStale(t *testing.T) {
	onBoth(t, []string{"dir x\n", "file f old-content-that-is-long\n"}, func(l *live) {
		for i := range 50 {
			text := fmt.Sprintf("round %d", i)
			f, err := os.OpenFile(l.p("f"), os.O_WRONLY|os.O_TRUNC, 0)
			l.ok(err)
			_, err = io.WriteString(f, text)
			l.ok(err)
			l.want("size while open", l.stat("f").Size, len(text))
			l.ok(f.Close())
			l.want("content", l.read("f"), text)
			l.want("size on disk", len(mustRead(l.up("f"))), len(text))
		}
	})
}

func mustRead(path string) []byte {
	b, err := os.ReadFile(path)
	if err != nil {
		return []byte(err.Error())
	}
	return b
}

func TestTrap51SuidLostOnWriteByAnother(t *testing.T) {
	script(t, []string{"dir x\n", "file f text mode=6777 uid=1000 gid=1000\nfile g text mode=6777\nfile h text mode=2767\nfile k text mode=4777\nxattr k security.capability hex:" + capability + "\n"}, `
		open f fd=0 flags=O_WRONLY p=2
		write fd=0 data=x p=2
		lstat f => ~ f 0777
		open g fd=0 flags=O_WRONLY
		write fd=0 data=x
		lstat g => ~ f 6777
		truncate h p=2 len=1
		lstat h
		truncate k p=2 len=1
		lstat k => ~ f 0777
		getxattr k name=security.capability => ENODATA
	`)
}

// Trap 52, changes of layers from outside, are undefined, as in the kernel.

func TestTrap53TruncateAppendRace(t *testing.T) {
	onBoth(t, []string{"dir x\n", "file f start\n"}, func(l *live) {
		app := l.open("f", unix.O_WRONLY|unix.O_APPEND)
		rw := l.open("f", unix.O_RDWR)
		for i := range 30 {
			l.ok(unix.Ftruncate(rw, 4))
			_, err := unix.Write(app, []byte("tail"))
			l.ok(err)
			b := make([]byte, 20)
			n, err := unix.Pread(rw, b, 0)
			l.ok(err)
			if string(b[:n]) != "startail"[:4]+"tail" {
				l.t.Fatalf("round %d: %q", i, b[:n])
			}
			var st unix.Stat_t
			l.ok(unix.Fstat(app, &st))
			l.want("size", st.Size, 8)
		}
	})
}
