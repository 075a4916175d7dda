package whiteout

import (
	"strings"

	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/sys"
)

// Opacity is what a directory says about the layers below it.
type Opacity uint8

// The values of the opaque mark.
const (
	Transparent     Opacity = iota // no mark: merges with what lies below
	OpaqueDir                      // "y": hides everything below
	HoldsXWhiteouts                // "x": merges, and may hold xattr whiteouts (Linux 6.8)
)

// Marks is what the extended attributes of one object say, read with one
// listing. It is plain data.
type Marks struct {
	Opacity     Opacity
	HasMetacopy bool   // no data here: it is in a layer below
	HasOrigin   bool   // an origin handle is stored
	HasImpure   bool   // directory holding copied-up children
	HasACL      bool   // a POSIX access or default ACL is stored
	HasCaps     bool   // security.capability is stored
	HasOther    bool   // attributes that a user of the mount may see
	HasNlink    bool   // an nlink mark is stored (hardlink index)
	HasOverride bool   // an attribute that remembers owner and mode is stored
	XWhiteout   bool   // the whiteout attribute is there
	Redirect    string // where to look in the layers below; "" is the same name
}

const (
	attrCaps       = "security.capability"
	attrACLAccess  = "system.posix_acl_access"
	attrACLDefault = "system.posix_acl_default"
)

// maxRedirect is the longest redirect that is believed; the kernel's own limit
// is a page (fs/overlayfs/namei.c:ovl_check_redirect).
const maxRedirect = 4096

// ReadMarks reads the marks of name in dirfd ("" is dirfd itself). Redirect and
// metacopy count only in namespace ns, since in the other one any user could
// have set them; opaque and whiteout marks count in both, and
// fuse-overlayfs's opaque mark too. EINVAL: a redirect that leads nowhere.
func ReadMarks(dirfd int, name string, isDir bool, ns Namespace) (Marks, error) {
	return readMarks(dirfd, name, isDir, ns, false)
}

// ReadOwnMarks is ReadMarks for a layer that is known to be written in namespace
// ns: attributes of the other one, and fuse-overlayfs's, are no marks in it.
func ReadOwnMarks(dirfd int, name string, isDir bool, ns Namespace) (Marks, error) {
	return readMarks(dirfd, name, isDir, ns, true)
}

func readMarks(dirfd int, name string, isDir bool, ns Namespace, own bool) (Marks, error) {
	var m Marks
	attrs, err := sys.ListXattrs(dirfd, name)
	if err != nil || len(attrs) == 0 {
		return m, err
	}
	hasRedirect := false
	for _, a := range attrs {
		if own && a != ns.Attr(Opaque) && a != ns.Attr(XWhiteout) && isForeignMark(a) {
			m.HasOther = true
			continue
		}
		switch a {
		case ns.Attr(Metacopy):
			m.HasMetacopy = !isDir
		case ns.Attr(Origin):
			m.HasOrigin = true
		case ns.Attr(Impure):
			m.HasImpure = true
		case ns.Attr(Nlink):
			m.HasNlink = true
		case ns.Attr(Redirect):
			hasRedirect = true
		case Trusted.Attr(XWhiteout), User.Attr(XWhiteout):
			m.XWhiteout = true
		case Trusted.Attr(Opaque), User.Attr(Opaque), fuseOverlayfsOpaque:
			if isDir {
				if err := m.readOpaque(dirfd, name, a); err != nil {
					return m, err
				}
			}
		case OverrideContainers, OverrideSecurity:
			m.HasOverride, m.HasOther = true, true
		case OverrideFuseOverlayfs:
			m.HasOverride = true // not shown, as all of fuse-overlayfs's
		case attrCaps:
			m.HasCaps, m.HasOther = true, true
		case attrACLAccess, attrACLDefault:
			m.HasACL, m.HasOther = true, true
		default:
			if _, shown := ns.Unescape(a); shown {
				m.HasOther = true
			}
		}
	}
	if hasRedirect && (m.HasMetacopy || isDir && m.Opacity != OpaqueDir) {
		// Elsewhere nobody looks below, so nobody reads it (ovl_check_redirect).
		m.Redirect, err = readRedirect(dirfd, name, ns)
	}
	return m, err
}

// isForeignMark tells whether attr is one that ReadMarks believes in any
// namespace.
func isForeignMark(attr string) bool {
	switch attr {
	case Trusted.Attr(XWhiteout), User.Attr(XWhiteout), Trusted.Attr(Opaque), User.Attr(Opaque), fuseOverlayfsOpaque:
		return true
	}
	return false
}

func (m *Marks) readOpaque(dirfd int, name, attr string) error {
	var buf [2]byte
	n, err := sys.Getxattrat(dirfd, name, attr, buf[:])
	switch err {
	case nil:
	case unix.ENODATA, unix.ERANGE:
		return nil
	default:
		return err
	}
	switch {
	case n == 1 && buf[0] == 'y':
		m.Opacity = OpaqueDir
	case n == 1 && buf[0] == 'x' && m.Opacity == Transparent:
		m.Opacity = HoldsXWhiteouts
	}
	return nil
}

func readRedirect(dirfd int, name string, ns Namespace) (string, error) {
	v, err := ns.Get(dirfd, name, Redirect)
	if err != nil {
		return "", err
	}
	r := string(v)
	if !ValidRedirect(r) {
		return "", unix.EINVAL
	}
	return r, nil
}

// ValidRedirect tells whether r is a redirect that may be followed: one name,
// or an absolute path of plain names (fs/overlayfs/namei.c:ovl_check_redirect).
func ValidRedirect(r string) bool {
	if len(r) == 0 || len(r) > maxRedirect || strings.IndexByte(r, 0) >= 0 {
		return false
	}
	if r[0] != '/' {
		return !strings.Contains(r, "/") && r != "." && r != ".."
	}
	for _, part := range strings.Split(r[1:], "/") {
		if part == "" || part == "." || part == ".." {
			return false
		}
	}
	return true
}
