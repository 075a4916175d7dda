package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"
)

// MessageReport is the number of FUSE messages of single operations, by target.
type MessageReport struct {
	Schema     int               `json:"schema"`
	Kernel     string            `json:"kernel"`
	Versions   map[string]string `json:"versions"`
	Operations []MessageCounts   `json:"operations"`
	Skipped    []TargetReport    `json:"skipped,omitempty"`
}

// MessageCounts are the messages that one operation sent, by kind, on one
// target. FORGET is not among them: the kernel does not trace it.
type MessageCounts struct {
	Operation string         `json:"operation"`
	Target    string         `json:"target"`
	Total     int            `json:"total"`
	Kinds     map[string]int `json:"kinds"`
	Error     string         `json:"error,omitempty"`
}

// CountMessages counts the FUSE messages of the operations in the list of
// operations, on each FUSE target. The kernel does the counting (trace event
// fuse:fuse_request_send, Linux 6.11), so that it works for any daemon.
func CountMessages(ctx context.Context, opts Options) (report *MessageReport, err error) {
	if !isRoot() {
		return nil, errors.New("count messages: reading the kernel's trace events needs root")
	}
	r, err := newRunner(opts)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, removeTree(r.dir)) }()
	trace, err := openTrace(r.dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, trace.close()) }()
	r.targets = allTargets(opts, &space{worker: opts.Worker}, nil)
	r.probeTargets(ctx)
	env := readEnvironment(opts, r.dir)
	report = &MessageReport{Schema: Schema, Kernel: env.Kernel, Versions: env.Versions}
	lower, err := operationsLayer(r.dir)
	if err != nil {
		return nil, err
	}
	for _, t := range r.targets {
		if !t.fuse {
			continue
		}
		if t.Skipped != "" {
			report.Skipped = append(report.Skipped, TargetReport{Name: t.Name, Baseline: t.Baseline, Skipped: t.Skipped})
			continue
		}
		for _, op := range operations() {
			if opts.Only != nil && !opts.Only.MatchString(op.name) {
				continue
			}
			counts := r.countOne(ctx, trace, t, lower, op)
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			report.Operations = append(report.Operations, counts)
		}
	}
	return report, nil
}

// operation is something whose messages are counted, on a fresh mount.
type operation struct {
	name    string
	prepare []Job // their paths are relative to the tree
	job     Job
}

// operationsLayer is a layer with the files that the operations use.
func operationsLayer(dir string) (string, error) {
	lower := filepath.Join(dir, "operations")
	tree := filepath.Join(lower, "tree")
	if err := errors.Join(os.Mkdir(lower, 0o755), makeFiles(tree, 200), os.Mkdir(filepath.Join(lower, "links"), 0o755)); err != nil {
		return "", err
	}
	return lower, errors.Join(
		os.WriteFile(filepath.Join(lower, "small"), randomBytes(2048), 0o644),
		os.Symlink("../small", filepath.Join(lower, "links", "l")),
	)
}

// operations are the rows of the message table.
func operations() []operation {
	shell := func(text string) Job { return Job{Kind: "exec", Argv: []string{"sh", "-c", text}} }
	read := Job{Kind: "open", Path: "tree", Count: 200, Sync: true}
	find := shell(`find tree -printf '%s\n' >/dev/null`)
	grep := shell(`grep -r nothing tree || true`)
	created := Job{Kind: "create", Other: "new", Count: 100, Size: 100}
	return []operation{
		{"stat of 200 files, cold", nil, shell(`stat -c %s tree/* >/dev/null`)},
		{"stat x 1000, warm", nil, Job{Kind: "stat", Path: "tree", Count: 1000, Gate: true}},
		{"missing names x 1000, warm", nil, Job{Kind: "negative", Path: "tree", Count: 1000, Gate: true}},
		{"readlink x 1000, warm", nil, Job{Kind: "readlink", Path: "links", Count: 1000, Gate: true}},
		{"find of 200 files, cold", nil, find},
		{"find of 200 files, warm", []Job{find}, find},
		{"open+read+close of 200 files, cold", []Job{find}, Job{Kind: "open", Path: "tree", Count: 200, Sync: true, Gate: true}},
		{"open+read+close of 200 files, warm", []Job{read}, Job{Kind: "open", Path: "tree", Count: 200, Gate: true}},
		{"mmap of a file, warm", []Job{{Kind: "mmap", Path: "small"}}, Job{Kind: "mmap", Path: "small"}},
		{"grep -r of 200 files, second", []Job{grep}, grep},
		{"grep -r of 200 files, third", []Job{grep, grep}, grep},
		{"create of 100 files", nil, created},
		{"100 appends to a new file", nil, Job{Kind: "append", Path: "log", Count: 100, Size: 100}},
		{"overwrite of an upper file", []Job{shell(`echo a >f`)}, shell(`echo b >f`)},
		{"chmod of a lower file", nil, shell(`chmod 600 small`)},
		{"rename of an upper file", []Job{shell(`echo a >f`)}, shell(`mv f g`)},
		{"mkdir", nil, shell(`mkdir d`)},
		{"cp -r of 200 files", []Job{read}, shell(`cp -r tree copy`)},
		{"rm -rf of 200 lower files", []Job{find}, shell(`rm -rf tree`)},
		{"untar of 200 files", []Job{shell(`tar -C tree -cf ../t.tar .`), shell(`mkdir x`)}, shell(`tar -C x -xf ../t.tar`)},
	}
}

