package main

import (
	"context"
	"fmt"

	"github.com/unionfs-go/unionfs/cmd/unionfs/internal/demoimage"
)

// newDemoImageCommand is what scripts/demo.sh begins with. It has no line in
// the list of commands.
func newDemoImageCommand() *command {
	return &command{
		name:   "demo-image",
		usage:  "DIR",
		short:  "write the image of the demo as a new store",
		hidden: true,
		long: `Makes DIR, which must be empty or missing, an OCI image layout that holds the
small image ` + demoimage.Name + `: a web application in three layers. With UNIONFS_STORE=DIR the
other commands find it by name.
`,
		flags: newFlagSet("demo-image"),
		run: func(_ context.Context, std stdio, args []string) error {
			if len(args) != 1 {
				return usagef("it takes one DIR, not %d arguments", len(args))
			}
			if err := demoimage.Write(args[0]); err != nil {
				return err
			}
			_, err := fmt.Fprintln(std.out, demoimage.Name)
			return err
		},
	}
}
