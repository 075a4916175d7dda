package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"time"

	"github.com/spf13/pflag"

	"github.com/unionfs-go/unionfs/internal/image"
	"github.com/unionfs-go/unionfs/internal/pack"
)

// CommitOptions are the flags of commit.
type CommitOptions struct {
	Author      string
	Message     string
	Changes     []string
	NoPause     bool
	Compression string
	Level       int
	Timestamp   string
	Lower       []string
	UserXattr   bool
	IIDFile     string
	JSON        bool
	Squash      bool
	Drop        bool
	Include     []string
	Exclude     []string
	BaseLayers  string
	DryRun      bool
}

// The values of --base-layers.
const (
	baseLayersPack = "pack"
	baseLayersOmit = "omit"
)

// defaultCompression is what every tool reads.
const defaultCompression = "gzip"

// AddFlags declares the flags.
func (o *CommitOptions) AddFlags(f *pflag.FlagSet) {
	f.StringVarP(&o.Author, "author", "a", "", "`AUTHOR` of the image, such as \"Ann <ann@example.com>\"")
	f.StringVarP(&o.Message, "message", "m", "", "`MESSAGE` for the history")
	f.StringArrayVarP(&o.Changes, "change", "c", nil, "Dockerfile `INSTRUCTION` to apply; may be repeated")
	f.BoolVar(&o.NoPause, "no-pause", false, "do not hold back writes to the mount while it is read")
	f.StringVar(&o.Compression, "compression", defaultCompression, "of new layers: gzip, zstd or none")
	f.IntVar(&o.Level, "level", 0, "compression level `N`: gzip 1-9, zstd 1-22 (default: 6 and 3)")
	f.StringVar(&o.Timestamp, "timestamp", "", "creation time, and no modification time after it (default: $SOURCE_DATE_EPOCH, else now)")
	f.StringArrayVar(&o.Lower, "lower", nil, "a lower layer `SOURCE` of UPPER, top first; may be repeated; of a mount they are known")
	f.BoolVar(&o.UserXattr, "userxattr", false, "the marks of UPPER are in user.overlay.*; of a mount it is known")
	f.BoolVar(&o.Squash, "squash", false, "make one layer of all that the mount shows, base layers too")
	f.BoolVar(&o.Drop, "drop-unchanged", false, "leave out files that are the same below, times and owners too")
	f.StringArrayVar(&o.Include, "include", nil, "only what was changed at or below `PATH` of the mount; *, ? and [] match within a name; may be repeated")
	f.StringArrayVar(&o.Exclude, "exclude", nil, "not what was changed at or below `PATH`; may be repeated")
	f.StringVar(&o.BaseLayers, "base-layers", baseLayersPack, "lower directories and layer files that are of no image: pack makes them layers, omit leaves them out")
	f.BoolVar(&o.DryRun, "dry-run", false, "only tell what would be in the layer: A added, C changed, D deleted, O all below deleted")
	f.StringVar(&o.IIDFile, "iidfile", "", "write the image ID to `FILE`")
	f.BoolVar(&o.JSON, "json", false, "print JSON")
}

const commitHelp = `Makes an image of what a mount shows: the layers below as they are, and what was
changed as one new layer. Prints the ID of the image.

MOUNTPOINT is a writable mount of unionfs. Its writes are held back while they
are read (not with --no-pause); a file that changes all the same is read again,
never stored torn. An UPPER that is not mounted needs its lower layers:
--lower DIR, --lower NAME:TAG, top first.

Layers that came from an image are referred to; lower directories become layers
too. Without NAME the image has no name. An image that had the name keeps its
content and becomes <none>. A layer of nothing is only noted in the history.

The same upper gives the same DiffID. --dry-run lists what would be in the layer
and makes nothing.

INSTRUCTIONs: CMD ENTRYPOINT ENV EXPOSE HEALTHCHECK LABEL ONBUILD STOPSIGNAL USER
VOLUME WORKDIR, for example  -c 'CMD ["/bin/app"]' -c 'ENV A=1 B="two words"'
`

func newCommitCommand() *command {
	var opts CommitOptions
	c := &command{
		name:  "commit",
		usage: "[-a AUTHOR] [-m MESSAGE] [-c INSTRUCTION]... MOUNTPOINT|UPPER [NAME[:TAG]]",
		short: "make an image of a mount",
		long:  commitHelp,
		flags: newFlagSet("commit"),
	}
	opts.AddFlags(c.flags)
	c.run = func(ctx context.Context, std stdio, args []string) error {
		return runCommit(ctx, std, &opts, args)
	}
	return c
}

