package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/pflag"

	"github.com/unionfs-go/unionfs/internal/image"
	"github.com/unionfs-go/unionfs/internal/inspect"
	"github.com/unionfs-go/unionfs/internal/pack"
	"github.com/unionfs-go/unionfs/internal/tarlayer"
)

// ImageVerifyOptions are the flags of image verify.
type ImageVerifyOptions struct {
	JSON bool
}

// AddFlags declares the flags.
func (o *ImageVerifyOptions) AddFlags(f *pflag.FlagSet) {
	f.BoolVar(&o.JSON, "json", false, "print JSON")
}

func newImageVerifyCommand() *command {
	var opts ImageVerifyOptions
	c := &command{
		name:  "verify",
		usage: "[--json] [IMAGE...]",
		short: "read images, or all of the store, and check every digest",
		long: `Checks the digest and size of every blob, the DiffID of every layer, and that
configurations, histories, media types and platforms agree. Exit code 1: something
is wrong; each problem is a line of the output.
`,
		flags: newFlagSet("verify"),
	}
	opts.AddFlags(c.flags)
	c.run = func(ctx context.Context, std stdio, args []string) error {
		store, err := openStore()
		if err != nil {
			return err
		}
		rep, err := store.Verify(ctx, args)
		if err != nil {
			return imageError(err)
		}
		return printVerified(std, rep, opts.JSON)
	}
	return c
}

func printVerified(std stdio, rep image.Report, asJSON bool) error {
	if asJSON {
		enc := json.NewEncoder(std.out)
		enc.SetIndent("", "  ")
		if err := enc.Encode(rep); err != nil {
			return err
		}
	} else {
		for _, p := range rep.Problems {
			where := p.Image
			if where != "" {
				where += ": "
			}
			if p.Digest != "" && p.Digest.String() != p.Image {
				where += p.Digest.String() + ": "
			}
			fmt.Fprintln(std.out, where+p.Message)
		}
		fmt.Fprintf(std.out, "%d images, %d layers, %d blobs, %s read: %d problems\n",
			rep.Images, rep.Layers, rep.Blobs, humanSize(rep.Bytes), len(rep.Problems))
	}
	if len(rep.Problems) > 0 {
		return &silentError{exitFailure}
	}
	return nil
}

// ImageConvertOptions are the flags of image convert.
type ImageConvertOptions struct {
	Compression string
	Level       int
	JSON        bool
}

// AddFlags declares the flags.
func (o *ImageConvertOptions) AddFlags(f *pflag.FlagSet) {
	f.StringVar(&o.Compression, "compression", "", "of all layers: zstd, gzip or none (required)")
	f.IntVar(&o.Level, "level", 0, "compression level `N`: gzip 1-9, zstd 1-22 (default: 6 and 3)")
	f.BoolVar(&o.JSON, "json", false, "print JSON")
}

func newImageConvertCommand() *command {
	var opts ImageConvertOptions
	c := &command{
		name:  "convert",
		usage: "--compression zstd|gzip|none [--level N] IMAGE [NAME[:TAG]]",
		short: "compress the layers of an image in another way",
		long: `Layers that are compressed so already stay. The image ID and the DiffIDs do not
change, the digest of the manifest does. Without NAME the name of IMAGE moves to
the result, and what it was becomes <none> (see image prune). Prints the digest
of the manifest.
`,
		flags: newFlagSet("convert"),
	}
	opts.AddFlags(c.flags)
	c.run = func(ctx context.Context, std stdio, args []string) error {
		return runImageConvert(ctx, std, &opts, args)
	}
	return c
}

func runImageConvert(ctx context.Context, std stdio, opts *ImageConvertOptions, args []string) error {
	if len(args) < 1 || len(args) > 2 {
		return usagef("it takes an IMAGE and a NAME, not %d arguments", len(args))
	}
	if opts.Compression == "" {
		return usagef("say how: --compression zstd, gzip or none")
	}
	req := image.ConvertRequest{Level: opts.Level}
	var err error
	if req.Compression, err = pack.ParseCompression(opts.Compression); err != nil {
		return &usageError{err.Error()}
	}
	if len(args) == 2 {
		if req.Name, err = parseNewName(args[1]); err != nil {
			return err
		}
	}
	store, img, err := oneImage(args[:1])
	if err != nil {
		return err
	}
	if ref, err := image.ParseReference(img.Name); err == nil && req.Name == nil && ref.Digest == "" {
		req.Name = &ref
	}
	req.Image = img
	if isTerminal(std.err) {
		req.Progress = func(msg string) { fmt.Fprintln(std.err, "unionfs: image convert: "+msg) }
	}
	done, err := store.Convert(ctx, req)
	if err != nil {
		return imageError(err)
	}
	if opts.JSON {
		enc := json.NewEncoder(std.out)
		enc.SetIndent("", "  ")
		return enc.Encode(done)
	}
	if req.Progress != nil {
		req.Progress(fmt.Sprintf("%d layers compressed anew, %s became %s", done.Layers, humanSize(done.Before), humanSize(done.After)))
	}
	_, err = fmt.Fprintln(std.out, done.Manifest)
	return err
}

