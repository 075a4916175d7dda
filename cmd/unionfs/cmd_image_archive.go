package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/pflag"

	"github.com/unionfs-go/unionfs/internal/image"
	"github.com/unionfs-go/unionfs/internal/pack"
)

// ImageSaveOptions are the flags of image save.
type ImageSaveOptions struct {
	Output string
	Format string
}

// AddFlags declares the flags.
func (o *ImageSaveOptions) AddFlags(f *pflag.FlagSet) {
	f.StringVarP(&o.Output, "output", "o", "", "write to `FILE`, compressed where its name ends in .gz or .zst (default: standard output)")
	f.StringVar(&o.Format, "format", string(image.OCIArchive), "oci: an OCI archive that docker 25 and later load too; docker: a docker-archive of plain layers")
}

func newImageSaveCommand() *command {
	var opts ImageSaveOptions
	c := &command{
		name:  "save",
		usage: "[-o FILE] [--format oci|docker] IMAGE...",
		short: "write images to one tar",
		long: `The tar is for image load, docker load, podman load and skopeo. An image that is
given by name gets that name in it; given by ID, all its names.
`,
		flags: newFlagSet("save"),
	}
	opts.AddFlags(c.flags)
	c.run = func(ctx context.Context, std stdio, args []string) error {
		return runImageSave(ctx, std, &opts, args)
	}
	return c
}

func runImageSave(ctx context.Context, std stdio, opts *ImageSaveOptions, args []string) error {
	if len(args) == 0 {
		return usagef("no IMAGE given")
	}
	format := image.ArchiveFormat(strings.TrimSuffix(opts.Format, "-archive"))
	if format != image.OCIArchive && format != image.DockerArchive {
		return usagef("unknown format %q: use oci or docker", opts.Format)
	}
	if opts.Output == "" && isTerminal(std.out) {
		return usagef("a tar is not for a terminal: use -o FILE, or redirect standard output")
	}
	store, err := openStore()
	if err != nil {
		return err
	}
	images, names, err := imagesToSave(store, args)
	if err != nil {
		return imageError(err)
	}
	write := func(w io.Writer) error { return store.Save(ctx, w, images, names, format) }
	if opts.Output == "" {
		return write(std.out)
	}
	return writeArchive(opts.Output, write)
}

// imagesToSave finds images and the names that they are saved with.
func imagesToSave(store *image.Store, args []string) ([]*image.Image, map[digest.Digest][]image.Reference, error) {
	all, _, err := store.Images()
	if err != nil {
		return nil, nil, err
	}
	var images []*image.Image
	names := make(map[digest.Digest][]image.Reference)
	for _, arg := range args {
		img, name, err := findImage(store, arg)
		if err != nil {
			return nil, nil, err
		}
		images = append(images, img)
		id := img.Target.Digest
		if ref, err := image.ParseReference(name); err == nil && ref.Digest == "" && named(img, arg) {
			names[id] = appendName(names[id], ref)
			continue
		}
		for _, other := range all {
			if ref, err := image.ParseReference(other.Name); err == nil && other.Target.Digest == id {
				names[id] = appendName(names[id], ref)
			}
		}
	}
	return images, names, nil
}

// named tells whether arg is a name of the image, not an ID.
func named(img *image.Image, arg string) bool {
	ref, err := image.ParseReference(arg)
	have, err2 := image.ParseReference(img.Name)
	return err == nil && err2 == nil && ref.Full() == have.Full()
}

func appendName(list []image.Reference, ref image.Reference) []image.Reference {
	for _, r := range list {
		if r == ref {
			return list
		}
	}
	return append(list, ref)
}

// writeArchive writes a file that appears complete or not at all, compressed as
// its name says.
func writeArchive(name string, write func(io.Writer) error) error {
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".new-")
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	defer os.Remove(f.Name()) //nolint:errcheck // renamed, or of no use
	comp, err := pack.NewCompressor(f, compressionByName(name), 0)
	if err == nil {
		err = write(comp)
		if cerr := comp.Close(); err == nil {
			err = cerr
		}
	}
	if err == nil {
		err = f.Chmod(0o644)
	}
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

func compressionByName(name string) pack.Compression {
	switch {
	case strings.HasSuffix(name, ".gz"), strings.HasSuffix(name, ".tgz"):
		return pack.Gzip
	case strings.HasSuffix(name, ".zst"), strings.HasSuffix(name, ".tzst"):
		return pack.Zstd
	}
	return pack.None
}

// ImageLoadOptions are the flags of image load.
type ImageLoadOptions struct {
	Input string
	Quiet bool
	JSON  bool
}

// AddFlags declares the flags.
func (o *ImageLoadOptions) AddFlags(f *pflag.FlagSet) {
	f.StringVarP(&o.Input, "input", "i", "", "read `FILE` (default: standard input)")
	f.BoolVarP(&o.Quiet, "quiet", "q", false, "print IDs only")
	f.BoolVar(&o.JSON, "json", false, "print JSON")
}

func newImageLoadCommand() *command {
	var opts ImageLoadOptions
	c := &command{
		name:  "load",
		usage: "[-i FILE] [-q] [--json] [NAME[:TAG]]",
		short: "take the images of a tar into the store",
		long: `The tar is an OCI archive or a docker-archive, as image save, docker save, podman
save and skopeo write them; it may be compressed with gzip or zstd. All digests
are checked; of an error nothing is left. Layers are kept as they are in it; see
image convert. With NAME only that image is loaded. A root filesystem is for
image import.
`,
		flags: newFlagSet("load"),
	}
	opts.AddFlags(c.flags)
	c.run = func(ctx context.Context, std stdio, args []string) error {
		return runImageLoad(ctx, std, &opts, args)
	}
	return c
}

func runImageLoad(ctx context.Context, std stdio, opts *ImageLoadOptions, args []string) error {
	if len(args) > 1 {
		return usagef("it takes at most one NAME, not %d arguments", len(args))
	}
	req := image.LoadRequest{Path: opts.Input}
	if len(args) == 1 {
		req.Only = args[0]
	}
	if opts.Input == "" || opts.Input == "-" {
		if f, ok := std.in.(io.Writer); ok && isTerminal(f) {
			return usagef("standard input is a terminal; give a tar: unionfs image load -i FILE")
		}
		req.Path, req.Reader = "standard input", std.in
	} else if _, err := os.Stat(opts.Input); err != nil {
		return refusef("load: %w", err)
	}
	store, err := openStore()
	if err != nil {
		return err
	}
	list, err := store.Load(ctx, req)
	if err != nil {
		return imageError(err)
	}
	if opts.JSON {
		enc := json.NewEncoder(std.out)
		enc.SetIndent("", "  ")
		return enc.Encode(list)
	}
	for _, l := range list {
		switch {
		case opts.Quiet:
			fmt.Fprintln(std.out, l.ID)
		case len(l.Names) == 0:
			fmt.Fprintln(std.out, "Loaded image ID:", l.ID)
		}
		for _, n := range l.Names {
			if !opts.Quiet {
				fmt.Fprintln(std.out, "Loaded image:", n)
			}
		}
	}
	return nil
}
