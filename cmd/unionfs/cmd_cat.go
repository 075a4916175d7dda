package main

import (
	"context"

	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/inspect"
)

func newCatCommand() *command {
	var opts subjectOptions
	layer := -1
	c := &command{
		name:  "cat",
		usage: "[--layer N] SUBJECT:PATH | SUBJECT PATH",
		short: "print a file of a mount, an image or a layer",
		long: `Prints the bytes of a file that SUBJECT shows; with --layer those that the layer
has, whether or not they are still shown. Of a symlink it prints the target's
content when it leads to a file inside SUBJECT.
` + subjectHelp,
		flags: newFlagSet("cat"),
	}
	c.flags.IntVar(&layer, "layer", -1, "the version of layer `N`")
	opts.addLayerFlags(c.flags)
	c.run = func(ctx context.Context, std stdio, args []string) error {
		subject, path, err := subjectPath(args)
		if err != nil {
			return err
		}
		m, err := openSubject(ctx, std, &opts, subject)
		if err != nil {
			return err
		}
		defer m.Close()
		v, err := versionOf(m, path, layer)
		if err != nil {
			return err
		}
		if v.Type() == unix.S_IFLNK && layer < 0 {
			if v, err = m.Follow(v, 0); err != nil {
				return &refusedError{err}
			}
		}
		if !v.IsFile() {
			return refusef("%s is no file but a %s", printable(path), inspect.TypeName(v.Mode))
		}
		f, err := m.Open(v)
		if err != nil {
			return err
		}
		defer f.Close()
		return inspect.Copy(ctx, std.out, f, v.Size)
	}
	return c
}
