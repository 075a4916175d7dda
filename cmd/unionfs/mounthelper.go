package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// helper is a name other than unionfs under which the program is called.
type helper struct {
	name string
	// mount8: called by mount(8), whose helpers have their own flags and exit
	// codes; otherwise by podman, buildah and containerd, as fuse-overlayfs.
	mount8 bool
}

// helperNamed finds the helper of a program name.
func helperNamed(name string) (helper, bool) {
	switch name {
	case "mount.unionfs", "mount.fuse.unionfs", "mount.fuse3.unionfs":
		return helper{name: name, mount8: true}, true
	case "fuse-overlayfs":
		return helper{name: name}, true
	}
	return helper{}, false
}

// helperCall is what a helper's command line asks for.
type helperCall struct {
	opts    MountOptions
	args    []string
	help    bool
	version bool
	fake    bool // mount(8) -f: do everything but the mount
}

// runHelper is the whole program under a helper's name.
func runHelper(ctx context.Context, std stdio, h helper, args []string) int {
	call, err := parseHelper(h, args)
	switch {
	case err != nil:
	case call.version:
		fmt.Fprintf(std.out, "%s: %s\n", h.name, versionText(readVersion()))
		return exitOK
	case call.help:
		fmt.Fprintf(std.out, "usage: %s [SOURCE] MOUNTPOINT -o OPTIONS\n\n%s\n%s", h.name, mountHelp, exitStatus)
		return exitOK
	case call.fake:
		_, err = parseMount(&call.opts, call.args)
	default:
		err = runMount(ctx, std, &call.opts, call.args)
	}
	complain(std, h.name, err)
	return h.exitCode(err)
}

// exitCode is the exit code of an error under the helper's name: that of mount(8)
// or, for fuse-overlayfs, always 1. The code of a daemon is final already.
func (h helper) exitCode(err error) int {
	var silent *silentError
	var usage *usageError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &silent):
		return silent.code
	case h.mount8 && !errors.As(err, &usage):
		return exitMount
	}
	return exitFailure
}

// parseHelper reads a helper's command line. Flags may stand anywhere, single
// letters may be joined, and the value of -o may follow it at once.
func parseHelper(h helper, args []string) (*helperCall, error) {
	call := &helperCall{opts: MountOptions{lenient: true}}
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		var err error
		switch {
		case arg == "--":
			call.args = append(call.args, args...)
			args = nil
		case strings.HasPrefix(arg, "--"):
			err = call.long(arg)
		case strings.HasPrefix(arg, "-") && arg != "-":
			args, err = call.short(h, arg[1:], args)
		default:
			call.args = append(call.args, arg)
		}
		if err != nil {
			return call, err
		}
	}
	return call, nil
}

// long takes one flag of the form --name.
func (c *helperCall) long(arg string) error {
	switch arg {
	case "--help":
		c.help = true
	case "--version":
		c.version = true
	case "--debug":
		c.opts.Debug = true
	case "--foreground":
		c.opts.Foreground = true
	default:
		return usagef("unknown flag %s", arg)
	}
	return nil
}

// short takes the letters of one argument; the value of the last one may be the
// first of rest, which is returned without what was used.
func (c *helperCall) short(h helper, letters string, rest []string) ([]string, error) {
	for i, letter := range letters {
		switch letter {
		case 'o', 't', 'N':
			value := letters[i+1:]
			if value == "" {
				if len(rest) == 0 {
					return rest, usagef("flag -%c needs a value", letter)
				}
				value, rest = rest[0], rest[1:]
			}
			if letter == 'o' {
				c.opts.Options = append(c.opts.Options, value)
			}
			return rest, nil
		case 'f':
			if h.mount8 {
				c.fake = true
			} else {
				c.opts.Foreground = true
			}
		case 'd':
			c.opts.Debug = true
		case 'h':
			c.help = true
		case 'V':
			c.version = true
		case 's', 'n', 'v', 'w':
			// Sloppy, no mtab, verbose, read-write: nothing to do differently.
		case 'r':
			c.opts.ReadOnly = true
		default:
			return rest, usagef("unknown flag -%c", letter)
		}
	}
	return rest, nil
}
