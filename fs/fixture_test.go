package fs

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/stack"
	"github.com/unionfs-go/unionfs/internal/sys"
	"github.com/unionfs-go/unionfs/whiteout"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// place for one union: its directories, and how filesystems over them are made.
type bed struct {
	dir    string
	lowers []string // top first
	upper  string
	work   string
	ns     whiteout.Namespace
	fds    *sys.FDCache // of the lower layers
}

// newBed makes the lower layers that text describes, see buildTree; lines "=="
// part them, top first.
func newBed(t testing.TB, text string) *bed {
	t.Helper()
	b := &bed{dir: fastTemp(t), fds: sys.NewFDCache(64), ns: whiteout.User}
	if os.Geteuid() == 0 {
		b.ns = whiteout.Trusted
	}
	for i, layer := range strings.Split(text, "==\n") {
		d := filepath.Join(b.dir, fmt.Sprintf("lower%d", i))
		must(t, os.Mkdir(d, 0o755))
		buildTree(t, d, layer)
		b.lowers = append(b.lowers, d)
	}
	b.upper, b.work = filepath.Join(b.dir, "upper"), filepath.Join(b.dir, "work")
	must(t, os.Mkdir(b.upper, 0o755))
	must(t, os.Mkdir(b.work, 0o755))
	return b
}

// fastTemp is t.TempDir on a tmpfs where there is one, since closing a
// filesystem flushes the disk.
func fastTemp(t testing.TB) string {
	t.Helper()
	base := "/dev/shm"
	var st unix.Statfs_t
	if os.Geteuid() != 0 || unix.Statfs(base, &st) != nil || st.Type != unix.TMPFS_MAGIC ||
		unix.Setxattr(base, "user.none", nil, unix.XATTR_REPLACE) != unix.ENODATA {
		base = os.TempDir()
	}
	dir, err := os.MkdirTemp(base, "unionfs-fs-")
	must(t, err)
	t.Cleanup(func() { must(t, sys.RemoveTree(dir)) })
	return dir
}

// buildTree makes objects below dir, one for each line: "dir PATH", "file PATH
// [CONTENT]", "link PATH TARGET", "hard PATH OLD", "fifo PATH", or, for the file
// or directory made before, "mode OCTAL" and "attr NAME VALUE".
func buildTree(t testing.TB, dir, text string) {
	t.Helper()
	last := dir
	for _, line := range strings.Split(text, "\n") {
		w := strings.Fields(line)
		if len(w) == 0 {
			continue
		}
		w = append(w, "", "")
		path := filepath.Join(dir, w[1])
		switch w[0] {
		case "mode":
			var m uint32
			_, err := fmt.Sscanf(w[1], "%o", &m)
			must(t, err)
			must(t, unix.Chmod(last, m))
			continue
		case "attr":
			must(t, unix.Lsetxattr(last, w[1], []byte(w[2]), 0))
			continue
		}
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		last = path
		switch w[0] {
		case "dir":
			must(t, os.MkdirAll(path, 0o755))
		case "file":
			must(t, os.WriteFile(path, []byte(w[2]), 0o644))
		case "link":
			must(t, os.Symlink(w[2], path))
		case "hard":
			must(t, os.Link(filepath.Join(dir, w[2]), path))
		case "fifo":
			must(t, unix.Mkfifo(path, 0o644))
		default:
			t.Fatalf("fixture: unknown line %q", line)
		}
	}
}

// open makes a filesystem, which the test must close if it opens another.
func (b *bed) open(t testing.TB, change ...func(*Config)) *union {
	t.Helper()
	cfg := Config{Upper: b.upper, Work: b.work, Namespace: b.ns, RedirectDir: true, Index: true}
	for _, c := range change {
		c(&cfg)
	}
	for _, d := range b.lowers {
		l, err := stack.OpenDir(d, stack.DirOptions{Namespace: b.ns, FDs: b.fds})
		must(t, err)
		cfg.Lowers = append(cfg.Lowers, l)
	}
	f, err := New(cfg)
	must(t, err)
	u := &union{f: f, refs: make(map[uint64]uint64)}
	t.Cleanup(func() { u.close(t) })
	return u
}

// union is a filesystem that is driven without a mount. It keeps the kernel's
// side of the reference counts.
type union struct {
	f      *FS
	refs   map[uint64]uint64
	closed bool
}

