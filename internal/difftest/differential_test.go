package difftest

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// number is the value of an environment variable, or the fallback.
func number(t *testing.T, name string, fallback uint64) uint64 {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return fallback
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		t.Fatalf("%s=%q: %v", name, s, err)
	}
	return n
}

// A budget is how much a test generates: a number of cases, the same in every
// run, or, to look for what nobody knows yet, all that fit into a time.
type budget struct {
	cases uint64
	time  time.Duration
}

// budgetOf is UNIONFS_DIFF_SECONDS, else UNIONFS_DIFF_CASES, for one of the
// given number of parts.
func budgetOf(t *testing.T, parts int) budget {
	t.Helper()
	cases := uint64(10)
	if testing.Short() {
		cases = 2
	}
	s := number(t, "UNIONFS_DIFF_SECONDS", 0)
	return budget{
		cases: number(t, "UNIONFS_DIFF_CASES", cases),
		time:  time.Duration(s) * time.Second / time.Duration(parts),
	}
}

// firstSeed is UNIONFS_DIFF_SEED.
func firstSeed(t *testing.T) uint64 {
	t.Helper()
	return number(t, "UNIONFS_DIFF_SEED", 1)
}

// generated runs one random case.
func generated(r *Runner, v Variant, seed uint64, n int) (*Mismatch, Case, error) {
	g := NewGenerator(seed, v)
	c := Case{Seed: seed, Variant: v.Name, Layers: g.Layers()}
	setup := &generatorPart{g: g, setup: true}
	if seed%3 != 0 {
		setup.n = 15
	}
	return r.RunSource(c, &generatorPart{g: g, n: n}, setup)
}

// generatorPart is a run of a generator that begins when it is first asked.
type generatorPart struct {
	g     *Generator
	n     int
	setup bool
	begun bool
}

func (p *generatorPart) Next() (Op, bool) {
	if !p.begun {
		p.begun = true
		p.g.Begin(p.n, p.setup)
	}
	return p.g.Next()
}

func (p *generatorPart) Saw(op Op, res Result) { p.g.Saw(op, res) }

// report shrinks a failing case and shows it.
func report(t *testing.T, r *Runner, c Case, m *Mismatch) {
	t.Helper()
	t.Logf("seed %d, variant %s, before shrinking: %s", c.Seed, c.Variant, m)
	c, m = r.Shrink(c, m, time.Now().Add(time.Minute))
	dir := os.Getenv("UNIONFS_DIFF_OUT")
	if dir == "" {
		dir = os.TempDir()
	}
	file := filepath.Join(dir, fmt.Sprintf("unionfs-diff-%s-%d.json", c.Variant, c.Seed))
	if err := c.Save(file); err != nil {
		t.Error(err)
	}
	t.Errorf("%s and %s differ; replay with UNIONFS_DIFF_REPLAY=%s:\n%s\n%s", r.Oracle.Name(), r.Subject.Name(), file, m, c)
}

// TestDifferential compares unionfs with kernel overlayfs.
func TestDifferential(t *testing.T) {
	needRoot(t)
	if file := os.Getenv("UNIONFS_DIFF_REPLAY"); file != "" {
		replay(t, file)
		return
	}
	per := budgetOf(t, len(Variants))
	first := firstSeed(t)
	for _, v := range Variants {
		t.Run(v.Name, func(t *testing.T) {
			r := start(t, Kernel{v.Kernel}, unionfs(t, v.Subject), Differences)
			explore(t, r, v, first, per)
		})
	}
}

// explore runs seed after seed until the budget is spent or, UNIONFS_DIFF_KEEP
// being unset, until the first difference.
func explore(t *testing.T, r *Runner, v Variant, first uint64, b budget) {
	t.Helper()
	end := time.Now().Add(b.time)
	n, ops := uint64(0), 0
	more := func() bool {
		if b.time > 0 {
			return n == 0 || time.Now().Before(end)
		}
		return n < b.cases
	}
	for seed := first; more(); seed++ {
		length := 60
		if seed%16 == 0 {
			length = 400
		}
		m, c, err := generated(r, v, seed, length)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		n, ops = n+1, ops+len(c.Ops)
		if m == nil {
			continue
		}
		report(t, r, c, m)
		if os.Getenv("UNIONFS_DIFF_KEEP") == "" {
			break
		}
	}
	t.Logf("%s: seeds %d to %d, %d operations", v.Name, first, first+n-1, ops)
}

func replay(t *testing.T, file string) {
	c, err := LoadCase(file)
	if err != nil {
		t.Fatal(err)
	}
	v, err := FindVariant(c.Variant)
	if err != nil {
		t.Fatal(err)
	}
	r := start(t, Kernel{v.Kernel}, unionfs(t, v.Subject), Differences)
	m, err := r.Run(c)
	if err != nil {
		t.Fatal(err)
	}
	if m != nil {
		t.Errorf("%s\n%s", m, c)
	}
}

// TestOracleAgreesWithItself proves that the comparison sees no differences
// where there are none.
func TestOracleAgreesWithItself(t *testing.T) {
	needRoot(t)
	first, per := firstSeed(t), budgetOf(t, len(Variants))
	per.cases = (per.cases + 3) / 4
	for _, v := range Variants {
		t.Run(v.Name, func(t *testing.T) {
			r := start(t, Kernel{v.Kernel}, Kernel{v.Kernel}, nil)
			explore(t, r, v, first, per)
		})
	}
}

// TestPeerIsCaught proves that differences are found: fuse-overlayfs has many.
func TestPeerIsCaught(t *testing.T) {
	needRoot(t)
	r := start(t, Kernel{Variants[0].Kernel}, fuseOverlayfs(t), Differences)
	for seed := range uint64(20) {
		m, c, err := generated(r, Variants[0], seed, 60)
		if err != nil {
			t.Fatal(err)
		}
		if m == nil {
			continue
		}
		small, _ := r.Shrink(c, m, time.Now().Add(5*time.Second))
		t.Logf("found with seed %d: %s", seed, m)
		t.Logf("%d operations shrunk to %d", len(c.Ops), len(small.Ops))
		return
	}
	t.Error("20 random cases found no difference between the kernel and fuse-overlayfs")
}
