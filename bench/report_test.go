package bench

import (
	"bytes"
	"encoding/json"
	"flag"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the golden files anew")

// sampleReport is a report with everything that can be in one.
func sampleReport() *Report {
	result := func(target string, samples ...float64) *Result { return &Result{Target: target, Samples: samples} }
	none := func(target, why string) *Result { return &Result{Target: target, Skipped: why} }
	r := &Report{
		Schema: Schema, Started: time.Date(2026, 11, 28, 8, 0, 0, 0, time.UTC), Seconds: 12.3, Scale: "quick", Rounds: 3, Seed: 42,
		Environment: Environment{
			Kernel: "6.18.0", CPU: "Some <CPU>", CPUs: 2, MemoryMiB: 4096, Load: "0.10", Filesystem: "ext4", Dir: "/tmp", User: "root",
			Versions: map[string]string{"unionfs": "0.1.0", "go": "go1.26", "fuse-overlayfs": "1.10"}, Commit: "0123456789ab",
		},
		Targets: []TargetReport{
			{Name: "bare", Baseline: "kernel"},
			{Name: "kernel", Baseline: "kernel"},
			{Name: "fuse-overlayfs", Baseline: "kernel"},
			{Name: "unionfs", Baseline: "kernel"},
			{Name: "other", Baseline: "kernel", Skipped: "not installed"},
		},
		Workloads: []WorkloadReport{
			{Name: "find", Group: "whole trees", Title: "find+stat, warm", Unit: unitSeconds, Results: []*Result{
				result("bare", 0.009, 0.010, 0.011), result("kernel", 0.020, 0.021, 0.019), result("fuse-overlayfs", 0.2, 0.22, 0.21),
				result("unionfs", 0.025, 0.030, 0.020), none("other", "not installed"),
			}},
			{Name: "chmod", Group: "many files", Title: "chmod -R of a lower tree", Unit: unitSeconds, Results: []*Result{
				result("bare", 0.5), result("kernel", 2), result("fuse-overlayfs", 4), none("unionfs", "failed: chmod: not permitted"), none("other", "not installed"),
			}},
			{Name: "memory", Group: "size", Title: "daemon memory", Unit: unitMiB, NotInMean: "not a time", Results: []*Result{
				none("bare", "there is no daemon"), none("kernel", "there is no daemon"), result("fuse-overlayfs", 4.5), result("unionfs", 12.25), none("other", "not installed"),
			}},
			{Name: "git", Group: "tools", Title: "git status", Unit: unitSeconds, Results: []*Result{
				none("bare", "git is not installed"), none("kernel", "git is not installed"), none("fuse-overlayfs", "git is not installed"),
				none("unionfs", "git is not installed"), none("other", "not installed"),
			}},
		},
	}
	r.evaluate()
	return r
}

func TestReportsLookAsTheyShould(t *testing.T) {
	r := sampleReport()
	for name, write := range map[string]func(io.Writer) error{
		"report.txt":  r.WriteText,
		"report.svg":  r.WriteSVG,
		"report.html": r.WriteHTML,
		"report.json": func(w io.Writer) error {
			enc := json.NewEncoder(w)
			enc.SetIndent("", "  ")
			return enc.Encode(r)
		},
	} {
		t.Run(name, func(t *testing.T) {
			var got bytes.Buffer
			if err := write(&got); err != nil {
				t.Fatal(err)
			}
			golden := filepath.Join("testdata", name)
			if *update {
				if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got.Bytes(), want) {
				t.Errorf("%s differs; look at it and run go test ./bench -update\n%s", golden, got.Bytes())
			}
		})
	}
}

func TestGoldenFilesAreNotBeingWritten(t *testing.T) {
	if *update && os.Getenv("CI") != "" {
		t.Error("-update in CI hides every difference")
	}
}

func TestRatiosCompareMediansWithTheBaseline(t *testing.T) {
	r := sampleReport()
	if got := r.Workloads[0].Results[3].Ratio; got != 1.25 {
		t.Errorf("ratio of unionfs = %v, want 1.25", got)
	}
	if got := r.Workloads[2].Results[3].Ratio; got != 0 {
		t.Errorf("ratio without a baseline = %v, want none", got)
	}
	for _, m := range r.Means {
		want := map[string]int{"bare": 2, "kernel": 2, "fuse-overlayfs": 2, "unionfs": 1}[m.Target]
		if m.Workloads != want {
			t.Errorf("mean of %s is over %d workloads, want %d", m.Target, m.Workloads, want)
		}
	}
}
