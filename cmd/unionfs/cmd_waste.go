package main

import (
	"context"
	"fmt"
	"text/tabwriter"

	"github.com/unionfs-go/unionfs/internal/inspect"
)

const wasteHelp = `Prints the bytes of files that the layers of SUBJECT ship and that are not shown:

  overwritten  a layer above has other content under the name
  deleted      a layer above deleted the name, or a directory above it
  metadata     a layer above has the same content, copied for its mode, owner or time

Each copy counts once, in the layer that ships it; a file with several names in a
layer counts once; whiteouts cost nothing. Sizes are those of the files, not
compressed. CAUSED is what a layer made useless in the layers below it. Efficiency
is the part of what is shipped that is shown.
`

func newWasteCommand() *command {
	var opts subjectOptions
	count := 20
	c := &command{
		name:  "waste",
		usage: "[-n COUNT] [--json] SUBJECT",
		short: "print which layers and files waste space, worst first",
		long:  wasteHelp + subjectHelp,
		flags: newFlagSet("waste"),
	}
	c.flags.IntVarP(&count, "count", "n", 20, "print the worst `COUNT` paths; 0 is all")
	opts.AddFlags(c.flags)
	c.run = func(ctx context.Context, std stdio, args []string) error {
		if len(args) != 1 {
			return usagef("it takes one SUBJECT, not %d", len(args))
		}
		m, err := openSubject(ctx, std, &opts, args[0])
		if err != nil {
			return err
		}
		defer m.Close()
		w, err := m.Waste(ctx)
		if err != nil {
			return err
		}
		if opts.JSON {
			return printJSON(std.out, w)
		}
		return printWaste(std, m, w, count)
	}
	return c
}

func printWaste(std stdio, m *inspect.Model, w *inspect.Waste, count int) error {
	p := newPainter(std.out)
	line := func(name string, n int64, note string) {
		fmt.Fprintf(std.out, "%-12s %15d  %8s%s\n", name, n, humanSize(n), note)
	}
	files := func(s inspect.WasteSum) string { return fmt.Sprintf("  in %d files", s.Files) }
	line("shipped", w.Shipped, "")
	line("shown", w.Live, "")
	line("reclaimable", w.Reclaimable, "")
	line("  overwritten", w.Overwritten.Bytes, files(w.Overwritten))
	line("  deleted", w.Deleted.Bytes, files(w.Deleted))
	line("  metadata", w.Metadata.Bytes, files(w.Metadata))
	fmt.Fprintf(std.out, "efficiency   %14.2f%%\n\n", w.Efficiency*100)

	tw := tabwriter.NewWriter(std.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "LAYER\tSHIPPED\tSHOWN\tRECLAIMABLE\tCAUSED\tMADE BY")
	for _, l := range w.Layers {
		fmt.Fprintf(tw, "%d\t%s\t%s\t%s\t%s\t%s\n", l.Layer, humanSize(l.Shipped), humanSize(l.Live), humanSize(l.Reclaimable),
			humanSize(l.Caused), commandText(m.Layer(l.Layer), 60))
	}
	if err := tw.Flush(); err != nil || len(w.Paths) == 0 {
		return err
	}
	shown := w.Paths
	if count > 0 && len(shown) > count {
		shown = shown[:count]
	}
	fmt.Fprintln(std.out)
	fmt.Fprintln(tw, "WASTED\tWHY\tIN LAYER\tBY LAYER\tPATH")
	for _, path := range shown {
		for _, c := range path.Copies {
			fmt.Fprintf(tw, "%s\t%s\t%d\t%d\t%s\n", humanSize(c.Bytes), c.Kind, c.Layer, c.HiddenBy, printable(path.Path))
		}
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	if rest := len(w.Paths) - len(shown); rest > 0 {
		_, err := fmt.Fprintln(std.out, p.paint(dim, fmt.Sprintf("and %d paths more (-n 0 prints all)", rest)))
		return err
	}
	return nil
}
