package difftest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Mismatch is a difference between the two targets that is not known.
type Mismatch struct {
	Phase   string // "op", "tree", "lower", "marks", "unmount", "swap: ..."
	Step    int    // operation number in phase "op"
	Op      Op
	Oracle  string
	Subject string
}

// String tells the difference in lines.
func (m *Mismatch) String() string {
	s := "phase " + m.Phase
	if m.Phase == "op" {
		s += fmt.Sprintf(", step %d: %s", m.Step, m.Op)
	}
	return s + "\n  oracle:  " + indent(m.Oracle) + "\n  subject: " + indent(m.Subject)
}

func indent(s string) string { return strings.ReplaceAll(s, "\n", "\n           ") }

// same tells whether two mismatches look like one fault, for shrinking.
func (m *Mismatch) same(o *Mismatch) bool {
	return o != nil && m.Phase == o.Phase && m.Op.Call == o.Op.Call
}

// Runner runs cases on an oracle and on a subject.
type Runner struct {
	Oracle, Subject Target
	// Known are the differences on purpose.
	Known []Known
	// Dir is where the directories of each case are made.
	Dir string
	// NoSwap leaves out the part in which each mounts the other's upper.
	NoSwap bool

	a, b *Workers
}

// Start starts the workers; Close ends them.
func (r *Runner) Start() error {
	var err error
	if r.a, err = StartWorkers(); err != nil {
		return err
	}
	if r.b, err = StartWorkers(); err != nil {
		return errors.Join(err, r.a.Stop())
	}
	return nil
}

// Close ends the workers.
func (r *Runner) Close() error {
	err := errors.Join(r.a.Stop(), r.b.Stop())
	r.a, r.b = nil, nil
	return err
}

// run is one case being run.
type run struct {
	*Runner
	base    string
	layers  []string // directories, top first
	now     time.Time
	da, db  Dirs
	before  []string // raw dump of all lower layers
	mounts  []string // tmpfs of layers
	did     []Op
	ended   bool // a known difference ended the comparison
	cmp     comparer
	variant string
	ns      string // prefix of the marks
}

// Run runs a case with its own operations. It returns nil, nil when the targets
// agree. An error means that the test itself could not be done.
func (r *Runner) Run(c Case) (*Mismatch, error) {
	m, _, err := r.RunSource(c, &list{ops: c.Ops}, nil)
	return m, err
}

// RunSource runs a case with operations from src, and returns those done too.
// When setup is not nil, the case's setup comes from it and is stored in the
// returned case.
func (r *Runner) RunSource(c Case, src, setup Source) (*Mismatch, Case, error) {
	base, err := os.MkdirTemp(r.Dir, "case")
	if err != nil {
		return nil, c, fmt.Errorf("run case: %w", err)
	}
	x := &run{Runner: r, base: base, now: time.Now()}
	defer x.remove()
	if err := os.Chmod(base, 0o755); err != nil {
		return nil, c, err
	}
	if setup == nil {
		setup = &list{ops: c.Setup}
	}
	if c.Setup, err = x.prepare(c, setup); err != nil {
		return nil, c, fmt.Errorf("prepare case: %w", err)
	}
	m, err := x.compare(src)
	c.Ops = x.did
	return m, c, err
}

// remove unmounts and removes all directories of the case.
func (x *run) remove() {
	for _, dir := range x.mounts {
		_ = unix.Unmount(dir, unix.MNT_DETACH) // it is gone with its last user
	}
	_ = os.RemoveAll(x.base) // the test's own directory is removed too
}

// layerDir makes the directory of lower layer i, on a tmpfs where the variant
// says so.
func (x *run) layerDir(i int, v Variant) (string, error) {
	dir, err := x.mkdir(fmt.Sprintf("l%d", i))
	if err != nil || !v.Devices || i%2 != 0 {
		return dir, err
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=0755"); err != nil {
		return dir, fmt.Errorf("mount tmpfs on %s: %w", dir, err)
	}
	x.mounts = append(x.mounts, dir)
	return dir, nil
}

// prepare builds the layers, runs the setup, and makes the directories.
func (x *run) prepare(c Case, setup Source) ([]Op, error) {
	v, err := FindVariant(c.Variant)
	if err != nil {
		return nil, err
	}
	for i, text := range c.Layers {
		dir, err := x.layerDir(i, v)
		if err != nil {
			return nil, err
		}
		if err := Build(dir, text); err != nil {
			return nil, err
		}
		x.layers = append(x.layers, dir)
	}
	if x.ns = "trusted.overlay."; strings.Contains(v.Kernel, "userxattr") {
		x.ns = "user.overlay."
	}
	x.variant = v.Name
	x.cmp = comparer{laxTimes: v.LaxTimes, laxLinks: v.LaxLinks}
	did, err := x.setup(setup, v)
	if err != nil {
		return did, err
	}
	for _, d := range []struct {
		dirs *Dirs
		name string
	}{{&x.da, "a"}, {&x.db, "b"}} {
		*d.dirs = Dirs{Layers: x.layers}
		for _, p := range []struct {
			path *string
			name string
		}{{&d.dirs.Upper, "u"}, {&d.dirs.Work, "w"}, {&d.dirs.Mnt, "m"}} {
			if *p.path, err = x.mkdir(p.name + d.name); err != nil {
				return did, err
			}
		}
	}
	x.before, err = x.rawLayers()
	return did, err
}

