package bench

import (
	"math"
	"time"
)

// Schema is the version of the JSON form of a Report; it grows when a field
// changes its meaning or goes.
const Schema = 1

// Report is the result of a run. Its JSON form is stable.
type Report struct {
	Schema      int              `json:"schema"`
	Started     time.Time        `json:"started"`
	Seconds     float64          `json:"seconds"`
	Scale       string           `json:"scale"`
	Rounds      int              `json:"rounds"` // wished; a budget may have ended the run sooner
	Seed        uint64           `json:"seed"`
	Environment Environment      `json:"environment"`
	Targets     []TargetReport   `json:"targets"`
	Workloads   []WorkloadReport `json:"workloads"`
	Means       []Mean           `json:"geometric_means"`
}

// TargetReport is a target of the run.
type TargetReport struct {
	Name     string `json:"name"`
	Baseline string `json:"baseline"`
	Skipped  string `json:"skipped,omitempty"`
}

// WorkloadReport is a workload with its results, in the order of the targets.
type WorkloadReport struct {
	Name      string    `json:"name"`
	Group     string    `json:"group"`
	Title     string    `json:"title"`
	Unit      string    `json:"unit"`
	NotInMean string    `json:"not_in_mean,omitempty"`
	Results   []*Result `json:"results"`
}

// Result is one workload on one target. Either Skipped says why there is none,
// or Samples has the value of each round.
type Result struct {
	Target    string    `json:"target"`
	Skipped   string    `json:"skipped,omitempty"`
	Samples   []float64 `json:"samples,omitempty"`
	Median    float64   `json:"median,omitempty"`
	Deviation float64   `json:"mad,omitempty"`   // median absolute deviation
	Ratio     float64   `json:"ratio,omitempty"` // to the baseline's median; 0 is none
}

// Mean is the geometric mean of a target's ratios over the workloads that both
// it and its baseline ran.
type Mean struct {
	Target    string  `json:"target"`
	Baseline  string  `json:"baseline"`
	Workloads int     `json:"workloads"`
	Ratio     float64 `json:"ratio"`
}

// report puts together what was measured.
func (r *runner) report(began time.Time) *Report {
	report := &Report{
		Schema: Schema, Started: began.UTC().Truncate(time.Second), Seconds: time.Since(began).Seconds(),
		Scale: r.opts.Scale.Name, Rounds: r.opts.Rounds, Seed: r.opts.Seed,
		Environment: readEnvironment(r.opts, r.dir),
	}
	for _, t := range r.targets {
		report.Targets = append(report.Targets, TargetReport{Name: t.Name, Baseline: t.Baseline, Skipped: t.Skipped})
	}
	for _, w := range r.list {
		row := WorkloadReport{Name: w.Name, Group: w.Group, Title: w.Title, Unit: w.unit(), NotInMean: w.NotInMean}
		for _, t := range r.targets {
			row.Results = append(row.Results, r.results[pair{w.Name, t.Name}])
		}
		report.Workloads = append(report.Workloads, row)
	}
	report.evaluate()
	return report
}

// evaluate computes medians, deviations, ratios and means from the samples.
func (r *Report) evaluate() {
	ratios := make(map[string][]float64)
	for _, w := range r.Workloads {
		medians := make(map[string]float64)
		for _, result := range w.Results {
			if len(result.Samples) > 0 {
				result.Median, result.Deviation = median(result.Samples), medianDeviation(result.Samples)
				medians[result.Target] = result.Median
			}
		}
		for i, result := range w.Results {
			base := medians[r.Targets[i].Baseline]
			if base <= 0 || result.Median <= 0 {
				continue
			}
			result.Ratio = result.Median / base
			if w.NotInMean == "" {
				ratios[result.Target] = append(ratios[result.Target], result.Ratio)
			}
		}
	}
	r.Means = nil
	for _, t := range r.Targets {
		if mean := geometricMean(ratios[t.Name]); !math.IsNaN(mean) {
			r.Means = append(r.Means, Mean{Target: t.Name, Baseline: t.Baseline, Workloads: len(ratios[t.Name]), Ratio: mean})
		}
	}
}

// skips are the reasons why something was not measured, each with what it
// concerns, without those that hold for a whole target.
func (r *Report) skips() []skip {
	var list []skip
	for _, t := range r.Targets {
		if t.Skipped != "" {
			list = append(list, skip{t.Name, t.Skipped})
		}
	}
	for _, w := range r.Workloads {
		reasons := make(map[string][]string)
		var order []string
		for i, result := range w.Results {
			if result.Skipped == "" || r.Targets[i].Skipped != "" {
				continue
			}
			if reasons[result.Skipped] == nil {
				order = append(order, result.Skipped)
			}
			reasons[result.Skipped] = append(reasons[result.Skipped], result.Target)
		}
		for _, reason := range order {
			what := w.Name
			if len(reasons[reason]) < r.runnable() {
				for _, t := range reasons[reason] {
					what += " " + t
				}
			}
			list = append(list, skip{what, reason})
		}
	}
	return list
}

type skip struct{ What, Why string }

// runnable is the number of targets that were not skipped as a whole.
func (r *Report) runnable() int {
	n := 0
	for _, t := range r.Targets {
		if t.Skipped == "" {
			n++
		}
	}
	return n
}