func runCommit(ctx context.Context, std stdio, opts *CommitOptions, args []string) error {
	if len(args) < 1 || len(args) > 2 {
		return usagef("it takes a MOUNTPOINT or UPPER and a NAME, not %d arguments", len(args))
	}
	req := image.CommitRequest{Author: opts.Author, Message: opts.Message, Changes: opts.Changes}
	if len(args) == 2 {
		name, err := parseNewName(args[1])
		if err != nil {
			return err
		}
		req.Name = name
	}
	var scratch image.RunConfig
	if err := scratch.Apply(opts.Changes); err != nil {
		return &usageError{err.Error()}
	}
	po, err := commitPacking(opts, &req)
	if err != nil {
		return err
	}
	store, err := openStore()
	if err != nil {
		return err
	}
	src, err := findCommitSource(ctx, opts, args[0])
	if err != nil {
		return err
	}
	defer src.close()
	if req.Parts, err = src.parts(ctx, store, po, opts.BaseLayers == baseLayersPack); err != nil {
		return err
	}
	if opts.Squash {
		src.squash(&req)
	}
	if !opts.NoPause {
		if err := src.freeze(ctx, store, &req.Parts[len(req.Parts)-1]); err != nil {
			return err
		}
	}
	if opts.DryRun {
		return planCommit(ctx, std, req.Parts, opts.JSON)
	}
	done, err := store.Commit(ctx, req)
	if err != nil {
		return packError(err)
	}
	if opts.Drop {
		c := done.Layers[len(done.Layers)-1].Counts
		fmt.Fprintf(std.err, "unionfs: commit: %d unchanged files left out, %s saved\n", c.Unchanged, humanSize(c.UnchangedBytes))
	}
	return reportCommit(std, "commit", done, opts.IIDFile, opts.JSON)
}

// parseNewName reads the name of a new image.
func parseNewName(s string) (*image.Reference, error) {
	name, err := image.ParseReference(s)
	if err != nil {
		return nil, &usageError{err.Error()}
	}
	if name.Digest != "" {
		return nil, usagef("image name %q: a new image cannot be given a digest", s)
	}
	return &name, nil
}

// commitPacking sets how layers are packed and when the image was made.
func commitPacking(opts *CommitOptions, req *image.CommitRequest) (pack.Options, error) {
	po := pack.Options{Level: opts.Level}
	err := checkChoice(opts)
	if err != nil {
		return po, err
	}
	if po.Compression, err = pack.ParseCompression(opts.Compression); err != nil {
		return po, &usageError{err.Error()}
	}
	if po.Timestamp, err = timestamp(opts.Timestamp); err != nil {
		return po, err
	}
	req.Created = time.Now()
	if po.Timestamp != nil {
		req.Created = *po.Timestamp
	}
	return po, nil
}

// checkChoice checks the flags that say what becomes a layer.
func checkChoice(opts *CommitOptions) error {
	if opts.BaseLayers != baseLayersPack && opts.BaseLayers != baseLayersOmit {
		return usagef("--base-layers %q: use pack or omit", opts.BaseLayers)
	}
	if opts.Squash && (len(opts.Include)+len(opts.Exclude) > 0 || opts.Drop || opts.BaseLayers == baseLayersOmit) {
		return usagef("--squash takes all that the mount shows; leave --include, --exclude, --drop-unchanged and --base-layers out")
	}
	for _, p := range slices.Concat(opts.Include, opts.Exclude) {
		if _, err := path.Match(p, ""); err != nil || path.Clean("/"+p) == "/" {
			return usagef("%q is not a path below the root of the mount", p)
		}
	}
	return nil
}

// reportCommit prints what was made.
func reportCommit(std stdio, cmd string, done image.Committed, iidfile string, asJSON bool) error {
	for _, l := range done.Layers {
		for _, n := range l.Notices {
			fmt.Fprintf(std.err, "unionfs: %s: %s\n", cmd, n)
		}
	}
	if iidfile != "" {
		if err := os.WriteFile(iidfile, []byte(done.ID), 0o644); err != nil {
			return fmt.Errorf("the image was made, but not the file with its ID: %w", err)
		}
	}
	if asJSON {
		enc := json.NewEncoder(std.out)
		enc.SetIndent("", "  ")
		return enc.Encode(done)
	}
	_, err := fmt.Fprintln(std.out, done.ID)
	return err
}

// imageError makes an image that is not there, or in use, a refusal.
func imageError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, image.ErrNotFound), errors.Is(err, image.ErrInUse), errors.Is(err, pack.ErrInput):
		return &refusedError{err}
	case errors.Is(err, image.ErrChange):
		return &usageError{err.Error()}
	}
	return err
}
