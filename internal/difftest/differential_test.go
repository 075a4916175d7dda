package difftest

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// seconds is how long the random part of a test may take.
func seconds(t *testing.T, fallback int) time.Duration {
	t.Helper()
	s := os.Getenv("UNIONFS_DIFF_SECONDS")
	if s == "" {
		if testing.Short() {
			fallback = 3
		}
		return time.Duration(fallback) * time.Second
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatalf("UNIONFS_DIFF_SECONDS=%q: %v", s, err)
	}
	return time.Duration(n) * time.Second
}

// firstSeed is UNIONFS_DIFF_SEED, or a random number.
func firstSeed(t *testing.T) uint64 {
	t.Helper()
	s := os.Getenv("UNIONFS_DIFF_SEED")
	if s == "" {
		return rand.Uint64() >> 20
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		t.Fatalf("UNIONFS_DIFF_SEED=%q: %v", s, err)
	}
	return n
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
	per := seconds(t, 20) / time.Duration(len(Variants))
	first := firstSeed(t)
	for _, v := range Variants {
		t.Run(v.Name, func(t *testing.T) {
			r := start(t, Kernel{v.Kernel}, unionfs(t, v.Subject), Differences)
			explore(t, r, v, first, per)
		})
	}
}

// explore runs seed after seed until the time is over or, UNIONFS_DIFF_KEEP
// being unset, until the first difference.
func explore(t *testing.T, r *Runner, v Variant, first uint64, d time.Duration) {
	t.Helper()
	end := time.Now().Add(d)
	n, ops := 0, 0
	for seed := first; n == 0 || time.Now().Before(end); seed++ {
		m, c, err := generated(r, v, seed, 60)
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
	t.Logf("%s: seeds %d to %d, %d operations", v.Name, first, first+uint64(n)-1, ops)
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
	first := firstSeed(t)
	for _, v := range Variants {
		t.Run(v.Name, func(t *testing.T) {
			r := start(t, Kernel{v.Kernel}, Kernel{v.Kernel}, nil)
			explore(t, r, v, first, seconds(t, 4)/4)
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
