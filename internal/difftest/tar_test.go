package difftest

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/hanwen/go-fuse/v2/posixtest"
)

// tarLowers is a daemon that is given every lower directory as a layer file.
type tarLowers struct {
	Daemon
	compress string // option of tar, or ""
}

// Name tells the two apart in messages.
func (t tarLowers) Name() string { return "tar lowers under " + t.Daemon.Name() }

// Mount packs the layers with GNU tar and mounts those.
func (t tarLowers) Mount(d Dirs) (Mounted, error) {
	files := make([]string, len(d.Layers))
	for i, dir := range d.Layers {
		files[i] = fmt.Sprintf("%s.%d.tar", d.Mnt, i)
		args := []string{"-cf", files[i], "--format=posix", "--xattrs", "--xattrs-include=*", "--acls", "--sparse", "-C", dir, "."}
		if t.compress != "" {
			args = append([]string{t.compress}, args...)
		}
		if out, err := exec.Command("tar", args...).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("pack %s: %w: %s", dir, err, out)
		}
	}
	d.Layers = files
	return t.Daemon.Mount(d)
}

// tarTarget is the command over layers packed by GNU tar.
func tarTarget(t *testing.T, options, compress string) tarLowers {
	t.Helper()
	if _, err := exec.LookPath("tar"); err != nil {
		t.Skip("needs GNU tar")
	}
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	return tarLowers{daemon(t, options), compress}
}

// inTars takes out of a layer what no tar can hold: sockets, and marks that a
// mount keeps in attributes.
func inTars(layer string) string {
	var out []string
	gone := make(map[string]bool)
	for line := range strings.Lines(layer) {
		w, err := splitWords(line)
		if err == nil && len(w) > 1 {
			switch {
			case w[0] == "socket":
				gone[w[1]] = true
				continue
			case w[0] == "opaque" || w[0] == "redirect" || gone[w[1]] || w[0] == "link" && gone[w[2]]:
				continue
			}
		}
		out = append(out, line)
	}
	return strings.Join(out, "")
}

// tarDifferences are those that only layers without a filesystem have.
var tarDifferences = append(slices.Clone(Differences), Known{
	Name:   "no-birth-time",
	Reason: "a tar holds no birth times",
	Match: func(op Op, oracle, subject Result) bool {
		return op.Call == "statx" && strings.Replace(oracle.Val, "btime=true", "btime=false", 1) == subject.Val
	},
})

// TestTarLowers compares unionfs over layer files with the kernel over the
// directories that they were made of.
func TestTarLowers(t *testing.T) {
	needRoot(t)
	v, err := FindVariant("default")
	if err != nil {
		t.Fatal(err)
	}
	for _, compress := range []string{"", "--gzip", "--zstd"} {
		t.Run("tar"+compress, func(t *testing.T) {
			r := start(t, Kernel{v.Kernel}, tarTarget(t, v.Subject, compress), tarDifferences)
			r.NoSwap = true // the other cannot mount the layers
			first, n := firstSeed(t), number(t, "UNIONFS_DIFF_CASES", 4)
			for seed := first; seed < first+n; seed++ {
				g := NewGenerator(seed, v)
				c := Case{Seed: seed, Variant: v.Name, Layers: g.Layers()}
				for i := range c.Layers {
					c.Layers[i] = inTars(c.Layers[i])
				}
				m, c, err := r.RunSource(c, &generatorPart{g: g, n: 60}, nil)
				if err != nil {
					t.Fatalf("seed %d: %v", seed, err)
				}
				if m != nil {
					report(t, r, c, m)
					break
				}
			}
		})
	}
}

// TestPosixOverTars runs go-fuse's own suite in directories that come from a
// layer file.
func TestPosixOverTars(t *testing.T) {
	needRoot(t)
	l := mountOnce(t, tarTarget(t, "io=cached", "--zstd"), []string{"dir x\n", "dir lower\n"})
	for _, name := range slices.Sorted(maps.Keys(posixtest.All)) {
		if notPOSIX[name] != "" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			dir := l.p("lower/" + name)
			if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
				t.Fatal(err)
			}
			posixtest.All[name](t, dir)
		})
	}
}
