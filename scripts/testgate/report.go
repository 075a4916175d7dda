package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"sort"
	"strings"
)

// modulePrefix is cut from package names.
const modulePrefix = "github.com/unionfs-go/unionfs/"

// An event is one line of go test -json, see "go doc test2json".
type event struct {
	Action     string
	Package    string
	ImportPath string
	Test       string
	Elapsed    float64
	Output     string
}

// A key names one test; an empty test is the package itself.
type key struct{ pkg, test string }

// A report collects the events of one run.
type report struct {
	out     io.Writer
	output  map[key][]string
	passed  int
	failed  []key
	skipped []key
}

func newReport(out io.Writer) *report {
	return &report{out: out, output: map[key][]string{}}
}

// read takes the events until the end of the stream; a line that is no event is
// printed as it is.
func (r *report) read(in io.Reader) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil || e.Action == "" {
			fmt.Fprintln(r.out, lines.Text())
			continue
		}
		r.take(e)
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read the output of go test: %w", err)
	}
	return nil
}

// take counts one event and prints what a person wants to see at once: the end
// of each package and the output of what failed.
func (r *report) take(e event) {
	k := key{strings.TrimPrefix(e.Package, modulePrefix), e.Test}
	switch e.Action {
	case "build-output":
		fmt.Fprint(r.out, e.Output)
	case "output":
		r.output[k] = append(r.output[k], e.Output)
	case "pass":
		r.end(k, e, "ok")
	case "fail":
		r.end(k, e, "FAIL")
		fmt.Fprint(r.out, strings.Join(r.output[k], ""))
		if k.test != "" {
			r.failed = append(r.failed, k)
		}
	case "skip":
		if k.test != "" {
			r.skipped = append(r.skipped, k)
		}
	}
	if e.Action == "pass" && k.test != "" {
		r.passed++
		delete(r.output, k)
	}
}

// end prints the line of a package that ended, or of a test that failed.
func (r *report) end(k key, e event, word string) {
	if k.test == "" {
		fmt.Fprintf(r.out, "%-4s %-28s %7.1fs\n", word, k.pkg, e.Elapsed)
	} else if word == "FAIL" {
		fmt.Fprintf(r.out, "FAIL %s %s\n", k.pkg, k.test)
	}
}

// close prints the skips and the closing line, and gives an error when the run
// must not count as passed. A failure without a failed test, such as a build
// that broke, counts as one.
func (r *report) close(allowed skipList, waitErr error) error {
	sort.Slice(r.skipped, func(i, j int) bool { return less(r.skipped[i], r.skipped[j]) })
	unexpected := 0
	for _, k := range r.skipped {
		if reason, ok := allowed.reason(k); ok {
			fmt.Fprintf(r.out, "skipped: %s %s: %s (%s)\n", k.pkg, k.test, lastLine(r.output[k]), reason)
			continue
		}
		unexpected++
		fmt.Fprintf(r.out, "SKIPPED, NOT ALLOWED: %s %s: %s\n", k.pkg, k.test, lastLine(r.output[k]))
	}
	sort.Slice(r.failed, func(i, j int) bool { return less(r.failed[i], r.failed[j]) })
	for _, k := range r.failed {
		fmt.Fprintf(r.out, "failed: %s %s\n", k.pkg, k.test)
	}
	failed := len(r.failed)
	if waitErr != nil && failed == 0 {
		failed = 1
	}
	failed += unexpected
	fmt.Fprintf(r.out, "%d passed, %d failed, %d skipped\n", r.passed, failed, len(r.skipped)-unexpected)
	switch {
	case waitErr != nil:
		return fmt.Errorf("go test failed: %w", waitErr)
	case unexpected > 0:
		return fmt.Errorf("%d tests were skipped that should run here; make them run, or list each with a reason", unexpected)
	case r.passed == 0:
		return fmt.Errorf("no test ran")
	}
	return nil
}

// less orders keys by package, then test.
func less(a, b key) bool {
	if a.pkg != b.pkg {
		return a.pkg < b.pkg
	}
	return a.test < b.test
}

// lastLine gives the message of a skip: the last line that is no "--- SKIP".
func lastLine(output []string) string {
	for i := len(output) - 1; i >= 0; i-- {
		line := strings.TrimSpace(output[i])
		if line != "" && !strings.HasPrefix(line, "---") && !strings.HasPrefix(line, "===") {
			return line
		}
	}
	return "no reason given"
}
