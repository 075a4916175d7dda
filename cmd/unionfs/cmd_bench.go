package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/bench"
)

// benchOptions are the flags of bench.
type benchOptions struct {
	Quick, Rootless, JSON, Messages, Worker bool

	Dir, Data, Only string
	HTML, SVG       string
	Targets, Peers  []string
	Rounds          int
	Seed            uint64
}

// AddFlags declares the flags.
func (o *benchOptions) AddFlags(f *pflag.FlagSet) {
	f.BoolVar(&o.Quick, "quick", false, "small data, about two minutes")
	f.StringVar(&o.Only, "only", "", "run the workloads whose name matches this `REGEX`, slow ones too")
	f.StringSliceVar(&o.Targets, "targets", nil, "measure these targets only: bare, kernel, fuse-overlayfs, unionfs, `NAME`-rootless")
	f.StringArrayVar(&o.Peers, "peer", nil, "measure a further filesystem, `NAME=COMMAND` with %l lower directories, %u upper, %w work, %m mountpoint; may be repeated")
	f.BoolVar(&o.Rootless, "rootless", false, "also measure inside a user namespace (without root: only there)")
	f.IntVar(&o.Rounds, "rounds", 5, "samples of each workload on each target")
	f.StringVar(&o.Dir, "dir", os.TempDir(), "where mounts and upper directories are made: the filesystem measured on")
	f.StringVar(&o.Data, "data", "", "folder with the data sets of scripts/bench-data.sh (default $UNIONFS_BENCH_DATA or ~/.cache/unionfs-bench)")
	f.Uint64Var(&o.Seed, "seed", 0, "start of the random order (default: a new one, which is printed)")
	f.BoolVar(&o.Messages, "messages", false, "count the FUSE messages of single operations instead (needs root)")
	f.BoolVar(&o.JSON, "json", false, "print JSON")
	f.StringVar(&o.HTML, "html", "", "also write a page with table and bars to `FILE`")
	f.StringVar(&o.SVG, "svg", "", "also draw the ratios as bars into `FILE`")
	f.BoolVar(&o.Worker, "worker", false, "do one job that is read as JSON from standard input")
	_ = f.MarkHidden("worker") // it is declared one line above
}

const benchLong = `Measures unionfs beside a plain directory, the kernel's overlayfs and
fuse-overlayfs: the same workloads over the same layers, in random order in each
round, each on a fresh mount. Prints medians, their spread, the ratio to the
kernel in the same run and geometric means. Targets and workloads that cannot
run are listed with the reason. Everything is cleaned up, also after Ctrl-C.

The trees it works on are made once by scripts/bench-data.sh.
`

func newBenchCommand() *command {
	var opts benchOptions
	c := &command{
		name:  "bench",
		usage: "[--quick] [--only REGEX] [--rootless] [--html FILE] ...",
		short: "measure it beside the kernel's overlayfs and peers",
		long:  benchLong,
		flags: newFlagSet("bench"),
	}
	opts.AddFlags(c.flags)
	c.run = func(ctx context.Context, std stdio, args []string) error {
		if len(args) > 0 {
			return usagef("takes no arguments")
		}
		if opts.Worker {
			return bench.Worker(std.in, std.out)
		}
		return runBench(ctx, std, opts)
	}
	return c
}

func runBench(ctx context.Context, std stdio, o benchOptions) error {
	opts, err := o.build(std)
	if err != nil {
		return err
	}
	if o.Messages {
		return runBenchMessages(ctx, std, o, opts)
	}
	fmt.Fprintf(std.err, "unionfs: bench: seed %d\n", opts.Seed)
	report, err := bench.Run(ctx, opts)
	clearLine(std.err)
	if report == nil {
		return err
	}
	print := report.WriteText
	if o.JSON {
		print = func(w io.Writer) error { return printJSON(w, report) }
	}
	return errors.Join(err, print(std.out), writeTo(o.HTML, report.WriteHTML), writeTo(o.SVG, report.WriteSVG))
}

// runBenchMessages is bench --messages.
func runBenchMessages(ctx context.Context, std stdio, o benchOptions, opts bench.Options) error {
	counts, err := bench.CountMessages(ctx, opts)
	if err != nil {
		return err
	}
	if o.JSON {
		return printJSON(std.out, counts)
	}
	return counts.WriteText(std.out)
}

// build turns the flags into the options of a run.
func (o benchOptions) build(std stdio) (bench.Options, error) {
	exe, err := os.Executable()
	if err != nil {
		return bench.Options{}, fmt.Errorf("find own binary: %w", err)
	}
	info := readVersion()
	opts := bench.Options{
		Dir: o.Dir, Data: o.Data, Unionfs: exe, Worker: []string{exe, "bench", "--worker"},
		Targets: o.Targets, Rootless: o.Rootless || os.Geteuid() != 0, Rounds: o.Rounds, Seed: o.Seed,
		Scale: bench.FullScale(), Log: benchLog{std.err}, Version: info.Version, Commit: info.Commit,
	}
	if info.Dirty {
		opts.Commit += " (changed)"
	}
	if o.Quick {
		opts.Scale, opts.Budget = bench.QuickScale(), 2*time.Minute
	}
	if o.Only != "" {
		if opts.Only, err = regexp.Compile(o.Only); err != nil {
			return opts, usagef("read --only: %v", err)
		}
	}
	for _, text := range o.Peers {
		peer, err := bench.ParsePeer(text)
		if err != nil {
			return opts, usagef("%v", err)
		}
		opts.Peers = append(opts.Peers, peer)
	}
	if opts.Data == "" {
		opts.Data = defaultBenchData()
	}
	if opts.Seed == 0 {
		opts.Seed = rand.Uint64N(1 << 32)
	}
	if isTerminal(std.err) {
		opts.Progress = func(p bench.Progress) { showProgress(std.err, p) }
	}
	return opts, nil
}

func defaultBenchData() string {
	if dir := os.Getenv("UNIONFS_BENCH_DATA"); dir != "" {
		return dir
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	return filepath.Join(cache, "unionfs-bench")
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// showProgress overwrites one line of a terminal.
func showProgress(w io.Writer, p bench.Progress) {
	left := ""
	if p.Left > 0 {
		left = fmt.Sprintf(", %s left", p.Left.Round(time.Second))
	}
	if p.Total == 0 {
		fmt.Fprintf(w, "\r\x1b[K%s", p.Workload)
		return
	}
	fmt.Fprintf(w, "\r\x1b[K%d/%d round %d%s: %s on %s", p.Done+1, p.Total, p.Round, left, p.Workload, p.Target)
}

func clearLine(w io.Writer) {
	if isTerminal(w) {
		fmt.Fprint(w, "\r\x1b[K")
	}
}

// benchLog prints messages over the progress line.
type benchLog struct{ w io.Writer }

func (l benchLog) Write(p []byte) (int, error) {
	clearLine(l.w)
	fmt.Fprintf(l.w, "unionfs: bench: %s", p)
	return len(p), nil
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// writeTo makes a file of a report; no name is no file.
func writeTo(name string, write func(io.Writer) error) error {
	if name == "" {
		return nil
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}
