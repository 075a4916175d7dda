package fs

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

const randomLower = `
file a 1a
file b/a 1ba
file b/c/a 1bca
hard b/h a
dir c
link d b
==
file a hidden
file b/b 2bb
file b/c/b 2bcb
file c/a 2ca
file c/d/a 2cda
file d/a hidden
==
file c/d/b 3cdb
fifo b/c/c
`

// randomOp makes up one operation on a small set of paths.
func randomOp(r *rand.Rand) string {
	path := func() string {
		p := string(rune('a' + r.IntN(4)))
		for r.IntN(2) == 0 {
			p += "/" + string(rune('a'+r.IntN(4)))
		}
		return p
	}
	switch r.IntN(16) {
	case 0:
		return "create " + path()
	case 1:
		return "mkdir " + path()
	case 2:
		return fmt.Sprintf("symlink %s %s", path(), path())
	case 3:
		return fmt.Sprintf("link %s %s", path(), path())
	case 4, 5:
		return "unlink " + path()
	case 6:
		return "rmdir " + path()
	case 7, 8, 9:
		return fmt.Sprintf("rename %s %s", path(), path())
	case 10:
		return fmt.Sprintf("exchange %s %s", path(), path())
	case 11:
		return fmt.Sprintf("write %s %d %d", path(), r.IntN(4), r.IntN(1000))
	case 12:
		return fmt.Sprintf("truncate %s %d", path(), r.IntN(4))
	case 13:
		return fmt.Sprintf("chmod %s %#o", path(), 0o700|r.IntN(0o100))
	case 14:
		return fmt.Sprintf("setxattr %s user.x %d", path(), r.IntN(100))
	}
	return fmt.Sprintf("utime %s %d", path(), r.IntN(100)-50)
}

// TestRandomOperations: after any sequence, what is shown is what a remount and
// the kernel show, the lower layers are as they were, and every descriptor was
// given back. The operations of a failing seed are printed.
func TestRandomOperations(t *testing.T) {
	for seed := range uint64(40) {
		ok := t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 7))
			opt := func(c *Config) { c.Metacopy = seed%2 == 1 }
			b := newBed(t, randomLower)
			hash := b.lowerHash(t)
			before := openFDs(t)
			u := b.open(t, opt)
			var done []string
			for range 60 {
				op := randomOp(r)
				err := u.run(op)
				var errno unix.Errno
				if err != nil && !errors.As(err, &errno) || errno == unix.EIO || errno == unix.ESTALE {
					t.Errorf("%s: %v", op, err)
				}
				done = append(done, fmt.Sprintf("%s -> %v", op, err))
				if r.IntN(10) == 0 {
					u.forgetAll() // as under memory pressure
				}
			}
			checkUnion(t, b, u, opt)
			if b.lowerHash(t) != hash {
				t.Error("a lower layer was changed")
			}
			sameFDs(t, before)
			if t.Failed() {
				t.Log(strings.Join(done, "\n"))
			}
		})
		if !ok {
			return
		}
	}
}

// TestConcurrentOperations runs random operations from several goroutines, for
// the race detector and for deadlocks, and then checks as TestRandomOperations.
func TestConcurrentOperations(t *testing.T) {
	for seed := range uint64(6) {
		b := newBed(t, randomLower)
		hash := b.lowerHash(t)
		u := b.open(t)
		var wg sync.WaitGroup
		for w := range uint64(6) {
			wg.Add(1)
			go func() {
				defer wg.Done()
				r := rand.New(rand.NewPCG(seed, 100+w))
				mine := &union{f: u.f, refs: make(map[uint64]uint64)}
				for range 80 {
					op := randomOp(r)
					err := mine.run(op)
					var errno unix.Errno
					if err != nil && !errors.As(err, &errno) || errno == unix.EIO {
						t.Errorf("%s: %v", op, err)
					}
					if r.IntN(10) == 0 {
						mine.forgetAll()
					}
				}
				mine.forgetAll()
			}()
		}
		wg.Wait()
		checkUnion(t, b, u)
		if b.lowerHash(t) != hash {
			t.Error("a lower layer was changed")
		}
	}
}

