package main

import (
	"fmt"
	"io"

	"github.com/unionfs-go/unionfs/internal/mountopt"
)

// runHelp is `unionfs help [COMMAND...]`.
func runHelp(std stdio, table []*command, args []string) int {
	if len(args) == 0 {
		printHelp(std.out, table)
		return exitOK
	}
	path := ""
	var cmd *command
	for _, a := range args {
		if cmd = find(table, a); cmd == nil {
			complain(std, "help", usagef("no command %q%s; see unionfs --help", a, nearest(table, a)))
			return exitUsage
		}
		if path != "" {
			path += " "
		}
		path += cmd.name
		table = cmd.sub
	}
	cmd.printHelp(std.out, path)
	return exitOK
}

// nearest is ", did you mean X?" when a command's name is close to name.
func nearest(table []*command, name string) string {
	var names []string
	for _, c := range table {
		names = append(names, c.name)
	}
	if best, ok := mountopt.Nearest(name, names); ok {
		return fmt.Sprintf(", did you mean %q?", best)
	}
	return ""
}

func printHelp(w io.Writer, table []*command) {
	fmt.Fprint(w, `unionfs mounts a stack of layers as one writable tree.

USAGE
  unionfs COMMAND [FLAGS] ARGUMENTS
  unionfs -o lowerdir=TOP:...:BOTTOM[,upperdir=U,workdir=W] MOUNTPOINT

COMMANDS
`)
	printList(w, table)
	fmt.Fprint(w, "\nMore about one of them: unionfs help COMMAND\n\n", exitStatus)
}

func printList(w io.Writer, table []*command) {
	for _, c := range table {
		if c.hidden {
			continue
		}
		fmt.Fprintf(w, "  %-10s %s\n", c.name, c.short)
	}
}

// printHelp prints the help text of one command.
func (c *command) printHelp(w io.Writer, path string) {
	usage := c.usage
	if c.sub != nil {
		usage = "COMMAND"
	}
	fmt.Fprintf(w, "unionfs %s: %s.\n\nUSAGE\n  unionfs %s %s\n", path, c.short, path, usage)
	if c.long != "" {
		fmt.Fprintf(w, "\n%s", c.long)
	}
	if c.sub != nil {
		fmt.Fprint(w, "\nCOMMANDS\n")
		printList(w, c.sub)
	}
	if c.flags != nil && c.flags.HasFlags() {
		fmt.Fprintf(w, "\nFLAGS\n%s", c.flags.FlagUsages())
	}
	fmt.Fprintf(w, "\n%s", exitStatus)
}
