package fs

import (
	"os"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// TestCreateOverAWhiteoutIsLikeCreate: an object that takes the place of a
// whiteout is made in the workdir, and must get owner, group, mode and ACLs as
// if the filesystem had made it in its directory.
func TestCreateOverAWhiteoutIsLikeCreate(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("creating for other users needs root")
	}
	const none = 1<<32 - 1
	acl := aclBytes(aclRow{aclUserObj, 7, none}, aclRow{0x02, 6, 1000}, aclRow{aclGroupObj, 5, none},
		aclRow{aclMask, 7, none}, aclRow{aclOther, 1, none})
	plain := aclBytes(aclRow{aclUserObj, 7, none}, aclRow{aclGroupObj, 5, none}, aclRow{aclOther, 0, none})
	for _, c := range []struct {
		what string
		acl  []byte
		mode uint32 // of the directory
	}{
		{"ordinary", nil, 0o755},
		{"set-group-ID", nil, 0o2775},
		{"sticky", nil, 0o1777},
		{"default ACL", acl, 0o755},
		{"default ACL and set-group-ID", acl, 0o2755},
		{"default ACL without names", plain, 0o755},
	} {
		t.Run(c.what, func(t *testing.T) {
			b := newBed(t, "file d/f old\nfile d/d old\nfile d/l old\nfile d/p old")
			dir := b.lowers[0] + "/d"
			must(t, os.Chown(dir, 0, 4321))
			must(t, unix.Chmod(dir, c.mode))
			if c.acl != nil {
				if err := unix.Setxattr(dir, aclDefaultAttr, c.acl, 0); err != nil {
					t.Skipf("no ACLs here: %v", err)
				}
			}
			u := b.open(t)
			for _, n := range []string{"f", "d", "l", "p"} {
				must(t, u.run("unlink d/"+n))
			}
			for name, mode := range map[string]uint32{"f": unix.S_IFREG | 0o666, "d": unix.S_IFDIR | 0o777, "l": unix.S_IFLNK | 0o777, "p": unix.S_IFIFO | 0o664} {
				o := newObject{mode: mode, umask: 0o027, target: "x", owner: fuse.Owner{Uid: 1234, Gid: 5678}}
				over, err := u.create("d/"+name, o)
				must(t, err)
				inPlace, err := u.create("d/new-"+name, o)
				must(t, err)
				compareNew(t, u, name, over, inPlace)
			}
			checkUnion(t, b, u)
		})
	}
}

func compareNew(t *testing.T, u *union, name string, over, inPlace *node) {
	t.Helper()
	a, err := u.f.getAttr(over)
	must(t, err)
	b, err := u.f.getAttr(inPlace)
	must(t, err)
	if a.Mode != b.Mode || a.UID != b.UID || a.GID != b.GID || a.UID != 1234 {
		t.Errorf("%s over a whiteout: mode %#o, owner %d:%d; in place: mode %#o, owner %d:%d", name, a.Mode, a.UID, a.GID, b.Mode, b.UID, b.GID)
	}
	for _, attr := range []string{aclAccessAttr, aclDefaultAttr} {
		buf1, buf2 := make([]byte, 256), make([]byte, 256)
		n1, err1 := u.f.getXattr(over, attr, buf1)
		n2, err2 := u.f.getXattr(inPlace, attr, buf2)
		if err1 != err2 || err1 == nil && string(buf1[:n1]) != string(buf2[:n2]) {
			t.Errorf("%s of %s over a whiteout: %x, %v; in place: %x, %v", attr, name, buf1[:max(n1, 0)], err1, buf2[:max(n2, 0)], err2)
		}
	}
}

// TestNamesLikeMarks: in an upper of our own every name is a name; in one that
// others wrote, a name that would read as a mark is refused.
func TestNamesLikeMarks(t *testing.T) {
	b := newBed(t, "file x low\nfile d/y low")
	u := b.open(t)
	u.script(t, `
		create .wh.x
		create d/.wh..wh..opq
		read x low
		ls d y .wh..wh..opq`)
	checkUnion(t, b, u)

	b = newBed(t, "file x low\nfile z low\nfile d/y low\nfile e/y low")
	buildTree(t, b.upper, "file .wh.x\nfile d/.wh..wh..opq\nfile d/new up\nfile e/.wh.y")
	u = b.open(t)
	u.script(t, `
		stat x -> ENOENT
		ls . z d e
		ls d new
		ls e
		create .wh.z -> EINVAL
		rename z .wh.z -> EINVAL
		link .wh.z z -> EINVAL
		create x
		rename e f
		ls f`)
	checkUnion(t, b, u)
}
