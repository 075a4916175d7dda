package difftest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// live is a mount for scenarios that are written in Go. The mount is served by
// another process, or by the kernel.
type live struct {
	Dirs
	t      *testing.T
	target Target
	m      Mounted
	before []string
	fds    map[int]bool // open, closed before the unmount
}

// onBoth runs a scenario on kernel overlayfs and on unionfs. Layers are fixture
// texts, top first.
func onBoth(t *testing.T, layers []string, f func(l *live)) {
	t.Helper()
	needRoot(t)
	t.Run("kernel", func(t *testing.T) { runLive(t, Kernel{Variants[0].Kernel}, layers, f) })
	onOurs(t, layers, f)
}

// onOurs runs a scenario on unionfs alone, where the kernel does otherwise.
func onOurs(t *testing.T, layers []string, f func(l *live)) {
	t.Helper()
	needRoot(t)
	t.Run("unionfs", func(t *testing.T) { runLive(t, unionfs(t, Variants[0].Subject), layers, f) })
}

func runLive(t *testing.T, target Target, layers []string, f func(l *live)) {
	t.Helper()
	l := newLive(t, target, layers)
	l.mount()
	t.Cleanup(l.end)
	f(l)
	if after := l.rawLayers(); !slices.Equal(l.before, after) {
		was, is := comparer{}.onlyIn(l.before, after)
		t.Errorf("a lower layer changed: %s\n->\n%s", was, is)
	}
}

// newLive makes the directories and layers of a mount.
func newLive(t *testing.T, target Target, layers []string) *live {
	t.Helper()
	base := tempDir(t)
	l := &live{t: t, target: target, fds: map[int]bool{}, Dirs: Dirs{
		Upper: filepath.Join(base, "u"), Work: filepath.Join(base, "w"), Mnt: filepath.Join(base, "m"),
	}}
	for _, d := range []string{l.Upper, l.Work, l.Mnt} {
		l.ok(os.Mkdir(d, 0o755))
	}
	for i, text := range layers {
		dir := filepath.Join(base, fmt.Sprintf("l%d", i))
		l.ok(os.Mkdir(dir, 0o755))
		l.ok(Build(dir, text))
		l.Layers = append(l.Layers, dir)
	}
	l.before = l.rawLayers()
	return l
}

// end closes and unmounts what is left at the end of a test.
func (l *live) end() {
	for fd := range l.fds {
		_ = unix.Close(fd)
	}
	if l.m != nil {
		if err := l.m.Unmount(); err != nil {
			l.t.Error(err)
		}
	}
}

func (l *live) mount() {
	l.t.Helper()
	m, err := l.target.Mount(l.Dirs)
	if err != nil {
		l.t.Fatal(err)
	}
	l.m = m
}

func (l *live) unmount() {
	l.t.Helper()
	m := l.m
	l.m = nil
	l.ok(m.Unmount())
}

func (l *live) remount() {
	l.t.Helper()
	l.unmount()
	l.mount()
}

// fresh unmounts and empties the upper, for a mount over other layers.
func (l *live) fresh() {
	l.t.Helper()
	l.unmount()
	for _, dir := range []string{l.Upper, l.Work} {
		l.ok(os.RemoveAll(dir))
		l.ok(os.Mkdir(dir, 0o755))
	}
}

func (l *live) rawLayers() []string {
	l.t.Helper()
	var all []string
	for _, dir := range l.Layers {
		d, err := Dump(dir, DumpOptions{Raw: true})
		l.ok(err)
		all = append(append(all, "layer "+filepath.Base(dir)), d...)
	}
	return all
}

// p is a path in the mount.
func (l *live) p(path string) string { return filepath.Join(l.Mnt, path) }

// up is a path in the upper directory on disk.
func (l *live) up(path string) string { return filepath.Join(l.Upper, path) }

// ok ends the test on an error.
func (l *live) ok(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

// want compares two values as text.
func (l *live) want(what string, got, want any) {
	l.t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		l.t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// errno checks the errno of err.
func (l *live) errno(what string, err error, want string) {
	l.t.Helper()
	if got := errName(err); got != want {
		l.t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func (l *live) stat(path string) unix.Stat_t {
	l.t.Helper()
	st, err := lstat(l.p(path))
	if err != nil {
		l.t.Fatalf("stat %s: %v", path, err)
	}
	return st
}

func (l *live) open(path string, flags int) int {
	l.t.Helper()
	fd, err := unix.Open(l.p(path), flags|unix.O_CLOEXEC, 0o644)
	if err != nil {
		l.t.Fatalf("open %s: %v", path, err)
	}
	l.fds[fd] = true
	return fd
}

func (l *live) write(path, text string) {
	l.t.Helper()
	l.ok(os.WriteFile(l.p(path), []byte(text), 0o644))
}

func (l *live) read(path string) string {
	l.t.Helper()
	b, err := os.ReadFile(l.p(path))
	if err != nil {
		return errName(err)
	}
	return string(b)
}

// names lists a directory of the mount.
func (l *live) names(path string) string {
	l.t.Helper()
	ents, err := os.ReadDir(l.p(path))
	if err != nil {
		return errName(err)
	}
	var s []string
	for _, e := range ents {
		s = append(s, e.Name())
	}
	return strings.Join(s, " ")
}

// raw tells what lies in the upper under a path: a type letter, "whiteout" or
// "absent".
func (l *live) raw(path string) string {
	st, err := lstat(l.up(path))
	switch {
	case err == unix.ENOENT || err == unix.ENOTDIR:
		return "absent"
	case err != nil:
		return errName(err)
	case st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0:
		return "whiteout"
	}
	return string(typeChar(st.Mode))
}

// rawXattr reads an attribute of the upper as it is on disk.
func (l *live) rawXattr(path, name string) string {
	buf := make([]byte, 4096)
	n, err := unix.Lgetxattr(l.up(path), name, buf)
	if err != nil {
		return errName(err)
	}
	return string(buf[:n])
}

// closeNow closes before the end of the test.
func (l *live) closeNow(fd int) {
	l.t.Helper()
	delete(l.fds, fd)
	l.ok(unix.Close(fd))
}
