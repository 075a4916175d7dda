package whiteout

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/sys"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// openTemp returns a temporary directory and a descriptor (O_PATH) of it, and
// skips where its filesystem cannot hold ns's attributes for this user.
func openTemp(t *testing.T, ns Namespace) (string, int) {
	t.Helper()
	dir := t.TempDir()
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(t, err)
	t.Cleanup(func() { _ = unix.Close(fd) })
	probe := ns.prefix() + "overlay.probe"
	if err := unix.Setxattr(dir, probe, nil, 0); err != nil {
		t.Skipf("no %s attributes in %s: %v", ns, dir, err)
	}
	must(t, unix.Removexattr(dir, probe))
	return dir, fd
}

func eachNamespace(t *testing.T, f func(t *testing.T, ns Namespace, dir string, fd int)) {
	for _, ns := range namespaces {
		t.Run(ns.String(), func(t *testing.T) {
			dir, fd := openTemp(t, ns)
			f(t, ns, dir, fd)
		})
	}
}

// TestReadMarks sets the attributes written in the table, as "name=value"
// separated by spaces, where "own." is the mount's prefix and "other." that of
// the other namespace.
func TestReadMarks(t *testing.T) {
	for _, c := range []struct {
		what, attrs string
		dir         bool
		want        Marks
		err         error
	}{
		{what: "nothing", want: Marks{}},
		{what: "opaque", attrs: "own.opaque=y", dir: true, want: Marks{Opacity: OpaqueDir}},
		{what: "opaque of the other namespace", attrs: "other.opaque=y", dir: true, want: Marks{Opacity: OpaqueDir}},
		{what: "opaque of fuse-overlayfs", attrs: "user.fuseoverlayfs.opaque=y", dir: true, want: Marks{Opacity: OpaqueDir}},
		{what: "opaque x", attrs: "own.opaque=x", dir: true, want: Marks{Opacity: HoldsXWhiteouts}},
		{what: "y beats x", attrs: "own.opaque=x other.opaque=y", dir: true, want: Marks{Opacity: OpaqueDir}},
		{what: "x after y", attrs: "own.opaque=y other.opaque=x", dir: true, want: Marks{Opacity: OpaqueDir}},
		{what: "opaque with another value", attrs: "own.opaque=n", dir: true},
		{what: "opaque with a long value", attrs: "own.opaque=yes", dir: true},
		{what: "opaque without a value", attrs: "own.opaque=", dir: true},
		{what: "opaque file", attrs: "own.opaque=y"},
		{what: "metacopy", attrs: "own.metacopy=", want: Marks{HasMetacopy: true}},
		{what: "metacopy of the other namespace", attrs: "other.metacopy=", want: Marks{HasOther: true}},
		{what: "metacopy directory", attrs: "own.metacopy=", dir: true},
		{what: "redirect", attrs: "own.redirect=a", dir: true, want: Marks{Redirect: "a"}},
		{what: "absolute redirect", attrs: "own.redirect=/a/b", dir: true, want: Marks{Redirect: "/a/b"}},
		{what: "redirect of a file", attrs: "own.redirect=/a own.metacopy=", want: Marks{Redirect: "/a", HasMetacopy: true}},
		{what: "redirect of the other namespace", attrs: "other.redirect=/a", dir: true, want: Marks{HasOther: true}},
		{what: "bad redirect", attrs: "own.redirect=../a", dir: true, err: unix.EINVAL},
		{what: "empty redirect", attrs: "own.redirect=", dir: true, err: unix.EINVAL},
		{what: "origin", attrs: "own.origin=", want: Marks{HasOrigin: true}},
		{what: "origin of the other namespace", attrs: "other.origin=", want: Marks{HasOther: true}},
		{what: "impure", attrs: "own.impure=y", dir: true, want: Marks{HasImpure: true}},
		{what: "nlink", attrs: "own.nlink=U+1", want: Marks{HasNlink: true}},
		{what: "whiteout", attrs: "own.whiteout=", want: Marks{XWhiteout: true}},
		{what: "whiteout of the other namespace", attrs: "other.whiteout=", want: Marks{XWhiteout: true}},
		{what: "own marks that nobody reads", attrs: "own.protattr=i own.uuid=x own.upper=", want: Marks{}},
		{what: "escaped", attrs: "own.overlay.opaque=y", dir: true, want: Marks{HasOther: true}},
		{what: "ordinary", attrs: "user.mime=text", want: Marks{HasOther: true}},
		{
			what: "all at once", attrs: "own.opaque=x own.redirect=r own.origin= own.impure=y user.a=b", dir: true,
			want: Marks{Opacity: HoldsXWhiteouts, Redirect: "r", HasOrigin: true, HasImpure: true, HasOther: true},
		},
	} {
		t.Run(c.what, func(t *testing.T) {
			eachNamespace(t, func(t *testing.T, ns Namespace, dir string, fd int) {
				other := Trusted + User - ns
				if strings.Contains(c.attrs, "other.") {
					openTemp(t, other)
				}
				path := filepath.Join(dir, "obj")
				if c.dir {
					must(t, os.Mkdir(path, 0o755))
				} else {
					must(t, os.WriteFile(path, nil, 0o644))
				}
				for _, a := range strings.Fields(c.attrs) {
					name, value, _ := strings.Cut(a, "=")
					name = strings.NewReplacer("own.", ns.prefix(), "other.", other.prefix()).Replace(name)
					must(t, unix.Setxattr(path, name, []byte(value), 0))
				}
				got, err := ReadMarks(fd, "obj", c.dir, ns)
				if err != c.err || err == nil && got != c.want {
					t.Errorf("by name: %+v, %v, want %+v, %v", got, err, c.want, c.err)
				}
				obj, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
				must(t, err)
				defer unix.Close(obj)
				got, err = ReadMarks(obj, "", c.dir, ns)
				if err != c.err || err == nil && got != c.want {
					t.Errorf("by descriptor: %+v, %v, want %+v, %v", got, err, c.want, c.err)
				}
			})
		})
	}
}

