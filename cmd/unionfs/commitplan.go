package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/unionfs-go/unionfs/internal/image"
	"github.com/unionfs-go/unionfs/internal/pack"
)

// plannedLayer is a layer that a commit would make, as commit --dry-run --json
// prints it.
type plannedLayer struct {
	CreatedBy string        `json:"createdBy"`
	Counts    pack.Counts   `json:"counts"`
	Notices   []string      `json:"notices,omitempty"`
	Changes   []pack.Change `json:"changes"`
}

// planCommit tells what the layers to be packed would hold, bottom first.
func planCommit(ctx context.Context, std stdio, parts []image.Part, asJSON bool) error {
	plan := []plannedLayer{}
	for _, p := range parts {
		if p.Stack == nil {
			continue
		}
		l := plannedLayer{CreatedBy: p.CreatedBy, Changes: []pack.Change{}}
		p.Pack.Visit = func(c pack.Change) { l.Changes = append(l.Changes, c) }
		res, err := pack.Plan(ctx, p.Stack, p.Pack)
		if err != nil {
			return packError(err)
		}
		l.Counts, l.Notices = res.Counts, res.Notices
		plan = append(plan, l)
		if p.Packed != nil {
			if err := p.Packed(); err != nil {
				return err
			}
		}
	}
	if asJSON {
		enc := json.NewEncoder(std.out)
		enc.SetIndent("", "  ")
		return enc.Encode(plan)
	}
	for i, l := range plan {
		for _, n := range l.Notices {
			fmt.Fprintf(std.err, "unionfs: commit: %s\n", n)
		}
		if len(plan) > 1 {
			fmt.Fprintf(std.out, "layer %d of %d: %s\n", i+1, len(plan), l.CreatedBy)
		}
		for _, c := range l.Changes {
			fmt.Fprintf(std.out, "%s %s\n", c.Kind, printable(c.Path))
		}
		c := l.Counts
		fmt.Fprintf(std.out, "%d entries: %d files (%s), %d directories, %d symlinks, %d links, %d devices, %d whiteouts, %d opaque",
			c.Entries, c.Files, humanSize(c.FileBytes), c.Dirs, c.Symlinks, c.Links, c.Devices, c.Whiteouts, c.Opaques)
		if c.Unchanged > 0 {
			fmt.Fprintf(std.out, "; %d unchanged files left out (%s)", c.Unchanged, humanSize(c.UnchangedBytes))
		}
		fmt.Fprintln(std.out)
	}
	return nil
}
