package bench

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestTraceIsCountedByConnection(t *testing.T) {
	const text = `# tracer: nop
    stat-12 [000] .....  1.0: fuse_request_send: connection 45 req 2 opcode 1 (FUSE_LOOKUP) len 49
    stat-12 [000] .....  1.1: fuse_request_end: connection 45 req 2 len 144 error 0
    stat-12 [001] .....  1.2: fuse_request_send: connection 46 req 2 opcode 1 (FUSE_LOOKUP) len 49
      cp-13 [001] .....  1.3: fuse_request_send: connection 45 req 4 opcode 53 (0x35) len 49
      cp-13 [001] .....  1.4: fuse_request_send: connection 45 req 6 opcode 1 (FUSE_LOOKUP) len 49
`
	got := kindsText(parseTrace(text, 45))
	if want := "LOOKUP 2, COPY_FILE_RANGE_64 1"; got != want {
		t.Errorf("counted %q, want %q", got, want)
	}
}

// TestMessagesDoNotGrow compares what unionfs sends with testdata/messages.txt:
// lines "NUMBER OPERATION", the largest number of messages that is accepted.
func TestMessagesDoNotGrow(t *testing.T) {
	needRoot(t)
	limits := readLimits(t)
	binary := filepath.Join(t.TempDir(), "unionfs")
	if out, err := exec.Command("go", "build", "-o", binary, "../cmd/unionfs").CombinedOutput(); err != nil {
		t.Fatalf("build unionfs: %v: %s", err, out)
	}
	opts := tinyOptions(t)
	opts.Unionfs, opts.Targets = binary, []string{"unionfs"}
	report, err := CountMessages(t.Context(), opts)
	if err != nil && strings.Contains(err.Error(), "trace") {
		t.Skipf("the kernel cannot count here: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Skipped) > 0 {
		t.Fatalf("unionfs did not run: %s", report.Skipped[0].Skipped)
	}
	for _, c := range report.Operations {
		limit, ok := limits[c.Operation]
		switch {
		case c.Error != "":
			t.Errorf("%s: %s", c.Operation, c.Error)
		case !ok:
			t.Errorf("%s is not in testdata/messages.txt; it sent %d: %s", c.Operation, c.Total, kindsText(c.Kinds))
		case c.Total > limit:
			t.Errorf("%s sent %d messages, at most %d are accepted: %s", c.Operation, c.Total, limit, kindsText(c.Kinds))
		}
		delete(limits, c.Operation)
	}
	for name := range limits {
		t.Errorf("testdata/messages.txt names %q, which is no operation", name)
	}
}

func TestMessagesCanBeCountedAtAll(t *testing.T) {
	needRoot(t)
	opts := tinyOptions(t)
	opts.Targets, opts.Only = []string{fuseOverlayfs.Name}, regexp.MustCompile("^mkdir$")
	report, err := CountMessages(t.Context(), opts)
	if err != nil {
		t.Skipf("the kernel cannot count here: %v", err)
	}
	if len(report.Skipped) > 0 {
		t.Skipf("fuse-overlayfs: %s", report.Skipped[0].Skipped)
	}
	if len(report.Operations) != 1 || report.Operations[0].Kinds["MKDIR"] != 1 {
		t.Errorf("mkdir sent %+v, want one MKDIR among it", report.Operations)
	}
}

func readLimits(t *testing.T) map[string]int {
	t.Helper()
	data, err := os.ReadFile("testdata/messages.txt")
	if err != nil {
		t.Fatal(err)
	}
	limits := make(map[string]int)
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		var n int
		number, name, ok := strings.Cut(line, " ")
		if _, err := fmt.Sscan(number, &n); err != nil || !ok {
			t.Fatalf("testdata/messages.txt: cannot read %q", line)
		}
		limits[strings.TrimSpace(name)] = n
	}
	return limits
}
