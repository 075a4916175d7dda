package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/pflag"
)

// command is one subcommand of unionfs.
type command struct {
	name  string // one word
	usage string // what follows the name: "[--json] PATH"
	short string // one line without a full stop, for the list of commands
	long  string // what the command does, ready wrapped, ending in a newline
	flags *pflag.FlagSet
	// hidden leaves the command out of the list of commands.
	hidden bool
	// run does the work. args are the arguments that are no flags. Its error is
	// printed and becomes the exit code, see exitCode.
	run func(ctx context.Context, std stdio, args []string) error
	sub []*command // subcommands; then run is nil
}

// newFlagSet makes the flag set of a command: errors are returned, nothing is
// printed.
func newFlagSet(name string) *pflag.FlagSet {
	fs := pflag.NewFlagSet(name, pflag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	fs.SortFlags = false
	return fs
}

// commands is the table of all commands, in the order of the help text.
func commands() []*command {
	return []*command{
		newMountCommand(),
		newUmountCommand(),
		newPsCommand(),
		newPackCommand(),
		newCommitCommand(),
		newImageCommand(),
		newDfCommand(),
		newDiffCommand(),
		newWhyCommand(),
		newLsCommand(),
		newCatCommand(),
		newFindCommand(),
		newExtractCommand(),
		newWasteCommand(),
		newCheckCommand(),
		newExploreCommand(),
		newBenchCommand(),
		newDoctorCommand(),
		newVersionCommand(),
		newDemoImageCommand(),
	}
}

// runCommand finds the command that args name in the table, runs it and returns
// the exit code. Options without a command are those of mount, as fuse-overlayfs
// takes them.
func runCommand(ctx context.Context, std stdio, table []*command, args []string) int {
	if len(args) == 0 {
		printHelp(std.err, table)
		return exitUsage
	}
	switch args[0] {
	case "--help", "-h":
		printHelp(std.out, table)
		return exitOK
	case "--version", "-V":
		args = []string{"version"}
	case "help":
		return runHelp(std, table, args[1:])
	}
	if strings.HasPrefix(args[0], "-") {
		args = append([]string{"mount"}, args...)
	}
	cmd := find(table, args[0])
	if cmd == nil {
		complain(std, "", usagef("no command %q%s; see unionfs --help", args[0], nearest(table, args[0])))
		return exitUsage
	}
	return cmd.execute(ctx, std, cmd.name, args[1:])
}

// execute parses the flags of c, whose name with those of the commands above it
// is path, and runs it.
func (c *command) execute(ctx context.Context, std stdio, path string, args []string) int {
	if c.sub != nil {
		return c.dispatch(ctx, std, path, args)
	}
	err := c.flags.Parse(args)
	if errors.Is(err, pflag.ErrHelp) {
		c.printHelp(std.out, path)
		return exitOK
	}
	if err != nil {
		err = usagef("%v; see unionfs %s --help", err, path)
	} else {
		err = c.run(ctx, std, c.flags.Args())
	}
	complain(std, path, err)
	return exitCode(err)
}

// dispatch runs the subcommand of c that args begin with.
func (c *command) dispatch(ctx context.Context, std stdio, path string, args []string) int {
	if len(args) == 0 {
		c.printHelp(std.err, path)
		return exitUsage
	}
	if args[0] == "--help" || args[0] == "-h" || args[0] == "help" {
		c.printHelp(std.out, path)
		return exitOK
	}
	sub := find(c.sub, args[0])
	if sub == nil {
		complain(std, path, usagef("no command %q%s; see unionfs %s --help", args[0], nearest(c.sub, args[0]), path))
		return exitUsage
	}
	return sub.execute(ctx, std, path+" "+sub.name, args[1:])
}

// complain prints an error as "unionfs: COMMAND: message". Silent errors and
// none print nothing.
func complain(std stdio, path string, err error) {
	var silent *silentError
	if err == nil || errors.As(err, &silent) {
		return
	}
	if path != "" {
		path += ": "
	}
	fmt.Fprintf(std.err, "unionfs: %s%s\n", path, strings.TrimRight(err.Error(), "\n"))
}

func find(table []*command, name string) *command {
	for _, c := range table {
		if c.name == name {
			return c
		}
	}
	return nil
}
