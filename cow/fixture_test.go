package cow

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/sys"
	"github.com/unionfs-go/unionfs/whiteout"
)

// place is one lower, upper and workdir on one filesystem.
type place struct {
	dir      string // holds the three
	lower    int
	upper    int
	lowerDir string
	upperDir string
	workDir  string
}

// newPlace makes a place below the existing directory base.
func newPlace(t *testing.T, base string) *place {
	t.Helper()
	dir, err := os.MkdirTemp(base, "cow-")
	must(t, err)
	must(t, os.Chmod(dir, 0o755))
	p := &place{
		dir: dir, lowerDir: filepath.Join(dir, "lower"),
		upperDir: filepath.Join(dir, "upper"), workDir: filepath.Join(dir, "work"),
	}
	for _, d := range []string{p.lowerDir, p.upperDir, p.workDir} {
		must(t, os.Mkdir(d, 0o755))
	}
	p.lower, p.upper = openDir(t, p.lowerDir), openDir(t, p.upperDir)
	t.Cleanup(func() {
		_ = unix.Close(p.lower)
		_ = unix.Close(p.upper)
		parent := openDir(t, base)
		defer unix.Close(parent)
		if err := RemoveTree(parent, filepath.Base(dir)); err != nil {
			t.Errorf("clean up: %v", err)
		}
	})
	return p
}

func (p *place) open(t *testing.T, opt WorkdirOptions) *Workdir {
	t.Helper()
	w, err := OpenWorkdir(p.workDir, p.upper, opt)
	must(t, err)
	t.Cleanup(func() { w.closeFDs() })
	return w
}

func openDir(t *testing.T, path string) int {
	t.Helper()
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(t, err)
	return fd
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// fdSource is a source with a descriptor, readSource one without.
type fdSource struct{ fd int }

func (f fdSource) ReadAt(p []byte, off int64) (int, error) {
	return 0, errors.New("ReadAt used though there is a descriptor")
}
func (f fdSource) FD() (int, bool) { return f.fd, true }

type readSource struct{ *os.File }

func (readSource) FD() (int, bool) { return -1, false }

// sourceOf describes name of dirfd as package fs would.
func sourceOf(t *testing.T, dirfd int, name string) Source {
	t.Helper()
	s, closeData, err := describe(dirfd, name)
	must(t, err)
	t.Cleanup(closeData)
	return s
}

func describe(dirfd int, name string) (s Source, closeData func(), err error) {
	closeData = func() {}
	var st unix.Statx_t
	if err := sys.Statx(dirfd, name, &st); err != nil {
		return s, closeData, err
	}
	s = Source{
		Meta: Meta{
			Mode: uint32(st.Mode), UID: st.Uid, GID: st.Gid, Size: int64(st.Size),
			Rdev:  unix.Mkdev(st.Rdev_major, st.Rdev_minor),
			Atime: unix.Timespec{Sec: st.Atime.Sec, Nsec: int64(st.Atime.Nsec)},
			Mtime: unix.Timespec{Sec: st.Mtime.Sec, Nsec: int64(st.Mtime.Nsec)},
		},
		Xattrs: func() ([]string, error) { return sys.ListXattrs(dirfd, name) },
		Xattr:  func(a string) ([]byte, error) { return sys.ReadXattr(dirfd, name, a) },
	}
	switch s.Meta.typ() {
	case unix.S_IFLNK:
		s.Link, err = sys.Readlinkat(dirfd, name)
	case unix.S_IFREG:
		var fd int
		fd, err = sys.Openat(dirfd, name, unix.O_RDONLY|unix.O_NOATIME, 0)
		s.Data = fdSource{fd}
		closeData = func() { _ = unix.Close(fd) }
	}
	return s, closeData, err
}

// fingerprint is everything that copy-up has to keep, as text, without marks.
func fingerprint(dirfd int, name string) (string, error) {
	var st unix.Statx_t
	if err := sys.Statx(dirfd, name, &st); err != nil {
		return "", err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "mode %o owner %d:%d rdev %d:%d mtime %d.%09d atime %d.%09d\n", st.Mode, st.Uid, st.Gid,
		st.Rdev_major, st.Rdev_minor, st.Mtime.Sec, st.Mtime.Nsec, st.Atime.Sec, st.Atime.Nsec)
	attrs, err := sys.ListXattrs(dirfd, name)
	if err != nil {
		return "", err
	}
	sort.Strings(attrs)
	for _, a := range attrs {
		if whiteout.IsMark(a) {
			continue
		}
		v, err := sys.ReadXattr(dirfd, name, a)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "%s=%x\n", a, v)
	}
	switch uint32(st.Mode) & unix.S_IFMT {
	case unix.S_IFLNK:
		target, err := sys.Readlinkat(dirfd, name)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "-> %s\n", target)
	case unix.S_IFREG:
		fd, err := sys.Openat(dirfd, name, unix.O_RDONLY|unix.O_NOATIME, 0)
		if err != nil {
			return "", err
		}
		defer unix.Close(fd)
		data := make([]byte, st.Size)
		if _, err := sys.Pread(fd, data, 0); err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "size %d sha %x\n", st.Size, sha256.Sum256(data))
	}
	return b.String(), nil
}

