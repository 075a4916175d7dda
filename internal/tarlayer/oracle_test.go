package tarlayer

import (
	"archive/tar"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/stack"
)

// These tests take what GNU tar does as the measure. The tree on disk is seen
// through stack.DirLayer, which reads whiteouts of unpacked OCI layers too.

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: devices, owners, trusted attributes")
	}
}

func runTar(t *testing.T, args ...string) {
	t.Helper()
	path, err := exec.LookPath("tar")
	if err != nil {
		t.Skip("tar is not installed")
	}
	if out, err := exec.Command(path, args...).CombinedOutput(); err != nil {
		t.Fatalf("tar %q: %v\n%s", args, err, out)
	}
}

func openDir(t *testing.T, path string) *stack.DirLayer {
	t.Helper()
	l, err := stack.OpenDir(path, stack.DirOptions{NoClone: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// TestUnpackedByGNUTar compares the corpus with what GNU tar unpacks, where it
// and docker agree.
func TestUnpackedByGNUTar(t *testing.T) {
	needRoot(t)
	differs := map[string]string{
		"ways to write names":                       "tar refuses \"..\"",
		"global header is skipped":                  "tar applies it",
		"nested whiteouts":                          "tar unpacks them, DirLayer sees the outer one",
		"hard link before its target":               "tar fails",
		"hard links before their target in a chain": "tar fails",
		"hard link before its target, replaced":     "tar fails",
		"hard link to itself":                       "tar removes the file first",
		"directory over symlink":                    "tar keeps the symlink's directory",
		"symlink over directory":                    "tar does not remove a directory that is not empty",
		"file over directory":                       "the same",
		"directory over file over directory":        "the same",
		"parent replaced while in use":              "the same",
		"opaque in a directory that becomes a file": "the same",
		"symlinked parent that climbs out":          "tar delays such symlinks",
		"dangling symlinked parent":                 "tar fails",
		"absolute symlinked parent":                 "tar would follow it on the host",
		"chain of symlinked parents":                "tar fails while the targets are missing",
		"kernel whiteout":                           "tar keeps the file below the name",
		"whiteout and symlink":                      "DirLayer sees both names",
		"aufs bookkeeping":                          "DirLayer shows the plnk directory's victim",
	}
	for _, c := range treeCases {
		if differs[c.name] != "" || len(c.ents) == 0 {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			b := tarBytes(t, c.ents...)
			root := t.TempDir()
			runTar(t, "-xpf", writeTemp(t, b), "-C", root)
			sameText(t, shortTree(t, mustOpen(t, b)), shortTree(t, openDir(t, root)))
		})
	}
}

// TestPackedByGNUTar compares a tree with all that a tar can hold with the layer
// in the tar that GNU tar makes of it, in each of its formats.
func TestPackedByGNUTar(t *testing.T) {
	needRoot(t)
	src := t.TempDir()
	makeTree(t, src)
	want := fullTree(t, openDir(t, src))
	for _, args := range [][]string{
		{"--format=posix", "--xattrs", "--xattrs-include=*"},
		{"--format=posix", "--xattrs", "--xattrs-include=*", "--sparse", "--sparse-version=1.0"},
		{"--format=posix", "--xattrs", "--xattrs-include=*", "--sparse", "--sparse-version=0.1"},
		{"--format=posix", "--xattrs", "--xattrs-include=*", "--sparse", "--sparse-version=0.0"},
		{"--format=posix", "--xattrs", "--xattrs-include=*", "--sparse", "--sort=name", "--blocking-factor=1"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "tar")
			runTar(t, append(args, "--numeric-owner", "-C", src, "-cf", path, ".")...)
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			sameText(t, fullTree(t, mustOpen(t, b)), want)
			sameText(t, fullTree(t, mustOpen(t, gzipped(t, 6, b))), want)
		})
	}
	// The GNU format has no attributes and no parts of a second.
	clearXattrs(t, src)
	want = fullTree(t, openDir(t, src))
	for _, args := range [][]string{{"--format=gnu"}, {"--format=gnu", "--sparse"}} {
		path := filepath.Join(t.TempDir(), "tar")
		runTar(t, append(args, "--numeric-owner", "-C", src, "-cf", path, ".")...)
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		sameText(t, fullTree(t, mustOpen(t, b)), want)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func makeTree(t *testing.T, root string) {
	t.Helper()
	at := func(name string) string { return filepath.Join(root, name) }
	must(t, os.Mkdir(at("dir"), 0o750))
	must(t, os.WriteFile(at("dir/file"), []byte("hello"), 0o640))
	must(t, os.Link(at("dir/file"), at("hard")))
	must(t, os.Symlink("dir/file", at("sym")))
	must(t, os.Link(at("sym"), at("symhard")))
	must(t, unix.Mkfifo(at("fifo"), 0o622))
	must(t, unix.Mknod(at("null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	must(t, unix.Mknod(at("blk"), unix.S_IFBLK|0o660, int(unix.Mkdev(259, 70000))))
	must(t, os.WriteFile(at("owned"), nil, 0o600))
	must(t, os.Chown(at("owned"), 4000000000, 3000000))
	must(t, os.WriteFile(at("suid"), []byte("x"), 0o755))
	must(t, unix.Chmod(at("suid"), 0o6755))
	must(t, os.MkdirAll(at("deep/"+strings.Repeat(strings.Repeat("d", 90)+"/", 6)), 0o755))
	must(t, os.WriteFile(at("\xff\n name"), []byte("odd"), 0o644))
	must(t, os.WriteFile(at("old"), []byte("old"), 0o644))
	big := strings.Repeat("block of data ", 30000)
	must(t, os.WriteFile(at("big"), []byte(big), 0o644))
	holes := map[string][]int64{"holes": {0, 1 << 20, 5 << 20}, "hole at the end": {4096}, "many holes": nil, "only a hole": {}}
	for i := range int64(60) {
		holes["many holes"] = append(holes["many holes"], i*3*65536)
	}
	for name, offs := range holes {
		f, err := os.Create(at(name))
		must(t, err)
		for _, off := range offs {
			_, err := f.WriteAt([]byte(fmt.Sprint("data at ", off, big[:3000])), off)
			must(t, err)
		}
		must(t, f.Truncate(12<<20))
		must(t, f.Close())
	}
	must(t, unix.Setxattr(at("dir/file"), "user.one", []byte("1\x00\n="), 0))
	must(t, unix.Setxattr(at("dir"), "trusted.two", []byte("2"), 0))
	must(t, unix.Lsetxattr(at("sym"), "trusted.three", []byte("3"), 0))
	must(t, unix.Setxattr(at("suid"), "security.capability", []byte("\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"), 0))
	// Whole seconds for all; before 1970 for one.
	must(t, filepath.WalkDir(root, func(path string, _ os.DirEntry, err error) error {
		ts := []unix.Timespec{{Sec: 1500000000}, {Sec: 1500000000}}
		if filepath.Base(path) == "old" {
			ts[1].Sec = -12345
		}
		if err != nil {
			return err
		}
		return unix.UtimesNanoAt(unix.AT_FDCWD, path, ts, unix.AT_SYMLINK_NOFOLLOW)
	}))
}

func clearXattrs(t *testing.T, root string) {
	t.Helper()
	must(t, unix.Removexattr(filepath.Join(root, "dir/file"), "user.one"))
	must(t, unix.Removexattr(filepath.Join(root, "dir"), "trusted.two"))
	must(t, unix.Lremovexattr(filepath.Join(root, "sym"), "trusted.three"))
	must(t, unix.Removexattr(filepath.Join(root, "suid"), "security.capability"))
}

// TestAttributesOfHeaders checks what GNU tar does not write: nanoseconds,
// times before 1970 with them, attributes of libarchive, empty ones.
func TestAttributesOfHeaders(t *testing.T) {
	e := file1("f", "x")
	e.ModTime = time.Unix(-5, 123456789)
	e.Format, e.Uid, e.Gid = tar.FormatPAX, 4294967294, 1
	e.PAXRecords = map[string]string{
		"SCHILY.xattr.user.a":                      "raw\x00\xff",
		"SCHILY.xattr.user.empty":                  "",
		"LIBARCHIVE.xattr.user.a":                  "b3RoZXI",
		"LIBARCHIVE.xattr.user.with%3Dequals":      "dmFsdWU=",
		"SCHILY.xattr.system.posix_acl_access":     "acl",
		"SCHILY.xattr.security.capability":         "cap",
		"SCHILY.xattr.trusted.overlay.redirect":    "/etc",
		"SCHILY.xattr." + strings.Repeat("n", 256): "too long",
	}
	b := tarBytes(t, e, dir1("d"))
	o, _, err := mustOpen(t, b).Root().Lookup("f")
	if err != nil {
		t.Fatal(err)
	}
	a := o.Attr()
	if a.Mtime != (stack.Time{Sec: -5, Nsec: 123456789}) || a.UID != 4294967294 || a.GID != 1 {
		t.Errorf("%+v", a)
	}
	names, err := o.Xattrs()
	if err != nil {
		t.Fatal(err)
	}
	got := ""
	for _, n := range names {
		v, err := o.Xattr(n)
		if err != nil {
			t.Errorf("%s: %v", n, err)
		}
		got += fmt.Sprintf("%s=%q ", n, v)
	}
	want := `security.capability="cap" system.posix_acl_access="acl" trusted.overlay.overlay.redirect="/etc" user.a="raw\x00\xff" user.empty="" user.with=equals="value" `
	if got != want {
		t.Errorf("attributes %s\nwant %s", got, want)
	}
	if m := o.Marks(); !m.HasACL || !m.HasCaps || !m.HasOther || m.Redirect != "" || m.HasMetacopy {
		t.Errorf("%+v", m)
	}
	if _, err := o.Xattr("user.none"); err != unix.ENODATA { //nolint:errorlint // errno values are promised
		t.Errorf("missing attribute: %v", err)
	}
	h, err := o.Handle()
	if ino, ok := stack.HandleIno(h, 0); err != nil || !ok || ino != o.Attr().Ino {
		t.Errorf("handle %x of inode %d, which is %d: %v", h, ino, o.Attr().Ino, err)
	}
	if _, err := o.Readlink(); err != unix.EINVAL { //nolint:errorlint // errno values are promised
		t.Errorf("readlink of a file: %v", err)
	}
}

// TestRealTar compares the tar that UNIONFS_BENCH_TAR names, in each form, with
// what GNU tar unpacks.
func TestRealTar(t *testing.T) {
	needRoot(t)
	path := os.Getenv("UNIONFS_BENCH_TAR")
	if path == "" {
		t.Skip("UNIONFS_BENCH_TAR names no tar")
	}
	root := t.TempDir()
	runTar(t, "-xpf", path, "--numeric-owner", "-C", root)
	want := withoutRoot(fullTree(t, openDir(t, root)))
	plain, err := os.ReadFile(path)
	must(t, err)
	for _, blob := range [][]byte{plain, pipeThrough(t, plain, "gzip", "-6"), pipeThrough(t, plain, "zstd", "-3", "-c")} {
		sameText(t, withoutRoot(fullTree(t, mustOpen(t, blob))), want)
	}
}

// withoutRoot leaves out the first line: the tar need not have the root.
func withoutRoot(tree string) string {
	_, rest, _ := strings.Cut(tree, "\n")
	return rest
}

// TestStackOfLayers: the union of a layer in a tar, a directory and another tar.
func TestStackOfLayers(t *testing.T) {
	top := mustOpen(t, tarBytes(t, file1(".wh.gone", ""), dir1("opq"), file1("opq/.wh..wh..opq", ""), file1("opq/new", "1"), file1("both/top", "1"), file1("both/.wh.mid", "")))
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "both"), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "both/mid"), nil, 0o644))
	must(t, os.WriteFile(filepath.Join(dir, "gone"), nil, 0o644))
	bottom := mustOpen(t, gzipped(t, 6, tarBytes(t, file1("opq/old", "3"), file1("both/low", "3"), file1("gone", "3"), file1("kept", "3"))))
	s := stack.New([]stack.Layer{top, openDir(t, dir), bottom})
	var names []string
	var walk func(path string, e stack.Entry)
	walk = func(path string, e stack.Entry) {
		list, err := stack.ReadDir(e.Reals)
		must(t, err)
		for _, l := range list {
			sub, err := s.Lookup(e, l.Name)
			must(t, err)
			names = append(names, path+l.Name)
			if sub.IsDir() {
				walk(path+l.Name+"/", sub)
			}
		}
	}
	walk("", s.Root())
	slices.Sort(names)
	if got, want := strings.Join(names, " "), "both both/low both/top kept opq opq/new"; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}
