package image

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/stack"
	"github.com/unionfs-go/unionfs/internal/sys"
	"github.com/unionfs-go/unionfs/whiteout"
)

// Limits bound what unpacking a layer may make.
type Limits struct {
	Entries int64 // tar entries
	Bytes   int64 // of file data
}

// DefaultLimits are far beyond any real layer and keep a hostile one from
// running for ever.
var DefaultLimits = Limits{Entries: 8 << 20, Bytes: 1 << 40}

// Extracted tells what unpacking a layer gave.
type Extracted struct {
	Entries int64 `json:"entries"`
	Bytes   int64 `json:"bytes"`            // of file data
	Opaque  bool  `json:"opaque,omitempty"` // the root hides all layers below
	// Implied counts the directories that the tar does not mention, so that their
	// attributes are those of the layers below.
	Implied int      `json:"implied,omitempty"`
	Notices []string `json:"notices,omitempty"`
}

// maxNotices bounds the list of notices of one layer.
const maxNotices = 100

// extractor unpacks one layer into one directory, in the kernel's format. Every
// path is resolved inside that directory: symlinks on the way are followed as
// if it were the root, which is what docker does.
type extractor struct {
	ns     whiteout.Namespace
	limits Limits
	root   int          // descriptor of the directory
	below  *stack.Stack // what the layer lies on, or nil

	out      Extracted
	deferred []deferredDir
	links    []*tar.Header // hard links whose target has not come yet

	// The last parent, kept open while nothing that could move it happens.
	parentPath string
	parentFD   int
}

// deferredDir is a directory whose mode and times are set when all is in it.
type deferredDir struct {
	path string
	hdr  *tar.Header // nil: an implied parent
}

// Extract unpacks the tar stream r into the empty directory whose descriptor is
// root. Whiteouts become devices 0:0, opaque marks attributes in namespace ns.
// Owners, modes and devices that this process may not make are remembered in
// user.containers.override_stat, as podman does. Nothing outside the directory
// is touched, whatever the tar says. Parents that the tar leaves out get the
// attributes they have in below, the layers that this one lies on (nil: none),
// else mode 0755 and owner root.
func Extract(ctx context.Context, r io.Reader, root int, below *stack.Stack, ns whiteout.Namespace, limits Limits) (Extracted, error) {
	x := &extractor{ns: ns, limits: limits, root: root, below: below, parentFD: -1}
	defer x.dropParent()
	tr := tar.NewReader(r)
	for {
		if err := ctx.Err(); err != nil {
			return x.out, err
		}
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return x.out, fmt.Errorf("read layer: %w: %w", ErrCorrupt, err)
		}
		if x.out.Entries++; x.out.Entries > limits.Entries {
			return x.out, fmt.Errorf("unpack layer: %w: more than %d entries", ErrCorrupt, limits.Entries)
		}
		if err := x.entry(h, tr); err != nil {
			return x.out, fmt.Errorf("unpack %q: %w", h.Name, err)
		}
	}
	if err := x.lateLinks(); err != nil {
		return x.out, err
	}
	return x.out, x.finishDirs()
}

func (x *extractor) notice(format string, args ...any) {
	if len(x.out.Notices) < maxNotices {
		x.out.Notices = append(x.out.Notices, fmt.Sprintf(format, args...))
	}
}

// cleanName turns an entry's name into a path below the root; "" is the root.
// ".." never leads out of it.
func cleanName(name string) (string, error) {
	if strings.IndexByte(name, 0) >= 0 {
		return "", fmt.Errorf("%w: a NUL byte in a name", ErrCorrupt)
	}
	return path.Clean("/" + name)[1:], nil
}