func (x *run) mkdir(name string) (string, error) {
	dir := filepath.Join(x.base, name)
	return dir, os.Mkdir(dir, 0o755)
}

// setup runs the setup operations on the kernel and adds the upper as a layer.
func (x *run) setup(src Source, v Variant) ([]Op, error) {
	op, ok := src.Next()
	if !ok {
		return nil, nil
	}
	d := Dirs{Layers: x.layers}
	var err error
	for _, p := range []struct {
		path *string
		name string
	}{{&d.Upper, "us"}, {&d.Work, "ws"}, {&d.Mnt, "ms"}} {
		if *p.path, err = x.mkdir(p.name); err != nil {
			return nil, err
		}
	}
	m, err := Kernel{Options: v.Kernel}.Mount(d)
	if err != nil {
		return nil, err
	}
	var did []Op
	err = x.a.All(Op{Call: "chdir", Path: d.Mnt})
	for ; ok && err == nil; op, ok = src.Next() {
		var res Result
		if res, err = x.a.Do(op); err != nil {
			break
		}
		did = append(did, op)
		src.Saw(op, res)
	}
	err = errors.Join(err, x.a.All(Op{Call: "reset"}), m.Unmount())
	x.layers = append([]string{d.Upper}, x.layers...)
	return did, err
}

// rawLayers dumps all lower layers as they are on disk.
func (x *run) rawLayers() ([]string, error) {
	var all []string
	for _, l := range x.layers {
		d, err := Dump(l, DumpOptions{Raw: true})
		if err != nil {
			return nil, err
		}
		all = append(all, "layer "+filepath.Base(l))
		all = append(all, d...)
	}
	return all, nil
}

func (x *run) lowersChanged() (*Mismatch, error) {
	after, err := x.rawLayers()
	if err != nil {
		return nil, err
	}
	if slices.Equal(x.before, after) {
		return nil, nil
	}
	was, is := comparer{}.onlyIn(x.before, after)
	return &Mismatch{Phase: "lower", Oracle: "before: " + was, Subject: "after: " + is}, nil
}

// compare mounts both targets, runs the operations, and compares all there is.
func (x *run) compare(src Source) (*Mismatch, error) {
	ma, err := x.Oracle.Mount(x.da)
	if err != nil {
		return nil, err
	}
	mb, err := x.Subject.Mount(x.db)
	if err != nil {
		return nil, errors.Join(err, ma.Unmount())
	}
	var dumpA []string
	m, err := x.steps(src)
	if m == nil && err == nil && !x.ended {
		dumpA, m, err = x.trees()
	}
	err = errors.Join(err, x.a.All(Op{Call: "reset"}), ma.Unmount())
	if rerr := x.b.All(Op{Call: "reset"}); rerr != nil {
		// A hanging worker is freed by the end of the daemon.
		if d, ok := mb.(*daemonMount); ok {
			rerr = fmt.Errorf("%w: %s", rerr, d.stacks())
		}
		return m, errors.Join(err, rerr, mb.Kill())
	}
	if uerr := mb.Unmount(); uerr != nil && m == nil {
		m = &Mismatch{Phase: "unmount", Subject: uerr.Error()}
	}
	if m != nil || err != nil {
		return m, err
	}
	if x.ended {
		return x.lowersChanged()
	}
	if m, err = x.marks(); m != nil || err != nil {
		return m, err
	}
	if m, err = x.lowersChanged(); m != nil || err != nil || x.NoSwap {
		return m, err
	}
	return x.swap(dumpA)
}

func (x *run) steps(src Source) (*Mismatch, error) {
	err := errors.Join(x.a.All(Op{Call: "chdir", Path: x.da.Mnt}), x.b.All(Op{Call: "chdir", Path: x.db.Mnt}))
	if err != nil {
		return nil, err
	}
	for {
		op, ok := src.Next()
		if !ok {
			return nil, nil
		}
		x.did = append(x.did, op)
		ra, err := x.a.Do(op)
		if err != nil {
			return nil, fmt.Errorf("oracle: %w", err)
		}
		rb, err := x.b.Do(op)
		if err != nil {
			return &Mismatch{Phase: "op", Step: len(x.did) - 1, Op: op, Oracle: ra.String(), Subject: err.Error()}, nil
		}
		agree, ends := x.agree(op, ra, rb)
		if ends {
			x.ended = true
			return nil, nil
		}
		if !agree {
			return &Mismatch{Phase: "op", Step: len(x.did) - 1, Op: op, Oracle: ra.String(), Subject: rb.String()}, nil
		}
		src.Saw(op, ra)
	}
}

// agree tells whether two results are the same or differ in a known way; ends
// tells that nothing more can be compared.
func (x *run) agree(op Op, a, b Result) (agree, ends bool) {
	if a.Err == b.Err && x.cmp.same(a.Val, b.Val) {
		return true, false
	}
	for _, k := range x.Known {
		if (k.Variant == "" || k.Variant == x.variant) && k.Match(op, a, b) {
			return true, k.Ends
		}
	}
	return false, false
}

