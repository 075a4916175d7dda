package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Units of measured values.
const (
	unitSeconds = "s"
	unitMiB     = "MiB"
	unitBytes   = "B"
)

// Workload is one thing that is measured.
type Workload struct {
	Name  string // for --only and JSON; stable
	Group string // of the report
	Title string // what is done, with its size
	// Unit of the value; empty is seconds.
	Unit string
	// NotInMean says why the ratio is left out of the geometric means; empty
	// when it counts.
	NotInMean string
	// Slow workloads run at full scale only.
	Slow bool
	// Cold workloads need the page cache dropped, which only root can.
	Cold bool
	// Tools are the programs it needs.
	Tools []string
	// Layers gives the layers, top first; its error is the reason to skip.
	Layers func() ([]string, error)
	// Part is what the plain directory needs of the merged tree; empty is all of
	// it.
	Part string
	// Changes says that the workload changes the tree of the layers, so that the
	// plain directory needs a new copy each time.
	Changes bool
	// Fill puts something into the upper directory before the mount.
	Fill func(upper string) error
	// Not tells why a target cannot do this; nil and empty when it can.
	Not func(t *Target) string
	// Measure does it and returns the value.
	Measure func(ctx context.Context, s *sample) (float64, error)
}

func (w *Workload) unit() string {
	if w.Unit == "" {
		return unitSeconds
	}
	return w.Unit
}

// sample is one workload on one target in one round.
type sample struct {
	run     *runner
	target  *Target
	lowers  []string
	mount   *mounted
	tree    string // where to work: the mount, or the plain directory
	scratch string // a directory outside of it, on the same filesystem
}

// path is a name in the tree.
func (s *sample) path(parts ...string) string {
	return filepath.Join(append([]string{s.tree}, parts...)...)
}

// into is where a workload that leaves the layers' tree alone may make files: in
// the mount, or beside the plain copy that others use, too.
func (s *sample) into() string {
	if s.mount == nil {
		return s.scratch
	}
	return s.tree
}

// job runs a job in a worker and returns its seconds.
func (s *sample) job(ctx context.Context, job Job) (float64, error) {
	result, err := s.target.space.job(ctx, job)
	return float64(result.Nanoseconds) / 1e9, err
}

// sh runs a shell command in the tree, as a worker's job.
func (s *sample) sh(ctx context.Context, script string, args ...string) (float64, error) {
	return s.job(ctx, Job{Kind: "exec", Argv: append([]string{"sh", "-c", script, "sh"}, args...), Dir: s.tree})
}

// cold writes back and drops the page cache, dentries and inodes of the machine.
func (s *sample) cold() error { return dropCaches() }

func dropCaches() error {
	timed, err := execJob(Job{Argv: []string{"sync"}})
	if err != nil {
		return err
	}
	if _, err := timed(); err != nil {
		return err
	}
	if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0); err != nil {
		return fmt.Errorf("drop caches: %w", err)
	}
	return nil
}

// coldThen measures a job after dropping the caches.
func coldThen(job func(s *sample) Job) func(context.Context, *sample) (float64, error) {
	return func(ctx context.Context, s *sample) (float64, error) {
		if err := s.cold(); err != nil {
			return 0, err
		}
		return s.job(ctx, job(s))
	}
}

// warmRuns is how often a job runs before a warm measurement: the first fills the
// page cache, and FUSE asks for the attributes of what was read once more in the
// second (fs/fuse/file.c: fuse_invalidate_atime).
const warmRuns = 2

// warmThen measures a job after warmRuns runs of it.
func warmThen(job func(s *sample) Job) func(context.Context, *sample) (float64, error) {
	return func(ctx context.Context, s *sample) (float64, error) {
		for range warmRuns {
			if _, err := s.job(ctx, job(s)); err != nil {
				return 0, err
			}
		}
		return s.job(ctx, job(s))
	}
}

// once measures the first run of a job.
func once(job func(s *sample) Job) func(context.Context, *sample) (float64, error) {
	return func(ctx context.Context, s *sample) (float64, error) { return s.job(ctx, job(s)) }
}

// script is the job of a shell script in the tree; args become $1 and so on.
func script(text string, args ...string) func(*sample) Job {
	return func(s *sample) Job {
		return Job{Kind: "exec", Argv: append([]string{"sh", "-c", text, "sh"}, args...), Dir: s.tree}
	}
}

// take prepares and measures one sample.
func (r *runner) take(ctx context.Context, w *Workload, t *Target) (value float64, err error) {
	lowers, err := w.Layers()
	if err != nil {
		return 0, err
	}
	s := &sample{run: r, target: t, lowers: lowers}
	if s.scratch, err = os.MkdirTemp(r.dir, "scratch-"); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(s.scratch)) }()
	if t.bare() && !w.Changes && w.Fill == nil {
		if s.tree, err = r.bareCopy(w, lowers); err != nil {
			return 0, err
		}
		return w.Measure(ctx, s)
	}
	fill := w.Fill
	if t.bare() {
		fill = bareFill(w, lowers)
	}
	if s.mount, err = t.mount(ctx, r.dir, lowers, fill); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, s.mount.unmount()) }()
	s.tree = s.mount.tree
	if err := settle(w); err != nil {
		return 0, err
	}
	return w.Measure(ctx, s)
}

// settle writes back what preparing has written, so that it is not written while
// the clock runs.
func settle(w *Workload) error {
	if w.Fill == nil && !w.Changes {
		return nil
	}
	timed, err := execJob(Job{Argv: []string{"sync"}})
	if err != nil {
		return err
	}
	_, err = timed()
	return err
}

// copyPart copies the merged tree into a plain directory, as far as the workload
// needs it. Layers of bench have no whiteouts.
func copyPart(w *Workload, lowers []string, into string) error {
	for i := len(lowers) - 1; i >= 0; i-- {
		if err := copyTree(filepath.Join(lowers[i], w.Part), filepath.Join(into, w.Part)); err != nil {
			return err
		}
	}
	return nil
}

// bareFill makes a plain directory of its own for a sample.
func bareFill(w *Workload, lowers []string) func(string) error {
	return func(into string) error {
		if w.Changes {
			if err := copyPart(w, lowers, into); err != nil {
				return err
			}
		}
		if w.Fill != nil {
			return w.Fill(into)
		}
		return nil
	}
}

// bareCopy is the copy of the merged layers that workloads share which do not
// change it.
func (r *runner) bareCopy(w *Workload, lowers []string) (string, error) {
	key := fmt.Sprint(lowers, w.Part)
	if dir, ok := r.copies[key]; ok {
		return dir, nil
	}
	dir, err := os.MkdirTemp(r.dir, "bare-")
	if err != nil {
		return "", err
	}
	if err := copyPart(w, lowers, dir); err != nil {
		return "", err
	}
	r.copies[key] = dir
	return dir, nil
}
