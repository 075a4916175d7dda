package main

import (
	"errors"
	"strings"
	"testing"
)

// stream is what go test -json prints for one passed, one failed and one
// skipped test.
const stream = `{"Action":"run","Package":"github.com/unionfs-go/unionfs/fs","Test":"TestA"}
{"Action":"pass","Package":"github.com/unionfs-go/unionfs/fs","Test":"TestA"}
{"Action":"output","Package":"github.com/unionfs-go/unionfs/fs","Test":"TestB","Output":"    b_test.go:3: needs xfs\n"}
{"Action":"output","Package":"github.com/unionfs-go/unionfs/fs","Test":"TestB","Output":"--- SKIP: TestB (0.00s)\n"}
{"Action":"skip","Package":"github.com/unionfs-go/unionfs/fs","Test":"TestB"}
{"Action":"pass","Package":"github.com/unionfs-go/unionfs/fs","Elapsed":1.5}
`

func judge(t *testing.T, events, skips string, waitErr error) (string, error) {
	t.Helper()
	allowed, err := parseSkips("skips", skips)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	r := newReport(&out)
	if err := r.read(strings.NewReader(events)); err != nil {
		t.Fatal(err)
	}
	err = r.close(allowed, waitErr)
	return out.String(), err
}

func TestSkipOutsideTheListFailsTheRun(t *testing.T) {
	out, err := judge(t, stream, "", nil)
	if err == nil || !strings.Contains(out, "NOT ALLOWED: fs TestB: b_test.go:3: needs xfs") ||
		!strings.Contains(out, "1 passed, 1 failed, 0 skipped\n") {
		t.Errorf("err %v, printed:\n%s", err, out)
	}
}

func TestListedSkipIsAllowed(t *testing.T) {
	for _, list := range []string{"fs TestB no xfs here", "# comment\n\nfs Test* some reason"} {
		out, err := judge(t, stream, list, nil)
		if err != nil || !strings.Contains(out, "1 passed, 0 failed, 1 skipped\n") {
			t.Errorf("list %q: err %v, printed:\n%s", list, err, out)
		}
	}
	if _, err := judge(t, stream, "cow TestB another package", nil); err == nil {
		t.Error("a rule of another package allowed the skip")
	}
	if _, err := parseSkips("skips", "fs TestB"); err == nil {
		t.Error("a rule without a reason was taken")
	}
}

func TestFailureIsShownWithItsOutput(t *testing.T) {
	failing := strings.ReplaceAll(stream, `"skip"`, `"fail"`)
	out, err := judge(t, failing, "", errors.New("exit status 1"))
	if err == nil || !strings.Contains(out, "FAIL fs TestB\n    b_test.go:3: needs xfs\n") ||
		!strings.Contains(out, "1 passed, 1 failed, 0 skipped\n") {
		t.Errorf("err %v, printed:\n%s", err, out)
	}
}

func TestBrokenBuildIsAFailure(t *testing.T) {
	out, err := judge(t, `{"ImportPath":"x","Action":"build-output","Output":"x.go:1: syntax error\n"}`+"\n",
		"", errors.New("exit status 1"))
	if err == nil || !strings.Contains(out, "syntax error") || !strings.Contains(out, "0 passed, 1 failed") {
		t.Errorf("err %v, printed:\n%s", err, out)
	}
}

func TestRunWithoutTestsIsAFailure(t *testing.T) {
	if _, err := judge(t, "", "", nil); err == nil {
		t.Error("a run of no tests passed")
	}
}
