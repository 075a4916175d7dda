package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/pflag"

	"github.com/unionfs-go/unionfs/internal/mountopt"
)

// MountOptions are the flags of mount.
type MountOptions struct {
	Upper      string
	Work       string
	Ephemeral  bool
	ReadOnly   bool
	Unpack     bool
	NoUnpack   bool
	Cache      string   // directory of the index cache; "" is the default
	Options    []string // option strings of -o, in order
	Owner      string
	Foreground bool
	Log        string
	Debug      bool

	lenient bool // unknown options are warnings, as the helper names want it
}

// AddFlags declares the flags.
func (o *MountOptions) AddFlags(f *pflag.FlagSet) {
	f.StringVar(&o.Upper, "upper", "", "directory `DIR` that takes the changes; without it the mount is read-only")
	f.StringVar(&o.Work, "work", "", "scratch directory `DIR` on the filesystem of the upper (default: beside the upper)")
	f.BoolVar(&o.Ephemeral, "ephemeral", false, "take changes in a temporary directory that is removed at unmount")
	f.BoolVar(&o.ReadOnly, "read-only", false, "refuse changes, also when there is an upper")
	f.BoolVar(&o.Unpack, "unpack", false, "unpack the layers of images into the store first")
	f.BoolVar(&o.NoUnpack, "no-unpack", false, "read the layers of images from their blobs, though they are unpacked")
	f.StringVar(&o.Cache, "cache", "", "directory `DIR` for the indexes of layer files (default: unionfs in $XDG_CACHE_HOME or ~/.cache)")
	f.StringArrayVarP(&o.Options, "options", "o", nil, "mount options `OPTS`, separated by commas; may be repeated")
	f.StringVar(&o.Owner, "owner", "", "whose the files are: image, me or `UID:GID` (default: as the layers say or remember)")
	f.BoolVarP(&o.Foreground, "foreground", "f", false, "stay in the foreground; messages go to standard error")
	f.StringVar(&o.Log, "log", "", "log `FILE` of the daemon (default: see above)")
	f.BoolVar(&o.Debug, "debug", false, "log every operation")
}

const mountHelp = `Mounts the union of one or more layers, given top first, at MOUNTPOINT. A SOURCE
is a directory, a layer tar (FILE.tar, .tar.gz or .tar.zst), an image of the local
store (NAME[:TAG]) or one in an OCI layout (oci:DIR[:TAG]). All changes land in the upper directory; the layers are never
written. The command returns when the mount answers; a daemon then serves it.

Instead of SOURCE and --upper the options of the kernel's overlayfs may be used:
  -o lowerdir=TOP:...:BOTTOM   escape a colon as \:, a comma as \,
  -o upperdir=DIR,workdir=DIR
Other options: redirect_dir=on|off|follow (default on), metacopy=on|off (off),
  index=on|off (on), xino=on|auto|off (inode numbers are always unique),
  userxattr, volatile, noacl, io=auto|cached|passthrough, ro, fsname=NAME, debug,
  transport=auto|uring|dev|gofuse, spin=auto|off|MICROSECONDS (how long the daemon
  looks out for the next request before it sleeps),
  allow_other, default_permissions (both default for root), and nosuid, nodev,
  noexec, noatime and their opposites.

A layer tar is not unpacked: it is read once to index it, and the index is kept in
the cache (see unionfs image prune --cache). The layers of an image are unpacked
into the store for a mount with an upper; read-only they are read as they are,
from their directory if they were unpacked before, else like a layer tar.
--unpack and --no-unpack decide otherwise.

Owners: uidmapping=DISK:SHOWN:COUNT[:...] and gidmapping show ids of the layers as
  others and store them back; squash_to_uid=N, squash_to_gid=N, squash_to_root
  show one owner for all, as --owner UID:GID and --owner me do. What a plain user
  cannot do to a file is remembered in user.containers.override_stat, as rootless
  podman does, so that owners and modes are the image's, also after pack and
  commit; in his own mount he may nevertheless read, change and remove everything.
  xattr_permissions=2 remembers all there, 1 in security.fuseoverlayfs.override_stat,
  0 nothing.

The marks of the upper are kept in trusted.overlay.*, or in user.overlay.* for
users other than root, with userxattr, and in an upper that has such already.

Without --work the workdir is .NAME.unionfs-work beside the upper directory NAME.
It is removed at unmount unless it holds the index of copied-up hard links.
--ephemeral uses a directory below $TMPDIR, else /var/tmp.

The daemon's log is /var/log/unionfs.log for root, else unionfs.log in
$XDG_STATE_HOME/unionfs or ~/.local/state/unionfs; at 8 MiB it becomes
unionfs.log.1. SIGTERM and SIGINT make the daemon unmount and end.
`

func newMountCommand() *command {
	var opts MountOptions
	c := &command{
		name:  "mount",
		usage: "[--upper DIR [--work DIR] | --ephemeral | --read-only] [-o OPTS] SOURCE... MOUNTPOINT",
		short: "mount a stack of layers",
		long:  mountHelp,
		flags: newFlagSet("mount"),
	}
	opts.AddFlags(c.flags)
	c.run = func(ctx context.Context, std stdio, args []string) error {
		return runMount(ctx, std, &opts, args)
	}
	return c
}

