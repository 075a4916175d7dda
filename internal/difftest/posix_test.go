package difftest

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"testing"

	"github.com/hanwen/go-fuse/v2/posixtest"
)

// ioModes are the values of io= under which the suites run.
var ioModes = []string{"cached", "passthrough"}

// notPOSIX are tests of posixtest that a local filesystem fails too, with the
// reason; go-fuse leaves them out for directories itself.
var notPOSIX = map[string]string{
	"FcntlFlockLocksFile": "expects POSIX locks of one process to exclude each other, which ext4 does not do either",
}

// TestPosix runs go-fuse's own suite on mounts of the command, each test in an
// empty directory of the upper and in one that comes from a lower layer.
func TestPosix(t *testing.T) {
	needRoot(t)
	names := slices.Sorted(maps.Keys(posixtest.All))
	for _, mode := range ioModes {
		for _, where := range []string{"upper", "lower"} {
			t.Run(mode+"/"+where, func(t *testing.T) {
				l := mountOnce(t, daemon(t, "io="+mode), []string{"dir x\n", "dir lower\n"})
				if where == "upper" {
					l.ok(os.Mkdir(l.p("upper"), 0o755))
				}
				for _, name := range names {
					if notPOSIX[name] != "" {
						continue
					}
					t.Run(name, func(t *testing.T) {
						dir := l.p(where + "/" + name)
						if err := os.Mkdir(dir, 0o755); err != nil {
							t.Fatal(err)
						}
						posixtest.All[name](t, dir)
					})
				}
			})
		}
	}
}

// mountOnce mounts for the time of a test.
func mountOnce(t *testing.T, target Target, layers []string) *live {
	t.Helper()
	l := newLive(t, target, layers)
	l.mount()
	t.Cleanup(l.end)
	return l
}

// TestDescriptors looks for descriptors that stay open in the daemon when every
// handle of the test is closed.
func TestDescriptors(t *testing.T) {
	needRoot(t)
	l := mountOnce(t, daemon(t, ""), []string{"dir x\n", manyFiles("d", 50)})
	m, ok := l.m.(*daemonMount)
	if !ok {
		t.Skip("needs a daemon")
	}
	count := func() int {
		ents, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", m.cmd.Process.Pid))
		l.ok(err)
		return len(ents)
	}
	round := func() {
		for i := range 50 {
			name := fmt.Sprintf("d/f%04d", i)
			l.write(name, "text")
			l.ok(os.Rename(l.p(name), l.p("d/other")))
			l.read("d/other")
			l.ok(os.Remove(l.p("d/other")))
			l.write(name, "again")
			l.names("d")
		}
	}
	round()
	first := count()
	for range 10 {
		round()
	}
	if last := count(); last > first+20 {
		t.Errorf("the daemon has %d descriptors after 1 round and %d after 11", first, last)
	}
}
