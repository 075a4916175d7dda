package whiteout

import (
	"strings"

	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/sys"
)

// Namespace says under which prefix a mount keeps its marks: the kernel uses
// trusted.overlay. for privileged mounts and user.overlay. with userxattr.
type Namespace uint8

// The two namespaces of the kernel.
const (
	Trusted Namespace = iota
	User
)

// String is the option-like name of the namespace.
func (ns Namespace) String() string {
	if ns == User {
		return "user"
	}
	return "trusted"
}

// Mark names one overlay attribute, without its prefix.
type Mark uint8

// The marks of the kernel (fs/overlayfs/overlayfs.h, enum ovl_xattr).
const (
	Opaque Mark = iota
	Redirect
	Origin
	Impure
	Nlink
	Upper
	UUID
	Metacopy
	Protattr
	XWhiteout
	numMarks
)

var markNames = [numMarks][2]string{
	Opaque:    {"trusted.overlay.opaque", "user.overlay.opaque"},
	Redirect:  {"trusted.overlay.redirect", "user.overlay.redirect"},
	Origin:    {"trusted.overlay.origin", "user.overlay.origin"},
	Impure:    {"trusted.overlay.impure", "user.overlay.impure"},
	Nlink:     {"trusted.overlay.nlink", "user.overlay.nlink"},
	Upper:     {"trusted.overlay.upper", "user.overlay.upper"},
	UUID:      {"trusted.overlay.uuid", "user.overlay.uuid"},
	Metacopy:  {"trusted.overlay.metacopy", "user.overlay.metacopy"},
	Protattr:  {"trusted.overlay.protattr", "user.overlay.protattr"},
	XWhiteout: {"trusted.overlay.whiteout", "user.overlay.whiteout"},
}

const (
	trustedPrefix = "trusted.overlay."
	userPrefix    = "user.overlay."
	escapePart    = "overlay."
	// fuseOverlayfsPrefix is what fuse-overlayfs up to 1.16 used rootless.
	fuseOverlayfsPrefix = "user.fuseoverlayfs."
	fuseOverlayfsOpaque = "user.fuseoverlayfs.opaque"
)

// Attr is the full name of a mark's attribute.
func (ns Namespace) Attr(m Mark) string { return markNames[m][ns] }

func (ns Namespace) prefix() string {
	if ns == User {
		return userPrefix
	}
	return trustedPrefix
}

// Escape turns an attribute name that a user of the mount asks for into the one
// to store: names under the mount's own prefix get one more "overlay.", so that
// an overlay can be nested in another (fs/overlayfs/xattrs.c:
// ovl_xattr_escape_name, Linux 6.7). Other names are returned as they are.
func (ns Namespace) Escape(attr string) string {
	p := ns.prefix()
	if strings.HasPrefix(attr, p) {
		return p + escapePart + attr[len(p):]
	}
	return attr
}

// Unescape is the inverse of Escape, for listing: it returns the name a user of
// the mount sees, and false for the mount's own marks, which are hidden.
func (ns Namespace) Unescape(attr string) (string, bool) {
	p := ns.prefix()
	if !strings.HasPrefix(attr, p) {
		return attr, !strings.HasPrefix(attr, fuseOverlayfsPrefix)
	}
	rest := attr[len(p):]
	if !strings.HasPrefix(rest, escapePart) {
		return "", false
	}
	return p + rest[len(escapePart):], true
}

// IsMark tells whether attr is bookkeeping of some union filesystem in either
// namespace: never part of what a layer says about its files. Escaped names of
// a nested overlay are not marks.
func IsMark(attr string) bool {
	if strings.HasPrefix(attr, fuseOverlayfsPrefix) {
		return true
	}
	for _, p := range [...]string{trustedPrefix, userPrefix} {
		if strings.HasPrefix(attr, p) && !strings.HasPrefix(attr[len(p):], escapePart) {
			return true
		}
	}
	return false
}

// Interprets tells whether attr is a mark in a layer written in this namespace:
// then it is not copied with the object. The other namespace's marks are
// ordinary attributes there, as in the kernel.
func (ns Namespace) Interprets(attr string) bool {
	if p := ns.prefix(); strings.HasPrefix(attr, p) {
		return !strings.HasPrefix(attr[len(p):], escapePart)
	}
	return strings.HasPrefix(attr, fuseOverlayfsPrefix)
}

// Get reads a mark of name in dirfd ("" is dirfd itself). ENODATA: not set.
func (ns Namespace) Get(dirfd int, name string, m Mark) ([]byte, error) {
	return sys.ReadXattr(dirfd, name, ns.Attr(m))
}

// Set writes a mark of name in dirfd ("" is dirfd itself).
func (ns Namespace) Set(dirfd int, name string, m Mark, value []byte) error {
	return sys.Setxattrat(dirfd, name, ns.Attr(m), value, 0)
}

// Remove removes a mark; one that is not there is no error.
func (ns Namespace) Remove(dirfd int, name string, m Mark) error {
	err := sys.Removexattrat(dirfd, name, ns.Attr(m))
	if err == unix.ENODATA {
		return nil
	}
	return err
}

// SetOpaque makes a directory hide everything below it.
func (ns Namespace) SetOpaque(dirfd int, name string) error {
	return ns.Set(dirfd, name, Opaque, []byte("y"))
}

// DetectNamespace tells under which prefix the layer whose root is rootfd was
// written, by the marks that the kernel leaves on the root of an upper (uuid,
// impure, origin); ok is false when there are none.
func DetectNamespace(rootfd int) (ns Namespace, ok bool) {
	for _, ns := range [...]Namespace{Trusted, User} {
		for _, m := range [...]Mark{UUID, Impure, Origin} {
			if _, err := sys.Getxattrat(rootfd, "", ns.Attr(m), nil); err == nil {
				return ns, true
			}
		}
	}
	return Trusted, false
}

// Native tells whether the layer whose root is rootfd was written in the
// kernel's format, by the kernel or by unionfs: then names beginning with
// ".wh." are ordinary names in it. Other layers (unpacked OCI layers, uppers of
// fuse-overlayfs) may hold AUFS marks under such names.
func Native(rootfd int) bool {
	_, ok := DetectNamespace(rootfd)
	return ok
}
