package bench

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// fakeRunner measures a counter on three plain directories and keeps the order.
func fakeRunner(t *testing.T, opts Options, measure func(context.Context, *sample) (float64, error)) (*runner, *[]string) {
	t.Helper()
	r, err := newRunner(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := removeTree(r.dir); err != nil {
			t.Error(err)
		}
	})
	var order []string
	for _, name := range []string{"a", "b", "c"} {
		r.targets = append(r.targets, &Target{Name: name, Baseline: "a", space: &space{worker: opts.Worker}})
	}
	for _, name := range []string{"one", "two"} {
		r.list = append(r.list, &Workload{
			Name: name, Layers: func() ([]string, error) { return []string{filepath.Join(opts.Data, "go")}, nil },
			Measure: func(ctx context.Context, s *sample) (float64, error) {
				order = append(order, name+s.target.Name)
				return measure(ctx, s)
			},
		})
	}
	return r, &order
}

func constant(context.Context, *sample) (float64, error) { return 2, nil }

func TestEachRoundMeasuresEachPairOnceInAnotherOrder(t *testing.T) {
	opts := tinyOptions(t)
	opts.Rounds = 6
	r, order := fakeRunner(t, opts, constant)
	if err := r.rounds(t.Context()); err != nil {
		t.Fatal(err)
	}
	rounds := slices.Collect(slices.Chunk(*order, 6))
	if len(rounds) != 6 {
		t.Fatalf("%d rounds, want 6", len(rounds))
	}
	different := false
	for _, round := range rounds {
		if got := len(slices.Compact(slices.Sorted(slices.Values(round)))); got != 6 {
			t.Errorf("a round measured %v", round)
		}
		different = different || !slices.Equal(round, rounds[0])
	}
	if !different {
		t.Error("all rounds have the same order")
	}
	again, second := fakeRunner(t, opts, constant)
	if err := again.rounds(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(*order, *second) {
		t.Error("the same seed gave another order")
	}
	report := r.report(time.Now())
	for _, w := range report.Workloads {
		for _, result := range w.Results {
			if len(result.Samples) != 6 || result.Median != 2 || result.Ratio != 1 {
				t.Errorf("%s on %s: %+v", w.Name, result.Target, result)
			}
		}
	}
}

func TestFailedWorkloadIsReportedAndNotTriedAgain(t *testing.T) {
	r, order := fakeRunner(t, tinyOptions(t), func(_ context.Context, s *sample) (float64, error) {
		if s.target.Name == "b" {
			return 0, errors.New("no such luck")
		}
		return 1, nil
	})
	if err := r.rounds(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(*order) != 2*2*2+2 {
		t.Errorf("measured %d times: %v", len(*order), *order)
	}
	skips := r.report(time.Now()).skips()
	if len(skips) != 2 || skips[0].What != "one b" || !strings.Contains(skips[0].Why, "no such luck") {
		t.Errorf("skips = %v", skips)
	}
}

func TestEndOfContextEndsTheRunWithWhatItHas(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	n := 0
	r, _ := fakeRunner(t, tinyOptions(t), func(context.Context, *sample) (float64, error) {
		if n++; n == 4 {
			cancel()
		}
		return 1, nil
	})
	if err := r.rounds(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("rounds: %v, want context.Canceled", err)
	}
	if n != 4 {
		t.Errorf("measured %d times after the end, want 4", n)
	}
}

func TestBudgetLeavesOutRounds(t *testing.T) {
	opts := tinyOptions(t)
	opts.Rounds, opts.Budget = 100, time.Nanosecond
	r, order := fakeRunner(t, opts, constant)
	if err := r.rounds(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(*order) != 6 {
		t.Errorf("measured %d times, want one round of 6", len(*order))
	}
}

func TestWorkloadThatChangesTheTreeGetsItsOwnCopy(t *testing.T) {
	opts := tinyOptions(t)
	r, _ := fakeRunner(t, opts, func(ctx context.Context, s *sample) (float64, error) {
		return s.sh(ctx, `test -d src/files && rm -r src`)
	})
	for _, w := range r.list {
		w.Changes, w.Part = true, "src"
	}
	if err := r.rounds(t.Context()); err != nil {
		t.Fatal(err)
	}
	if skips := r.report(time.Now()).skips(); len(skips) > 0 {
		t.Errorf("a second sample did not find the tree: %v", skips)
	}
	if _, err := os.Stat(filepath.Join(opts.Data, "go/src/files/f0")); err != nil {
		t.Errorf("the layer itself was changed: %v", err)
	}
}

func TestFailedMountTellsWhatTheCommandSaid(t *testing.T) {
	opts := tinyOptions(t)
	for name, script := range map[string]string{
		"exit 3":                "echo it is broken >&2; exit 3",
		"ended without a mount": "echo it is broken >&2",
	} {
		target := &Target{Name: "fake", space: &space{worker: opts.Worker}, command: func(stack) []string {
			return []string{"sh", "-c", script}
		}}
		err := target.probe(t.Context(), opts.Dir)
		if err == nil || !strings.Contains(err.Error(), "it is broken") {
			t.Errorf("%s: error = %v", name, err)
		}
	}
}

func TestOnlyPicksSlowWorkloadsToo(t *testing.T) {
	list := []*Workload{{Name: "fast"}, {Name: "slow", Slow: true}, {Name: "slower", Slow: true}}
	names := func(opts Options) string {
		var names []string
		for _, w := range pick(slices.Clone(list), opts) {
			names = append(names, w.Name)
		}
		return strings.Join(names, " ")
	}
	if got := names(Options{}); got != "fast" {
		t.Errorf("without a pattern: %s", got)
	}
	if got := names(Options{Only: regexp.MustCompile("^slow$")}); got != "slow" {
		t.Errorf("with a pattern: %s", got)
	}
	if got := names(Options{Scale: FullScale()}); got != "fast slow slower" {
		t.Errorf("at full scale: %s", got)
	}
}

func TestWorkloadNamesAreUnique(t *testing.T) {
	seen := make(map[string]bool)
	for _, w := range workloads(dataFolder{t.TempDir()}, FullScale()) {
		if seen[w.Name] {
			t.Errorf("two workloads are named %s", w.Name)
		}
		if len([]rune(w.Title)) > 48 {
			t.Errorf("the title of %s does not fit the drawing: %s", w.Name, w.Title)
		}
		seen[w.Name] = true
	}
}
