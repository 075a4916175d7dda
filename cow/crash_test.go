package cow

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/sys"
	"github.com/unionfs-go/unionfs/whiteout"
)

// A crash test runs one operation in a child process, which kills itself at a
// fail point.
const (
	crashDir   = "COW_TEST_CRASH_DIR"
	crashOp    = "COW_TEST_CRASH_OP"
	crashPoint = "COW_TEST_CRASH_POINT"
	crashTemp  = "COW_TEST_CRASH_TEMP" // set: without O_TMPFILE
)

func TestMain(m *testing.M) {
	if os.Getenv(crashDir) == "" {
		os.Exit(m.Run())
	}
	if err := crashChild(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// crashOps are the operations on the place, whose lower and upper are given.
func crashOps() map[string]func(w *Workdir, lower, upper int) error {
	ops := map[string]func(w *Workdir, lower, upper int) error{
		"whiteout": func(w *Workdir, _, upper int) error { return w.Whiteout(upper, "free", whiteout.Device) },
		"whiteout-over": func(w *Workdir, _, upper int) error {
			return w.WhiteoutOver(upper, "victim", whiteout.Device)
		},
		"swap": func(w *Workdir, _, upper int) error {
			temp, err := w.SwapWhiteout(upper, "victims", whiteout.Device)
			return errors.Join(err, w.RemoveTemp(temp))
		},
		"complete": completeCopy,
	}
	for _, o := range crashObjects() {
		ops[o.name] = func(w *Workdir, lower, upper int) error { return copyObject(w, o, lower, upper) }
	}
	return ops
}

func crashObjects() []object {
	return append(objects(), object{
		name: "metacopy file", make: makeFile(words, 0o640, nil),
		request: func(r *Request) { r.Metacopy, r.Redirect = true, "/was/here" },
	})
}

func copyObject(w *Workdir, o object, lower, upper int) error {
	s, closeData, err := describe(lower, "o")
	if err != nil {
		return err
	}
	defer closeData()
	r := &Request{Source: s, Namespace: namespace(), ParentFD: upper, Name: "o", DataLimit: -1}
	if o.request != nil {
		o.request(r)
	}
	_, err = w.CopyUp(r)
	return err
}

func completeCopy(w *Workdir, lower, upper int) error {
	s, closeData, err := describe(lower, "o")
	if err != nil {
		return err
	}
	defer closeData()
	fd, err := sys.Openat(upper, "o", unix.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return w.Complete(&Completion{FD: fd, Data: s.Data, Size: s.Meta.Size, Namespace: namespace()})
}

func crashChild() error {
	dir := os.Getenv(crashDir)
	var fds [2]int
	for i, sub := range []string{"lower", "upper"} {
		fd, err := unix.Open(filepath.Join(dir, sub), unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			return err
		}
		fds[i] = fd
	}
	point, err := ParseFailPoint(os.Getenv(crashPoint))
	if err != nil {
		return err
	}
	w, err := OpenWorkdir(filepath.Join(dir, "work"), fds[1], WorkdirOptions{
		Index: true, Namespace: namespace(), FailPoint: point,
	})
	if err != nil {
		return err
	}
	w.noTmpfile.Store(os.Getenv(crashTemp) != "")
	err = crashOps()[os.Getenv(crashOp)](w, fds[0], fds[1])
	return errors.Join(err, w.Close())
}

// killAt runs an operation in a child that dies before a step, and tells
// whether it did, or else came to the end.
func (p *place) killAt(t *testing.T, op string, s Step, temp bool) (killed bool) {
	t.Helper()
	// Not os.Executable: a plain user may have no way to that path.
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), crashDir+"="+p.dir, crashOp+"="+op, crashPoint+"=cow."+s.String()+":kill")
	if temp {
		cmd.Env = append(cmd.Env, crashTemp+"=1")
	}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return false
	case errors.As(err, &exit):
		if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signal() == syscall.SIGKILL {
			return true
		}
	}
	t.Fatalf("%s at %s: %v\n%s", op, s, err, out)
	return false
}

