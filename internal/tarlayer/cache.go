package tarlayer

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
)

// The cache lies in DIR/layers/vN, N being the version of the format:
//
//	ALGORITHM/HEX.idx         index of the blob of that digest
//	ALGORITHM/HEX-CRC.spool   its stream in zstd frames, where the index needs one
//	files/HASH                digest of a file, by its identity
//
// Files are written under a temporary name and renamed, so that writers do not
// disturb each other, and whoever has one open keeps it when it is removed.
const (
	cacheParts = "layers"
	cacheTemp  = ".tmp-"
	idxSuffix  = ".idx"
	// tempAge is how old a temporary file is that no writer is thought to have.
	tempAge = time.Hour
)

// DefaultCacheDir is $XDG_CACHE_HOME/unionfs, or ~/.cache/unionfs; "" where
// neither is known.
func DefaultCacheDir() string {
	dir, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	return filepath.Join(dir, "unionfs")
}

// cache is a directory of indexes; "" keeps nothing.
type cache string

func (c cache) path(parts ...string) string {
	return filepath.Join(append([]string{string(c), cacheParts, fmt.Sprintf("v%d", indexVersion)}, parts...)...)
}

func (c cache) idxPath(d digest.Digest) string {
	return c.path(d.Algorithm().String(), d.Encoded()+idxSuffix)
}

func (c cache) spoolPath(x *index) string {
	name := fmt.Sprintf("%s-%08x.spool", x.digest.Encoded(), crc32.Checksum(x.spans, castagnoli))
	return c.path(x.digest.Algorithm().String(), name)
}

// temp makes a temporary file that can be renamed to path.
func (c cache) temp(path string) (*os.File, error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	return os.CreateTemp(dir, cacheTemp)
}

// cached is an index with what belongs to it.
type cached struct {
	*index
	windows io.ReaderAt // gzip
	spool   *os.File    // nil without one
	file    *os.File    // that windows are read from, nil without one
}

func (e *cached) close() error {
	var errs []error
	for _, f := range [...]*os.File{e.spool, e.file} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}

// load finds the index of a blob. An error says why there is none, ErrNotExist
// if it was never made.
func (c cache) load(d digest.Digest) (*cached, error) {
	if c == "" || d == "" {
		return nil, fs.ErrNotExist
	}
	e := &cached{}
	if err := c.open(e, d); err != nil {
		_ = e.close()
		return nil, err
	}
	return e, nil
}

// open fills e, as far as it comes.
func (c cache) open(e *cached, d digest.Digest) error {
	path := c.idxPath(d)
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	e.file = f
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	x, windows, err := readIndex(f, fi.Size())
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if x.digest != d {
		return fmt.Errorf("%s is of another blob: %w", path, errIndex)
	}
	e.index = x
	e.windows = io.NewSectionReader(f, windows, x.windows)
	used := time.Now()
	_ = os.Chtimes(path, used, used) // Prune goes by it
	if !x.spooled {
		return nil
	}
	path = c.spoolPath(x)
	if e.spool, err = os.Open(path); err != nil {
		return err
	}
	if fi, err = e.spool.Stat(); err != nil {
		return err
	}
	if fi.Size() != x.spoolSize {
		return fmt.Errorf("%s has another size: %w", path, errIndex)
	}
	_ = os.Chtimes(path, used, used)
	return nil
}

// store keeps an index and, under its final name, the spool, which was written
// to a file made by temp.
func (c cache) store(e *cached, windows []byte) error {
	if e.spool != nil {
		path := c.spoolPath(e.index)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		if err := os.Rename(e.spool.Name(), path); err != nil {
			return err
		}
	}
	return c.replace(c.idxPath(e.digest), func(w io.Writer) error { return e.write(w, windows) })
}

// replace writes a file as a whole.
func (c cache) replace(path string, write func(io.Writer) error) error {
	f, err := c.temp(path)
	if err != nil {
		return err
	}
	err = write(f)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

// forget removes the index of a blob, so that it is made anew.
func (c cache) forget(d digest.Digest) {
	if c != "" {
		_ = os.Remove(c.idxPath(d))
	}
}

func (c cache) filePath(id identity) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d:%d", id.dev, id.ino))
	return c.path("files", hex.EncodeToString(sum[:16]))
}

func (id identity) String() string {
	return fmt.Sprintf("%d:%d %d %d %d", id.dev, id.ino, id.size, id.mtime, id.ctime)
}

// recall tells the digest of a file in the state id, if it was remembered.
func (c cache) recall(id identity) digest.Digest {
	if c == "" {
		return ""
	}
	b, err := os.ReadFile(c.filePath(id))
	if err != nil {
		return ""
	}
	text, d, _ := strings.Cut(strings.TrimSuffix(string(b), "\n"), " = ")
	if text != id.String() || digest.Digest(d).Validate() != nil {
		return ""
	}
	return digest.Digest(d)
}

// remember keeps the digest of a file in the state id.
func (c cache) remember(id identity, d digest.Digest) error {
	return c.replace(c.filePath(id), func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%s = %s\n", id, d)
		return err
	})
}
