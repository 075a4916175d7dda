package difftest

import (
	"fmt"
	"os"
	"regexp"
	"testing"
)

// elsewhere are the traps that have no test here, with the reason.
var elsewhere = map[int]string{
	52: "changes of a layer from outside are undefined, as in the kernel's overlayfs",
	56: "there is no identity mapping option",
	57: "there is no context= option; security.* travels as any attribute, see traps 30 and 54",
	61: "memory is a matter of benchmarks; the counts of FORGET are checked in package fs",
	65: "there is no swap of layers on a live mount, and nothing else that needs a notification from outside",
	71: "options are parsed in internal/mountopt and refused in cmd/unionfs, with tests there",
	72: "packing is internal/pack, with tests there",
}

// TestTrapsAreAllThere keeps the list of traps complete: each has a test here or
// a reason.
func TestTrapsAreAllThere(t *testing.T) {
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	have := map[int]bool{}
	name := regexp.MustCompile(`(?m)^func TestTrap(\d\d)`)
	for _, f := range files {
		b, err := os.ReadFile(f.Name())
		if err != nil {
			continue
		}
		for _, m := range name.FindAllSubmatch(b, -1) {
			var n int
			if _, err := fmt.Sscanf(string(m[1]), "%d", &n); err != nil {
				t.Fatal(err)
			}
			have[n] = true
		}
	}
	for n := 1; n <= 72; n++ {
		if have[n] == (elsewhere[n] != "") {
			t.Errorf("trap %d: test %v, reason %q", n, have[n], elsewhere[n])
		}
	}
}
