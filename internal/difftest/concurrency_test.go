package difftest

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// impossible are answers that no operation may give, whatever others do.
var impossible = []string{"EIO", "ENOSYS", "ENOTCONN", "ESTALE", "EBADMSG", "EUCLEAN", "EFAULT", "BADCALL", "BADSLOT"}

// TestConcurrent lets many processes change one small tree at the same time.
// Afterwards the tree must be the same seen through this mount, through another
// mount of the same upper, and through the kernel.
func TestConcurrent(t *testing.T) {
	needRoot(t)
	rounds := 3
	if testing.Short() {
		rounds = 1
	}
	seed := firstSeed(t)
	for i := range rounds {
		t.Run(fmt.Sprintf("seed%d", seed+uint64(i)), func(t *testing.T) { hammer(t, seed+uint64(i), 150) })
	}
}

// hammer runs operations from three generators per worker set, which know
// nothing of each other.
func hammer(t *testing.T, seed uint64, n int) {
	layers := NewGenerator(seed, Variants[0]).Layers()
	l := newLive(t, unionfs(t, Variants[0].Subject), layers)
	l.mount()
	defer l.end()
	now := time.Now()
	var wg sync.WaitGroup
	for set := range 2 {
		ws, err := StartWorkers()
		l.ok(err)
		l.ok(ws.All(Op{Call: "chdir", Path: l.Mnt}))
		defer func() {
			if err := ws.Stop(); err != nil {
				t.Error(err)
			}
		}()
		var procs sync.WaitGroup
		for proc := range Procs {
			procs.Go(func() { hammerProc(t, ws, layers, seed+uint64(10*set+proc), proc, n) })
		}
		wg.Go(func() {
			procs.Wait()
			if err := ws.All(Op{Call: "reset"}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	live, err := Dump(l.Mnt, DumpOptions{Now: now})
	l.ok(err)
	l.remount()
	again, err := Dump(l.Mnt, DumpOptions{Now: now})
	l.ok(err)
	if m := (comparer{}).treeMismatch("this mount, and the next", live, again); m != nil {
		t.Error(m)
	}
	crashViews(l)
}

func hammerProc(t *testing.T, ws *Workers, layers []string, seed uint64, proc, n int) {
	g := NewGenerator(seed, Variants[0])
	g.m.load(layers)
	g.Begin(n, false)
	for {
		op, ok := g.Next()
		if !ok {
			return
		}
		op.Proc = proc
		res, err := ws.Do(op)
		if err != nil {
			t.Errorf("seed %d: %v", seed, err)
			return
		}
		if slices.Contains(impossible, res.Err) || strings.Contains(res.Val, "!twice") {
			t.Errorf("seed %d: %s: %s", seed, op, res)
		}
		g.Saw(op, res)
	}
}