func (u *union) close(t testing.TB) {
	if u.closed {
		return
	}
	u.closed = true
	u.forgetAll()
	if err := u.f.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

func (u *union) forgetAll() {
	for id, n := range u.refs {
		u.f.forget(id, n)
	}
	clear(u.refs)
}

// get looks a path up, one name after the other.
func (u *union) get(path string) (*node, error) {
	n := u.f.root
	for _, name := range strings.Split(path, "/") {
		if name == "" || name == "." {
			continue
		}
		c, _, err := u.f.lookup(n, name)
		if err != nil {
			return nil, err
		}
		u.refs[c.id]++
		n = c
	}
	return n, nil
}

// at splits a path into its directory's node and its last name.
func (u *union) at(path string) (*node, string, error) {
	n, err := u.get(filepath.Dir(path))
	if err == nil && !n.isDir() {
		err = unix.ENOTDIR // the kernel sends no request with a file as directory
	}
	return n, filepath.Base(path), err
}

func (u *union) create(path string, o newObject) (*node, error) {
	dir, name, err := u.at(path)
	if err != nil {
		return nil, err
	}
	if o.owner == (fuse.Owner{}) {
		o.owner = fuse.Owner{Uid: uint32(os.Geteuid()), Gid: uint32(os.Getegid())}
	}
	n, _, err := u.f.create(dir, name, &o)
	if err == nil {
		u.refs[n.id]++
	}
	return n, err
}

func (u *union) write(path string, off int64, data string) error {
	n, err := u.get(path)
	if err != nil {
		return err
	}
	c, err := u.f.write(n, &fuse.WriteIn{Offset: uint64(off)}, [][]byte{[]byte(data)})
	if err == nil && int(c) != len(data) {
		return fmt.Errorf("%d bytes written of %d", c, len(data))
	}
	return err
}

func (u *union) read(n *node) (string, error) {
	buf := make([]byte, 1<<16)
	c, err := u.f.read(n, buf, 0)
	return string(buf[:max(c, 0)]), err
}

// list returns the names of a directory in the order of the cookies.
func (u *union) list(n *node) (names []fuse.DirEntry, err error) {
	err = u.f.listDir(n, 0, func(e fuse.DirEntry, real bool) bool {
		if real {
			names = append(names, e)
		}
		return true
	})
	return names, err
}

// dump describes everything that the union shows, a line for each object.
func (u *union) dump(t testing.TB) string {
	t.Helper()
	var lines []string
	var walk func(n *node, path string)
	walk = func(n *node, path string) {
		ents, err := u.list(n)
		if err != nil {
			lines = append(lines, path+" list: "+err.Error())
			return
		}
		for _, e := range ents {
			p := strings.TrimPrefix(path+"/"+e.Name, "/")
			c, err := u.get(p)
			if err != nil {
				lines = append(lines, p+" "+err.Error())
				continue
			}
			a, err := u.f.getAttr(c)
			must(t, err)
			if a.Ino != e.Ino || a.Type() != e.Mode&unix.S_IFMT {
				t.Errorf("%s is listed as %d, type %#o, and is %d, type %#o", p, e.Ino, e.Mode, a.Ino, a.Type())
			}
			lines = append(lines, u.describe(t, p, c, &a))
			if c.isDir() {
				walk(c, p)
			}
		}
	}
	walk(u.f.root, "")
	sort.Strings(lines)
	return strings.Join(lines, "\n")
}

func (u *union) describe(t testing.TB, path string, n *node, a *stack.Attr) string {
	t.Helper()
	content := ""
	var err error
	switch a.Type() {
	case unix.S_IFREG:
		content, err = u.read(n)
	case unix.S_IFLNK:
		content, err = u.f.readlink(n)
	}
	if err != nil {
		content = "!" + err.Error()
	}
	buf := make([]byte, 1<<12)
	size, err := u.f.listXattr(n, 0, buf)
	must(t, err)
	var attrs []string
	for _, x := range strings.Split(string(buf[:size]), "\x00") {
		if strings.HasPrefix(x, "user.") {
			v := make([]byte, 1<<10)
			c, err := u.f.getXattr(n, x, v)
			must(t, err)
			attrs = append(attrs, x+"="+string(v[:c]))
		}
	}
	return describeLine(path, a, content, attrs)
}

func describeLine(path string, a *stack.Attr, content string, attrs []string) string {
	sort.Strings(attrs)
	return fmt.Sprintf("%s %06o %d %d:%d %d.%d %q %q", path, a.Mode, a.Nlink, a.UID, a.GID, a.Mtime.Sec, a.Mtime.Nsec, content, attrs)
}

// dumpPath is dump for a directory that the kernel shows.
func dumpPath(t testing.TB, root string) string {
	t.Helper()
	var lines []string
	var walk func(path string)
	walk = func(path string) {
		d, err := os.Open(filepath.Join(root, path))
		if err != nil {
			lines = append(lines, path+" list: "+err.Error())
			return
		}
		names, err := d.Readdirnames(-1)
		_ = d.Close()
		must(t, err)
		for _, name := range names {
			p := strings.TrimPrefix(path+"/"+name, "/")
			full := filepath.Join(root, p)
			var st unix.Statx_t
			if err := sys.Statx(unix.AT_FDCWD, full, &st); err != nil {
				if err != unix.ENOENT { // a whiteout that is listed where one layer takes part
					lines = append(lines, p+" "+err.Error())
				}
				continue
			}
			a := stack.AttrOf(&st)
			lines = append(lines, describePath(t, p, full, &a))
			if a.IsDir() {
				walk(p)
			}
		}
	}
	walk("")
	sort.Strings(lines)
	return strings.Join(lines, "\n")
}

func describePath(t testing.TB, path, full string, a *stack.Attr) string {
	t.Helper()
	content := ""
	switch a.Type() {
	case unix.S_IFREG:
		b, err := os.ReadFile(full)
		content = string(b)
		if err != nil {
			content = "!" + err.Error()
		}
	case unix.S_IFLNK:
		content, _ = os.Readlink(full)
	}
	buf := make([]byte, 1<<12)
	size, err := unix.Llistxattr(full, buf)
	must(t, err)
	var attrs []string
	for _, x := range strings.Split(string(buf[:size]), "\x00") {
		if strings.HasPrefix(x, "user.") {
			v := make([]byte, 1<<10)
			c, err := unix.Lgetxattr(full, x, v)
			must(t, err)
			attrs = append(attrs, x+"="+string(v[:c]))
		}
	}
	return describeLine(path, a, content, attrs)
}

// kernelView mounts the directories with the kernel's overlayfs and describes
// what it shows; ok is false without root.
func (b *bed) kernelView(t testing.TB) (dump string, ok bool) {
	t.Helper()
	if b.ns != whiteout.Trusted {
		t.Log("not compared with the kernel's overlayfs, which needs root")
		return "", false
	}
	fd, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		t.Logf("not compared with the kernel's overlayfs: %v", err)
		return "", false
	}
	defer unix.Close(fd)
	options := [][2]string{{"upperdir", b.upper}, {"workdir", b.work}, {"redirect_dir", "on"}, {"metacopy", "on"}, {"index", "on"}}
	for _, d := range b.lowers {
		options = append(options, [2]string{"lowerdir+", d})
	}
	for _, o := range options {
		if err := unix.FsconfigSetString(fd, o[0], o[1]); err != nil {
			t.Fatalf("overlayfs option %s=%s: %v", o[0], o[1], err)
		}
	}
	if err := unix.FsconfigCreate(fd); err != nil {
		buf := make([]byte, 4096)
		n, _ := unix.Read(fd, buf)
		t.Fatalf("mount overlayfs: %v: %s", err, buf[:max(n, 0)])
	}
	mnt, err := unix.Fsmount(fd, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOATIME)
	must(t, err)
	defer unix.Close(mnt)
	return dumpPath(t, fmt.Sprintf("/proc/self/fd/%d/.", mnt)), true
}