// runMount checks the command line, then becomes the daemon or starts it.
func runMount(ctx context.Context, std stdio, opts *MountOptions, args []string) error {
	req, err := parseMount(opts, args)
	if err != nil {
		return err
	}
	ready := inheritedReady()
	if ready == nil && !opts.Foreground {
		return startDaemon(ctx)
	}
	for _, w := range req.warnings {
		fmt.Fprintf(std.err, "unionfs: mount: warning: %v\n", w)
	}
	return serveMount(ctx, std, req, ready)
}

// mountRequest is a command line understood: everything but what lies on disk.
type mountRequest struct {
	opts       *MountOptions
	parsed     mountopt.Options
	sources    []string // SOURCE arguments, or nil for parsed.Lowers
	label      string   // what the source column of the mount table says
	mountpoint string
	warnings   []error
}

// parseMount reads the options and sorts the arguments.
func parseMount(opts *MountOptions, args []string) (*mountRequest, error) {
	parsed, err := mountopt.Parse(opts.Options...)
	var many *mountopt.TooManyError
	if errors.As(err, &many) {
		return nil, &refusedError{err}
	}
	if err != nil {
		return nil, &usageError{err.Error()}
	}
	req := &mountRequest{opts: opts, parsed: parsed}
	if opts.lenient {
		req.warnings = parsed.Problems()
	} else if err := parsed.Strict(); err != nil {
		return nil, &usageError{err.Error()}
	}
	if err := req.merge(); err != nil {
		return nil, err
	}
	return req, req.sortArgs(args)
}

// merge joins the flags and the options that mean the same.
func (r *mountRequest) merge() error {
	o, p := r.opts, &r.parsed
	for _, d := range []struct {
		flag, option string
		from         string
		to           *string
	}{
		{"--upper", "upperdir", o.Upper, &p.Upper},
		{"--work", "workdir", o.Work, &p.Work},
		{"--owner", "owner", o.Owner, &p.Owner},
	} {
		if d.from == "" {
			continue
		}
		if *d.to != "" && *d.to != d.from {
			return usagef("%s %s and -o %s=%s contradict each other", d.flag, d.from, d.option, *d.to)
		}
		*d.to = d.from
	}
	if err := p.CheckOwner(); err != nil {
		return &usageError{err.Error()}
	}
	p.ReadOnly = p.ReadOnly || o.ReadOnly
	o.Debug = o.Debug || p.Debug
	switch {
	case o.Unpack && o.NoUnpack:
		return usagef("--unpack and --no-unpack contradict each other")
	case o.Ephemeral && p.Upper != "":
		return usagef("--ephemeral and an upper directory contradict each other")
	case o.Ephemeral && p.ReadOnly:
		return usagef("--ephemeral and read-only contradict each other")
	case p.Work != "" && p.Upper == "":
		if !r.opts.lenient {
			return usagef("a workdir (%s) without an upper directory has no use", p.Work)
		}
		// fs/overlayfs/params.c: ovl_fs_params_verify ignores it.
		r.warnings = append(r.warnings, fmt.Errorf("workdir %s without an upperdir is ignored", p.Work))
		p.Work = ""
	}
	return nil
}

// imageForm is how the layers of images are read. Indexing a blob takes as long
// as unpacking it, and files are read about as fast either way; a blob takes no
// second copy of the data, a directory has file handles, which keep hard links
// together over their copy-up.
func (r *mountRequest) imageForm() imageForm {
	switch {
	case r.opts.Unpack:
		return formUnpacked
	case r.opts.NoUnpack:
		return formBlobs
	case r.opts.Ephemeral, r.parsed.Upper != "" && !r.parsed.ReadOnly:
		return formUnpacked
	}
	return formAsIs
}

// sortArgs tells SOURCE arguments, a label and the mountpoint apart. With
// lowerdir a single argument before the mountpoint is only a label: mount(8) and
// containerd give one.
func (r *mountRequest) sortArgs(args []string) error {
	if len(args) == 0 {
		return usagef("no MOUNTPOINT given; see unionfs mount --help")
	}
	last := len(args) - 1
	r.mountpoint = args[last]
	if r.mountpoint == "" {
		return usagef("the MOUNTPOINT is empty")
	}
	args = args[:last]
	r.label = r.parsed.FSName
	switch {
	case len(r.parsed.Lowers) == 0 && len(args) == 0:
		return usagef("no layer given: name a SOURCE before the MOUNTPOINT, or use -o lowerdir=")
	case len(r.parsed.Lowers) == 0:
		if len(args) > mountopt.MaxLayers {
			return &refusedError{&mountopt.TooManyError{Layers: len(args)}}
		}
		r.sources = args
		if r.opts.lenient && r.label == "" && len(args) == 1 {
			r.label = args[0] // as mount(8) and findmnt expect it of /etc/fstab
		}
	case len(args) > 1:
		return usagef("layers are given both by lowerdir and as arguments (%q)", args)
	case len(args) == 1 && r.label == "":
		r.label = args[0]
	}
	if r.label == "" {
		r.label = "unionfs"
	}
	return nil
}
