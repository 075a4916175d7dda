package difftest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// crashFile is what one file may look like after a crash: as the last operation
// that returned left it, or as the one under way would.
type crashFile struct {
	path    string
	now     string // content, or "" where there is none
	then    string // after the operation under way
	pending bool
}

// crashWriter changes its own files again and again until an operation fails.
type crashWriter struct {
	l     *live
	r     *rand.Rand
	files []*crashFile
	done  int
	err   error
}

// body is a content of 12 KiB that tells its version.
func body(name string, version int) string {
	return strings.Repeat(fmt.Sprintf("%-15s\n", fmt.Sprintf("%s v%d", name, version)), 768)
}

func (w *crashWriter) run() {
	for version := 1; ; version++ {
		f := w.files[w.r.IntN(len(w.files))]
		next := body(f.path[len(f.path)-5:], version)
		var do func() error
		switch w.r.IntN(6) {
		case 0:
			do = func() error { return w.replace(f.path, next) }
		case 1:
			next = ""
			do = func() error { return ignore(os.Remove(w.l.p(f.path)), unix.ENOENT) }
		case 2:
			next = f.now // metadata alone: the content must stay
			do = func() error { return ignore(unix.Chmod(w.l.p(f.path), 0o600), unix.ENOENT) }
		case 3:
			next = f.now
			do = func() error { return w.aside(f.path) }
		default:
			if f.now == "" {
				do = func() error { return w.replace(f.path, next) }
				break
			}
			do = func() error { return w.overwrite(f.path, next) }
		}
		f.then, f.pending = next, true
		if w.err = do(); w.err != nil {
			return
		}
		f.now, f.pending = next, false
		w.done++
	}
}

func ignore(err, which error) error {
	if errors.Is(err, which) {
		return nil
	}
	return err
}

// replace writes a new file and renames it over the old one, as editors do.
func (w *crashWriter) replace(path, text string) error {
	tmp := w.l.p(path + ".tmp")
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err := firstError(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(tmp, w.l.p(path))
}

// overwrite changes the whole file in place with one write, then syncs it.
func (w *crashWriter) overwrite(path, text string) error {
	f, err := os.OpenFile(w.l.p(path), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return firstError(err, f.Sync(), f.Close())
}

// aside renames away and back. What is found under the other name counts too.
func (w *crashWriter) aside(path string) error {
	err := os.Rename(w.l.p(path), w.l.p(path+".aside"))
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	return os.Rename(w.l.p(path+".aside"), w.l.p(path))
}

// check looks at a file after the crash.
func (f *crashFile) check(l *live) {
	l.t.Helper()
	got := l.read(f.path)
	if got == "ENOENT" {
		got = l.read(f.path + ".aside")
	}
	if got == "ENOENT" {
		got = ""
	}
	switch {
	case got == f.now:
	case f.pending && got == f.then:
	case f.pending && mixed(got, f.now, f.then):
	default:
		l.t.Errorf("%s after the crash: %d bytes beginning %.16q; was %d bytes %.16q, would have become %d bytes %.16q (under way: %v)",
			f.path, len(got), got, len(f.now), f.now, len(f.then), f.then, f.pending)
	}
}

// mixed tells whether got is new pages before old ones: a write that was cut
// off, which no filesystem promises to undo.
func mixed(got, old, next string) bool {
	if len(got) != len(old) || len(got) != len(next) {
		return false
	}
	i := 0
	for i < len(got) && got[i] == next[i] {
		i++
	}
	i -= i % 16
	return got[i:] == old[i:]
}

// TestCrash kills the daemon in the middle of changes, mounts again, and looks:
// all that returned is there, what was under way is there or not, nothing is
// half, no lower layer changed and the workdir is clean.
func TestCrash(t *testing.T) {
	needRoot(t)
	rounds := 6
	if testing.Short() {
		rounds = 2
	}
	seed := firstSeed(t)
	for i := range rounds {
		t.Run(fmt.Sprintf("seed%d", seed+uint64(i)), func(t *testing.T) { crashRound(t, seed+uint64(i)) })
	}
}

func crashRound(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 1))
	var lower strings.Builder
	var writers []*crashWriter
	l := newLive(t, daemon(t, Variants[0].Subject), []string{"dir x\n"})
	for i := range 3 {
		w := &crashWriter{l: l, r: rand.New(rand.NewPCG(seed, uint64(i)+2))}
		for j := range 12 {
			f := &crashFile{path: fmt.Sprintf("d%d/sub/f%d-%02d", i, i, j)}
			f.now = body(f.path[len(f.path)-5:], 0)
			fmt.Fprintf(&lower, "file %s %q\n", f.path, f.now)
			w.files = append(w.files, f)
		}
		writers = append(writers, w)
	}
	l.ok(Build(l.Layers[0], lower.String()))
	l.before = l.rawLayers()
	l.mount()
	m, ok := l.m.(*daemonMount)
	if !ok {
		t.Fatal("the target is no daemon")
	}
	var wg sync.WaitGroup
	for _, w := range writers {
		wg.Go(w.run)
	}
	time.Sleep(time.Duration(5+r.IntN(150)) * time.Millisecond)
	l.m = nil
	l.ok(m.Kill())
	wg.Wait()
	done := 0
	for _, w := range writers {
		done += w.done
		// FUSE over io_uring answers ECANCELED to what it was about to hand out.
		if !errors.Is(w.err, unix.ENOTCONN) && !errors.Is(w.err, unix.ECONNABORTED) && !errors.Is(w.err, unix.ENOENT) &&
			!errors.Is(w.err, unix.ECANCELED) {
			t.Errorf("a writer ended with %v", w.err)
		}
	}
	t.Logf("killed after %d operations", done)
	l.mount()
	defer l.end()
	for _, w := range writers {
		for _, f := range w.files {
			f.check(l)
		}
	}
	if ents, err := os.ReadDir(l.Work + "/work"); err == nil {
		l.want("left in the workdir", len(withoutMarks(ents)), 0)
	}
	crashViews(l)
}

// crashViews compares this mount of an upper with the kernel's.
func crashViews(l *live) {
	l.t.Helper()
	ours, err := Dump(l.Mnt, DumpOptions{})
	l.ok(err)
	l.unmount()
	l.target = Kernel{Variants[0].Kernel}
	l.mount()
	kernel, err := Dump(l.Mnt, DumpOptions{})
	l.ok(err)
	if m := (comparer{}).treeMismatch("the kernel's view of the upper", kernel, ours); m != nil {
		l.t.Error(m)
	}
	if was, is := (comparer{}).onlyIn(l.before, l.rawLayers()); was != is {
		l.t.Errorf("a lower layer changed: %s -> %s", was, is)
	}
}
