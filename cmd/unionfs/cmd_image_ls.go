package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/pflag"

	"github.com/unionfs-go/unionfs/internal/image"
)

// ImageLsOptions are the flags of image ls.
type ImageLsOptions struct {
	All     bool
	Filters []string
	Format  string
	Quiet   bool
	Digests bool
	NoTrunc bool
	JSON    bool
}

// AddFlags declares the flags.
func (o *ImageLsOptions) AddFlags(f *pflag.FlagSet) {
	f.BoolVarP(&o.All, "all", "a", false, "list all images, which is done anyway")
	f.StringArrayVarP(&o.Filters, "filter", "f", nil, "list only images with `KEY=VALUE`: dangling=true|false, label=NAME[=VALUE], "+
		"reference=PATTERN, before=IMAGE, since=IMAGE; may be repeated")
	f.StringVar(&o.Format, "format", "", "table, json (a line for each image), or a Go `TEMPLATE` of docker's fields: "+
		"'{{.ID}} {{.Repository}} {{.Tag}} {{.Digest}} {{.CreatedSince}} {{.CreatedAt}} {{.Size}}'; 'table TEMPLATE' has a head")
	f.BoolVarP(&o.Quiet, "quiet", "q", false, "print IDs only")
	f.BoolVar(&o.Digests, "digests", false, "print the digests of manifests too")
	f.BoolVar(&o.NoTrunc, "no-trunc", false, "print whole IDs")
	f.BoolVar(&o.JSON, "json", false, "print JSON")
}

func newImageLsCommand() *command {
	var opts ImageLsOptions
	c := &command{
		name:  "ls",
		usage: "[-q] [--digests] [--no-trunc] [--filter KEY=VALUE]... [--format FORMAT | --json] [NAME[:TAG]]",
		short: "list images",
		long:  "SIZE is what the image takes in the store: its layers as they are kept, compressed.\n",
		flags: newFlagSet("ls"),
	}
	opts.AddFlags(c.flags)
	c.run = func(ctx context.Context, std stdio, args []string) error {
		return runImageLs(ctx, std, &opts, args)
	}
	return c
}

// imageRow is one image as image ls --json prints it.
type imageRow struct {
	ID         digest.Digest `json:"id"`
	Repository string        `json:"repository"`
	Tag        string        `json:"tag"`
	Digest     digest.Digest `json:"digest"`
	Created    *time.Time    `json:"created,omitempty"`
	Size       int64         `json:"size"`
	Layers     int           `json:"layers"`
}

func runImageLs(_ context.Context, std stdio, opts *ImageLsOptions, args []string) error {
	if len(args) > 1 {
		return usagef("it takes at most one NAME, not %d arguments", len(args))
	}
	filters, err := parseFilters(opts.Filters)
	if err != nil {
		return err
	}
	if opts.JSON && opts.Format != "" {
		return usagef("--json and --format do not go together")
	}
	store, err := openStore()
	if err != nil {
		return err
	}
	if err := filters.resolve(store); err != nil {
		return err
	}
	images, bad, err := store.Images()
	if err != nil {
		return err
	}
	for _, err := range bad {
		fmt.Fprintf(std.err, "unionfs: image ls: %v\n", err)
	}
	rows := make([]imageRow, 0, len(images))
	for _, img := range images {
		row := newImageRow(img)
		if (len(args) == 0 || matchesReference(row, args[0])) && filters.match(img, row) {
			rows = append(rows, row)
		}
	}
	slices.SortStableFunc(rows, newestFirst)
	return printImages(std, opts, rows)
}

func newestFirst(a, b imageRow) int {
	var ta, tb time.Time
	if a.Created != nil {
		ta = *a.Created
	}
	if b.Created != nil {
		tb = *b.Created
	}
	return tb.Compare(ta)
}

const none = "<none>"

func newImageRow(img *image.Image) imageRow {
	row := imageRow{
		ID: img.ID(), Digest: img.Target.Digest,
		Created: img.Config.Created, Size: img.Size(), Layers: len(img.Manifest.Layers),
	}
	row.Repository, row.Tag = splitName(img.Name)
	return row
}

func printImages(std stdio, opts *ImageLsOptions, rows []imageRow) error {
	if opts.JSON {
		enc := json.NewEncoder(std.out)
		enc.SetIndent("", "  ")
		return enc.Encode(rows)
	}
	if opts.Quiet {
		seen := make(map[digest.Digest]bool)
		for _, r := range rows {
			if !seen[r.ID] {
				fmt.Fprintln(std.out, shortID(r.ID, opts.NoTrunc))
			}
			seen[r.ID] = true
		}
		return nil
	}
	if opts.Format != "" && opts.Format != "table" {
		return formatImages(std.out, opts, rows)
	}
	w := tabwriter.NewWriter(std.out, 0, 0, 3, ' ', 0)
	head := []string{"REPOSITORY", "TAG"}
	if opts.Digests {
		head = append(head, "DIGEST")
	}
	fmt.Fprintln(w, strings.Join(append(head, "IMAGE ID", "CREATED", "SIZE"), "\t"))
	for _, r := range rows {
		cols := []string{r.Repository, r.Tag}
		if opts.Digests {
			cols = append(cols, r.Digest.String())
		}
		cols = append(cols, shortID(r.ID, opts.NoTrunc), ago(r.Created, time.Now()), humanSize(r.Size))
		fmt.Fprintln(w, strings.Join(cols, "\t"))
	}
	return w.Flush()
}

// shortID is the first 12 digits of an ID, or all with the algorithm.
func shortID(d digest.Digest, whole bool) string {
	if whole || len(d.Encoded()) < 12 {
		return d.String()
	}
	return d.Encoded()[:12]
}

// humanSize is a size in decimal units with three digits, as docker prints it.
func humanSize(n int64) string {
	units := []string{"B", "kB", "MB", "GB", "TB", "PB", "EB"}
	f, i := float64(n), 0
	for f >= 1000 && i < len(units)-1 {
		f /= 1000
		i++
	}
	return fmt.Sprintf("%.3g%s", f, units[i])
}

// ago tells how long before now a time was, in the words docker uses.
func ago(t *time.Time, now time.Time) string {
	if t == nil || t.Unix() <= 0 {
		return "N/A"
	}
	d := now.Sub(*t)
	unit := func(n int, name string) string {
		if n == 1 {
			return fmt.Sprintf("1 %s ago", name)
		}
		return fmt.Sprintf("%d %ss ago", n, name)
	}
	hours := int(d.Hours())
	switch {
	case d < time.Second:
		return "Less than a second ago"
	case d < time.Minute:
		return unit(int(d.Seconds()), "second")
	case d < 2*time.Minute:
		return "About a minute ago"
	case d < time.Hour:
		return unit(int(d.Minutes()), "minute")
	case hours == 1:
		return "About an hour ago"
	case hours < 48:
		return unit(hours, "hour")
	case hours < 24*14:
		return unit(hours/24, "day")
	case hours < 24*60:
		return unit(hours/24/7, "week")
	case hours < 24*365*2:
		return unit(hours/24/30, "month")
	}
	return unit(hours/24/365, "year")
}
