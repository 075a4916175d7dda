package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/unionfs-go/unionfs/internal/pack"
	"github.com/unionfs-go/unionfs/internal/stack"
)

// PackOptions are the flags of pack.
type PackOptions struct {
	Lower         []string
	Output        string
	Compression   string
	Level         int
	JSON          bool
	KeepWhiteouts bool
	Timestamp     string
	Nanoseconds   bool
	UserXattr     bool
}

// AddFlags declares the flags.
func (o *PackOptions) AddFlags(f *pflag.FlagSet) {
	f.StringVarP(&o.Output, "output", "O", "", "write the layer to `FILE`, - for standard output (required)")
	f.StringArrayVar(&o.Lower, "lower", nil, "a lower layer `SOURCE` of the upper, top first; may be repeated")
	f.StringVar(&o.Compression, "compression", "", "none, gzip or zstd (default: by the name of FILE)")
	f.IntVar(&o.Level, "level", 0, "compression level `N`: gzip 1-9, zstd 1-22 (default: 6 and 3)")
	f.BoolVar(&o.KeepWhiteouts, "keep-whiteouts", false, "keep whiteouts and opaque marks of what is not below")
	f.StringVar(&o.Timestamp, "timestamp", "", "no modification time after `TIME`, in seconds since 1970 or RFC 3339 (default: $SOURCE_DATE_EPOCH)")
	f.BoolVar(&o.Nanoseconds, "nanoseconds", false, "keep the parts of a second of modification times")
	f.BoolVar(&o.UserXattr, "userxattr", false, "the marks of the upper are in user.overlay.*")
	f.BoolVar(&o.JSON, "json", false, "print JSON")
}

const packHelp = `Writes what the directory UPPER holds as one OCI image layer: deletions become
whiteouts, moved directories and metadata-only copies become whole again. Prints
the digest of FILE, the DiffID (the digest of the tar in it), sizes and counts.

Name all lower layers with --lower: directories, NAME[:TAG] or oci:DIR[:TAG].
Without them every deletion mark is kept, and an upper with moved directories
(redirect) or metadata-only copies (metacopy) is refused.

The bytes depend on the layers and the flags only. Nothing may write to UPPER
meanwhile; a file that does not hold still is read again, then refused. UPPER of
a live mount: use commit.
`

func newPackCommand() *command {
	var opts PackOptions
	c := &command{
		name:  "pack",
		usage: "[--lower SOURCE]... UPPER -O FILE.tar[.gz|.zst]",
		short: "make an image layer of an upper directory",
		long:  packHelp,
		flags: newFlagSet("pack"),
	}
	opts.AddFlags(c.flags)
	c.run = func(ctx context.Context, std stdio, args []string) error {
		return runPack(ctx, std, &opts, args)
	}
	return c
}

func runPack(ctx context.Context, std stdio, opts *PackOptions, args []string) error {
	if len(args) != 1 {
		return usagef("it takes one UPPER, not %d arguments", len(args))
	}
	if opts.Output == "" {
		return usagef("say where the layer goes: -O FILE.tar[.gz|.zst]")
	}
	po := pack.Options{Level: opts.Level, KeepWhiteouts: opts.KeepWhiteouts, Nanoseconds: opts.Nanoseconds}
	var err error
	if po.Timestamp, err = timestamp(opts.Timestamp); err != nil {
		return err
	}
	if po.Compression, err = packCompression(opts); err != nil {
		return err
	}
	upper, err := resolveDir("upper", args[0])
	if err != nil {
		return err
	}
	low, err := resolveSources(opts.Lower, formAsIs)
	if err != nil {
		return err
	}
	po.LowersUnknown = len(low.Layers) == 0
	ls := &layerStack{}
	defer ls.close()
	if err := ls.open(upper, opts.UserXattr); err != nil {
		return err
	}
	for _, l := range low.Layers {
		if err := ls.openLayer(ctx, l); err != nil {
			return err
		}
	}
	ls.adjust(&po)
	res, err := packTo(ctx, std, opts.Output, ls.stack(), po)
	if err != nil {
		return packError(err)
	}
	out := std.out
	if opts.Output == "-" {
		out = std.err
	}
	return printPacked(std, out, "pack", res, opts.JSON)
}

// packError makes what is wrong with the layers a refusal.
func packError(err error) error {
	if errors.Is(err, pack.ErrInput) {
		return &refusedError{err}
	}
	return err
}

func packCompression(opts *PackOptions) (pack.Compression, error) {
	if opts.Compression != "" {
		c, err := pack.ParseCompression(opts.Compression)
		if err != nil {
			return "", &usageError{err.Error()}
		}
		return c, nil
	}
	switch name := opts.Output; {
	case strings.HasSuffix(name, ".gz"), strings.HasSuffix(name, ".tgz"):
		return pack.Gzip, nil
	case strings.HasSuffix(name, ".zst"), strings.HasSuffix(name, ".tzst"):
		return pack.Zstd, nil
	}
	return pack.None, nil
}

// timestamp reads the latest modification time from a flag, else from the
// environment (reproducible-builds.org/specs/source-date-epoch).
func timestamp(flag string) (*time.Time, error) {
	s, from := flag, "--timestamp"
	if s == "" {
		s, from = os.Getenv("SOURCE_DATE_EPOCH"), "$SOURCE_DATE_EPOCH"
	}
	if s == "" {
		return nil, nil
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		t := time.Unix(n, 0).UTC()
		return &t, nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return nil, usagef("%s: %q is neither seconds since 1970 nor a time like 2026-01-31T12:00:00Z", from, s)
	}
	return &t, nil
}

// packTo packs into a file, which appears complete or not at all, or to
// standard output.
func packTo(ctx context.Context, std stdio, name string, s *stack.Stack, po pack.Options) (pack.Result, error) {
	if name == "-" {
		if isTerminal(std.out) {
			return pack.Result{}, usagef("a layer is not for a terminal: use -O FILE, or redirect standard output")
		}
		return pack.Write(ctx, s, std.out, po)
	}
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".new-")
	if err != nil {
		return pack.Result{}, fmt.Errorf("write %s: %w", name, err)
	}
	defer os.Remove(f.Name()) //nolint:errcheck // renamed, or of no use
	po.SpoolDir = filepath.Dir(f.Name())
	res, err := pack.Write(ctx, s, f, po)
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
	return res, err
}

// printPacked prints what a layer holds: notices to standard error, the rest to
// out.
func printPacked(std stdio, out io.Writer, cmd string, res pack.Result, asJSON bool) error {
	for _, n := range res.Notices {
		fmt.Fprintf(std.err, "unionfs: %s: %s\n", cmd, n)
	}
	if asJSON {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		return enc.Encode(res)
	}
	c := res.Counts
	_, err := fmt.Fprintf(out, "digest  %s\ndiffID  %s\nsize    %d bytes, %d uncompressed\n"+
		"entries %d: %d files (%d bytes), %d directories, %d symlinks, %d links, %d devices, %d whiteouts, %d opaque\n",
		res.Digest, res.DiffID, res.Size, res.UncompressedSize,
		c.Entries, c.Files, c.FileBytes, c.Dirs, c.Symlinks, c.Links, c.Devices, c.Whiteouts, c.Opaques)
	return err
}
