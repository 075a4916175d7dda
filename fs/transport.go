package fs

import (
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/sys"
)

// Transport is how requests come from the kernel and replies go back.
type Transport string

// The transports of the transport= option.
const (
	TransportAuto   Transport = "auto"   // pick by what measuring showed to be faster
	TransportUring  Transport = "uring"  // FUSE over io_uring, where the kernel has it enabled
	TransportDev    Transport = "dev"    // our own loop over /dev/fuse
	TransportGoFuse Transport = "gofuse" // the loop of go-fuse
)

// Spin is how long the daemon looks out for the next request before it goes to
// sleep: a time, or one of the values below. On most machines waking a sleeping
// CPU costs more than answering a request.
type Spin time.Duration

// The values of Spin that are no times.
const (
	SpinAuto Spin = 0  // as long as it pays
	SpinOff  Spin = -1 // never
)

// maxSpin is the longest time to spin for.
const maxSpin = 10 * time.Millisecond

// ParseSpin reads the value of the spin= option: auto, off, or microseconds.
func ParseSpin(s string) (Spin, error) {
	switch s {
	case "", "auto":
		return SpinAuto, nil
	case "off", "0":
		return SpinOff, nil
	}
	us, err := strconv.ParseUint(s, 10, 32)
	d := time.Duration(us) * time.Microsecond
	if err != nil || d > maxSpin {
		return 0, fmt.Errorf("parse spin=%s: neither auto, off nor a number of microseconds up to %d", s, maxSpin.Microseconds())
	}
	return Spin(d), nil
}

// transport carries requests and replies of one mount. A request is answered by
// raw. Notifications may block until requests under way are answered: no lock
// may be held, and no request may wait for them. They return ENOENT for what the
// kernel does not know, and ENODEV once the mount is gone.
type transport interface {
	// serve answers requests until the mount is gone and the last request is
	// answered, then closes all descriptors. It is called once.
	serve()
	// invalInode drops cached attributes, and with off >= 0 the cached data
	// from off on, of length bytes or all.
	invalInode(id uint64, off, length int64) error
	// invalEntry drops a cached name.
	invalEntry(parent uint64, name string) error
	// quiesce waits, before a freeze, for requests that may hinder it.
	quiesce()
	// kind tells what it is and, in words, why it was chosen.
	kind() (Transport, string)
}

// wish is a transport to be tried, and why.
type wish struct {
	kind Transport
	why  string
}

// wishesFor is what to try for an option, in order. Measured on two CPUs that
// others used too, so only roughly, with 800 small files on tmpfs; medians of
// five rounds as a part of gofuse's time:
//
//	                           tar x      rm -rf    GETATTR   3 clients  READ 128K
//	before all others (chrt)
//	  dev, spin=off            1.0        0.9       0.85      0.55       1.0
//	  dev                      0.45-0.55  0.5       0.35-0.45 0.5        0.55
//	  uring                    0.65-0.8   0.45-0.5  0.3       0.5        0.7
//	beside them, load 6
//	  dev, spin=off            0.45       0.4       0.75      0.8        0.65
//	  dev                      0.45       0.3       0.65      0.75       1.2
//	  uring                    0.4        0.4       0.75      0.4        0.6
//
// No quiet machine was to be had. uring burns no CPU while it waits.
func wishesFor(t Transport) []wish {
	switch {
	case t != TransportAuto && t != "":
		return []wish{{t, "asked for by transport=" + string(t)}}
	case uringEnabled():
		return []wish{
			{TransportUring, "the kernel has it enabled, and it wakes no other CPU for a request"},
			{TransportDev, "the kernel has io_uring enabled, but setting it up failed, see the log"},
		}
	}
	return []wish{{TransportDev, "the fastest without FUSE over io_uring, which the kernel has switched off (fuse.enable_uring)"}}
}

// newTransport answers the kernel's first request on the descriptor fd of a new
// mount, which it owns from now on also when it fails, and returns the transport
// that will answer the others.
func (f *FS) newTransport(fd int, w wish, m *MountOptions) (transport, error) {
	switch w.kind {
	case TransportUring:
		return f.newUring(fd, m, w.why)
	case TransportDev:
		return f.newDev(fd, m, w.why)
	case TransportGoFuse:
		return f.newGoFuse(fd, m, w.why)
	default:
	}
	_ = sys.Close(fd)
	return nil, fmt.Errorf("not one of auto, uring, dev, gofuse: %w", unix.EINVAL)
}

// goFuse is the transport of go-fuse.
type goFuse struct {
	server *fuse.Server
	why    string
}

func (f *FS) newGoFuse(fd int, m *MountOptions, why string) (transport, error) {
	// This form of mountpoint makes go-fuse take over a descriptor.
	s, err := fuse.NewServer(newRaw(f), "/dev/fd/"+strconv.Itoa(fd), f.fuseOptions(m))
	if err != nil {
		return nil, err // go-fuse has closed the descriptor
	}
	return &goFuse{server: s, why: why}, nil
}

func (g *goFuse) serve() { g.server.Serve() }

func (g *goFuse) quiesce() {}

func (g *goFuse) kind() (Transport, string) { return TransportGoFuse, g.why }

func (g *goFuse) invalInode(id uint64, off, length int64) error {
	return statusError(g.server.InodeNotify(id, off, length))
}

func (g *goFuse) invalEntry(parent uint64, name string) error {
	return statusError(g.server.EntryNotify(parent, name))
}

func statusError(s fuse.Status) error {
	if s == fuse.OK {
		return nil
	}
	return unix.Errno(s)
}

// cpus is how many CPUs this process may use.
func cpus() int { return runtime.NumCPU() }

// gone tells whether an error of the device says that the connection has ended:
// unmounted (ENODEV), or aborted by its file in /sys/fs/fuse/connections.
func gone(err error) bool {
	return errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ECONNABORTED)
}
