package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	iofs "io/fs"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/control"
	"github.com/unionfs-go/unionfs/mountinfo"
)

// psOptions are the flags of ps.
type psOptions struct {
	JSON bool
}

// AddFlags declares the flags.
func (o *psOptions) AddFlags(f *pflag.FlagSet) {
	f.BoolVar(&o.JSON, "json", false, "print JSON")
}

// The states of a mount.
const (
	stateRunning     = "running"
	stateDead        = "dead"        // its daemon was killed
	stateUnreachable = "unreachable" // its daemon does not answer here
	stateDenied      = "denied"      // it is another user's
)

// mountState is one mount as ps --json prints it.
type mountState struct {
	control.Status
	State string `json:"state"`
	Age   int64  `json:"age_seconds"`
}

func newPsCommand() *command {
	var opts psOptions
	c := &command{
		name:  "ps",
		usage: "[--json]",
		short: "list live mounts",
		long: `Lists the mounts of unionfs in this mount namespace. A mount whose daemon was
killed is shown as dead: unionfs umount MOUNTPOINT removes it, and mounting again
with the same upper directory finds all that was synced.
`,
		flags: newFlagSet("ps"),
	}
	opts.AddFlags(c.flags)
	c.run = func(ctx context.Context, std stdio, args []string) error {
		return runPs(ctx, std, opts, args)
	}
	return c
}

func runPs(ctx context.Context, std stdio, opts psOptions, args []string) error {
	if len(args) > 0 {
		return usagef("takes no arguments")
	}
	table, err := mountinfo.Mounts()
	if err != nil {
		return err
	}
	states := []mountState{}
	for _, m := range table.Ours() {
		states = append(states, stateOf(ctx, &m))
	}
	if opts.JSON {
		enc := json.NewEncoder(std.out)
		enc.SetIndent("", "  ")
		return enc.Encode(states)
	}
	printStates(std, states)
	return nil
}

// answerTime is how long ps waits for one daemon.
const answerTime = 3 * time.Second

// stateOf asks a mount's daemon, or finds out why it does not answer.
func stateOf(ctx context.Context, m *mountinfo.Info) mountState {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	st := mountState{State: stateUnreachable}
	client, err := dialMount(m)
	if err == nil {
		st.Status, err = client.Status(ctx)
		_ = client.Close()
	}
	switch {
	case err == nil:
		st.State = stateRunning
		st.Age = int64(time.Since(st.Started).Seconds())
	case errors.Is(err, control.ErrNoDaemon) && isDead(ctx, m.Mountpoint):
		st.State = stateDead
	case errors.Is(err, iofs.ErrPermission):
		st.State = stateDenied
	}
	// What the table says is so even if the mount was moved.
	st.Mountpoint, st.Source = m.Mountpoint, m.Source
	if st.Layers == nil {
		st.Layers = []control.Layer{}
	}
	return st
}

// isDead tells whether a mount's connection has ended. Another process than the
// daemon may ask, but a daemon that hangs would not answer: ctx bounds that.
func isDead(ctx context.Context, mountpoint string) bool {
	dead := make(chan bool, 1)
	go func() {
		var st unix.Statfs_t
		dead <- errors.Is(unix.Statfs(mountpoint, &st), unix.ENOTCONN)
	}()
	select {
	case d := <-dead:
		return d
	case <-ctx.Done():
		return false
	}
}

func printStates(std stdio, states []mountState) {
	w := tabwriter.NewWriter(std.out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "MOUNTPOINT\tLAYERS\tUPPER\tPID\tIO\tAGE")
	var hints []string
	for _, s := range states {
		if s.State != stateRunning {
			fmt.Fprintf(w, "%s\t-\t-\t-\t%s\t-\n", printable(s.Mountpoint), s.State)
			if s.State == stateDead {
				hints = append(hints, fmt.Sprintf("%s: its daemon is dead; remove it: unionfs umount %[1]s", printable(s.Mountpoint)))
			}
			continue
		}
		upper := s.Upper
		switch {
		case s.Ephemeral:
			upper = "(ephemeral)"
		case upper == "":
			upper = "(read-only)"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%s\n", printable(s.Mountpoint), layersText(s.Status), printable(upper), s.PID, s.IO, ageText(s.Age))
	}
	_ = w.Flush() // a reader that went away needs no list
	for _, h := range hints {
		fmt.Fprintln(std.err, "unionfs: ps: "+h)
	}
}

// layersText is the number of layers and, when one word says it, what they are.
func layersText(s control.Status) string {
	switch {
	case s.Image != "" && s.ImageLayers == len(s.Layers):
		return fmt.Sprintf("%d %s", len(s.Layers), printable(s.Image))
	case s.Image != "":
		return fmt.Sprintf("%d +%s", len(s.Layers), printable(s.Image))
	case len(s.Layers) == 1:
		return "1 " + printable(s.Layers[0].Name)
	}
	return fmt.Sprint(len(s.Layers))
}

// printable keeps a path from breaking the table.
func printable(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return fmt.Sprintf("%q", s)
	}
	return s
}

// ageText is a duration in seconds as its largest unit.
func ageText(seconds int64) string {
	switch {
	case seconds < 60:
		return fmt.Sprintf("%ds", seconds)
	case seconds < 3600:
		return fmt.Sprintf("%dm", seconds/60)
	case seconds < 48*3600:
		return fmt.Sprintf("%dh", seconds/3600)
	}
	return fmt.Sprintf("%dd", seconds/86400)
}
