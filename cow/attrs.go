package cow

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/sys"
	"github.com/unionfs-go/unionfs/whiteout"
)

const (
	aclAccess  = "system.posix_acl_access"
	aclDefault = "system.posix_acl_default"

	attrEVM     = "security.evm"
	attrSELinux = "security.selinux"
	attrCaps    = "security.capability"
)

// copyXattrs copies every attribute but marks and POSIX ACLs, and returns the
// names of the latter.
func (p *Prepared) copyXattrs() (acls []string, err error) {
	if p.r.Xattrs == nil {
		return nil, nil
	}
	names, err := p.r.Xattrs()
	if err != nil {
		return nil, fmt.Errorf("list: %w", err)
	}
	for _, name := range names {
		switch {
		case name == aclAccess || name == aclDefault:
			acls = append(acls, name)
		case p.r.Namespace.Interprets(name):
			// Said of the source's layer, not of the object.
		case name == attrEVM:
			// A seal over the source's inode number, wrong on any other
			// (security/integrity/evm/evm_main.c: evm_inode_copy_up_xattr).
		default:
			if err := p.copyXattr(name); err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	return acls, nil
}

func (p *Prepared) copyXattr(name string) error {
	value, err := p.r.Xattr(name)
	if err == unix.ENODATA {
		return nil
	}
	if err != nil {
		return err
	}
	err = sys.Setxattrat(p.dir, p.name, name, value, 0)
	if err != nil && p.mayLose(name, err) {
		return nil
	}
	return err
}

// mayLose tells whether a copy is good without an attribute that could not be
// set. The kernel ignores EOPNOTSUPP for all but security attributes and ACLs
// (fs/overlayfs/copy_up.c: ovl_copy_xattr, ovl_must_copy_xattr), and nothing
// else. It runs with the rights of the mounter; a plain user has none to these:
//
//   - trusted.*, and security.*, need CAP_SYS_ADMIN or CAP_SETFCAP over the
//     filesystem. His mount is nosuid, so a capability had no effect in it.
//   - security.selinux is the policy's: the copy has the label it gives.
//   - user.* cannot be on anything but files and directories; only a layer
//     that is no filesystem (a tar) can say that it is.
func (p *Prepared) mayLose(name string, err error) bool {
	security := strings.HasPrefix(name, "security.")
	switch err {
	case unix.EOPNOTSUPP:
		return !security || name == attrSELinux
	case unix.EACCES:
		return name == attrSELinux
	case unix.EPERM:
		t := p.r.Meta.typ()
		special := t != unix.S_IFREG && t != unix.S_IFDIR
		plainUser := p.r.Namespace == whiteout.User
		return name == attrSELinux ||
			plainUser && (security || strings.HasPrefix(name, "trusted.")) ||
			special && strings.HasPrefix(name, "user.")
	}
	return false
}

// copyACLs copies the POSIX ACLs. One that cannot be set is an error, as in the
// kernel: without it the mode bits would give rights to the wrong people.
func (p *Prepared) copyACLs(names []string) error {
	for _, name := range names {
		value, err := p.r.Xattr(name)
		if err == unix.ENODATA || err == unix.EOPNOTSUPP {
			continue
		}
		if err == nil {
			err = sys.Setxattrat(p.dir, p.name, name, value, 0)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// setMarks writes what the union stores about the copy.
func (p *Prepared) setMarks() error {
	r, ns := p.r, p.r.Namespace
	if len(r.Origin) > 0 {
		err := ns.Set(p.dir, p.name, whiteout.Origin, r.Origin)
		// An upper without attributes, and user.* on a symlink or a device:
		// then the origin is unknown (fs/overlayfs/copy_up.c: ovl_set_origin_fh).
		if err != nil && err != unix.EOPNOTSUPP && err != unix.EPERM {
			return fmt.Errorf("origin: %w", err)
		}
	}
	isDir := r.Meta.typ() == unix.S_IFDIR
	metacopy := r.Metacopy && r.Meta.typ() == unix.S_IFREG
	for _, m := range [...]struct {
		want  bool
		mark  whiteout.Mark
		value string
	}{
		{isDir && r.Opaque, whiteout.Opaque, "y"},
		{r.Redirect != "", whiteout.Redirect, r.Redirect},
		{metacopy, whiteout.Metacopy, ""},
		{r.NlinkMark != "", whiteout.Nlink, r.NlinkMark},
		{protattr(r.Meta.Flags) != "", whiteout.Protattr, protattr(r.Meta.Flags)},
	} {
		if !m.want {
			continue
		}
		if err := ns.Set(p.dir, p.name, m.mark, []byte(m.value)); err != nil {
			return fmt.Errorf("%s: %w", ns.Attr(m.mark), err)
		}
	}
	return p.setFlags()
}

// protattr is the mark for the flags that the copy must not have for real,
// since then nothing could be done to it any more, not even by the union
// (fs/overlayfs/util.c: ovl_set_protattr).
func protattr(flags uint32) string {
	s := ""
	if flags&fsAppendFlag != 0 {
		s += "a"
	}
	if flags&fsImmutableFlag != 0 {
		s += "i"
	}
	return s
}

// The file flags of <linux/fs.h>, which x/sys does not have.
const (
	fsSyncFlag      = 0x8  // FS_SYNC_FL
	fsImmutableFlag = 0x10 // FS_IMMUTABLE_FL
	fsAppendFlag    = 0x20 // FS_APPEND_FL
	fsNoatimeFlag   = 0x80 // FS_NOATIME_FL
)

// setFlags sets the file flags that copies keep. A filesystem without flags has
// none to keep.
func (p *Prepared) setFlags() error {
	want := p.r.Meta.Flags & (fsSyncFlag | fsNoatimeFlag)
	t := p.r.Meta.typ()
	if want == 0 || t != unix.S_IFREG && t != unix.S_IFDIR {
		return nil
	}
	fd := p.fd
	if t == unix.S_IFDIR {
		var err error
		if fd, err = sys.Reopen(p.fd, unix.O_RDONLY|unix.O_DIRECTORY); err != nil {
			return fmt.Errorf("flags: %w", err)
		}
		defer sys.Close(fd) //nolint:errcheck // only read
	}
	have, err := unix.IoctlGetUint32(fd, unix.FS_IOC_GETFLAGS)
	if err == nil && have&want != want {
		err = unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, int(have|want))
	}
	if err != nil && err != unix.ENOTTY && err != unix.EOPNOTSUPP {
		return fmt.Errorf("flags: %w", err)
	}
	return nil
}