func TestReadMarksOfASymlinkAreItsOwn(t *testing.T) {
	dir, fd := openTemp(t, Trusted)
	must(t, os.Mkdir(filepath.Join(dir, "d"), 0o755))
	must(t, Trusted.SetOpaque(fd, "d"))
	must(t, os.Symlink("d", filepath.Join(dir, "l")))
	if m, err := ReadMarks(fd, "l", false, Trusted); err != nil || m != (Marks{}) {
		t.Errorf("marks of a symlink to an opaque directory: %+v, %v", m, err)
	}
	must(t, Trusted.Set(fd, "l", Origin, nil))
	if m, err := ReadMarks(fd, "l", false, Trusted); err != nil || m != (Marks{HasOrigin: true}) {
		t.Errorf("marks of a symlink with an origin: %+v, %v", m, err)
	}
}

func TestReadMarksSeesCapabilityAndACL(t *testing.T) {
	dir, fd := openTemp(t, User)
	must(t, os.WriteFile(filepath.Join(dir, "f"), nil, 0o644))
	caps := make([]byte, 20) // struct vfs_cap_data, revision 2
	caps[3], caps[5] = 2, 4
	if err := sys.Setxattrat(fd, "f", attrCaps, caps, 0); err != nil {
		t.Skipf("cannot set capabilities: %v", err)
	}
	if m, err := ReadMarks(fd, "f", false, User); err != nil || m != (Marks{HasCaps: true, HasOther: true}) {
		t.Errorf("file with a capability: %+v, %v", m, err)
	}
	must(t, os.Mkdir(filepath.Join(dir, "d"), 0o755))
	none := "\xff\xff\xff\xff"
	acl := []byte("\x02\x00\x00\x00\x01\x00\x07\x00" + none + "\x04\x00\x05\x00" + none + "\x20\x00\x05\x00" + none)
	if err := sys.Setxattrat(fd, "d", attrACLDefault, acl, 0); err != nil {
		t.Skipf("cannot set ACLs: %v", err)
	}
	if m, err := ReadMarks(fd, "d", true, User); err != nil || m != (Marks{HasACL: true, HasOther: true}) {
		t.Errorf("directory with a default ACL: %+v, %v", m, err)
	}
}

func TestReadMarksOfNothing(t *testing.T) {
	_, fd := openTemp(t, User)
	if _, err := ReadMarks(fd, "nothing", false, User); err != unix.ENOENT {
		t.Errorf("marks of a missing name: %v, want ENOENT", err)
	}
}

func TestGetSetRemove(t *testing.T) {
	eachNamespace(t, func(t *testing.T, ns Namespace, dir string, fd int) {
		if _, err := ns.Get(fd, "", Redirect); err != unix.ENODATA {
			t.Errorf("get of an unset mark: %v", err)
		}
		if err := ns.Remove(fd, "", Redirect); err != nil {
			t.Errorf("remove of an unset mark: %v", err)
		}
		long := strings.Repeat("/abcdefg", 500) // longer than any buffer that is tried first
		must(t, ns.Set(fd, "", Redirect, []byte(long)))
		if v, err := ns.Get(fd, "", Redirect); err != nil || string(v) != long {
			t.Errorf("got %d bytes, %v, want %d", len(v), err, len(long))
		}
		must(t, ns.Remove(fd, "", Redirect))
		if _, err := ns.Get(fd, "", Redirect); err != unix.ENODATA {
			t.Errorf("get after remove: %v", err)
		}
	})
}