// object is one kind of lower object.
type object struct {
	name string
	make func(dirfd int, name string) error
	// request changes what is asked for.
	request func(*Request)
	privileged,
	noTmpfile bool
}

func setx(dirfd int, name string, attrs map[string][]byte) error {
	for a, v := range attrs {
		if err := sys.Setxattrat(dirfd, name, a, v, 0); err != nil {
			return fmt.Errorf("set %s of %s: %w", a, name, err)
		}
	}
	return nil
}

// finishObject sets owner, mode and odd times; the access time is one that
// relatime does not change when the tests read.
func finishObject(dirfd int, name string, mode uint32, attrs map[string][]byte) error {
	if os.Geteuid() == 0 {
		if err := sys.Chownat(dirfd, name, 1234, 4321); err != nil {
			return err
		}
	}
	if err := setx(dirfd, name, attrs); err != nil {
		return err
	}
	if mode != 0 {
		if err := sys.Chmodat(dirfd, name, mode); err != nil {
			return err
		}
	}
	return sys.Utimensat(dirfd, name, &[2]unix.Timespec{{Sec: 2100000000, Nsec: 987654321}, {Sec: -86400, Nsec: 123456789}})
}

func makeFile(content func(fd int) error, mode uint32, attrs map[string][]byte) func(int, string) error {
	return func(dirfd int, name string) error {
		fd, err := sys.Openat(dirfd, name, unix.O_CREAT|unix.O_EXCL|unix.O_RDWR, 0o600)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := content(fd); err != nil {
			return err
		}
		return finishObject(dirfd, name, mode, attrs)
	}
}

func words(fd int) error {
	_, err := sys.Pwrite(fd, []byte(strings.Repeat("what lies below\n", 5000)), 0)
	return err
}

func sparse(fd int) error {
	if err := sys.Ftruncate(fd, 8<<20); err != nil {
		return err
	}
	if _, err := sys.Pwrite(fd, []byte("in the middle"), 4<<20); err != nil {
		return err
	}
	_, err := sys.Pwrite(fd, []byte("at the start"), 0)
	return err
}

func node(mode uint32, dev uint64) func(int, string) error {
	return func(dirfd int, name string) error {
		if err := sys.Mknodat(dirfd, name, mode&unix.S_IFMT|0o600, dev); err != nil {
			return err
		}
		return finishObject(dirfd, name, mode&0o7777, nil)
	}
}

// acl is a POSIX ACL in the form of the attribute (posix_acl_xattr.h).
func acl() []byte {
	b := binary.LittleEndian.AppendUint32(nil, 2)
	for _, e := range [...]struct {
		tag, perm uint16
		id        uint32
	}{{1, 6, ^uint32(0)}, {2, 4, 77}, {4, 4, ^uint32(0)}, {0x10, 4, ^uint32(0)}, {0x20, 0, ^uint32(0)}} {
		b = binary.LittleEndian.AppendUint16(b, e.tag)
		b = binary.LittleEndian.AppendUint16(b, e.perm)
		b = binary.LittleEndian.AppendUint32(b, e.id)
	}
	return b
}

