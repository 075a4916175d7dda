package main

import (
	"context"
	"fmt"

	"github.com/spf13/pflag"

	"github.com/unionfs-go/unionfs/internal/image"
	"github.com/unionfs-go/unionfs/mountinfo"
)

func newImageCommand() *command {
	return &command{
		name:  "image",
		short: "images of the local store",
		long: `The store is an OCI image layout, which other tools may read at any time:
$UNIONFS_STORE, else $XDG_DATA_HOME/unionfs, else /var/lib/unionfs for root and
~/.local/share/unionfs for others. IMAGE is NAME[:TAG], NAME@DIGEST, or an ID or
its first digits.
`,
		sub: []*command{
			newImageImportCommand(),
			newImagePullCommand(),
			newImagePushCommand(),
			newImageLsCommand(),
			newImageInspectCommand(),
			newImageHistoryCommand(),
			newImageTagCommand(),
			newImageRmCommand(),
			newImagePruneCommand(),
			newImageSaveCommand(),
			newImageLoadCommand(),
			newImageConvertCommand(),
			newImageVerifyCommand(),
		},
	}
}

func newImageTagCommand() *command {
	return &command{
		name:  "tag",
		usage: "IMAGE NAME[:TAG]",
		short: "give an image a second name",
		long:  "An image that had the name keeps its content and becomes <none>.\n",
		flags: newFlagSet("tag"),
		run: func(_ context.Context, _ stdio, args []string) error {
			if len(args) != 2 {
				return usagef("it takes an IMAGE and a NAME, not %d arguments", len(args))
			}
			name, err := parseNewName(args[1])
			if err != nil {
				return err
			}
			store, err := openStore()
			if err != nil {
				return err
			}
			return imageError(store.Tag(args[0], *name))
		},
	}
}

// ImageRmOptions are the flags of image rm.
type ImageRmOptions struct {
	Force bool
}

// AddFlags declares the flags.
func (o *ImageRmOptions) AddFlags(f *pflag.FlagSet) {
	f.BoolVarP(&o.Force, "force", "f", false, "with an ID: remove the image though it has several names")
}

func newImageRmCommand() *command {
	var opts ImageRmOptions
	c := &command{
		name:  "rm",
		usage: "[--force] IMAGE...",
		short: "remove names, and images without a name left",
		long: `By name, the name goes; with an image's last name, or by ID, the image goes too,
with all layers that no other image has. A mounted image is refused.
`,
		flags: newFlagSet("rm"),
	}
	opts.AddFlags(c.flags)
	c.run = func(ctx context.Context, std stdio, args []string) error {
		return runImageRm(ctx, std, &opts, args)
	}
	return c
}

func runImageRm(ctx context.Context, std stdio, opts *ImageRmOptions, args []string) error {
	if len(args) == 0 {
		return usagef("no IMAGE given")
	}
	store, err := openStore()
	if err != nil {
		return err
	}
	inUse := usedByMounts(ctx, store)
	var first error
	for _, arg := range args {
		removed, err := store.Remove(arg, opts.Force, inUse)
		if err != nil {
			err = imageError(err)
			complain(std, "image rm", err)
			if first == nil {
				first = err
			}
			continue
		}
		for _, name := range removed.Untagged {
			fmt.Fprintln(std.out, "Untagged:", name)
		}
		for _, d := range removed.Deleted {
			fmt.Fprintln(std.out, "Deleted:", d)
		}
	}
	if first != nil {
		return &silentError{exitCode(first)}
	}
	return nil
}

// mountedDirs are the layer directories and files of all live mounts that can be asked.
func mountedDirs(ctx context.Context) map[string]bool {
	used := make(map[string]bool)
	table, err := mountinfo.Mounts()
	if err != nil {
		return used
	}
	for _, m := range table.Ours() {
		client, err := dialMount(&m)
		if err != nil {
			continue
		}
		if st, err := client.Status(ctx); err == nil {
			for _, l := range st.Layers {
				used[l.Path()] = true
			}
		}
		_ = client.Close()
	}
	return used
}

// oneImage opens the store and finds the image that the only argument names.
func oneImage(args []string) (*image.Store, *image.Image, error) {
	if len(args) != 1 {
		return nil, nil, usagef("it takes one IMAGE, not %d arguments", len(args))
	}
	store, err := openStore()
	if err != nil {
		return nil, nil, err
	}
	img, _, err := findImage(store, args[0])
	return store, img, err
}
