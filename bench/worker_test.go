package bench

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestJobsDoWhatTheySay(t *testing.T) {
	dir := t.TempDir()
	if err := makeFiles(filepath.Join(dir, "many"), 10); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("f0", filepath.Join(dir, "many", "link")); err != nil {
		t.Fatal(err)
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	s := &space{worker: testWorker(t)}
	for _, c := range []struct {
		name string
		job  Job
		ops  int
	}{
		{"stat", Job{Kind: "stat", Path: dir, Count: 25}, 25},
		{"negative", Job{Kind: "negative", Path: dir, Count: 1500}, 1500},
		{"readlink", Job{Kind: "readlink", Path: dir, Count: 3}, 3},
		{"open", Job{Kind: "open", Path: dir, Count: 12}, 12},
		{"open cold", Job{Kind: "open", Path: dir, Count: 12, Sync: true}, 12},
		{"open-one", Job{Kind: "open-one", Path: at("many/f1"), Count: 7}, 7},
		{"readdir", Job{Kind: "readdir", Path: at("many"), Count: 2}, 2},
		{"create", Job{Kind: "create", Other: at("new"), Count: 4, Size: 10}, 4},
		{"rename", Job{Kind: "rename", Path: at("new"), Other: at("moved"), Count: 1}, 1},
		{"write", Job{Kind: "write", Path: at("big"), Size: 3<<20 + 1, Sync: true}, 4},
		{"read", Job{Kind: "read", Path: at("big")}, 4},
		{"random read", Job{Kind: "random-read", Path: at("big"), Count: 9, Size: 4096}, 9},
		{"random write", Job{Kind: "random-write", Path: at("big"), Count: 9, Size: 4096, Sync: true}, 9},
		{"append", Job{Kind: "append", Path: at("log"), Count: 5, Size: 100}, 5},
		{"mmap", Job{Kind: "mmap", Path: at("big")}, (3 << 20 / os.Getpagesize()) + 1},
		{"exec", Job{Kind: "exec", Dir: dir, Argv: []string{"test", "-d", "moved"}}, 1},
		{"parallel", Job{Kind: "parallel", Clients: 3, Sub: &Job{Kind: "create", Other: at("p"), Count: 2}}, 6},
	} {
		result, err := s.job(t.Context(), c.job)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		} else if result.Ops != c.ops || result.Nanoseconds <= 0 {
			t.Errorf("%s: %+v, want %d operations", c.name, result, c.ops)
		}
	}
	if st, err := os.Stat(at("log")); err != nil || st.Size() != 500 {
		t.Errorf("log after 5 appends of 100 bytes: %v %v", st, err)
	}
	if _, err := os.Stat(at("p2/f1")); err != nil {
		t.Errorf("third client: %v", err)
	}
}

func TestJobsTellTheirFailure(t *testing.T) {
	s := &space{worker: testWorker(t)}
	for want, job := range map[string]Job{
		"no job of kind":  {Kind: "nonsense"},
		"nothing of the":  {Kind: "stat", Path: t.TempDir(), Count: 1},
		"no such file":    {Kind: "read", Path: "/nonexistent"},
		"said so":         {Kind: "exec", Argv: []string{"sh", "-c", "echo said so >&2; exit 1"}},
		"should be":       {Kind: "negative", Path: missingOne(t), Count: 1},
		"without a job":   {Kind: "parallel"},
		"nothing of the ": {Kind: "parallel", Clients: 2, Sub: &Job{Kind: "open", Path: t.TempDir(), Count: 1}},
	} {
		if _, err := s.job(t.Context(), job); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: error %v, want %q", job, err, want)
		}
	}
}

// missingOne is a directory in which a name of the negative loop is there.
func missingOne(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "missing-0"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}
