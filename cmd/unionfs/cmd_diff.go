package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/unionfs-go/unionfs/internal/inspect"
)

// diffOptions are the flags of diff.
type diffOptions struct {
	subjectOptions
	Layer string
	Stat  bool
	Patch bool
}

const diffHelp = `Prints what the top layer of SUBJECT changes in the layers below it, sorted by
path, as docker diff does:

  A  added
  C  changed; of a directory also: something in it was
  D  deleted, with all below it
  R  renamed by a redirect mark: OLD -> NEW
  =  a file that was copied up and is the same in everything

SUBJECT..SUBJECT, or two SUBJECTs, are compared instead: what has to be done to
the first to get the second. Modification times are not compared then.
`

func newDiffCommand() *command {
	var opts diffOptions
	c := &command{
		name:  "diff",
		usage: "[--layer N | --layer N..M] [--stat | --patch] [--json] SUBJECT[..SUBJECT]",
		short: "print what a mount, a layer or an image changed",
		long:  diffHelp + subjectHelp,
		flags: newFlagSet("diff"),
	}
	c.flags.StringVar(&opts.Layer, "layer", "", "what layer `N` changes; N..M: from what is seen down from N to what is seen down from M")
	c.flags.BoolVar(&opts.Stat, "stat", false, "print sizes and what changed")
	c.flags.BoolVarP(&opts.Patch, "patch", "p", false, "print a patch in git's format of text files and links")
	opts.AddFlags(c.flags)
	c.run = func(ctx context.Context, std stdio, args []string) error {
		return runDiff(ctx, std, &opts, args)
	}
	return c
}

func runDiff(ctx context.Context, std stdio, opts *diffOptions, args []string) error {
	if opts.Stat && opts.Patch || opts.JSON && opts.Patch {
		return usagef("--patch goes with neither --stat nor --json")
	}
	if len(args) == 1 {
		if a, b, ok := splitRange(args[0]); ok {
			args = []string{a, b}
		}
	}
	var a, b inspect.View
	switch {
	case len(args) == 0:
		return usagef("no SUBJECT given")
	case len(args) > 2:
		return usagef("it takes one SUBJECT or two, not %d", len(args))
	case len(args) == 2 && opts.Layer != "":
		return usagef("--layer goes with one SUBJECT")
	}
	first, err := openSubject(ctx, std, &opts.subjectOptions, args[0])
	if err != nil {
		return err
	}
	defer first.Close()
	if len(args) == 2 {
		second, err := openSubject(ctx, std, &opts.subjectOptions, args[1])
		if err != nil {
			return err
		}
		defer second.Close()
		a, b = inspect.View{Model: first}, inspect.View{Model: second}
	} else if a, b, err = layerViews(first, opts.Layer); err != nil {
		return err
	}
	changes, err := inspect.Compare(ctx, a, b)
	if err != nil {
		return err
	}
	switch {
	case opts.Patch:
		return inspect.WritePatch(std.out, a, b, changes)
	case opts.JSON:
		return printJSON(std.out, diffDocument(a, b, changes))
	case opts.Stat:
		return printDiffStat(std, changes)
	}
	p := newPainter(std.out)
	for _, c := range changes {
		if _, err := fmt.Fprintln(std.out, p.paint(changeColour(c.Kind), c.Kind.Letter()+" "+changePath(&c))); err != nil {
			return err
		}
	}
	return nil
}

func changePath(c *inspect.Change) string {
	if c.Kind == inspect.Renamed {
		return printable(c.From) + " -> " + printable(c.Path)
	}
	return printable(c.Path)
}

// splitRange takes A..B apart; the dots of ../ and /.. are none of those.
func splitRange(s string) (a, b string, ok bool) {
	for i := 1; i+2 < len(s); i++ {
		if s[i:i+2] != ".." || s[i-1] == '/' || s[i-1] == '.' {
			continue
		}
		if rest := s[i+2:]; rest[0] != '/' || strings.HasPrefix(s, "/") {
			return s[:i], rest, true
		}
	}
	return "", "", false
}

// layerViews understands the argument of --layer.
func layerViews(m *inspect.Model, arg string) (a, b inspect.View, err error) {
	if arg == "" {
		arg = "0"
	}
	from, to, isRange := strings.Cut(arg, "..")
	x, err := strconv.Atoi(from)
	if err != nil {
		return a, b, usagef("--layer %q is neither N nor N..M", arg)
	}
	if !isRange {
		if err := checkLayer(m, x); err != nil {
			return a, b, err
		}
		return inspect.View{Model: m, Layer: x + 1}, inspect.View{Model: m, Layer: x}, nil
	}
	y, err := strconv.Atoi(to)
	if err != nil {
		return a, b, usagef("--layer %q is neither N nor N..M", arg)
	}
	for _, n := range []int{x, y} {
		if err := checkLayer(m, n); err != nil {
			return a, b, err
		}
	}
	return inspect.View{Model: m, Layer: x}, inspect.View{Model: m, Layer: y}, nil
}