// capNetRaw is security.capability with cap_net_raw=ep.
var capNetRaw = append([]byte{1, 0, 0, 2, 0, 0x20, 0, 0}, make([]byte, 12)...)

func objects() []object {
	root := os.Geteuid() == 0
	user := map[string][]byte{"user.a": []byte("b"), "user.empty": {}}
	file := map[string][]byte{"user.a": []byte("b"), aclAccess: acl()}
	if root {
		file["security.capability"] = capNetRaw
		file["trusted.t"] = []byte("v")
		file["trusted.overlay.overlay.opaque"] = []byte("y")
	}
	all := []object{
		{name: "file", make: makeFile(words, 0, file)},
		{name: "file without O_TMPFILE", make: makeFile(words, 0, file), noTmpfile: true},
		{name: "file 0444", make: makeFile(words, 0o444, user)},
		{name: "file 0000", make: makeFile(words, 0o000, user), privileged: true},
		{name: "suid sgid file", make: makeFile(words, 0o6755, user)},
		{name: "empty file", make: makeFile(func(int) error { return nil }, 0o640, nil)},
		{name: "sparse file", make: makeFile(sparse, 0o644, nil)},
		{name: "indexed file", make: makeFile(words, 0o644, nil), request: func(r *Request) {
			r.IndexName, r.NlinkMark, r.NlinkAfter = "00fb", "L+0", "U+0"
		}},
		{
			name: "indexed file without O_TMPFILE", make: makeFile(words, 0o644, nil), noTmpfile: true,
			request: func(r *Request) { r.IndexName = "00fb" },
		},
		{name: "directory", make: func(dirfd int, name string) error {
			if err := sys.Mkdirat(dirfd, name, 0o700); err != nil {
				return err
			}
			return finishObject(dirfd, name, 0o3775, map[string][]byte{"user.a": []byte("b"), aclDefault: acl()})
		}},
		{name: "directory 0555", make: func(dirfd int, name string) error {
			if err := sys.Mkdirat(dirfd, name, 0o700); err != nil {
				return err
			}
			return finishObject(dirfd, name, 0o555, user)
		}},
		{name: "symlink", make: func(dirfd int, name string) error {
			if err := sys.Symlinkat("/no/such/target", dirfd, name); err != nil {
				return err
			}
			return finishObject(dirfd, name, 0, nil)
		}},
		{name: "fifo", make: node(unix.S_IFIFO|0o620, 0)},
		{name: "socket", make: node(unix.S_IFSOCK|0o755, 0)},
		{name: "character device", make: node(unix.S_IFCHR|0o666, unix.Mkdev(1, 3)), privileged: true},
		{name: "block device", make: node(unix.S_IFBLK|0o640, unix.Mkdev(7, 200)), privileged: true},
	}
	if root {
		return all
	}
	var own []object
	for _, o := range all {
		if !o.privileged {
			own = append(own, o)
		}
	}
	return own
}

func namespace() whiteout.Namespace {
	if os.Geteuid() == 0 {
		return whiteout.Trusted
	}
	return whiteout.User
}

// request asks for the copy of lower/name to upper/name.
func (p *place) request(t *testing.T, o object, name string) *Request {
	t.Helper()
	r := &Request{
		Source: sourceOf(t, p.lower, name), Namespace: namespace(), ParentFD: p.upper, Name: name, DataLimit: -1,
	}
	if o.request != nil {
		o.request(r)
	}
	return r
}

// wantClean fails when anything lies in work/ or, beginning with "#", index/.
func (p *place) wantClean(t *testing.T) {
	t.Helper()
	for _, sub := range []string{"work", "index"} {
		ents, err := os.ReadDir(filepath.Join(p.workDir, sub))
		if err != nil && !os.IsNotExist(err) {
			t.Error(err)
		}
		for _, e := range ents {
			if sub == "work" || e.Name()[0] == '#' {
				t.Errorf("left in %s/: %s", sub, e.Name())
			}
		}
	}
}

func (p *place) exists(name string) bool {
	var st unix.Statx_t
	return sys.Statx(p.upper, name, &st) == nil
}

// run runs a command and fails with its output.
func run(t *testing.T, name string, arg ...string) {
	t.Helper()
	if out, err := exec.Command(name, arg...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(arg, " "), err, out)
	}
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
}
