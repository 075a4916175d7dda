package main

import (
	"context"
	"fmt"

	"github.com/unionfs-go/unionfs/internal/inspect"
)

const findHelp = `Prints the paths that meet all words of the expression; "!" before a word turns it
round. Without a word about the state or the layer only what is shown is looked
at, else every version of every layer.

  name:GLOB  path:GLOB    GLOB alone is a name; path: also means all below it
  size>10M                < > <= >= =; k M G are powers of 1000, Ki Mi Gi of 1024
  mode:suid               sgid setid sticky writable (by everybody), or octal digits
  owner:UID[:GID]  group:GID
  type:f                  f d l c b p s
  layer:N                 the version of layer N
  state:deleted           visible hidden deleted overwritten whiteout
  xattr:TEXT              an attribute with TEXT in its name; cap: capabilities
`

func newFindCommand() *command {
	var opts subjectOptions
	long := false
	c := &command{
		name:  "find",
		usage: "[-l] [--json] SUBJECT[:PATH] WORD...",
		short: "find files by size, mode, owner, layer, state or attribute",
		long:  findHelp + subjectHelp,
		flags: newFlagSet("find"),
	}
	c.flags.BoolVarP(&long, "long", "l", false, "print mode, owner, size and layer")
	opts.AddFlags(c.flags)
	c.run = func(ctx context.Context, std stdio, args []string) error {
		if len(args) == 0 {
			return usagef("no SUBJECT given")
		}
		f, err := inspect.ParseFilter(args[1:])
		if err != nil {
			return usagef("%v; see unionfs find --help", err)
		}
		subject, path := splitSubject(args[0])
		m, err := openSubject(ctx, std, &opts, subject)
		if err != nil {
			return err
		}
		defer m.Close()
		n, err := findNode(m, path)
		if err != nil {
			return err
		}
		return runFind(ctx, std, m, n, f, long, opts.JSON)
	}
	return c
}

// foundJSON is one version as find --json prints it.
type foundJSON struct {
	Path string `json:"path"`
	versionJSON
}

func runFind(ctx context.Context, std stdio, m *inspect.Model, n inspect.Node, f *inspect.Filter, long, asJSON bool) error {
	doc := []foundJSON{}
	err := m.Search(ctx, n, f, func(v inspect.Version) error {
		path := m.Path(v.Node)
		if asJSON {
			doc = append(doc, foundJSON{path, newVersionJSON(m, &v)})
			return nil
		}
		line := printable(path)
		if long && v.Whiteout {
			line = fmt.Sprintf("w--------- %9s %9s %3d %s", "", "", v.Layer, line)
		} else if long {
			size := v.Size
			if v.IsDir() {
				size = 0
			}
			line = fmt.Sprintf("%s %9s %9s %3d %s", inspect.ModeString(v.Mode), fmt.Sprintf("%d:%d", v.UID, v.GID), humanSize(size), v.Layer, line)
		}
		_, err := fmt.Fprintln(std.out, line)
		return err
	})
	if err != nil || !asJSON {
		return err
	}
	return printJSON(std.out, doc)
}