// countOne mounts, prepares, and counts the messages of one operation.
func (r *runner) countOne(ctx context.Context, trace *trace, t *Target, lower string, op operation) (counts MessageCounts) {
	counts = MessageCounts{Operation: op.name, Target: t.Name, Kinds: map[string]int{}}
	note := func(err error) {
		if err != nil && counts.Error == "" {
			counts.Error = err.Error()
		}
	}
	m, err := t.mount(ctx, r.dir, []string{lower}, nil)
	if err != nil {
		note(err)
		return counts
	}
	defer func() { note(m.unmount()) }()
	for _, job := range op.prepare {
		if _, err := t.space.job(ctx, below(m.tree, job)); err != nil {
			note(err)
			return counts
		}
	}
	kinds, err := trace.count(m.device, func(begin func() error) error {
		return gated(ctx, t.space, below(m.tree, op.job), begin)
	})
	note(err)
	counts.Kinds = kinds
	for _, n := range kinds {
		counts.Total += n
	}
	return counts
}

// gated runs a job; for one with a gate begin is called when it has prepared
// itself, for others before it.
func gated(ctx context.Context, s *space, job Job, begin func() error) error {
	if !job.Gate {
		if err := begin(); err != nil {
			return err
		}
		_, err := s.job(ctx, job)
		return err
	}
	c, err := startClient(s.command(ctx, "", s.worker...), job)
	if err != nil {
		return err
	}
	if err := errors.Join(begin(), c.start()); err != nil {
		return c.abandon(err)
	}
	_, err = c.finish()
	return err
}

// below puts the names of a job into a tree.
func below(tree string, job Job) Job {
	if job.Path != "" {
		job.Path = filepath.Join(tree, job.Path)
	}
	if job.Other != "" {
		job.Other = filepath.Join(tree, job.Other)
	}
	if job.Kind == "exec" {
		job.Dir = tree
	}
	return job
}

// trace is an instance of the kernel's tracing with the event of sent FUSE
// requests on (Documentation/trace/ftrace.rst, "Instances").
type trace struct{ root, dir string }

func openTrace(dir string) (*trace, error) {
	t := &trace{root: filepath.Join(dir, "tracing")}
	if err := os.Mkdir(t.root, 0o700); err != nil {
		return nil, err
	}
	if err := unix.Mount("tracefs", t.root, "tracefs", 0, ""); err != nil {
		return nil, fmt.Errorf("mount tracefs on %s: %w", t.root, err)
	}
	t.dir = filepath.Join(t.root, "instances", filepath.Base(dir))
	err := os.Mkdir(t.dir, 0o700)
	if err == nil {
		err = os.WriteFile(filepath.Join(t.dir, "buffer_size_kb"), []byte("8192"), 0)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(t.dir, "events/fuse/fuse_request_send/enable"), []byte("1"), 0)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("trace FUSE requests (event fuse:fuse_request_send, Linux 6.11): %w", err), t.close())
	}
	return t, nil
}

func (t *trace) close() error {
	err := os.Remove(t.dir)
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, unix.Unmount(t.root, 0))
}

// sentLine is a line of the trace about a request that was sent.
var sentLine = regexp.MustCompile(`fuse_request_send: connection (\d+) req \d+ opcode (\d+) \((?:FUSE_)?(\w+)\)`)

// count returns the messages on the connection of a device (its minor number)
// after do has called begin, and a moment longer for asynchronous ones.
func (t *trace) count(device uint64, do func(begin func() error) error) (map[string]int, error) {
	file := filepath.Join(t.dir, "trace")
	begin := func() error {
		time.Sleep(100 * time.Millisecond)
		return os.WriteFile(file, nil, 0) // being opened for that empties it
	}
	if err := do(begin); err != nil {
		return nil, err
	}
	time.Sleep(100 * time.Millisecond)
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read trace: %w", err)
	}
	return parseTrace(string(data), device), nil
}

// newKinds are the opcodes that the kernel's trace has no names for (fuse.h).
var newKinds = map[string]string{"53": "COPY_FILE_RANGE_64"}

func parseTrace(text string, device uint64) map[string]int {
	kinds := make(map[string]int)
	for _, found := range sentLine.FindAllStringSubmatch(text, -1) {
		if found[1] != strconv.FormatUint(device, 10) {
			continue
		}
		kind := found[3]
		if name, ok := newKinds[found[2]]; ok {
			kind = name
		}
		kinds[kind]++
	}
	return kinds
}

// WriteText prints the counts as a table.
func (r *MessageReport) WriteText(w io.Writer) error {
	fmt.Fprintf(w, "FUSE messages of each operation, Linux %s\n\n", r.Kernel)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "operation\ttarget\tmessages\tby kind")
	for _, c := range r.Operations {
		text := c.Error
		if text == "" {
			text = kindsText(c.Kinds)
		}
		fmt.Fprintf(tw, "%s\t%s\t%d\t%s\n", c.Operation, c.Target, c.Total, text)
	}
	if err := tw.Flush(); err != nil {
		return fmt.Errorf("print message counts: %w", err)
	}
	for _, t := range r.Skipped {
		fmt.Fprintf(w, "\n%s: %s\n", t.Name, t.Skipped)
	}
	return nil
}

// kindsText lists the kinds, the most frequent first.
func kindsText(kinds map[string]int) string {
	names := slices.SortedFunc(maps.Keys(kinds), func(a, b string) int {
		if kinds[a] != kinds[b] {
			return kinds[b] - kinds[a]
		}
		return strings.Compare(a, b)
	})
	for i, name := range names {
		names[i] = fmt.Sprintf("%s %d", name, kinds[name])
	}
	return strings.Join(names, ", ")
}
