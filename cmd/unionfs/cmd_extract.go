package main

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"os"

	"github.com/unionfs-go/unionfs/internal/inspect"
)

func newExtractCommand() *command {
	var opts subjectOptions
	var owner bool
	layer := -1
	c := &command{
		name:  "extract",
		usage: "[--layer N] [--owner] SUBJECT:PATH DIR",
		short: "copy a file or a directory out of a mount, an image or a layer",
		long: `Copies what SUBJECT shows at PATH into DIR, which is made if it is not there; with
--layer what that layer alone has. What exists is not overwritten. Without --owner
files belong to the caller and set-user-ID bits are left out; devices, fifos and
sockets are never made.
` + subjectHelp,
		flags: newFlagSet("extract"),
	}
	c.flags.IntVar(&layer, "layer", -1, "the versions of layer `N` alone")
	c.flags.BoolVar(&owner, "owner", false, "keep owners and set-user-ID bits; takes root")
	opts.addLayerFlags(c.flags)
	c.run = func(ctx context.Context, std stdio, args []string) error {
		if len(args) != 2 {
			return usagef("it takes SUBJECT:PATH and DIR")
		}
		subject, path := splitSubject(args[0])
		m, err := openSubject(ctx, std, &opts, subject)
		if err != nil {
			return err
		}
		defer m.Close()
		v, err := versionOf(m, path, layer)
		if err != nil {
			return err
		}
		if err := os.Mkdir(args[1], 0o755); err != nil && !errors.Is(err, iofs.ErrExist) {
			return fmt.Errorf("make DIR: %w", err)
		}
		return m.Extract(ctx, v.Node, max(layer, 0), args[1], inspect.ExtractOptions{
			Own: layer >= 0, Owner: owner,
			Skipped: func(path, why string) {
				fmt.Fprintf(std.err, "unionfs: extract: %s is left out: %s\n", printable(path), why)
			},
		})
	}
	return c
}
