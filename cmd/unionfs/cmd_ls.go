package main

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"

	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/inspect"
)

// lsOptions are the flags of ls.
type lsOptions struct {
	subjectOptions
	Long      bool
	Recursive bool
	Human     bool
	Layer     int
}

func newLsCommand() *command {
	var opts lsOptions
	c := &command{
		name:  "ls",
		usage: "[-lRh] [--layer N] [--json] SUBJECT[:PATH]",
		short: "list a directory of a mount, an image or a layer",
		long: `Lists what SUBJECT shows at PATH ("/" without one). With --layer only what that
layer itself has, whiteouts (w) too. The number before a name, with -l, is the
layer that it comes from; the size of a directory is that of all files in it.
` + subjectHelp,
		flags: newFlagSet("ls"),
	}
	c.flags.BoolVarP(&opts.Long, "long", "l", false, "print mode, owner, size, time and layer")
	c.flags.BoolVarP(&opts.Recursive, "recursive", "R", false, "list all directories below too")
	c.flags.BoolVarP(&opts.Human, "human-readable", "h", false, "with -l: print sizes with units")
	c.flags.IntVar(&opts.Layer, "layer", -1, "list layer `N` alone")
	opts.AddFlags(c.flags)
	c.run = func(ctx context.Context, std stdio, args []string) error {
		subject, path, err := subjectPath(args)
		if err != nil {
			return err
		}
		m, err := openSubject(ctx, std, &opts.subjectOptions, subject)
		if err != nil {
			return err
		}
		defer m.Close()
		return runLs(ctx, std, &opts, m, path)
	}
	return c
}

// listedJSON is one line of ls --json.
type listedJSON struct {
	Path string `json:"path"`
	versionJSON
	Target string `json:"target,omitempty"` // of a symlink
	Total  int64  `json:"totalBytes"`       // of all files at and below it
}

// lister lists one subject.
type lister struct {
	opts  *lsOptions
	m     *inspect.Model
	view  int
	own   bool
	sizes []int64
	paint painter
}

func runLs(ctx context.Context, std stdio, opts *lsOptions, m *inspect.Model, path string) error {
	l := lister{opts: opts, m: m, own: opts.Layer >= 0, view: max(opts.Layer, 0), paint: newPainter(std.out)}
	v, err := versionOf(m, path, opts.Layer)
	if err != nil {
		return err
	}
	if opts.Long || opts.JSON {
		l.sizes = m.Sizes(l.view, l.own)
	}
	list := []inspect.Version{v}
	if v.IsDir() {
		list = m.Listed(v.Node, l.view, l.own)
	}
	if opts.JSON {
		doc := []listedJSON{}
		if err := l.collect(ctx, list, &doc); err != nil {
			return err
		}
		return printJSON(std.out, doc)
	}
	if !opts.Recursive || !v.IsDir() {
		return l.print(std, list)
	}
	return l.recurse(ctx, std, v.Node, list)
}

// recurse prints a directory and all below it, as ls -R does.
func (l *lister) recurse(ctx context.Context, std stdio, n inspect.Node, list []inspect.Version) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(std.out, "%s:\n", printable(l.m.Path(n))); err != nil {
		return err
	}
	if err := l.print(std, list); err != nil {
		return err
	}
	for _, v := range list {
		if !v.IsDir() {
			continue
		}
		if _, err := fmt.Fprintln(std.out); err != nil {
			return err
		}
		if err := l.recurse(ctx, std, v.Node, l.m.Listed(v.Node, l.view, l.own)); err != nil {
			return err
		}
	}
	return nil
}

func (l *lister) collect(ctx context.Context, list []inspect.Version, doc *[]listedJSON) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	for i := range list {
		v := &list[i]
		j := listedJSON{Path: l.m.Path(v.Node), versionJSON: newVersionJSON(l.m, v), Total: l.sizes[v.Node]}
		var err error
		if j.Target, err = l.target(v); err != nil {
			return err
		}
		*doc = append(*doc, j)
		if l.opts.Recursive && v.IsDir() {
			if err := l.collect(ctx, l.m.Listed(v.Node, l.view, l.own), doc); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l *lister) target(v *inspect.Version) (string, error) {
	if v.Type() != unix.S_IFLNK {
		return "", nil
	}
	return l.m.Readlink(*v)
}

func (l *lister) print(std stdio, list []inspect.Version) error {
	if !l.opts.Long {
		for i := range list {
			if _, err := fmt.Fprintln(std.out, l.name(&list[i])); err != nil {
				return err
			}
		}
		return nil
	}
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 1, ' ', tabwriter.AlignRight)
	for i := range list {
		v := &list[i]
		if v.Whiteout {
			fmt.Fprintf(w, "w---------\t\t\t\t\t%d\t\n", v.Layer)
			continue
		}
		size := sizeText(l.sizes[v.Node], l.opts.Human)
		if isDevice(v) {
			size = deviceText(v)
		}
		fmt.Fprintf(w, "%s\t%d\t%d\t%s\t%s\t%d\t\n", inspect.ModeString(v.Mode), v.UID, v.GID, size,
			mtimeOf(v).Format("2006-01-02 15:04"), v.Layer)
	}
	_ = w.Flush() // into memory
	lines := strings.Split(b.String(), "\n")
	for i := range list {
		target, err := l.target(&list[i])
		if err != nil {
			return err
		}
		if target != "" {
			target = " -> " + printable(target)
		}
		if _, err := fmt.Fprintf(std.out, "%s %s%s\n", strings.TrimPrefix(lines[i], " "), l.name(&list[i]), target); err != nil {
			return err
		}
	}
	return nil
}

// name is the name of a version, in its colour.
func (l *lister) name(v *inspect.Version) string {
	s := printable(l.m.Name(v.Node))
	if v.Node == inspect.Root {
		s = "/"
	}
	switch {
	case v.Whiteout:
		return l.paint.paint(red, s)
	case v.IsDir():
		return l.paint.paint(blue, s)
	case v.Type() == unix.S_IFLNK:
		return l.paint.paint(cyan, s)
	case v.IsFile() && v.Mode&0o111 != 0:
		return l.paint.paint(green, s)
	}
	return s
}
