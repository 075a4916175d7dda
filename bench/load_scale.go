package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// scaleWorkloads show how cost grows with layers, entries, files and mounts.
func scaleWorkloads(d dataFolder, c Scale) []*Workload {
	var list []*Workload
	for _, n := range c.Layers {
		list = append(list, &Workload{
			Name: fmt.Sprintf("layers-%d", n), Group: "size", Title: fmt.Sprintf("find+stat over %d layers, cold", n), Cold: true,
			Layers: func() ([]string, error) { return d.layers(n) }, Measure: coldThen(script(findScript, ".")),
		})
	}
	for _, n := range c.DirSizes {
		wide := onceLayer(func() (string, error) { return d.wide(n) })
		times := max(1, c.Loops/(10*n))
		list = append(list, &Workload{
			Name: fmt.Sprintf("readdir-%d", n), Group: "size", Title: fmt.Sprintf("list %s entries x %s, warm", thousands(n), thousands(times)), Layers: wide,
			Measure: once(func(s *sample) Job { return Job{Kind: "readdir", Path: s.path("wide"), Count: times} }),
		}, &Workload{
			Name: fmt.Sprintf("readdir-cold-%d", n), Group: "size", Title: fmt.Sprintf("list %s entries, cold", thousands(n)), Cold: true, Layers: wide,
			Measure: coldThen(func(s *sample) Job { return Job{Kind: "readdir", Path: s.path("wide"), Count: 1, Sync: true} }),
		})
	}
	for _, n := range c.Known {
		list = append(list, knownFiles(d, n)...)
	}
	return append(list, sharedCache(d, c))
}

// knownFiles are the mount time and the daemon's memory with n files.
func knownFiles(d dataFolder, n int) []*Workload {
	many := onceLayer(func() (string, error) { return d.many(n) })
	return []*Workload{
		{
			Name: fmt.Sprintf("mount-%d", n), Group: "size", Title: fmt.Sprintf("mount of %s files", thousands(n)), Layers: many,
			NotInMean: "a daemon has to start", Not: onlyMounts,
			Measure: func(_ context.Context, s *sample) (float64, error) { return s.mount.took.Seconds(), nil },
		},
		{
			Name: fmt.Sprintf("memory-%d", n), Group: "size", Title: fmt.Sprintf("daemon memory with %s known files", thousands(n)), Layers: many,
			Unit: unitMiB, NotInMean: "not a time", Not: onlyDaemons,
			Measure: func(ctx context.Context, s *sample) (float64, error) {
				_, after, err := residentGrowth(ctx, s)
				return after / (1 << 20), err
			},
		},
		{
			Name: fmt.Sprintf("memory-per-file-%d", n), Group: "size", Title: fmt.Sprintf("memory per file of %s", thousands(n)), Layers: many,
			Unit: unitBytes, NotInMean: "not a time", Not: onlyDaemons,
			Measure: func(ctx context.Context, s *sample) (float64, error) {
				before, after, err := residentGrowth(ctx, s)
				return max(0, after-before) / float64(n), err
			},
		},
	}
}

// residentGrowth is the resident memory of the daemon, in bytes, before and
// after all files were looked at.
func residentGrowth(ctx context.Context, s *sample) (before, after float64, err error) {
	daemon := s.mount.daemon()
	if daemon == 0 {
		return 0, 0, errors.New("the daemon's process was not found")
	}
	if before, err = resident(daemon); err != nil {
		return 0, 0, err
	}
	if _, err := s.sh(ctx, findScript, "."); err != nil {
		return 0, 0, err
	}
	after, err = resident(daemon)
	return before, after, err
}

func onlyMounts(t *Target) string {
	if t.bare() {
		return "nothing is mounted"
	}
	return ""
}

func onlyDaemons(t *Target) string {
	if !t.fuse {
		return "there is no daemon"
	}
	return ""
}

// sharedCache is the page cache that two mounts of one image take when both read
// the same file.
func sharedCache(d dataFolder, c Scale) *Workload {
	return &Workload{
		Name: "two-mounts-cache", Group: "size", Title: fmt.Sprintf("page cache, two mounts read %d MiB", c.BigMiB),
		Unit: unitMiB, NotInMean: "not a time", Cold: true, Not: onlyMounts,
		Layers: onceLayer(func() (string, error) { return d.big(c.BigMiB) }),
		Measure: func(ctx context.Context, s *sample) (used float64, err error) {
			second, err := s.target.mount(ctx, s.run.dir, s.lowers, nil)
			if err != nil {
				return 0, err
			}
			defer func() { err = errors.Join(err, second.unmount()) }()
			if err := s.cold(); err != nil {
				return 0, err
			}
			before, err := memoryField("/proc/meminfo", "Cached")
			if err != nil {
				return 0, err
			}
			for _, tree := range []string{s.tree, second.tree} {
				if _, err := s.job(ctx, Job{Kind: "read", Path: tree + "/big"}); err != nil {
					return 0, err
				}
			}
			after, err := memoryField("/proc/meminfo", "Cached")
			return (after - before) / (1 << 20), err
		},
	}
}

// resident is the resident memory of a process in bytes.
func resident(pid int) (float64, error) {
	return memoryField(fmt.Sprintf("/proc/%d/status", pid), "VmRSS")
}

// memoryField reads a field in kB of a file like /proc/meminfo, as bytes.
func memoryField(path, name string) (float64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, fmt.Errorf("read memory: %w", err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		key, value, _ := strings.Cut(lines.Text(), ":")
		if key != name {
			continue
		}
		number, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(value, "kB")), 64)
		return number * 1024, err
	}
	return 0, fmt.Errorf("read memory: no %s in %s", name, path)
}
