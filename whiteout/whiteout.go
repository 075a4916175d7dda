package whiteout

import (
	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/sys"
)

// Style is how a layer records a deletion.
type Style uint8

// The styles that are written.
const (
	Device Style = iota // character device 0:0
	Xattr               // empty file with the whiteout attribute
)

// String names the style.
func (s Style) String() string {
	if s == Xattr {
		return "xattr"
	}
	return "device"
}

// IsDevice tells whether an object of this mode and device number is a
// whiteout of the kernel's first form (include/linux/fs.h: WHITEOUT_DEV).
func IsDevice(mode uint32, rdev uint64) bool {
	return mode&unix.S_IFMT == unix.S_IFCHR && rdev == 0
}

// Make puts a whiteout of the given style under a name of dirfd that is free.
// For Xattr the directory must be marked too, see MarkHoldsXWhiteouts.
func (ns Namespace) Make(dirfd int, name string, style Style) error {
	if style == Device {
		return sys.Mknodat(dirfd, name, unix.S_IFCHR, 0)
	}
	fd, err := sys.Openat(dirfd, name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer sys.Close(fd) //nolint:errcheck // empty file
	if err := ns.Set(fd, "", XWhiteout, nil); err != nil {
		_ = sys.Unlinkat(dirfd, name, 0)
		return err
	}
	return nil
}

// MarkHoldsXWhiteouts tells readers of a directory to look for whiteouts of
// style Xattr in it (opaque=x). An opaque directory is left as it is: nothing
// in it needs a whiteout.
func (ns Namespace) MarkHoldsXWhiteouts(dirfd int, name string) error {
	err := sys.Setxattrat(dirfd, name, ns.Attr(Opaque), []byte("x"), unix.XATTR_CREATE)
	if err == unix.EEXIST {
		return nil
	}
	return err
}

// Probe finds the style that whiteouts can have in the directory dirfd, by
// making one under the name temp and looking at it: some filesystems claim to
// make a device and make something else. ENOTSUP: neither style works.
func (ns Namespace) Probe(dirfd int, temp string) (Style, error) {
	defer sys.Unlinkat(dirfd, temp, 0) //nolint:errcheck // may not be there
	if err := ns.Make(dirfd, temp, Device); err == nil {
		var st unix.Statx_t
		if err := sys.Statx(dirfd, temp, &st); err != nil {
			return Device, err
		}
		if IsDevice(uint32(st.Mode), unix.Mkdev(st.Rdev_major, st.Rdev_minor)) {
			return Device, nil
		}
		_ = sys.Unlinkat(dirfd, temp, 0)
	}
	if err := ns.Make(dirfd, temp, Xattr); err != nil {
		return Xattr, unix.ENOTSUP
	}
	return Xattr, nil
}
