package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/unionfs-go/unionfs/internal/mountopt"
)

// The names of the targets that others are compared with.
const (
	bareName           = "bare"
	kernelName         = "kernel"
	kernelRootlessName = "kernel-rootless"
)

// stack is what a target mounts: layers, the first on top, and the directories
// of the mount. Upper, Work and Point exist and are empty, but for what the
// workload put into Upper.
type stack struct {
	Lowers             []string
	Upper, Work, Point string
}

// Target is a filesystem that can be measured.
type Target struct {
	Name string
	// Baseline is the target whose time the ratio is taken to.
	Baseline string
	// Skipped says why it cannot run; empty when it can.
	Skipped string
	// command is the command line that mounts a stack; nil for a plain
	// directory.
	command func(stack) []string
	// fuse says that a daemon serves the mount.
	fuse bool
	// relative says that the command is run in the parent of the layers and gets
	// their bare names when they have one parent: mount(2) takes 4 KiB of
	// options.
	relative bool
	space    *space
}

func (t *Target) bare() bool { return t.command == nil }

// Peer is a further filesystem: a name and the command line that mounts it,
// where %l stands for the lower directories (colons between them, top first),
// %u for the upper, %w for the work directory and %m for the mountpoint.
type Peer struct {
	Name     string
	Template string
}

// ParsePeer reads NAME=CMD-TEMPLATE. The template is split at white space; there
// are no quotes.
func ParsePeer(text string) (Peer, error) {
	name, template, ok := strings.Cut(text, "=")
	if !ok || name == "" || strings.TrimSpace(template) == "" {
		return Peer{}, fmt.Errorf("parse peer %q: it must look like NAME=COMMAND -o lowerdir=%%l,upperdir=%%u,workdir=%%w %%m", text)
	}
	for _, verb := range []string{"%l", "%m"} {
		if !strings.Contains(template, verb) {
			return Peer{}, fmt.Errorf("parse peer %q: the command must contain %s", text, verb)
		}
	}
	return Peer{Name: name, Template: template}, nil
}

// commandLine is the peer's command for a stack.
func (p Peer) commandLine(s stack) []string {
	r := strings.NewReplacer("%l", mountopt.JoinLayers(s.Lowers), "%u", s.Upper, "%w", s.Work, "%m", s.Point, "%%", "%")
	var argv []string
	for _, word := range strings.Fields(p.Template) {
		argv = append(argv, r.Replace(word))
	}
	return argv
}

// fuseOverlayfs is the peer that is measured when it is installed.
var fuseOverlayfs = Peer{Name: "fuse-overlayfs", Template: "fuse-overlayfs -o lowerdir=%l,upperdir=%u,workdir=%w %m"}

// unionfsMode is one way of running unionfs, a target of its own.
type unionfsMode struct {
	suffix  string   // added to the target's name
	options []string // of the mount
	rights  func(rootless bool) string
}

// unionfsModes are the modes measured; rights says why one cannot run.
var unionfsModes = []unionfsMode{
	{suffix: "", options: []string{"io=cached"}},
}

// kernelCommand mounts overlayfs; userxattr is how it must be in a user
// namespace.
func kernelCommand(userxattr bool) func(stack) []string {
	return func(s stack) []string {
		opts := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", mountopt.JoinLayers(s.Lowers), s.Upper, s.Work)
		if userxattr {
			opts += ",userxattr"
		}
		return []string{"mount", "-t", "overlay", "overlay", "-o", opts, s.Point}
	}
}

func unionfsCommand(binary string, mode unionfsMode) func(stack) []string {
	return func(s stack) []string {
		argv := []string{binary, "mount", "--upper", s.Upper, "--work", s.Work, "--log", s.Upper + ".log"}
		for _, o := range mode.options {
			argv = append(argv, "-o", o)
		}
		return append(append(argv, s.Lowers...), s.Point)
	}
}

// allTargets are the targets of a run; user is nil without --rootless.
func allTargets(opts Options, host, user *space) []*Target {
	list := []*Target{
		{Name: bareName, Baseline: kernelName, space: host},
		{Name: kernelName, Baseline: kernelName, command: kernelCommand(false), relative: true, space: host},
	}
	list = append(list, fuseTargets(opts, host, false)...)
	if user != nil {
		list = append(list, &Target{
			Name: kernelRootlessName, Baseline: kernelRootlessName,
			command: kernelCommand(true), relative: true, space: user,
		})
		list = append(list, fuseTargets(opts, user, true)...)
	}
	for _, t := range list {
		if len(opts.Targets) > 0 && !slices.Contains(opts.Targets, t.Name) {
			t.Skipped = "not asked for"
		}
	}
	return slices.DeleteFunc(list, func(t *Target) bool { return t.Skipped == "not asked for" })
}

func fuseTargets(opts Options, where *space, rootless bool) []*Target {
	suffix, baseline := "", kernelName
	if rootless {
		suffix, baseline = "-rootless", kernelRootlessName
	}
	var list []*Target
	for _, p := range append([]Peer{fuseOverlayfs}, opts.Peers...) {
		t := &Target{Name: p.Name + suffix, Baseline: baseline, command: p.commandLine, fuse: true, space: where}
		if _, err := exec.LookPath(strings.Fields(p.Template)[0]); err != nil {
			t.Skipped = err.Error()
		}
		list = append(list, t)
	}
	for _, mode := range unionfsModes {
		t := &Target{
			Name: "unionfs" + suffix + mode.suffix, Baseline: baseline,
			command: unionfsCommand(opts.Unionfs, mode), fuse: true, space: where,
		}
		if mode.rights != nil {
			t.Skipped = mode.rights(rootless)
		}
		list = append(list, t)
	}
	return list
}

// probe mounts an empty layer once, to find out whether the target can run.
func (t *Target) probe(ctx context.Context, dir string) (err error) {
	if t.bare() {
		return nil
	}
	lower, err := os.MkdirTemp(dir, "lower-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(lower)) }()
	m, err := t.mount(ctx, dir, []string{lower}, nil)
	if err != nil {
		return err
	}
	_, err = t.space.job(ctx, Job{Kind: "create", Other: m.tree + "/probe", Count: 1, Size: 1})
	return errors.Join(err, m.unmount())
}