// ImagePruneOptions are the flags of image prune.
type ImagePruneOptions struct {
	All    bool
	DryRun bool
	JSON   bool
	Cache  bool
	Keep   string // size of the cache
}

// AddFlags declares the flags.
func (o *ImagePruneOptions) AddFlags(f *pflag.FlagSet) {
	f.BoolVarP(&o.All, "all", "a", false, "remove all images that no mount has, with their names")
	f.BoolVar(&o.DryRun, "dry-run", false, "only tell what would be removed")
	f.BoolVar(&o.Cache, "cache", false, "prune the index cache of layer files instead of the store")
	f.StringVar(&o.Keep, "keep", "0", "with --cache: leave the indexes used last, `SIZE` at most (such as 500M)")
	f.BoolVar(&o.JSON, "json", false, "print JSON")
}

func newImagePruneCommand() *command {
	var opts ImagePruneOptions
	c := &command{
		name:  "prune",
		usage: "[-a] [--dry-run] [--json] | --cache [--keep SIZE] [--json]",
		short: "remove images without a name and all that no image needs",
		long: `Removes images without a name, blobs that no image refers to, and unpacked layers
that belong to no image. What a live mount has stays. An upper that is not
mounted is not known: what it was mounted on stays as long as that image has a
name (without --all).

The index cache, by which layer files are mounted without being unpacked, is in
$XDG_CACHE_HOME/unionfs or ~/.cache/unionfs. What is removed from it is made anew
when it is needed; live mounts keep what they have.
`,
		flags: newFlagSet("prune"),
	}
	opts.AddFlags(c.flags)
	c.run = func(ctx context.Context, std stdio, args []string) error {
		return runImagePrune(ctx, std, &opts, args)
	}
	return c
}

func runImagePrune(ctx context.Context, std stdio, opts *ImagePruneOptions, args []string) error {
	if len(args) > 0 {
		return usagef("it takes no arguments")
	}
	if opts.Cache {
		return pruneCache(std, opts)
	}
	if opts.Keep != "0" {
		return usagef("--keep is for --cache")
	}
	store, err := openStore()
	if err != nil {
		return err
	}
	done, err := store.Prune(image.PruneRequest{All: opts.All, DryRun: opts.DryRun, InUse: usedByMounts(ctx, store)})
	if err != nil {
		return imageError(err)
	}
	if opts.JSON {
		enc := json.NewEncoder(std.out)
		enc.SetIndent("", "  ")
		return enc.Encode(done)
	}
	for _, i := range done.Images {
		if i.Name != "" {
			fmt.Fprintln(std.out, "Untagged:", i.Name)
		}
	}
	for _, list := range [][]digest.Digest{done.Blobs, done.Unpacked} {
		for _, d := range list {
			fmt.Fprintln(std.out, "Deleted:", d)
		}
	}
	what := "Total reclaimed space:"
	if opts.DryRun {
		what = "Total space that would be reclaimed:"
	}
	fmt.Fprintln(std.out, what, humanSize(done.Bytes+done.UnpackedBytes))
	return nil
}

// pruneCache bounds the index cache.
func pruneCache(std stdio, opts *ImagePruneOptions) error {
	if opts.All || opts.DryRun {
		return usagef("--cache goes with neither --all nor --dry-run")
	}
	keep, err := inspect.ParseSize(opts.Keep)
	if err != nil || keep < 0 {
		return usagef("--keep %s: not a size such as 500M", opts.Keep)
	}
	freed, err := tarlayer.Prune("", keep)
	if err != nil {
		return fmt.Errorf("prune the index cache: %w", err)
	}
	if opts.JSON {
		return writeIndented(std.out, struct {
			Bytes int64 `json:"bytes"`
		}{freed})
	}
	_, err = fmt.Fprintln(std.out, "Total reclaimed space:", humanSize(freed))
	return err
}
