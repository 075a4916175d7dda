package difftest

import (
	"fmt"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestTrap70Times(t *testing.T) {
	script(t, []string{"dir x\n", "dir d mtime=-100000.000000007\nfile d/f text mtime=-1.5\ndir e mtime=4000000000.1\nfile e/g text\nfile u text\n"}, `
		lstat d => ~ m=-100000.000000007
		lstat d/f => ~ m=-1.500000000
		chown d uid=5 gid=5
		lstat d => ~ m=-100000.000000007
		chmod d/f mode=0600
		lstat d/f => ~ m=-1.500000000
		lstat d => ~ m=-100000.000000007
		utimens u off=-1000000000 off2=-2000000000 len=123456789
		lstat u => ~ m=-2000000000.123456789
		utimens e off=10000000000 off2=10000000000 len=1
		lstat e => ~ m=10000000000.000000001
		chmod e/g mode=0600
		lstat e => ~ m=10000000000.000000001
		open e/g fd=0 flags=O_RDWR
		futimens fd=0 off=77 off2=88 len=99
		lstat e/g => ~ m=88.000000099
		write fd=0 data=x
		lstat e/g => ~ m=now
		utimens e/g off=1 off2=2 flags=OMIT
		lstat e/g => ~ m=2.000000000
		utimens e/g flags=NOW
		lstat e/g => ~ m=now
		statx u => btime=true
		statx d/f => btime=true
	`)
	onBoth(t, []string{"dir x\n", "file d/f text\nfile d/g text\n"}, func(l *live) {
		var before, after unix.Stat_t
		l.ok(unix.Lstat(l.Layers[1]+"/d/f", &before))
		time.Sleep(10 * time.Millisecond)
		l.want("read", l.read("d/f"), "text")
		// ctime moves with changes; a change of the name alone moves it too.
		c0 := l.stat("d/f").Ctim
		l.ok(os.Chmod(l.p("d/f"), 0o600))
		c1 := l.stat("d/f").Ctim
		if c1.Nano() <= c0.Nano() {
			l.t.Errorf("ctime did not move with chmod: %v, %v", c0, c1)
		}
		l.ok(unix.Lstat(l.Layers[1]+"/d/f", &after))
		l.want("the lower's ctime", after.Ctim, before.Ctim)
		st := l.stat("d/g")
		times := []unix.Timespec{{Sec: -3, Nsec: 5}, {Nsec: unix.UTIME_OMIT}}
		l.ok(unix.UtimesNanoAt(unix.AT_FDCWD, l.p("d/g"), times, 0))
		now := l.stat("d/g")
		l.want("atime", fmt.Sprint(now.Atim), fmt.Sprint(unix.Timespec{Sec: -3, Nsec: 5}))
		l.want("mtime", now.Mtim, st.Mtim)
	})
}

// TestTimesOverRemount checks that the times a mount shows are those that it
// leaves in the upper, to the nanosecond.
func TestTimesOverRemount(t *testing.T) {
	onBoth(t, []string{"dir x\n", "file d/f text\nfile d/g text\nfile d/h text\nfile d/k text\n"}, func(l *live) {
		fds := []int{}
		write := func(fd int) {
			_, err := unix.Write(fd, []byte("data"))
			l.ok(err)
			fds = append(fds, fd)
		}
		write(l.open("d/f", unix.O_WRONLY))
		write(l.open("d/new", unix.O_RDWR|unix.O_CREAT))
		write(l.open("d/g", unix.O_WRONLY|unix.O_TRUNC))
		tmp := l.open("d", unix.O_RDWR|unix.O_TMPFILE)
		write(tmp)
		l.ok(unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", tmp), unix.AT_FDCWD, l.p("d/tmp"), unix.AT_SYMLINK_FOLLOW))
		hole := l.open("d/h", unix.O_RDWR)
		write(hole)
		l.ok(unix.Fallocate(hole, 0, 0, 10000))
		set := l.open("d/k", unix.O_RDWR)
		write(set)
		l.ok(unix.UtimesNanoAt(unix.AT_FDCWD, l.p("d/k"), []unix.Timespec{{Sec: 1}, {Sec: 2, Nsec: 3}}, 0))
		time.Sleep(30 * time.Millisecond)
		for _, fd := range fds {
			l.closeNow(fd)
		}
		seen := map[string]unix.Timespec{}
		names := []string{"d", "d/f", "d/new", "d/g", "d/tmp", "d/h", "d/k"}
		for _, p := range names {
			seen[p] = l.stat(p).Mtim
		}
		l.remount()
		for _, p := range names {
			l.want("mtime of "+p+" after remount", l.stat(p).Mtim, seen[p])
		}
	})
}
