package bench

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
)

const smallBlock = 4096

// dataWorkloads read and write few files.
func dataWorkloads(d dataFolder, c Scale) []*Workload {
	big := onceLayer(func() (string, error) { return d.big(c.BigMiB) })
	size := fmt.Sprintf("%d MiB", c.BigMiB)
	group := "file data"
	file := func(s *sample) string { return s.path("big") }
	read := func(s *sample) Job { return Job{Kind: "read", Path: file(s)} }
	list := []*Workload{
		{
			Name: "append-lower", Group: group, Title: "first append to a lower file of " + size, Layers: big,
			Not: func(t *Target) string {
				if t.bare() {
					return "nothing is copied up"
				}
				return ""
			},
			Measure: once(func(s *sample) Job { return Job{Kind: "append", Path: file(s), Count: 1, Size: 10} }),
		},
		{Name: "read-cold", Group: group, Title: "sequential read of " + size + ", cold", Cold: true, Layers: big, Measure: coldThen(read)},
		{Name: "read-warm", Group: group, Title: "sequential read of " + size + ", warm", Layers: big, Measure: warmThen(read)},
		{Name: "mmap", Group: group, Title: "mmap read of " + size + ", warm", Layers: big, Measure: warmThen(func(s *sample) Job {
			return Job{Kind: "mmap", Path: file(s)}
		})},
		{Name: "random-read", Group: group, Title: "random 4 KiB reads x " + thousands(c.Ops) + ", warm", Layers: big, Measure: func(ctx context.Context, s *sample) (float64, error) {
			if _, err := s.job(ctx, read(s)); err != nil {
				return 0, err
			}
			return s.job(ctx, Job{Kind: "random-read", Path: file(s), Count: c.Ops, Size: smallBlock})
		}},
	}
	return append(list, writeWorkloads(d, c)...)
}

// writeWorkloads write to new files in the upper.
func writeWorkloads(d dataFolder, c Scale) []*Workload {
	group := "file data"
	small := onceLayer(d.links)
	size := int64(c.BigMiB) << 20
	random := func(kind string, count int, sync bool) func(context.Context, *sample) (float64, error) {
		return func(ctx context.Context, s *sample) (float64, error) {
			if _, err := s.job(ctx, Job{Kind: "write", Path: s.path("new"), Size: size / 8, Sync: true}); err != nil {
				return 0, err
			}
			return s.job(ctx, Job{Kind: kind, Path: s.path("new"), Count: count, Size: smallBlock, Sync: sync})
		}
	}
	return []*Workload{
		{Name: "write-fsync", Group: group, Title: fmt.Sprintf("write of %d MiB and fsync", c.BigMiB), Layers: small, Changes: true, Measure: once(func(s *sample) Job {
			return Job{Kind: "write", Path: s.path("new"), Size: size, Sync: true}
		})},
		{Name: "random-write", Group: group, Title: "random 4 KiB writes x " + thousands(c.Ops), Layers: small, Changes: true, Measure: random("random-write", c.Ops, false)},
		{Name: "random-write-fsync", Group: group, Title: "random 4 KiB write+fsync x " + thousands(c.SyncOps), Layers: small, Changes: true, Measure: random("random-write", c.SyncOps, true)},
		{Name: "append-small", Group: group, Title: "appends of 100 bytes x " + thousands(c.Ops), Layers: small, Changes: true, Measure: once(func(s *sample) Job {
			return Job{Kind: "append", Path: s.path("log"), Count: c.Ops, Size: 100}
		})},
		{
			Name: "sqlite", Group: group, Title: "SQLite inserts x " + thousands(c.Inserts), Layers: small, Changes: true, Tools: []string{"sqlite3"},
			Measure: func(ctx context.Context, s *sample) (float64, error) {
				var sql strings.Builder
				sql.WriteString("CREATE TABLE t(id INTEGER PRIMARY KEY, text TEXT);\n")
				for i := range c.Inserts {
					fmt.Fprintf(&sql, "INSERT INTO t(text) VALUES('%s');\n", strings.Repeat(strconv.Itoa(i), 10))
				}
				input := s.scratch + "/input.sql"
				if err := os.WriteFile(input, []byte(sql.String()), 0o644); err != nil {
					return 0, err
				}
				return s.sh(ctx, `sqlite3 -bail db.sqlite <"$1"`, input)
			},
		},
	}
}
