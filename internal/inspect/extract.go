package inspect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/stack"
)

// ExtractOptions say what is extracted.
type ExtractOptions struct {
	// Own extracts what one layer alone holds instead of what a view shows.
	Own bool
	// Owner gives files their owners, set-user-ID bits and attributes, and makes
	// devices; it takes privileges.
	Owner bool
	// Skipped is told about what was left out.
	Skipped func(path, why string)
}

// Extract writes what view layer shows at node n into the directory dir, which
// must exist: a file under its own name, a directory's content directly where n
// is the root, else under its name. Nothing that exists is overwritten, and no
// symlink is followed. Errors name the path.
func (m *Model) Extract(ctx context.Context, n Node, layer int, dir string, opt ExtractOptions) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("extract into %s: %w", dir, err)
	}
	defer root.Close() //nolint:errcheck // only a descriptor to find files by
	x := extractor{m: m, ctx: ctx, layer: layer, opt: opt, root: root, done: map[identity]string{}}
	v, ok := x.version(n)
	if !ok || v.Whiteout {
		return fmt.Errorf("extract %s: %w", m.Path(n), os.ErrNotExist)
	}
	if n == Root {
		return x.children(n, ".")
	}
	return x.object(v, m.Name(n))
}

type extractor struct {
	m     *Model
	ctx   context.Context
	layer int
	opt   ExtractOptions
	root  *os.Root
	done  map[identity]string // files with several names -> the first one
}

func (x *extractor) version(n Node) (Version, bool) {
	if x.opt.Own {
		return x.m.In(n, x.layer)
	}
	return x.m.At(n, x.layer)
}

func (x *extractor) children(n Node, path string) error {
	for c := range x.m.Children(n) {
		v, ok := x.version(c)
		if !ok || v.Whiteout {
			continue
		}
		if err := x.object(v, filepath.Join(path, x.m.Name(c))); err != nil {
			return err
		}
	}
	return nil
}

func (x *extractor) skip(path, why string) error {
	if x.opt.Skipped != nil {
		x.opt.Skipped(path, why)
	}
	return nil
}

// object writes one object, and of a directory all in it.
func (x *extractor) object(v Version, path string) error {
	if err := x.ctx.Err(); err != nil {
		return err
	}
	var err error
	switch v.Type() {
	case unix.S_IFDIR:
		if err = x.root.Mkdir(path, 0o700); err == nil {
			err = x.children(v.Node, path)
		}
	case unix.S_IFREG:
		err = x.file(v, path)
	case unix.S_IFLNK:
		var target string
		if target, err = x.m.Readlink(v); err == nil {
			err = x.root.Symlink(target, path)
		}
	default:
		return x.skip(path, "it is a "+TypeName(v.Mode))
	}
	if err == nil {
		err = x.attributes(v, path)
	}
	if err != nil {
		var inner *os.PathError
		if errors.As(err, &inner) && inner.Path != path {
			return err // a path below said so
		}
		return fmt.Errorf("extract %s: %w", x.m.Path(v.Node), err)
	}
	return nil
}

func (x *extractor) file(v Version, path string) error {
	internal := &x.m.versions[v.ID]
	if v.Nlink > 1 && !v.Metacopy {
		if first, ok := x.done[internal.identity()]; ok {
			return x.root.Link(first, path)
		}
		x.done[internal.identity()] = path
	}
	if v.Dangling {
		return x.skip(path, "its data are in no layer")
	}
	in, err := x.m.Open(v)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := x.root.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = Copy(x.ctx, out, in, v.Size)
	return errors.Join(err, out.Close())
}

// Copy copies a file of size bytes, which ctx ends. The size is that of an
// attribute, so that a file that has become shorter is an error.
func Copy(ctx context.Context, w io.Writer, f stack.File, size int64) error {
	buf := make([]byte, min(size, compareChunk))
	for off := int64(0); off < size; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := readFull(f, buf[:min(int64(len(buf)), size-off)], off)
		if err != nil {
			return err
		}
		if n == 0 {
			return io.ErrUnexpectedEOF
		}
		if _, err := w.Write(buf[:n]); err != nil {
			return err
		}
		off += int64(n)
	}
	return nil
}

// attributes sets owner, mode and times, in the order in which none undoes
// another.
func (x *extractor) attributes(v Version, path string) error {
	if x.opt.Owner {
		if err := x.root.Lchown(path, int(v.UID), int(v.GID)); err != nil {
			return err
		}
	}
	if v.Type() == unix.S_IFLNK {
		return nil
	}
	mode := os.FileMode(v.Mode & 0o777)
	for bit, m := range map[uint32]os.FileMode{unix.S_ISUID: os.ModeSetuid, unix.S_ISGID: os.ModeSetgid, unix.S_ISVTX: os.ModeSticky} {
		if v.Mode&bit != 0 && (x.opt.Owner || bit == unix.S_ISVTX) {
			mode |= m
		}
	}
	if err := x.root.Chmod(path, mode); err != nil {
		return err
	}
	t := time.Unix(v.Mtime.Sec, int64(v.Mtime.Nsec))
	return x.root.Chtimes(path, t, t)
}
