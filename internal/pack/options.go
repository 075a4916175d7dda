package pack

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/unionfs-go/unionfs/whiteout"
)

// Compression is how a layer blob is compressed.
type Compression string

// The compressions that are written.
const (
	None Compression = "none"
	Gzip Compression = "gzip"
	Zstd Compression = "zstd"
)

// ParseCompression understands the names that users give: none, gzip, gz, zstd,
// zst and tar.
func ParseCompression(s string) (Compression, error) {
	switch strings.ToLower(s) {
	case "none", "tar", "uncompressed":
		return None, nil
	case "gzip", "gz":
		return Gzip, nil
	case "zstd", "zst":
		return Zstd, nil
	}
	return "", fmt.Errorf("unknown compression %q: use none, gzip or zstd", s)
}

// MediaType is the OCI media type of a layer blob.
func (c Compression) MediaType() string {
	switch c {
	case Gzip:
		return ispec.MediaTypeImageLayerGzip
	case Zstd:
		return ispec.MediaTypeImageLayerZstd
	case None:
	}
	return ispec.MediaTypeImageLayer
}

// MaxExplicit is how many explicit whiteouts replace one opaque mark; a
// directory that hides more names gets the mark (image-spec layer.md prefers
// whiteouts).
const MaxExplicit = 64

// Options says how a layer is written. The zero value packs against known
// lowers without compression.
type Options struct {
	Compression Compression
	// Level is the compression level, gzip's 1 to 9 or zstd's 1 to 22; 0 is the
	// default of the compression.
	Level int
	// LowersUnknown: the stack holds only the upper and nobody knows what lies
	// below. Then every whiteout and opaque mark is kept, and redirects and
	// metacopy files are errors.
	LowersUnknown bool
	// KeepWhiteouts writes whiteouts and opaque marks also where nothing lies
	// below.
	KeepWhiteouts bool
	// Nanoseconds keeps the parts of a second of modification times; else they
	// are cut off (never rounded), as image tools do.
	Nanoseconds bool
	// Timestamp, where set, is the latest modification time that is written;
	// later ones become it (SOURCE_DATE_EPOCH).
	Timestamp *time.Time
	// Namespace is where the upper keeps its marks.
	Namespace whiteout.Namespace
	// OverrideStat applies user.containers.override_stat, with which rootless
	// tools remember owners, modes and devices. It must be off for an upper whose
	// user attributes anybody in the container could have set.
	OverrideStat bool
	// Index is the directory of the hardlink index (workdir/index), or "". With
	// it, names that the layers below alone have show the changes of a file that
	// was copied up under another name, also when that name is gone.
	Index string
	// Frozen: nothing can change the layers during the walk, so that large
	// files are read in place. A change is then an error, see ErrChanged.
	Frozen bool
	// Full writes all that the union shows, as if nothing lay below, in place of
	// what the upper changes (a squashed image).
	Full bool
	// DropUnchanged leaves out files that are the same below: type, owner, mode,
	// extended attributes, modification time and data. Files with several names
	// stay.
	DropUnchanged bool
	// Include, where it has any, limits the layer to these paths and what lies
	// below them; Exclude takes paths out again. What is left out is in the image
	// as it is below. A pattern matches name by name, as path.Match does; it is
	// relative to the root.
	Include, Exclude []string
	// Visit, where not nil, is told about each entry of the layer.
	Visit func(Change)
	// SpoolDir is where copies of large files are kept, unlinked, while they
	// are packed; "" is os.TempDir.
	SpoolDir string
}

// Result is what was written.
type Result struct {
	MediaType        string        `json:"mediaType"`
	Digest           digest.Digest `json:"digest"` // of the blob as written
	Size             int64         `json:"size"`   // bytes of the blob as written
	DiffID           digest.Digest `json:"diffID"` // of the uncompressed tar
	UncompressedSize int64         `json:"uncompressedSize"`
	Counts           Counts        `json:"counts"`
	Notices          []string      `json:"notices,omitempty"`
}

// Change is one entry of a layer.
type Change struct {
	// Kind is "A" for added, "C" for changed, "D" for deleted, "O" for a directory
	// of which all that lies below is deleted.
	Kind string `json:"kind"`
	Path string `json:"path"` // absolute
	Size int64  `json:"size"` // of a file's data, in bytes
}

// Counts tells what a layer holds.
type Counts struct {
	Entries   int   `json:"entries"`
	Files     int   `json:"files"`
	Dirs      int   `json:"dirs"`
	Symlinks  int   `json:"symlinks"`
	Links     int   `json:"links"`
	Devices   int   `json:"devices"` // devices and fifos
	Whiteouts int   `json:"whiteouts"`
	Opaques   int   `json:"opaques"`
	Skipped   int   `json:"skipped"` // sockets
	FileBytes int64 `json:"fileBytes"`
	// Unchanged files were left out, see Options.DropUnchanged.
	Unchanged      int   `json:"unchanged,omitempty"`
	UnchangedBytes int64 `json:"unchangedBytes,omitempty"`
}

// ErrChanged is wrapped by errors about files that did not stop changing.
var ErrChanged = errors.New("changed while it was read")

// ErrInput is wrapped by errors that the layers themselves are the reason for:
// names that no image can hold, layers that are missing.
var ErrInput = errors.New("the upper cannot be made a layer")

// NameError lists the paths that no image layer can hold, since their names
// begin with ".wh.".
type NameError struct{ Paths []string }

func (e *NameError) Error() string {
	const most = 20
	list := e.Paths
	more := ""
	if len(list) > most {
		more = fmt.Sprintf(" and %d more", len(list)-most)
		list = list[:most]
	}
	quoted := make([]string, len(list))
	for i, p := range list {
		quoted[i] = fmt.Sprintf("%q", p)
	}
	return fmt.Sprintf("an image layer cannot hold names that begin with %q: %s%s; rename or remove them",
		whiteout.Prefix, strings.Join(quoted, ", "), more)
}

// Unwrap makes the error an ErrInput.
func (e *NameError) Unwrap() error { return ErrInput }

// countWriter counts what passes.
type countWriter struct {
	w io.Writer
	n int64
}

func (c *countWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
