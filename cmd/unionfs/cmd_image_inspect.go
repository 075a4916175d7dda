package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/pflag"

	"github.com/unionfs-go/unionfs/internal/image"
)

func newImageInspectCommand() *command {
	return &command{
		name:  "inspect",
		usage: "IMAGE...",
		short: "print all that is known of images, as JSON",
		long:  "The fields are those of docker image inspect; RootFS.Layers are DiffIDs.\n",
		flags: newFlagSet("inspect"),
		run: func(_ context.Context, std stdio, args []string) error {
			return runImageInspect(std, args)
		},
	}
}

// imageDetails is an image as image inspect prints it.
type imageDetails struct {
	ID           digest.Digest      `json:"Id"`
	RepoTags     []string           `json:"RepoTags"`
	RepoDigests  []string           `json:"RepoDigests"`
	Comment      string             `json:"Comment"`
	Created      *time.Time         `json:"Created,omitempty"`
	Author       string             `json:"Author"`
	Config       image.RunConfig    `json:"Config"`
	Architecture string             `json:"Architecture"`
	Variant      string             `json:"Variant,omitempty"`
	Os           string             `json:"Os"`
	OsVersion    string             `json:"OsVersion,omitempty"`
	Size         int64              `json:"Size"`
	RootFS       imageRootFS        `json:"RootFS"`
	Descriptor   ispec.Descriptor   `json:"Descriptor"`
	Layers       []ispec.Descriptor `json:"Layers"` // blobs, bottom first
}

type imageRootFS struct {
	Type   string          `json:"Type"`
	Layers []digest.Digest `json:"Layers"`
}

func runImageInspect(std stdio, args []string) error {
	if len(args) == 0 {
		return usagef("no IMAGE given")
	}
	store, err := openStore()
	if err != nil {
		return err
	}
	images, _, err := store.Images()
	if err != nil {
		return err
	}
	out := make([]imageDetails, 0, len(args))
	for _, arg := range args {
		img, _, err := findImage(store, arg)
		if err != nil {
			return err
		}
		out = append(out, details(img, images))
	}
	enc := json.NewEncoder(std.out)
	enc.SetIndent("", "    ")
	return enc.Encode(out)
}

// details gathers what is known of an image; all has every name of it.
func details(img *image.Image, all []*image.Image) imageDetails {
	c := &img.Config
	d := imageDetails{
		ID: img.ID(), RepoTags: []string{}, RepoDigests: []string{}, Comment: c.Comment, Created: c.Created, Author: c.Author,
		Config: c.Config, Architecture: c.Architecture, Variant: c.Variant, Os: c.OS, OsVersion: c.OSVersion, Size: img.Size(),
		RootFS:     imageRootFS{Type: c.RootFS.Type, Layers: c.RootFS.DiffIDs},
		Descriptor: img.Target, Layers: img.Manifest.Layers,
	}
	if d.Comment == "" && len(c.History) > 0 {
		d.Comment = c.History[len(c.History)-1].Comment
	}
	for _, other := range all {
		if other.Target.Digest != img.Target.Digest || other.Name == "" {
			continue
		}
		d.RepoTags = append(d.RepoTags, other.Name)
		if ref, err := image.ParseReference(other.Name); err == nil {
			d.RepoDigests = append(d.RepoDigests, ref.Name+"@"+img.Target.Digest.String())
		}
	}
	return d
}

// ImageHistoryOptions are the flags of image history.
type ImageHistoryOptions struct {
	NoTrunc bool
	Quiet   bool
	JSON    bool
}

// AddFlags declares the flags.
func (o *ImageHistoryOptions) AddFlags(f *pflag.FlagSet) {
	f.BoolVar(&o.NoTrunc, "no-trunc", false, "print whole IDs and commands")
	f.BoolVarP(&o.Quiet, "quiet", "q", false, "print IDs only")
	f.BoolVar(&o.JSON, "json", false, "print JSON")
}

func newImageHistoryCommand() *command {
	var opts ImageHistoryOptions
	c := &command{
		name:  "history",
		usage: "[--no-trunc] [-q] [--json] IMAGE",
		short: "print how an image was made, newest step first",
		flags: newFlagSet("history"),
	}
	opts.AddFlags(c.flags)
	c.run = func(_ context.Context, std stdio, args []string) error {
		_, img, err := oneImage(args)
		if err != nil {
			return err
		}
		return printHistory(std, &opts, historyOf(img))
	}
	return c
}

// historyRow is one step as image history --json prints it.
type historyRow struct {
	ID        string        `json:"id"` // of the image, or <missing>
	Created   *time.Time    `json:"created,omitempty"`
	CreatedBy string        `json:"createdBy"`
	Size      int64         `json:"size"`
	Comment   string        `json:"comment"`
	Author    string        `json:"author,omitempty"`
	Empty     bool          `json:"emptyLayer"`
	DiffID    digest.Digest `json:"diffID,omitempty"`
	Digest    digest.Digest `json:"digest,omitempty"`
}

const missing = "<missing>"

// historyOf lists the steps, newest first, each with its layer.
func historyOf(img *image.Image) []historyRow {
	steps := img.Config.History
	rows := make([]historyRow, 0, len(steps))
	layer := 0
	for _, h := range steps {
		row := historyRow{
			ID: missing, Created: h.Created, CreatedBy: h.CreatedBy, Comment: h.Comment, Author: h.Author, Empty: h.EmptyLayer,
		}
		if !h.EmptyLayer && layer < len(img.Manifest.Layers) {
			row.Size, row.Digest = img.Manifest.Layers[layer].Size, img.Manifest.Layers[layer].Digest
			row.DiffID = img.DiffIDs()[layer]
			layer++
		}
		rows = append(rows, row)
	}
	for ; layer < len(img.Manifest.Layers); layer++ {
		l := img.Manifest.Layers[layer]
		rows = append(rows, historyRow{ID: missing, Size: l.Size, Digest: l.Digest, DiffID: img.DiffIDs()[layer]})
	}
	for i, j := 0, len(rows)-1; i < j; i, j = i+1, j-1 {
		rows[i], rows[j] = rows[j], rows[i]
	}
	if len(rows) > 0 {
		rows[0].ID = img.ID().String()
	}
	return rows
}

// shownCommand is how much of a command the table shows.
const shownCommand = 45

func printHistory(std stdio, opts *ImageHistoryOptions, rows []historyRow) error {
	if opts.JSON {
		enc := json.NewEncoder(std.out)
		enc.SetIndent("", "  ")
		return enc.Encode(rows)
	}
	w := tabwriter.NewWriter(std.out, 0, 0, 3, ' ', 0)
	if !opts.Quiet {
		fmt.Fprintln(w, "IMAGE\tCREATED\tCREATED BY\tSIZE\tCOMMENT")
	}
	for _, r := range rows {
		id := r.ID
		if id != missing {
			id = shortID(digest.Digest(r.ID), opts.NoTrunc)
		}
		if opts.Quiet {
			fmt.Fprintln(w, id)
			continue
		}
		by := strings.ReplaceAll(r.CreatedBy, "\t", " ")
		if !opts.NoTrunc && len([]rune(by)) > shownCommand {
			by = string([]rune(by)[:shownCommand-1]) + "…"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", id, ago(r.Created, time.Now()), by, humanSize(r.Size), r.Comment)
	}
	return w.Flush()
}
