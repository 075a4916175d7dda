// Command unionfs mounts a stack of layers as one writable tree, and turns what
// was changed into a new layer. Each subcommand is one file, cmd_NAME.go; the
// table of them is in commands.go. Called as mount.unionfs, mount.fuse.unionfs
// or fuse-overlayfs it obeys the conventions of those names (mounthelper.go).
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// stdio is where a command reads and writes: data to out, everything else to err.
type stdio struct {
	in  io.Reader
	out io.Writer
	err io.Writer
}

func main() {
	std := stdio{in: os.Stdin, out: os.Stdout, err: os.Stderr}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	code := run(ctx, std, os.Args)
	stop()
	os.Exit(code)
}

// run is main without the process: argv is the whole command line, the result
// is the exit code.
func run(ctx context.Context, std stdio, argv []string) int {
	name, args := "unionfs", []string(nil)
	if len(argv) > 0 {
		name, args = filepath.Base(argv[0]), argv[1:]
	}
	if helper, ok := helperNamed(name); ok {
		return runHelper(ctx, std, helper, args)
	}
	if len(args) == 2 && args[0] == flushCommand {
		err := flushMount(ctx, args[1])
		complain(std, "", err)
		return exitCode(err)
	}
	return runCommand(ctx, std, commands(), args)
}
