package main

import (
	"context"
	"encoding/json"
	"fmt"
	iofs "io/fs"
	"path/filepath"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/pflag"

	"github.com/unionfs-go/unionfs/internal/image"
	"github.com/unionfs-go/unionfs/internal/tarlayer"
	"github.com/unionfs-go/unionfs/mountinfo"
)

// DfOptions are the flags of df.
type DfOptions struct {
	Verbose bool
	JSON    bool
}

// AddFlags declares the flags.
func (o *DfOptions) AddFlags(f *pflag.FlagSet) {
	f.BoolVarP(&o.Verbose, "verbose", "v", false, "list every image, unpacked layer and upper")
	f.BoolVar(&o.JSON, "json", false, "print JSON")
}

func newDfCommand() *command {
	var opts DfOptions
	c := &command{
		name:  "df",
		usage: "[-v] [--json]",
		short: "show what images, unpacked layers, uppers and the cache take on disk",
		long: `ACTIVE are those that a live mount has. A layer that several images have is counted
once in the table; -v splits the size of each image into SHARED SIZE, what other
images have too, and UNIQUE SIZE. RECLAIMABLE is what could be removed: see image
prune, image rm.
`,
		flags: newFlagSet("df"),
	}
	opts.AddFlags(c.flags)
	c.run = func(ctx context.Context, std stdio, args []string) error {
		if len(args) > 0 {
			return usagef("it takes no arguments")
		}
		return runDf(ctx, std, &opts)
	}
	return c
}

// diskUsage is what df --json prints.
type diskUsage struct {
	Summary []dfRow      `json:"summary"`
	Store   image.Usage  `json:"store"`
	Uppers  []upperUsage `json:"uppers"`
}

// dfRow is one kind of thing. Total and Active are -1 where they are not known.
type dfRow struct {
	Type        string `json:"type"`
	Total       int    `json:"total"`
	Active      int    `json:"active"`
	Size        int64  `json:"size"`
	Reclaimable int64  `json:"reclaimable"`
}

// upperUsage is the upper of one live mount.
type upperUsage struct {
	Mountpoint string `json:"mountpoint"`
	Upper      string `json:"upper"`
	Size       int64  `json:"size"`
}

func runDf(ctx context.Context, std stdio, opts *DfOptions) error {
	store, err := openStore()
	if err != nil {
		return err
	}
	use, bad, err := store.Usage(usedByMounts(ctx, store))
	if err != nil {
		return err
	}
	for _, err := range bad {
		fmt.Fprintf(std.err, "unionfs: df: %v\n", err)
	}
	du := diskUsage{Store: use, Uppers: liveUppers(ctx)}
	cache, err := tarlayer.Usage("")
	if err != nil {
		fmt.Fprintf(std.err, "unionfs: df: measure the cache: %v\n", err)
	}
	du.Summary = summarize(&du, cache)
	if opts.JSON {
		enc := json.NewEncoder(std.out)
		enc.SetIndent("", "  ")
		return enc.Encode(du)
	}
	if opts.Verbose {
		return printUsageDetails(std, &du)
	}
	return printSummary(std, du.Summary)
}

func summarize(du *diskUsage, cache int64) []dfRow {
	use := du.Store
	images := dfRow{Type: "Images", Total: len(use.Images), Size: use.ImageBytes, Reclaimable: use.ImageBytes - use.ActiveBytes}
	for _, i := range use.Images {
		if i.Active {
			images.Active++
		}
	}
	unpacked := dfRow{Type: "Unpacked layers", Total: len(use.Unpacked)}
	for _, u := range use.Unpacked {
		unpacked.Size += u.Size
		if u.Active {
			unpacked.Active++
		} else {
			unpacked.Reclaimable += u.Size
		}
	}
	uppers := dfRow{Type: "Uppers", Total: len(du.Uppers), Active: len(du.Uppers)}
	for _, u := range du.Uppers {
		uppers.Size += u.Size
	}
	return []dfRow{
		images, unpacked, uppers,
		{Type: "Blobs of no image", Total: use.GarbageBlobs, Size: use.Garbage, Reclaimable: use.Garbage},
		{Type: "Cache", Total: -1, Active: -1, Size: cache, Reclaimable: cache},
	}
}

