package bench

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"unicode/utf8"
)

// WriteText prints a report as a table for people.
func (r *Report) WriteText(w io.Writer) error {
	var b strings.Builder
	for _, line := range r.headline() {
		b.WriteString(line + "\n")
	}
	b.WriteString("\n")
	title := func(text string) string { return fmt.Sprintf("%-*s\t", r.titleWidth(), text) }
	tw := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(tw, title(tableTitle))
	columns := r.columns()
	for _, i := range columns {
		fmt.Fprintf(tw, "%s\t", r.Targets[i].Name)
		if r.showsRatio(i) {
			fmt.Fprint(tw, "\t")
		}
	}
	fmt.Fprintln(tw)
	for _, row := range r.measured() {
		fmt.Fprint(tw, title(row.Title))
		for _, i := range columns {
			result := row.Results[i]
			fmt.Fprintf(tw, "%s\t", cell(result, row.Unit))
			if r.showsRatio(i) {
				fmt.Fprintf(tw, "%s\t", ratioText(result.Ratio))
			}
		}
		fmt.Fprintln(tw)
	}
	fmt.Fprint(tw, title("geometric mean"))
	for _, i := range columns {
		fmt.Fprint(tw, "\t")
		if r.showsRatio(i) {
			fmt.Fprintf(tw, "%s\t", ratioText(r.mean(r.Targets[i].Name)))
		}
	}
	fmt.Fprintln(tw)
	if err := tw.Flush(); err != nil {
		return fmt.Errorf("print report: %w", err)
	}
	if skips := r.skips(); len(skips) > 0 {
		b.WriteString("\nNot measured:\n")
		for _, s := range skips {
			fmt.Fprintf(&b, "  %s: %s\n", s.What, s.Why)
		}
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("print report: %w", err)
	}
	return nil
}

const tableTitle = "median ±MAD, ratio to the kernel"

// titleWidth is the width of the first column.
func (r *Report) titleWidth() int {
	width := utf8.RuneCountInString(tableTitle)
	for _, row := range r.measured() {
		width = max(width, utf8.RuneCountInString(row.Title))
	}
	return width
}

// headline says on which machine and how the report was made.
func (r *Report) headline() []string {
	e := r.Environment
	lines := []string{
		fmt.Sprintf("Linux %s, %s, %d CPUs, %d MiB, %s, %s, load %s", e.Kernel, e.CPU, e.CPUs, e.MemoryMiB, e.Filesystem, e.User, e.Load),
	}
	var versions []string
	for _, t := range append([]string{"unionfs", "go"}, r.peerNames()...) {
		if v := e.Versions[t]; v != "" {
			versions = append(versions, t+" "+v)
		}
	}
	text := strings.Join(versions, ", ")
	if e.Commit != "" {
		text += ", commit " + e.Commit
	}
	return append(lines, text, fmt.Sprintf("scale %s, %d of %d rounds in %.0f s, seed %d", r.Scale, r.roundsDone(), r.Rounds, r.Seconds, r.Seed))
}

// roundsDone is how many rounds were made: a budget may end a run sooner.
func (r *Report) roundsDone() int {
	n := 0
	for _, w := range r.Workloads {
		for _, result := range w.Results {
			n = max(n, len(result.Samples))
		}
	}
	return n
}

func (r *Report) peerNames() []string {
	var names []string
	for _, t := range r.Targets {
		if _, ok := r.Environment.Versions[t.Name]; ok && t.Name != "unionfs" {
			names = append(names, t.Name)
		}
	}
	return names
}

// columns are the indexes of the targets that ran.
func (r *Report) columns() []int {
	var list []int
	for i, t := range r.Targets {
		if t.Skipped == "" {
			list = append(list, i)
		}
	}
	return list
}

// showsRatio says whether a target has another one as its baseline.
func (r *Report) showsRatio(i int) bool { return r.Targets[i].Name != r.Targets[i].Baseline }

// measured are the workloads with a sample on at least one target.
func (r *Report) measured() []WorkloadReport {
	var list []WorkloadReport
	for _, row := range r.Workloads {
		if slices.ContainsFunc(row.Results, func(result *Result) bool { return len(result.Samples) > 0 }) {
			list = append(list, row)
		}
	}
	return list
}

// mean is the geometric mean of a target, 0 for none.
func (r *Report) mean(target string) float64 {
	for _, m := range r.Means {
		if m.Target == target {
			return m.Ratio
		}
	}
	return 0
}

// cell is a median with its spread in percent.
func cell(result *Result, unit string) string {
	if len(result.Samples) == 0 {
		return "-"
	}
	text := valueText(result.Median, unit)
	if result.Median > 0 && len(result.Samples) > 1 {
		text += fmt.Sprintf(" ±%.0f%%", 100*result.Deviation/result.Median)
	}
	return text
}

// valueText writes a value with three significant digits and its unit.
func valueText(v float64, unit string) string {
	if unit != unitSeconds {
		return digits(v) + " " + unit
	}
	switch {
	case v < 1e-3:
		return digits(v*1e6) + " us"
	case v < 1:
		return digits(v*1e3) + " ms"
	}
	return digits(v) + " s"
}

func digits(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// ratioText writes a ratio, empty for none.
func ratioText(v float64) string {
	if v == 0 {
		return ""
	}
	return "x" + digits(v)
}