// reopen takes the workdir into use as the next mount does.
func (p *place) reopen(t *testing.T) {
	t.Helper()
	w, err := OpenWorkdir(p.workDir, p.upper, WorkdirOptions{Index: true, Namespace: namespace()})
	must(t, err)
	p.wantClean(t)
	must(t, w.Close())
}

func TestKilledCopyUpIsWholeOrAbsent(t *testing.T) {
	for _, o := range crashObjects() {
		t.Run(o.name, func(t *testing.T) {
			kills := 0
			for s := StepCreate; s <= StepPublished; s++ {
				if killedCopyUp(t, o, s) {
					kills++
				}
			}
			if want := 11; kills < want {
				t.Errorf("killed at %d steps, want at least %d", kills, want)
			}
		})
	}
}

func killedCopyUp(t *testing.T, o object, s Step) bool {
	p := newPlace(t, os.TempDir())
	must(t, o.make(p.lower, "o"))
	want, err := fingerprint(p.lower, "o")
	must(t, err)
	killed := p.killAt(t, o.name, s, o.noTmpfile)
	if killed != (s != StepIndex || strings.HasPrefix(o.name, "indexed")) {
		t.Errorf("%s: killed is %v", s, killed)
	}
	p.reopen(t)
	if after, err := fingerprint(p.lower, "o"); err != nil || after != want {
		t.Errorf("%s: lower became\n%s(%v), was\n%s", s, after, err, want)
	}
	if published := s == StepPublished || !killed; p.exists("o") != published {
		t.Errorf("%s: copy is there: %v", s, !published)
	}
	p.wantWholeCopy(t, o, s, want)
	return killed
}

// wantWholeCopy checks a copy under its name or in the index, if any.
func (p *place) wantWholeCopy(t *testing.T, o object, s Step, want string) {
	t.Helper()
	dir, name := p.upper, "o"
	if !p.exists("o") {
		index := openDir(t, filepath.Join(p.workDir, "index"))
		defer unix.Close(index)
		var st unix.Statx_t
		if sys.Statx(index, "00fb", &st) != nil {
			return
		}
		if s < StepPublish {
			t.Errorf("%s: in the index too early", s)
		}
		dir, name = index, "00fb"
	}
	got, err := fingerprint(dir, name)
	if strings.HasPrefix(o.name, "metacopy") {
		// All but the content, which is a hole of the same size.
		got, _, _ = strings.Cut(got, " sha ")
		want, _, _ = strings.Cut(want, " sha ")
		if m, err := whiteout.ReadMarks(dir, name, false, namespace()); !m.HasMetacopy || m.Redirect != "/was/here" {
			t.Errorf("%s: marks of metacopy file: %+v, %v", s, m, err)
		}
	}
	if s == StepPublished && o.name == "directory 0555" && os.Geteuid() != 0 {
		want = strings.Replace(want, "mode 40555", "mode 40755", 1) // see the package comment
	}
	if err != nil || got != want {
		t.Errorf("%s: copy is\n%s(%v), want\n%s", s, got, err, want)
	}
}

func TestKilledWhiteoutIsThereOrOldObjectIs(t *testing.T) {
	for op, steps := range map[string][]Step{
		"whiteout": {StepWhiteoutMade}, "whiteout-over": {StepWhiteoutMade}, "swap": {StepWhiteoutMade, StepSwapped},
	} {
		for _, s := range steps {
			t.Run(op+" at "+s.String(), func(t *testing.T) {
				p := newPlace(t, os.TempDir())
				must(t, os.WriteFile(filepath.Join(p.upperDir, "victim"), []byte("old"), 0o600))
				must(t, os.MkdirAll(filepath.Join(p.upperDir, "victims", "a", "b"), 0o700))
				killed := p.killAt(t, op, s, false)
				if killed != (op != "whiteout") {
					t.Errorf("killed is %v", killed)
				}
				p.reopen(t)
				if op == "whiteout-over" {
					if b, err := os.ReadFile(filepath.Join(p.upperDir, "victim")); string(b) != "old" {
						t.Errorf("victim: %q, %v", b, err)
					}
				}
				if op == "swap" && s == StepWhiteoutMade {
					if _, err := os.Stat(filepath.Join(p.upperDir, "victims", "a", "b")); err != nil {
						t.Error(err)
					}
				}
				if op == "swap" && s == StepSwapped {
					wantWhiteout(t, p.upper, "victims")
				}
			})
		}
	}
}