func TestMakeDevice(t *testing.T) {
	dir, fd := openTemp(t, User)
	if err := User.Make(fd, "w", Device); err != nil {
		t.Skipf("cannot make device 0:0: %v", err)
	}
	var st unix.Stat_t
	must(t, unix.Lstat(filepath.Join(dir, "w"), &st))
	if !IsDevice(st.Mode, st.Rdev) {
		t.Errorf("mode %#o, device %#x is no whiteout", st.Mode, st.Rdev)
	}
	if err := User.Make(fd, "w", Device); err != unix.EEXIST {
		t.Errorf("second whiteout under one name: %v", err)
	}
}

func TestMakeXattr(t *testing.T) {
	eachNamespace(t, func(t *testing.T, ns Namespace, dir string, fd int) {
		must(t, ns.Make(fd, "w", Xattr))
		must(t, ns.MarkHoldsXWhiteouts(fd, ""))
		m, err := ReadMarks(fd, "w", false, ns)
		if err != nil || !m.XWhiteout {
			t.Errorf("whiteout: %+v, %v", m, err)
		}
		fi, err := os.Lstat(filepath.Join(dir, "w"))
		if err != nil || !fi.Mode().IsRegular() || fi.Size() != 0 {
			t.Errorf("whiteout is %v, %v, want an empty file", fi, err)
		}
		if m, err := ReadMarks(fd, "", true, ns); err != nil || m.Opacity != HoldsXWhiteouts {
			t.Errorf("its directory: %+v, %v", m, err)
		}
		if err := ns.Make(fd, "w", Xattr); err != unix.EEXIST {
			t.Errorf("second whiteout under one name: %v", err)
		}
	})
}

func TestMarkHoldsXWhiteoutsLeavesOpaque(t *testing.T) {
	eachNamespace(t, func(t *testing.T, ns Namespace, dir string, fd int) {
		must(t, ns.SetOpaque(fd, ""))
		must(t, ns.MarkHoldsXWhiteouts(fd, ""))
		if m, err := ReadMarks(fd, "", true, ns); err != nil || m.Opacity != OpaqueDir {
			t.Errorf("marks %+v, %v, want opaque", m, err)
		}
	})
}

func TestProbeLeavesNothing(t *testing.T) {
	eachNamespace(t, func(t *testing.T, ns Namespace, dir string, fd int) {
		style, err := ns.Probe(fd, "#probe")
		must(t, err)
		var st unix.Stat_t
		canDevice := unix.Mknod(filepath.Join(dir, "dev"), unix.S_IFCHR, 0) == nil &&
			unix.Lstat(filepath.Join(dir, "dev"), &st) == nil && IsDevice(st.Mode, st.Rdev)
		if (style == Device) != canDevice {
			t.Errorf("style %s, though making a device works: %v", style, canDevice)
		}
		_ = os.Remove(filepath.Join(dir, "dev"))
		if ents, _ := os.ReadDir(dir); len(ents) != 0 {
			t.Errorf("left behind: %v", ents)
		}
	})
}

func TestProbeWithoutAnyStyle(t *testing.T) {
	// Nothing can be made in /proc.
	fd, err := unix.Open("/proc/self", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(fd)
	if _, err := User.Probe(fd, "probe"); err != unix.ENOTSUP {
		t.Errorf("probe in /proc: %v, want ENOTSUP", err)
	}
}

func TestDetectNamespace(t *testing.T) {
	eachNamespace(t, func(t *testing.T, ns Namespace, dir string, fd int) {
		if _, ok := DetectNamespace(fd); ok || Native(fd) {
			t.Error("a directory without marks is taken for an upper of the kernel")
		}
		// Opaque and redirect can be on any directory, also by other tools.
		must(t, ns.SetOpaque(fd, ""))
		must(t, ns.Set(fd, "", Redirect, []byte("x")))
		if Native(fd) {
			t.Error("an opaque root is taken for an upper of the kernel")
		}
		for _, m := range []Mark{UUID, Impure, Origin} {
			must(t, ns.Set(fd, "", m, []byte("y")))
			if got, ok := DetectNamespace(fd); !ok || got != ns || !Native(fd) {
				t.Errorf("with %s: %s, %v", ns.Attr(m), got, ok)
			}
			must(t, ns.Remove(fd, "", m))
		}
	})
}