// diffTotals are the sums of a diff.
type diffTotals struct {
	Added        int   `json:"added"`
	Changed      int   `json:"changed"`
	Deleted      int   `json:"deleted"` // entries, with all below deleted directories
	Renamed      int   `json:"renamed"`
	Copied       int   `json:"copied"`
	AddedBytes   int64 `json:"addedBytes"`
	ChangedBytes int64 `json:"changedBytes"` // of the new content
	DeletedBytes int64 `json:"deletedBytes"`
	CopiedBytes  int64 `json:"copiedBytes"`
}

func totals(changes []inspect.Change) diffTotals {
	var t diffTotals
	for _, c := range changes {
		switch c.Kind {
		case inspect.Added:
			t.Added++
			t.AddedBytes += fileSize(c.New)
		case inspect.Changed:
			t.Changed++
			if c.What&inspect.DiffContent != 0 || c.What&inspect.DiffType != 0 {
				t.ChangedBytes += fileSize(c.New)
			}
		case inspect.Deleted:
			t.Deleted += c.Entries
			t.DeletedBytes += c.Bytes
		case inspect.Renamed:
			t.Renamed++
		case inspect.Copied:
			t.Copied++
			t.CopiedBytes += fileSize(c.New)
		}
	}
	return t
}

func fileSize(v *inspect.Version) int64 {
	if v == nil || !v.IsFile() {
		return 0
	}
	return v.Size
}

// changeJSON is one change as diff --json prints it.
type changeJSON struct {
	Kind    inspect.ChangeKind  `json:"kind"`
	Path    string              `json:"path"`
	From    string              `json:"from,omitempty"`
	What    inspect.Differences `json:"what"`
	Old     *versionJSON        `json:"old,omitempty"`
	New     *versionJSON        `json:"new,omitempty"`
	Entries int                 `json:"entries,omitempty"`
	Bytes   int64               `json:"bytes,omitempty"`
}

type diffJSON struct {
	Changes []changeJSON `json:"changes"`
	Totals  diffTotals   `json:"totals"`
}

func diffDocument(a, b inspect.View, changes []inspect.Change) diffJSON {
	doc := diffJSON{Changes: []changeJSON{}, Totals: totals(changes)}
	for _, c := range changes {
		j := changeJSON{Kind: c.Kind, Path: c.Path, From: c.From, What: c.What, Entries: c.Entries, Bytes: c.Bytes}
		if c.Old != nil {
			v := newVersionJSON(a.Model, c.Old)
			j.Old = &v
		}
		if c.New != nil {
			v := newVersionJSON(b.Model, c.New)
			j.New = &v
		}
		doc.Changes = append(doc.Changes, j)
	}
	return doc
}

// printDiffStat prints what changed and the sizes, and the sums.
func printDiffStat(std stdio, changes []inspect.Change) error {
	w := tabwriter.NewWriter(std.out, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, c := range changes {
		size := ""
		switch c.Kind {
		case inspect.Added:
			if c.New.IsFile() {
				size = "+" + humanSize(c.New.Size)
			}
		case inspect.Deleted:
			size = "-" + humanSize(c.Bytes)
		case inspect.Changed:
			if c.What&inspect.DiffContent != 0 {
				size = humanSize(c.Old.Size) + " -> " + humanSize(c.New.Size)
			}
		case inspect.Copied:
			size = humanSize(c.New.Size)
		case inspect.Renamed:
		}
		note := ""
		if c.What != 0 {
			note = " (" + c.What.String() + ")"
		}
		if c.Entries > 1 {
			note = fmt.Sprintf(" (%d entries)", c.Entries)
		}
		fmt.Fprintf(w, "%s\t%s\t %s%s\n", c.Kind.Letter(), size, changePath(&c), note)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	t := totals(changes)
	_, err := fmt.Fprintf(std.out, "%d added (%s), %d changed (%s), %d deleted (%s), %d renamed, %d copied without change (%s)\n",
		t.Added, humanSize(t.AddedBytes), t.Changed, humanSize(t.ChangedBytes), t.Deleted, humanSize(t.DeletedBytes),
		t.Renamed, t.Copied, humanSize(t.CopiedBytes))
	return err
}
