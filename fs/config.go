package fs

import (
	"log/slog"
	"time"

	"github.com/unionfs-go/unionfs/internal/stack"
	"github.com/unionfs-go/unionfs/whiteout"
)

// IOMode is how file data travels between the kernel and the layers.
type IOMode string

// The I/O modes of the io= option.
const (
	IOAuto   IOMode = "auto"   // pick by what measuring showed to be faster
	IOCached IOMode = "cached" // no open messages, one page cache per node
	// IOPassthrough lets the kernel read and write the files itself: opens are
	// messages, and data is not; for root.
	IOPassthrough IOMode = "passthrough"
)

// Config is what a filesystem is made of. New takes it over; nothing in it may
// be changed afterwards.
type Config struct {
	// Lowers are the read-only layers, index 0 on top. The filesystem closes
	// them when it ends; New closes them when it fails.
	Lowers []stack.Layer
	// Upper is the writable layer's directory; empty makes a read-only mount.
	Upper string
	// Work is the workdir, an existing directory on the upper's filesystem that
	// no other mount uses. It must be set when Upper is.
	Work string
	// Namespace is where the marks of the upper are kept.
	Namespace whiteout.Namespace
	// RedirectDir lets a directory with lower content be renamed, by a redirect
	// mark; without it such a rename fails with EXDEV, as in the kernel with
	// redirect_dir=off.
	RedirectDir bool
	// Metacopy copies up metadata alone for chmod, chown and the like.
	Metacopy bool
	// Index keeps the names of a hard-linked lower file together over copy-up
	// and remount, in the kernel's format (workdir/index).
	Index bool
	// Volatile leaves out every fsync; the workdir is marked so that a mount
	// after a crash is refused (workdir/work/incompat/volatile).
	Volatile bool
	// NoACL leaves POSIX ACLs to nobody: they are plain attributes.
	NoACL bool
	// Ownership says whose the objects are, where the filesystems below do not.
	Ownership Ownership
	// IO is the wished I/O mode; empty is IOAuto.
	IO IOMode
	// WaitForUpper is how long New waits for another mount to let go of the upper
	// and the workdir.
	WaitForUpper time.Duration
	// FailPoint stops the daemon at a step of a copy-up, for crash tests (see
	// cow.ParseFailPoint); empty otherwise.
	FailPoint string
	// Log receives warnings and, at level Debug, every operation. Nil discards.
	Log *slog.Logger
}

// MountOptions is how a filesystem is mounted.
type MountOptions struct {
	// Source is what the first column of /proc/mounts says.
	Source string
	// Options are the generic mount options that the kernel or fusermount
	// knows: nosuid, nodev, noexec, noatime, ro and so on, suid, dev, exec.
	Options []string
	// AllowOther lets other users in; it needs root or user_allow_other.
	AllowOther bool
	// DefaultPermissions leaves permission checks to the kernel.
	DefaultPermissions bool
	// Debug prints every FUSE message to standard error.
	Debug bool
	// Writeback lets the kernel collect writes in its page cache and send them
	// together, at the latest when a file is closed or flushed. An error of the
	// upper (no space) is then reported by close or fsync, not by write.
	Writeback bool
	// Transport is the wished transport; empty is TransportAuto.
	Transport Transport
	// Spin is how long to look out for the next request before sleeping; zero
	// is SpinAuto. The transport gofuse does not spin.
	Spin Spin
}

// Status is what a mount tells about itself.
type Status struct {
	IO  IOMode `json:"io"`
	Why string `json:"io_reason"`
	// Transport is what carries the requests, and why.
	Transport    Transport `json:"transport"`
	TransportWhy string    `json:"transport_reason"`

	Nodes     int    `json:"nodes"`
	Frozen    bool   `json:"frozen"`
	Upper     string `json:"upper,omitempty"`
	Work      string `json:"work,omitempty"`
	Namespace string `json:"namespace"`
	Whiteout  string `json:"whiteout"`
	Index     bool   `json:"index"`
	OpenFDs   int    `json:"open_fds"`
	// Messages counts the FUSE requests served, by operation.
	Messages map[string]uint64 `json:"messages"`
}
