package main

import (
	"bytes"
	"encoding/json"
	"testing"
)

func TestKernelVersionReadsReleases(t *testing.T) {
	for release, want := range map[string][2]int{
		"6.18.44-fc-v669": {6, 18}, "5.10.0-30-amd64": {5, 10}, "6.9": {6, 9}, "6.13-rc2": {6, 13},
		"5.8+": {5, 8}, "": {0, 0}, "strange": {0, 0},
	} {
		if major, minor := kernelVersion(release); [2]int{major, minor} != want {
			t.Errorf("kernelVersion(%q) = %d.%d, want %d.%d", release, major, minor, want[0], want[1])
		}
	}
}

func TestDoctorReportsEverythingAsJSON(t *testing.T) {
	var out bytes.Buffer
	_ = runDoctor(stdio{out: &out, err: &out}, doctorOptions{JSON: true}, nil) // broken here is broken on the machine
	var all []finding
	if err := json.Unmarshal(out.Bytes(), &all); err != nil {
		t.Fatalf("%v in %s", err, out.String())
	}
	seen := make(map[string]bool)
	for _, f := range all {
		if f.Name == "" || f.Value == "" || seen[f.Name] {
			t.Errorf("finding without name or value, or twice: %+v", f)
		}
		if f.State != stateOK && f.State != stateSlow && f.State != stateBroken {
			t.Errorf("state of %+v", f)
		}
		seen[f.Name] = true
	}
	if len(all) < 8 {
		t.Errorf("only %d findings", len(all))
	}
}
