package main

import (
	"context"

	"github.com/unionfs-go/unionfs/cmd/unionfs/internal/tui"
)

func newExploreCommand() *command {
	var opts subjectOptions
	c := &command{
		name:  "explore",
		usage: "[--lower SOURCE]... SUBJECT",
		short: "look through layers, files and their history on the terminal",
		long: `Shows the layers, the tree that a layer and those below it make or what one
layer changes, and of every path what each layer did to it, with the content of
any version and the difference of two. What was deleted or replaced and is
still shipped can be shown with its bytes. ? lists the keys, q quits.

It needs a terminal. For scripts: ls, cat, find, diff, why, waste and extract.
NO_COLOR=1 leaves the colours out.
` + subjectHelp,
		flags: newFlagSet("explore"),
	}
	opts.AddFlags(c.flags)
	c.flags.Lookup("json").Hidden = true
	c.run = func(ctx context.Context, std stdio, args []string) error {
		return runExplore(ctx, std, &opts, args)
	}
	return c
}

func runExplore(ctx context.Context, std stdio, opts *subjectOptions, args []string) error {
	if len(args) != 1 {
		return usagef("it takes one SUBJECT, not %d arguments", len(args))
	}
	subject := args[0]
	if opts.JSON || !isTerminal(std.out) {
		return usagef("it needs a terminal to show things on; to read on or to keep use unionfs ls -lR, diff, why or waste with %s, each with --json too", subject)
	}
	m, err := openSubject(ctx, std, opts, subject)
	if err != nil {
		return err
	}
	defer m.Close()
	return tui.Run(ctx, m, subject, std.in, std.out)
}