// TestManyWritersCopyUpOnce: all writes to one lower file are there, whoever
// copied it up, and none finds that another has.
func TestManyWritersCopyUpOnce(t *testing.T) {
	text := ""
	for i := range 50 {
		text += fmt.Sprintf("file d/e/f%d %s\n", i, strings.Repeat("-", 16))
	}
	b := newBed(t, text)
	u := b.open(t, func(c *Config) { c.Metacopy = true })
	for i := range 50 {
		n, err := u.get(fmt.Sprintf("d/e/f%d", i))
		must(t, err)
		start := make(chan struct{})
		var wg sync.WaitGroup
		for off := range 16 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				<-start
				if off%4 == 0 {
					if err := u.f.copyUp(n, wantMeta); err != nil {
						t.Errorf("copy up: %v", err)
					}
				}
				if _, err := u.f.write(n, &fuse.WriteIn{Offset: uint64(off)}, [][]byte{{'x'}}); err != nil {
					t.Errorf("write at %d: %v", off, err)
				}
			}()
		}
		close(start)
		wg.Wait()
		if got, err := u.read(n); err != nil || got != strings.Repeat("x", 16) {
			t.Errorf("content %q, %v", got, err)
		}
	}
	checkUnion(t, b, u)
}

// TestCopyUpAfterAnotherEnded: who asks for a copy-up while one ends must see
// that it did, and not copy again.
func TestCopyUpAfterAnotherEnded(t *testing.T) {
	u := newBed(t, "file a 1\nfile b 2\nfile c 3\nfile d 4").open(t)
	for _, name := range []string{"a", "b", "c", "d"} {
		n, err := u.get(name)
		must(t, err)
		u.f.copyMu.Lock() // those who ask now stop behind their first look
		errs := make(chan error)
		for range 4 {
			go func() { errs <- u.f.copyUp(n, wantData) }()
		}
		for range 1000 {
			runtime.Gosched()
		}
		err = u.f.copyUpOne(n, wantData)
		u.f.copyMu.Unlock()
		must(t, err)
		for range 4 {
			if err := <-errs; err != nil {
				t.Errorf("copy up of %s: %v", name, err)
			}
		}
	}
}

// TestForgetDropsDescriptors: what was open for an object is closed when the
// kernel forgets it, also what was removed meanwhile.
func TestForgetDropsDescriptors(t *testing.T) {
	b := newBed(t, scriptLower)
	u := b.open(t)
	b.fds.Purge()
	before := openFDs(t)
	u.script(t, `
		read a aaa
		write big 0 x
		read d/z zzz
		create new
		write new 0 x
		mkdir nd
		create nd/f`)
	for _, p := range []string{"a", "big", "new", "nd/f", "nd"} {
		n, err := u.get(p)
		must(t, err)
		must(t, u.run(map[bool]string{true: "rmdir ", false: "unlink "}[n.isDir()]+p))
		if n.typ == unix.S_IFREG { // still open
			if _, err := u.read(n); err != nil {
				t.Errorf("read of the removed %s: %v", p, err)
			}
			if _, err := u.f.write(n, &fuse.WriteIn{}, [][]byte{[]byte("late")}); err != nil {
				t.Errorf("write to the removed %s: %v", p, err)
			}
			if got, err := u.read(n); err != nil || !strings.HasPrefix(got, "late") {
				t.Errorf("the removed %s holds %q, %v", p, got, err)
			}
			if a, err := u.f.getAttr(n); err != nil || a.Nlink != 0 && p != "a" {
				t.Errorf("the removed %s has %d links, %v", p, a.Nlink, err)
			}
		}
	}
	dir, err := u.get("")
	must(t, err)
	n, _, err := u.f.tmpfile(dir, &newObject{mode: unix.S_IFREG | 0o600, owner: fuse.Owner{Uid: uint32(os.Geteuid()), Gid: uint32(os.Getegid())}})
	must(t, err)
	u.refs[n.id]++
	if len(openFDs(t)) == len(before) {
		t.Error("nothing is open while objects are in use: the count is wrong")
	}
	u.forgetAll()
	b.fds.Purge()
	sameFDs(t, before)
	if n := u.f.dirFDs.Open() + u.f.dataFDs.Open(); n != 0 {
		t.Errorf("the caches hold %d descriptors", n)
	}
	if u.f.nodes.size() != 1 {
		t.Errorf("%d nodes are left, want the root", u.f.nodes.size())
	}
}

// TestCloseLeavesNoDescriptor: also without the kernel's forgets, which an
// unmount does not send.
func TestCloseLeavesNoDescriptor(t *testing.T) {
	b := newBed(t, scriptLower)
	before := openFDs(t)
	t.Run("use", func(t *testing.T) {
		u := b.open(t)
		u.script(t, `
			read a aaa
			write big 0 x
			mkdir nd
			create nd/f
			write nd/f 0 x
			unlink nd/f
			rmdir nd`)
		clear(u.refs)
	})
	sameFDs(t, before)
}