func (x *extractor) entry(h *tar.Header, data io.Reader) error {
	switch h.Typeflag {
	case tar.TypeXGlobalHeader:
		return nil
	case tar.TypeReg, tar.TypeDir, tar.TypeSymlink, tar.TypeLink, tar.TypeChar, tar.TypeBlock, tar.TypeFifo, tar.TypeCont:
	default:
		x.notice("%s: entries of type %q are not known and left out", h.Name, h.Typeflag)
		return nil
	}
	name, err := cleanName(h.Name)
	if err != nil {
		return err
	}
	if name == "" {
		if h.Typeflag != tar.TypeDir {
			return fmt.Errorf("%w: the root of a layer must be a directory", ErrCorrupt)
		}
		x.deferred = append(x.deferred, deferredDir{"", h})
		return nil
	}
	dir, base := path.Split(name)
	parent, err := x.parent(strings.TrimSuffix(dir, "/"))
	if err != nil {
		return err
	}
	switch kind, victim := whiteout.ParseOCIName(base); kind {
	case whiteout.Deletes:
		return x.delete(parent, victim)
	case whiteout.MakesOpaque:
		if strings.TrimSuffix(dir, "/") == "" {
			x.out.Opaque = true
			return nil
		}
		return x.ns.SetOpaque(parent, "")
	case whiteout.Reserved:
		if base == whiteout.Prefix || base == whiteout.OCIName(".") || base == whiteout.OCIName("..") {
			return fmt.Errorf("%w: a whiteout of nothing", ErrCorrupt)
		}
		return nil // bookkeeping of AUFS
	case whiteout.Plain:
	}
	return x.object(parent, name, base, h, data)
}

// delete makes a whiteout, unless the layer itself puts something there.
func (x *extractor) delete(parent int, victim string) error {
	var st unix.Statx_t
	switch err := sys.Statx(parent, victim, &st); err {
	case unix.ENOENT:
		m, err := whiteout.ReadMarks(parent, "", true, x.ns)
		if err != nil || m.Opacity == whiteout.OpaqueDir && parent != x.root {
			return err // nothing to hide in an opaque directory
		}
		return x.ns.Make(parent, victim, whiteout.Device)
	case nil:
		if uint32(st.Mode)&unix.S_IFMT == unix.S_IFDIR {
			return x.ns.SetOpaque(parent, victim)
		}
		return nil
	default:
		return err
	}
}

// parent returns the descriptor of the directory at p, making those that the
// layer does not mention. It belongs to the extractor.
func (x *extractor) parent(p string) (int, error) {
	if p == "" {
		return x.root, nil
	}
	if x.parentFD >= 0 && x.parentPath == p {
		return x.parentFD, nil
	}
	fd, err := sys.OpenInRoot(x.root, p, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err == unix.ENOENT || err == unix.ENOTDIR {
		if err = x.implied(p); err == nil {
			fd, err = sys.OpenInRoot(x.root, p, unix.O_PATH|unix.O_DIRECTORY, 0)
		}
	}
	if err != nil {
		return -1, fmt.Errorf("open directory %q: %w", p, err)
	}
	x.dropParent()
	x.parentPath, x.parentFD = p, fd
	return fd, nil
}

func (x *extractor) dropParent() {
	if x.parentFD >= 0 {
		_ = sys.Close(x.parentFD)
	}
	x.parentFD = -1
}

// implied makes the missing directories of p.
func (x *extractor) implied(p string) error {
	x.dropParent()
	fd, err := sys.Dup(x.root)
	if err != nil {
		return err
	}
	defer func() { _ = sys.Close(fd) }()
	done := ""
	for _, part := range strings.Split(p, "/") {
		done = path.Join(done, part)
		next, err := sys.OpenInRoot(x.root, done, unix.O_PATH|unix.O_DIRECTORY, 0)
		if err == unix.ENOENT || err == unix.ENOTDIR {
			if err = x.impliedOne(fd, part); err != nil {
				return err
			}
			x.deferred = append(x.deferred, deferredDir{done, nil})
			next, err = sys.OpenInRoot(x.root, done, unix.O_PATH|unix.O_DIRECTORY, 0)
		}
		if err != nil {
			return err
		}
		_ = sys.Close(fd)
		fd = next
	}
	return nil
}

func (x *extractor) impliedOne(parent int, name string) error {
	opaque := false
	var st unix.Statx_t
	if err := sys.Statx(parent, name, &st); err == nil {
		if !isWhiteout(&st) {
			return fmt.Errorf("%w: %q is a dangling symlink or no directory", ErrCorrupt, name)
		}
		opaque = true
		if err := sys.Unlinkat(parent, name, 0); err != nil {
			return err
		}
	}
	if err := sys.Mkdirat(parent, name, 0o755); err != nil {
		return err
	}
	if opaque {
		return x.ns.SetOpaque(parent, name)
	}
	return nil
}

func isWhiteout(st *unix.Statx_t) bool {
	return whiteout.IsDevice(uint32(st.Mode), unix.Mkdev(st.Rdev_major, st.Rdev_minor))
}