func printSummary(std stdio, rows []dfRow) error {
	w := tabwriter.NewWriter(std.out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "TYPE\tTOTAL\tACTIVE\tSIZE\tRECLAIMABLE")
	count := func(n int) string {
		if n < 0 {
			return "-"
		}
		return fmt.Sprint(n)
	}
	for _, r := range rows {
		free := humanSize(r.Reclaimable)
		if r.Size > 0 {
			free += fmt.Sprintf(" (%d%%)", r.Reclaimable*100/r.Size)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", r.Type, count(r.Total), count(r.Active), humanSize(r.Size), free)
	}
	return w.Flush()
}

func printUsageDetails(std stdio, du *diskUsage) error {
	w := tabwriter.NewWriter(std.out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "REPOSITORY\tTAG\tIMAGE ID\tCREATED\tSIZE\tSHARED SIZE\tUNIQUE SIZE\tIN USE")
	for _, i := range du.Store.Images {
		names := i.Names
		if len(names) == 0 {
			names = []string{""}
		}
		for _, n := range names {
			repo, tag := splitName(n)
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", repo, tag, shortID(i.ID, false), ago(i.Config.Created, time.Now()),
				humanSize(i.Size), humanSize(i.Shared), humanSize(i.Unique), yesNo(i.Active))
		}
	}
	fmt.Fprintln(w, "\nUNPACKED LAYER\tSIZE\tIN USE\tIN AN IMAGE")
	for _, u := range du.Store.Unpacked {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", shortID(u.DiffID, false), humanSize(u.Size), yesNo(u.Active), yesNo(!u.Orphan))
	}
	fmt.Fprintln(w, "\nMOUNTPOINT\tUPPER\tSIZE")
	for _, u := range du.Uppers {
		fmt.Fprintf(w, "%s\t%s\t%s\n", printable(u.Mountpoint), printable(u.Upper), humanSize(u.Size))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(std.out)
	return printSummary(std, du.Summary[3:])
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// splitName is a name as two columns of a table.
func splitName(name string) (repo, tag string) {
	if ref, err := image.ParseReference(name); err == nil {
		return ref.Name, ref.Tag
	}
	if name == "" {
		return none, none
	}
	return name, none
}

// liveUppers measures the uppers of the mounts that can be asked.
func liveUppers(ctx context.Context) []upperUsage {
	out := []upperUsage{}
	table, err := mountinfo.Mounts()
	if err != nil {
		return out
	}
	for _, m := range table.Ours() {
		if st := stateOf(ctx, &m); st.Upper != "" {
			out = append(out, upperUsage{Mountpoint: m.Mountpoint, Upper: st.Upper, Size: treeSize(st.Upper)})
		}
	}
	return out
}

// treeSize is what the files below a directory take on disk, in bytes; hard
// links count once. What cannot be read counts nothing.
func treeSize(root string) int64 {
	type inode struct{ dev, ino uint64 }
	seen := make(map[inode]bool)
	total := int64(0)
	_ = filepath.WalkDir(root, func(_ string, e iofs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // it counts nothing
		}
		fi, err := e.Info()
		if err != nil {
			return nil //nolint:nilerr // gone meanwhile
		}
		if st, ok := fi.Sys().(*syscall.Stat_t); ok {
			key := inode{st.Dev, st.Ino}
			if st.Nlink > 1 && !e.IsDir() {
				if seen[key] {
					return nil
				}
				seen[key] = true
			}
			total += st.Blocks * 512
		}
		return nil
	})
	return total
}
