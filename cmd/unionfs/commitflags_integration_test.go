package main_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
)

func TestCommitChoosesWhatBecomesALayer(t *testing.T) {
	f := storeFixture(t)
	f.mount("--upper", "upper", "plain", "base:1", "m")
	f.write("m/etc/conf", "changed")
	f.write("m/new", "n")
	if err := os.RemoveAll(f.path("m/docs")); err != nil {
		t.Fatal(err)
	}
	// Copied up, and the same as before.
	f.shellOK(`touch -r m/extra stamp; chmod u+x m/extra; chmod u-x m/extra; touch -r stamp m/extra`)
	plan := f.ok("commit", "--dry-run", "m")
	for _, want := range []string{"C /etc/conf\n", "D /docs\n", "A /new\n", "C /extra\n", "layer 2 of 2"} {
		if !strings.Contains(plan, want) {
			t.Errorf("the plan lacks %q:\n%s", want, plan)
		}
	}
	var layers []struct {
		Counts  struct{ Unchanged, Files int }
		Changes []struct{ Kind, Path string }
	}
	if err := json.Unmarshal([]byte(f.ok("commit", "--dry-run", "--json", "--drop-unchanged", "m")), &layers); err != nil {
		t.Fatal(err)
	}
	if top := layers[len(layers)-1]; top.Counts.Unchanged != 1 || top.Counts.Files != 2 {
		t.Errorf("plan %+v", top)
	}
	if got := f.ok("image", "ls", "-q"); strings.Count(got, "\n") != 1 {
		t.Errorf("a dry run made an image: %q", got)
	}
	if r := f.run("unionfs", "commit", "--drop-unchanged", "m", "drop:1"); r.code != 0 || !strings.Contains(r.errOut, "1 unchanged files left out") {
		t.Errorf("%+v", r)
	}
	f.ok("commit", "--include", "etc", "m", "part:1")
	f.ok("commit", "--exclude", "/docs", "--exclude", "n*", "--base-layers", "omit", "m", "rest:1")
	f.ok("commit", "--squash", "m", "flat:1")
	f.ok("commit", "--include", "nothing", "m", "same:1")
	f.ok("umount", "m")

	layersOf := func(name string) int {
		var info []struct {
			Config struct{ Cmd []string }
			RootFS struct{ Layers []string }
		}
		if err := json.Unmarshal([]byte(f.ok("image", "inspect", name)), &info); err != nil {
			t.Fatal(err)
		}
		if info[0].Config.Cmd[0] != "/bin/base" {
			t.Errorf("%s lost its configuration", name)
		}
		return len(info[0].RootFS.Layers)
	}
	for name, want := range map[string]int{"part:1": 3, "rest:1": 2, "flat:1": 1, "same:1": 2} {
		if got := layersOf(name); got != want {
			t.Errorf("%s has %d layers, want %d", name, got, want)
		}
	}
	for name, want := range map[string]string{
		"drop:1": "changed n x -", "part:1": "changed - x 1", "rest:1": "changed - x 1", "flat:1": "changed n x -", "same:1": "base - x 1",
	} {
		f.mount(name, "m2")
		got := f.shellOK(`for i in etc/conf new extra docs/a; do cat m2/$i 2>/dev/null || printf -- -; printf ' '; done`)
		if strings.TrimSpace(got) != want {
			t.Errorf("%s has %q, want %q", name, got, want)
		}
		f.ok("umount", "m2")
	}
	if out := f.ok("image", "verify"); !strings.HasSuffix(out, " 0 problems\n") {
		t.Errorf("verify: %s", out)
	}
	for _, bad := range [][]string{{"--squash", "--include", "x"}, {"--base-layers", "both"}, {"--exclude", "["}, {"--include", "/"}} {
		f.fails(f.run("unionfs", append(append([]string{"commit"}, bad...), "m", "x:1")...), 2, "commit")
	}
}

// shellOK runs a script in the fixture's directory and returns its output.
func (f *fixture) shellOK(script string) string {
	f.t.Helper()
	r := f.shell(script)
	if r.code != 0 {
		f.t.Fatalf("%s: %+v", script, r)
	}
	return r.out
}