// dump dumps a mounted tree, without the orphan whiteouts that the kernel lists
// (see Differences).
func (x *run) dump(target Target, mnt string) ([]string, error) {
	lines, err := Dump(mnt, DumpOptions{Now: x.now})
	if _, kernel := target.(Kernel); kernel {
		lines = slices.DeleteFunc(lines, orphanLine.MatchString)
	}
	return lines, err
}

// trees compares both mounted trees and returns the oracle's.
func (x *run) trees() ([]string, *Mismatch, error) {
	err := errors.Join(x.a.All(Op{Call: "reset"}), x.b.All(Op{Call: "reset"}))
	if err != nil {
		return nil, nil, err
	}
	a, err := x.dump(x.Oracle, x.da.Mnt)
	if err != nil {
		return nil, nil, err
	}
	b, err := x.dump(x.Subject, x.db.Mnt)
	if err != nil {
		return nil, nil, err
	}
	return a, x.cmp.treeMismatch("tree", a, b), nil
}

func (x *run) marks() (*Mismatch, error) {
	a, err := Marks(x.da.Upper, x.ns)
	if err != nil {
		return nil, err
	}
	b, err := Marks(x.db.Upper, x.ns)
	if err != nil {
		return nil, err
	}
	a, b = x.neededMarks(a, x.da.Upper), x.neededMarks(b, x.db.Upper)
	a = slices.DeleteFunc(a, func(m string) bool { return lateRedirect(m, b) })
	if slices.Equal(a, b) {
		return x.copiedUp()
	}
	onlyA, onlyB := comparer{}.onlyIn(a, b)
	return &Mismatch{Phase: "marks", Oracle: onlyA, Subject: onlyB}, nil
}

// lateRedirect tells whether a mark is a redirect of a directory that has none
// on the other side. A rename in the kernel that fails late leaves one that leads
// to where the directory still is; one that is missing shows when the uppers are
// mounted again.
func lateRedirect(mark string, others []string) bool {
	return strings.HasPrefix(mark, "redirect ") && !slices.ContainsFunc(others, func(o string) bool {
		return strings.HasPrefix(o, "redirect ") && quotedPath(o) == quotedPath(mark)
	})
}

// quotedPath is the path of a line of Marks.
func quotedPath(mark string) string {
	_, rest, _ := strings.Cut(mark, " ")
	path, err := strconv.QuotedPrefix(rest)
	if err != nil {
		return rest
	}
	return path
}

// neededMarks drops marks that say nothing about the tree: opaque marks of
// directories that have nothing below, which the kernel sets to save lookups
// (fs/overlayfs/dir.c:ovl_create_upper), and metacopy and redirect marks of files, since when a
// file's data is copied is a target's own choice.
func (x *run) neededMarks(marks []string, upper string) []string {
	return slices.DeleteFunc(marks, func(m string) bool {
		words, err := splitWords(m)
		if err != nil || len(words) < 2 {
			return false
		}
		switch {
		case words[0] == "metacopy", words[0] == "opaque" && words[len(words)-1] == "x":
			return true
		case words[0] == "redirect":
			st, err := os.Lstat(filepath.Join(upper, words[1]))
			return err == nil && !st.IsDir()
		case words[0] != "opaque":
			return false
		}
		return !slices.ContainsFunc(x.layers, func(l string) bool {
			_, err := os.Lstat(filepath.Join(l, words[1]))
			return err == nil
		})
	})
}

// swap mounts each upper with its own target again and with the other target.
// Where the oracle does not agree with itself after a remount, which happens
// where it cannot store its marks (no user.* attribute fits on a symlink or a
// device), nothing can be asked of the subject.
func (x *run) swap(want []string) (*Mismatch, error) {
	for i, s := range []struct {
		phase  string
		target Target
		dirs   Dirs
	}{
		{"remount: the oracle's upper mounted by the oracle", x.Oracle, x.da},
		{"remount: the subject's upper mounted by the subject", x.Subject, x.db},
		{"swap: the subject's upper mounted by the oracle", x.Oracle, x.db},
		{"swap: the oracle's upper mounted by the subject", x.Subject, x.da},
	} {
		m, err := x.again(s.phase, s.target, s.dirs, want)
		if err != nil {
			return nil, err
		}
		if m != nil && i == 0 {
			return x.lowersChanged()
		}
		if m != nil {
			return m, nil
		}
	}
	return x.lowersChanged()
}

// again mounts and compares the tree with the one before.
func (x *run) again(phase string, target Target, d Dirs, want []string) (*Mismatch, error) {
	mnt, err := target.Mount(d)
	if err != nil {
		return &Mismatch{Phase: phase, Subject: err.Error()}, nil
	}
	got, err := x.dump(target, d.Mnt)
	if err := errors.Join(err, mnt.Unmount()); err != nil {
		return nil, err
	}
	return x.cmp.treeMismatch(phase, want, got), nil
}
