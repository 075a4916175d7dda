package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/pflag"

	"github.com/unionfs-go/unionfs/internal/image"
	"github.com/unionfs-go/unionfs/internal/pack"
)

// ImageImportOptions are the flags of image import.
type ImageImportOptions struct {
	Author      string
	Message     string
	Changes     []string
	Compression string
	Level       int
	Timestamp   string
	IIDFile     string
	JSON        bool
}

// AddFlags declares the flags.
func (o *ImageImportOptions) AddFlags(f *pflag.FlagSet) {
	f.StringVarP(&o.Author, "author", "a", "", "`AUTHOR` of the image")
	f.StringVarP(&o.Message, "message", "m", "", "`MESSAGE` for the history")
	f.StringArrayVarP(&o.Changes, "change", "c", nil, "Dockerfile `INSTRUCTION` to apply; may be repeated; see commit")
	f.StringVar(&o.Compression, "compression", defaultCompression, "of a directory or plain tar: gzip, zstd or none")
	f.IntVar(&o.Level, "level", 0, "compression level `N`: gzip 1-9, zstd 1-22 (default: 6 and 3)")
	f.StringVar(&o.Timestamp, "timestamp", "", "creation time; of a directory, no modification time after it (default: $SOURCE_DATE_EPOCH, else now)")
	f.StringVar(&o.IIDFile, "iidfile", "", "write the image ID to `FILE`")
	f.BoolVar(&o.JSON, "json", false, "print JSON")
}

func newImageImportCommand() *command {
	var opts ImageImportOptions
	c := &command{
		name:  "import",
		usage: "[FLAGS] ROOTFS.tar[.gz|.zst]|DIR|- NAME[:TAG]",
		short: "make an image of a root filesystem",
		long: `The image has one layer: the tar as it is (a plain one compressed), or what the
directory DIR holds. - reads a tar from standard input. Prints the ID of the
image.
`,
		flags: newFlagSet("import"),
	}
	opts.AddFlags(c.flags)
	c.run = func(ctx context.Context, std stdio, args []string) error {
		return runImageImport(ctx, std, &opts, args)
	}
	return c
}

func runImageImport(ctx context.Context, std stdio, opts *ImageImportOptions, args []string) error {
	if len(args) != 2 {
		return usagef("it takes a tar or directory and a NAME, not %d arguments", len(args))
	}
	name, err := parseNewName(args[1])
	if err != nil {
		return err
	}
	po := pack.Options{Level: opts.Level}
	if po.Compression, err = pack.ParseCompression(opts.Compression); err != nil {
		return &usageError{err.Error()}
	}
	if po.Timestamp, err = timestamp(opts.Timestamp); err != nil {
		return err
	}
	created := time.Now()
	if po.Timestamp != nil {
		created = *po.Timestamp
	}
	store, err := openStore()
	if err != nil {
		return err
	}
	req := image.CommitRequest{
		Op: "import", Name: name, Author: opts.Author, Message: opts.Message, Changes: opts.Changes, Created: created,
	}
	var done image.Committed
	if fi, serr := os.Stat(args[0]); serr == nil && fi.IsDir() {
		done, err = importDir(ctx, store, args[0], req, po)
	} else {
		done, err = importTar(ctx, std, store, args[0], req, po)
	}
	if err != nil {
		return imageError(err)
	}
	return reportCommit(std, "image import", done, opts.IIDFile, opts.JSON)
}

// importDir packs a directory as the only layer.
func importDir(ctx context.Context, store *image.Store, path string, req image.CommitRequest, po pack.Options) (image.Committed, error) {
	dir, err := resolveDir("directory", path)
	if err != nil {
		return image.Committed{}, err
	}
	ls := &layerStack{}
	defer ls.close()
	if err := ls.open(dir, false); err != nil {
		return image.Committed{}, err
	}
	ls.adjust(&po)
	req.Parts = []image.Part{{Stack: ls.stack(), Pack: po, CreatedBy: "unionfs image import", Retry: 3}}
	return store.Commit(ctx, req)
}

func importTar(ctx context.Context, std stdio, store *image.Store, path string, req image.CommitRequest, po pack.Options) (image.Committed, error) {
	in := std.in
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return image.Committed{}, refusef("import: %w", err)
		}
		defer f.Close() //nolint:errcheck // only read
		in = f
	} else if f, ok := in.(io.Writer); ok && isTerminal(f) {
		return image.Committed{}, usagef("standard input is a terminal; give a tar: unionfs image import FILE NAME")
	}
	done, err := store.Import(ctx, image.ImportRequest{Tar: in, Commit: req, Compression: po.Compression, Level: po.Level})
	if err != nil {
		return done, fmt.Errorf("%s: %w", path, err)
	}
	return done, nil
}
