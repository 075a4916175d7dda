package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Progress is where a run is.
type Progress struct {
	Done, Total int
	Round       int
	Workload    string
	Target      string
	Left        time.Duration // estimated; 0 while nothing is known
}

// runner is a run while it goes on.
type runner struct {
	opts    Options
	dir     string // of the run
	targets []*Target
	list    []*Workload
	order   *rand.Rand
	copies  map[string]string // plain copies by their layers
	results map[pair]*Result
	pace    pace
}

type pair struct{ workload, target string }

// Run measures. When ctx ends it stops, cleans up and returns the report of the
// samples taken so far together with the context's error.
func Run(ctx context.Context, opts Options) (report *Report, err error) {
	r, err := newRunner(opts)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, removeTree(r.dir)) }()
	host := &space{worker: opts.Worker}
	var user *space
	if opts.Rootless {
		if user, err = newUserSpace(opts.Worker); err != nil {
			return nil, err
		}
		defer user.close()
	}
	r.targets = allTargets(opts, host, user)
	if len(r.targets) == 0 {
		return nil, fmt.Errorf("no target of these names: %s", strings.Join(opts.Targets, ", "))
	}
	r.list = pick(workloads(dataFolder{opts.Data}, opts.Scale), opts)
	if len(r.list) == 0 {
		return nil, errors.New("no workload has such a name")
	}
	r.probeTargets(ctx)
	began := time.Now()
	err = r.rounds(ctx)
	return r.report(began), err
}

// newRunner makes the directory of the run.
func newRunner(opts Options) (*runner, error) {
	opts.Rounds = max(opts.Rounds, 1)
	if opts.Log == nil {
		opts.Log = io.Discard
	}
	if opts.Progress == nil {
		opts.Progress = func(Progress) {}
	}
	base, err := filepath.Abs(opts.Dir)
	if err == nil {
		base, err = filepath.EvalSymlinks(base)
	}
	if err != nil {
		return nil, fmt.Errorf("find directory %s: %w", opts.Dir, err)
	}
	dir, err := os.MkdirTemp(base, "unionfs-bench-")
	if err != nil {
		return nil, fmt.Errorf("make directory of the run: %w", err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, errors.Join(err, os.Remove(dir))
	}
	return &runner{
		opts: opts, dir: dir, order: rand.New(rand.NewPCG(opts.Seed, 0)),
		copies: make(map[string]string), results: make(map[pair]*Result),
	}, nil
}

// pick are the workloads of the scale, or those asked for by name.
func pick(list []*Workload, opts Options) []*Workload {
	return slices.DeleteFunc(list, func(w *Workload) bool {
		if opts.Only != nil {
			return !opts.Only.MatchString(w.Name)
		}
		return w.Slow && !opts.Scale.All
	})
}

// probeTargets finds out which targets can run here.
func (r *runner) probeTargets(ctx context.Context) {
	for _, t := range r.targets {
		if t.Skipped != "" {
			continue
		}
		if err := t.probe(ctx, r.dir); err != nil {
			t.Skipped = err.Error()
			fmt.Fprintf(r.opts.Log, "skipping %s: %v\n", t.Name, err)
		}
	}
}

// whyNot is the reason not to measure a workload on a target; empty is none.
func whyNot(w *Workload, t *Target) string {
	if t.Skipped != "" {
		return t.Skipped
	}
	if w.Cold && !isRoot() {
		return "dropping the page cache needs root"
	}
	for _, tool := range w.Tools {
		if _, err := exec.LookPath(tool); err != nil {
			return tool + " is not installed"
		}
	}
	if w.Not != nil {
		return w.Not(t)
	}
	return ""
}

func isRoot() bool { return os.Geteuid() == 0 }

// rounds takes the samples, round by round.
func (r *runner) rounds(ctx context.Context) error {
	total := r.prepare(ctx)
	if err := r.copyBare(ctx); err != nil {
		return err
	}
	began := time.Now()
	for round := range r.opts.Rounds {
		start := time.Now()
		if err := r.round(ctx, round, total*r.opts.Rounds); err != nil {
			return err
		}
		if r.opts.Budget > 0 && time.Since(began)+time.Since(start)/2 > r.opts.Budget {
			break
		}
	}
	return nil
}

// prepare makes the generated data, outside of the rounds, notes what is skipped
// and counts the pairs that are left.
func (r *runner) prepare(ctx context.Context) int {
	total := 0
	for _, w := range r.list {
		r.opts.Progress(Progress{Workload: "making the data of " + w.Name})
		err := ctx.Err()
		if err == nil {
			_, err = w.Layers()
		}
		for _, t := range r.targets {
			result := &Result{Target: t.Name, Skipped: whyNot(w, t)}
			if err != nil && result.Skipped == "" {
				result.Skipped = err.Error()
			}
			if result.Skipped == "" {
				total++
			}
			r.results[pair{w.Name, t.Name}] = result
		}
	}
	return total
}

// copyBare makes the plain copies that workloads share, before the rounds.
func (r *runner) copyBare(ctx context.Context) error {
	for _, t := range r.targets {
		for _, w := range r.list {
			if !t.bare() || w.Changes || w.Fill != nil || r.results[pair{w.Name, t.Name}].Skipped != "" {
				continue
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
			r.opts.Progress(Progress{Workload: "copying the layers for " + w.Name, Target: t.Name})
			lowers, err := w.Layers()
			if err != nil {
				return err
			}
			if _, err := r.bareCopy(w, lowers); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *runner) round(ctx context.Context, round, total int) error {
	for _, i := range r.order.Perm(len(r.list)) {
		w := r.list[i]
		for _, j := range r.order.Perm(len(r.targets)) {
			t := r.targets[j]
			result := r.results[pair{w.Name, t.Name}]
			if result.Skipped != "" {
				continue
			}
			r.opts.Progress(Progress{
				Done: r.pace.done, Total: total, Round: round + 1, Workload: w.Name, Target: t.Name,
				Left: r.left(total, time.Now()),
			})
			start := time.Now()
			value, err := r.take(ctx, w, t)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			r.pace.add(time.Since(start))
			if err != nil {
				result.Skipped = "failed: " + err.Error()
				fmt.Fprintf(r.opts.Log, "%s on %s: %v\n", w.Name, t.Name, err)
				continue
			}
			result.Samples = append(result.Samples, value)
		}
	}
	return nil
}

// left is the time that the rest will take, never more than the budget's rest.
func (r *runner) left(total int, now time.Time) time.Duration {
	left := r.pace.left(total)
	if r.opts.Budget > 0 && !r.pace.began.IsZero() {
		left = min(left, max(0, r.opts.Budget-now.Sub(r.pace.began)))
	}
	return left
}

// pace estimates the time left from the mean of the samples taken.
type pace struct {
	began time.Time
	done  int
	spent time.Duration
}

func (p *pace) add(d time.Duration) {
	if p.began.IsZero() {
		p.began = time.Now().Add(-d)
	}
	p.done++
	p.spent += d
}

func (p *pace) left(total int) time.Duration {
	if p.done == 0 || total <= p.done {
		return 0
	}
	return p.spent / time.Duration(p.done) * time.Duration(total-p.done)
}