func TestKilledCompletionCanBeRepeated(t *testing.T) {
	for _, s := range []Step{StepCompleteData, StepCompleteMark, StepCreate} {
		t.Run(s.String(), func(t *testing.T) {
			p := newPlace(t, os.TempDir())
			o := object{make: makeFile(words, 0o4750, nil), request: func(r *Request) { r.Metacopy = true }}
			must(t, o.make(p.lower, "o"))
			want, err := fingerprint(p.lower, "o")
			must(t, err)
			w := p.open(t, WorkdirOptions{Index: true, Namespace: namespace()})
			must(t, copyObject(w, o, p.lower, p.upper))
			must(t, w.Close())

			killed := p.killAt(t, "complete", s, false)
			m, err := whiteout.ReadMarks(p.upper, "o", false, namespace())
			if m.HasMetacopy != killed {
				t.Errorf("metacopy mark is there: %v, %v", m.HasMetacopy, err)
			}
			p.reopen(t)
			w = p.open(t, WorkdirOptions{Namespace: namespace()})
			must(t, completeCopy(w, p.lower, p.upper))
			if got, err := fingerprint(p.upper, "o"); err != nil || got != want {
				t.Errorf("copy is\n%s(%v), want\n%s", got, err, want)
			}
			if m, err := whiteout.ReadMarks(p.upper, "o", false, namespace()); err != nil || m.HasMetacopy {
				t.Errorf("metacopy mark after completion: %v, %v", m.HasMetacopy, err)
			}
		})
	}
}

func TestFailedStepLeavesNothing(t *testing.T) {
	for _, o := range crashObjects() {
		t.Run(o.name, func(t *testing.T) {
			p := newPlace(t, os.TempDir())
			must(t, o.make(p.lower, "o"))
			want, err := fingerprint(p.lower, "o")
			must(t, err)
			for s := StepCreate; s <= StepPublish; s++ {
				point, err := ParseFailPoint("cow." + s.String() + ":error")
				must(t, err)
				w, err := OpenWorkdir(p.workDir, p.upper, WorkdirOptions{Namespace: namespace(), FailPoint: point})
				must(t, err)
				w.noTmpfile.Store(o.noTmpfile)
				plain := o
				plain.request = nil // no index: its entry is there to stay
				if err := copyObject(w, plain, p.lower, p.upper); s != StepIndex && !errors.Is(err, unix.EIO) {
					t.Errorf("%s: %v, want EIO", s, err)
				} else if err == nil {
					must(t, RemoveTree(p.upper, "o"))
				}
				p.wantClean(t)
				if p.exists("o") {
					t.Errorf("%s: a copy is there", s)
				}
				must(t, w.Close())
			}
			if after, err := fingerprint(p.lower, "o"); err != nil || after != want {
				t.Errorf("lower became\n%s(%v), was\n%s", after, err, want)
			}
		})
	}
}

func TestParseFailPointRefusesNonsense(t *testing.T) {
	for _, s := range []string{"cow.data", "cow.nosuch:kill", "cow.data:laugh", ":kill", "x"} {
		if _, err := ParseFailPoint(s); err == nil {
			t.Errorf("%q was accepted", s)
		}
	}
	if f, err := ParseFailPoint(""); f != nil || err != nil {
		t.Errorf("empty: %v", err)
	}
}
