package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/pflag"

	"github.com/unionfs-go/unionfs/internal/image"
)

// RegistryFlags are the flags of pull and push.
type RegistryFlags struct {
	PlainHTTP bool
	Parallel  int
	Quiet     bool
	JSON      bool
}

// AddFlags declares the flags.
func (o *RegistryFlags) AddFlags(f *pflag.FlagSet) {
	f.BoolVar(&o.PlainHTTP, "plain-http", false, "talk to the registry by http instead of https")
	f.IntVar(&o.Parallel, "parallel", 3, "how many layers, `N`, are moved at once")
	f.BoolVarP(&o.Quiet, "quiet", "q", false, "do not show how the layers get on")
	f.BoolVar(&o.JSON, "json", false, "print JSON")
}

// options are the options for package image; lines go to w.
func (o *RegistryFlags) options(w io.Writer) (image.RegistryOptions, error) {
	if o.Parallel < 1 || o.Parallel > 32 {
		return image.RegistryOptions{}, usagef("--parallel %d: it is 1 to 32", o.Parallel)
	}
	r := image.RegistryOptions{PlainHTTP: o.PlainHTTP, Parallel: o.Parallel, UserAgent: "unionfs/" + version}
	if !o.Quiet {
		r.Progress = newLayerLines(w).update
	}
	return r, nil
}

const loginHelp = `A login is taken from podman's files ($REGISTRY_AUTH_FILE, auth.json) or docker's
($DOCKER_CONFIG/config.json, ~/.docker/config.json), and from the credential
helpers that they name.
`

func newImagePullCommand() *command {
	var opts RegistryFlags
	var platform string
	c := &command{
		name:  "pull",
		usage: "[FLAGS] [HOST[:PORT]/]NAME[:TAG|@DIGEST]",
		short: "fetch an image from a registry",
		long: `Without HOST it is docker.io. Layers that are in the store are not fetched again,
and a pull that was interrupted goes on where it was. Prints the ID of the image.

` + loginHelp,
		flags: newFlagSet("pull"),
	}
	c.flags.StringVar(&platform, "platform", "", "`OS/ARCH[/VARIANT]` of the image (default: that of this machine)")
	opts.AddFlags(c.flags)
	c.run = func(ctx context.Context, std stdio, args []string) error {
		if len(args) != 1 {
			return usagef("it takes one NAME, not %d arguments", len(args))
		}
		ro, err := opts.options(std.err)
		if err != nil {
			return err
		}
		if platform != "" {
			if ro.Platform, err = image.ParsePlatform(platform); err != nil {
				return &usageError{err.Error()}
			}
		}
		return runImagePull(ctx, std, &opts, ro, args[0])
	}
	return c
}

func runImagePull(ctx context.Context, std stdio, opts *RegistryFlags, ro image.RegistryOptions, arg string) error {
	name, err := image.ParseReference(arg)
	if err != nil {
		return &usageError{err.Error()}
	}
	store, err := openStore()
	if err != nil {
		return err
	}
	done, err := store.Pull(ctx, name, ro)
	if err != nil {
		return registryError(err)
	}
	if opts.JSON {
		return writeIndented(std.out, done)
	}
	if !opts.Quiet {
		status := "Image is up to date for "
		if done.Fresh {
			status = "Downloaded newer image for "
		}
		fmt.Fprintf(std.err, "Digest: %s\nStatus: %s%s\n", done.Manifest, status, done.Name)
	}
	_, err = fmt.Fprintln(std.out, done.ID)
	return err
}

func newImagePushCommand() *command {
	var opts RegistryFlags
	c := &command{
		name:  "push",
		usage: "[FLAGS] IMAGE|oci:DIR[:TAG] [HOST[:PORT]/NAME[:TAG]]",
		short: "send an image to a registry",
		long: `Without a second name the image goes where its own name says; a name without HOST
is one of docker.io. Layers that the registry has are not sent again. Prints the
digest of the manifest.

` + loginHelp,
		flags: newFlagSet("push"),
	}
	opts.AddFlags(c.flags)
	c.run = func(ctx context.Context, std stdio, args []string) error {
		if len(args) < 1 || len(args) > 2 {
			return usagef("it takes an IMAGE and perhaps a NAME, not %d arguments", len(args))
		}
		ro, err := opts.options(std.err)
		if err != nil {
			return err
		}
		return runImagePush(ctx, std, &opts, ro, args)
	}
	return c
}

func runImagePush(ctx context.Context, std stdio, opts *RegistryFlags, ro image.RegistryOptions, args []string) error {
	name, err := image.ParseReference(args[len(args)-1])
	if err != nil {
		return &usageError{err.Error()}
	}
	store, err := openStore()
	if err != nil {
		return err
	}
	img, _, err := findImage(store, args[0])
	if err != nil {
		return imageError(err)
	}
	done, err := store.Push(ctx, img, name, ro)
	if err != nil {
		return registryError(err)
	}
	if opts.JSON {
		return writeIndented(std.out, done)
	}
	if !opts.Quiet {
		fmt.Fprintf(std.err, "%s: digest: %s size: %d\n", name.Tag, done.Manifest, done.Size)
	}
	_, err = fmt.Fprintln(std.out, done.Manifest)
	return err
}

// registryError makes an image that is not there, and access that is denied, a
// refusal.
func registryError(err error) error {
	if errors.Is(err, image.ErrDenied) {
		return &refusedError{err}
	}
	return imageError(err)
}

// writeIndented prints JSON for people and programs.
func writeIndented(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
