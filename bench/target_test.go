package bench

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestPeerTemplate(t *testing.T) {
	peer, err := ParsePeer("other=other-fs -o lowerdir=%l,upperdir=%u,workdir=%w,x=100%% %m")
	if err != nil {
		t.Fatal(err)
	}
	got := peer.commandLine(stack{Lowers: []string{"/a", "/b:c"}, Upper: "/u", Work: "/w", Point: "/m"})
	want := []string{"other-fs", "-o", `lowerdir=/a:/b\:c,upperdir=/u,workdir=/w,x=100%`, "/m"}
	if peer.Name != "other" || !slices.Equal(got, want) {
		t.Errorf("peer %s: %q, want %q", peer.Name, got, want)
	}
	for _, text := range []string{"", "name", "=cmd %l %m", "name=", "name=cmd %l", "name=cmd %m"} {
		if _, err := ParsePeer(text); err == nil {
			t.Errorf("ParsePeer(%q) accepted it", text)
		}
	}
}

func TestShortenLeavesLayersOfDifferentParents(t *testing.T) {
	if dir, names := shorten([]string{"/x/a", "/x/b"}); dir != "/x" || !slices.Equal(names, []string{"a", "b"}) {
		t.Errorf("shorten = %s %v", dir, names)
	}
	if dir, names := shorten([]string{"/x/a", "/y/b"}); dir != "" || !slices.Equal(names, []string{"/x/a", "/y/b"}) {
		t.Errorf("shorten = %s %v", dir, names)
	}
}

// TestSmoke runs every workload whose tools and data are there, on the plain
// directory and on the kernel's overlayfs.
func TestSmoke(t *testing.T) {
	needRoot(t)
	opts := tinyOptions(t)
	opts.Targets, opts.Rounds = []string{bareName, kernelName}, 1
	opts.Only = regexp.MustCompile(`^(stat|negative|readlink|open|clients|untar|cp-a|rm-|chmod|chown|rename|append|read|mmap|random|write|sqlite|layers|readdir|mount|find-warm|tar-warm|grep-warm)`)
	report, err := Run(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	measured := 0
	for _, w := range report.Workloads {
		for _, result := range w.Results {
			if strings.HasPrefix(result.Skipped, "failed") || strings.HasPrefix(result.Skipped, "mount") {
				t.Errorf("%s on %s: %s", w.Name, result.Target, result.Skipped)
			}
			measured += len(result.Samples)
		}
	}
	if measured < 40 {
		t.Errorf("only %d samples were taken; skipped: %v", measured, report.skips())
	}
	if report.Environment.Kernel == "" || report.Environment.Filesystem == "" || len(report.Means) != 2 {
		t.Errorf("environment or means are missing: %+v %+v", report.Environment, report.Means)
	}
}

func TestRunInUserNamespace(t *testing.T) {
	opts := tinyOptions(t)
	user, err := newUserSpace(opts.Worker)
	if err != nil {
		t.Skipf("no user namespaces here: %v", err)
	}
	user.close()
	opts.Rootless, opts.Rounds, opts.Targets = true, 1, []string{kernelRootlessName}
	opts.Only = regexp.MustCompile(`^(stat|untar|cp-a)$`)
	report, err := Run(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	if skips := report.skips(); len(skips) > 0 {
		t.Errorf("skipped: %v", skips)
	}
}

func TestCancelledRunLeavesNothing(t *testing.T) {
	needRoot(t)
	opts := tinyOptions(t)
	opts.Targets = []string{kernelName}
	opts.Only = regexp.MustCompile(`^stat$`)
	opts.Scale.Loops = 1 << 40 // for ever
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	opts.Progress = func(p Progress) {
		if p.Target == kernelName {
			go func() {
				for {
					// The mount of the sample, not that of the probe.
					if found, _ := filepath.Glob(filepath.Join(opts.Dir, "*/mount-*/merged/src/files/f0")); len(found) > 0 {
						cancel()
						return
					}
					time.Sleep(time.Millisecond)
				}
			}()
		}
	}
	if _, err := Run(ctx, opts); ctx.Err() == nil || err == nil {
		t.Errorf("the run ended with %v before it was cancelled", err)
	}
}

func TestUnknownTargetIsAnError(t *testing.T) {
	opts := tinyOptions(t)
	opts.Targets = []string{"nobody"}
	if _, err := Run(t.Context(), opts); err == nil || !strings.Contains(err.Error(), "nobody") {
		t.Errorf("Run = %v", err)
	}
}

func TestDataSetIsMadeOnceAndWhole(t *testing.T) {
	d := dataFolder{t.TempDir()}
	calls := 0
	for range 2 {
		if _, err := d.make("x", func(dir string) error { calls++; return os.WriteFile(dir+"/f", nil, 0o644) }); err != nil {
			t.Fatal(err)
		}
	}
	if calls != 1 {
		t.Errorf("made %d times", calls)
	}
	if _, err := d.make("y", func(string) error { return os.ErrInvalid }); err == nil {
		t.Error("a failure was not told")
	}
	if left, _ := filepath.Glob(d.dir + "/.new-*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