// lowerHash is a hash over everything in the lower layers: names, attributes
// with all times but the access time, extended attributes and contents.
func (b *bed) lowerHash(t testing.TB) string {
	t.Helper()
	h := sha256.New()
	for _, root := range b.lowers {
		must(t, filepath.WalkDir(root, func(path string, _ os.DirEntry, err error) error {
			must(t, err)
			var st unix.Statx_t
			must(t, sys.Statx(unix.AT_FDCWD, path, &st))
			a := stack.AttrOf(&st)
			a.Atime = stack.Time{}
			fmt.Fprintf(h, "%s %+v %s\n", path, a, describePath(t, path, path, &a))
			return nil
		}))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// openFDs describes the open descriptors, "/proc/self/fd" itself among them.
func openFDs(t testing.TB) []string {
	t.Helper()
	ents, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	var out []string
	for _, e := range ents {
		target, _ := os.Readlink("/proc/self/fd/" + e.Name())
		if !strings.HasPrefix(target, "anon_inode:") { // the Go runtime's own
			out = append(out, target)
		}
	}
	return out
}

// sameFDs reports descriptors that are open now and were not before.
func sameFDs(t testing.TB, before []string) {
	t.Helper()
	if now := openFDs(t); len(now) != len(before) {
		t.Errorf("%d descriptors are open, %d were before:\n%s", len(now), len(before),
			diffLines(strings.Join(before, "\n"), strings.Join(now, "\n")))
	}
}

func diffLines(a, b string) string {
	in := func(s string) map[string]bool {
		m := make(map[string]bool)
		for _, l := range strings.Split(s, "\n") {
			m[l] = true
		}
		return m
	}
	ma, mb := in(a), in(b)
	var out []string
	for l := range ma {
		if !mb[l] {
			out = append(out, "- "+l)
		}
	}
	for l := range mb {
		if !ma[l] {
			out = append(out, "+ "+l)
		}
	}
	sort.Strings(out)
	return strings.Join(out, "\n")
}
