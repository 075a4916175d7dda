package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/stack"
	"github.com/unionfs-go/unionfs/internal/sys"
	"github.com/unionfs-go/unionfs/whiteout"
)

// needMount skips where nothing can be mounted.
func needMount(t *testing.T) {
	t.Helper()
	if !sys.HasCap(unix.CAP_SYS_ADMIN) {
		t.Skip("needs CAP_SYS_ADMIN to mount")
	}
	if err := checkFuse(fuseDevice, true); err != nil {
		t.Skip(err)
	}
}

// tree makes a directory with the sub-directories named in dirs and returns its
// path, free of symlinks.
func tree(t *testing.T, dirs ...string) string {
	t.Helper()
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range dirs {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// mounted mounts something for the time of a test.
func mounted(t *testing.T, source, target, fstype string, flags uintptr, data string) {
	t.Helper()
	if err := unix.Mount(source, target, fstype, flags, data); err != nil {
		t.Fatalf("mount %s on %s: %v", fstype, target, err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(target, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", target, err)
		}
	})
}

// plan parses a command line and plans the mount. R/ in args is the root.
func plan(t *testing.T, root, opts string, args ...string) (*mountPlan, error) {
	t.Helper()
	at := func(s string) string { return strings.ReplaceAll(s, "R/", root+"/") }
	o := &MountOptions{}
	flags := newFlagSet("mount")
	o.AddFlags(flags)
	if opts != "" {
		args = append([]string{"-o", opts}, args...)
	}
	for i := range args {
		args[i] = at(args[i])
	}
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	req, err := parseMount(o, flags.Args())
	if err != nil {
		return nil, err
	}
	p, err := planMount(req)
	t.Cleanup(func() {
		if err := p.leftovers.remove(); err != nil {
			t.Error(err)
		}
	})
	return p, err
}

// layout is what each refusal starts from.
func layout(t *testing.T) string {
	root := tree(t, "a/sub", "b", "upper/sub", "work/sub", "mnt", "other", "bind", "tmp", "kmnt", "ku", "kw")
	for _, name := range []string{"file", "upper/sub/l.tar"} {
		if err := os.WriteFile(filepath.Join(root, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mkfifo(filepath.Join(root, "fifo"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("a", filepath.Join(root, "link")); err != nil {
		t.Fatal(err)
	}
	return root
}

func TestMountRefusesBadInput(t *testing.T) {
	needMount(t)
	tests := []struct {
		name string
		opts string
		args []string
		want string
	}{
		{"missing layer", "", []string{"R/none", "R/mnt"}, "layer R/none does not exist"},
		{"missing layer in lowerdir", "lowerdir=R/a:R/none", []string{"R/mnt"}, "layer R/none does not exist"},
		{"layer is no file", "", []string{"R/fifo", "R/mnt"}, "layer R/fifo is neither a directory nor a layer tar"},
		{"layer file inside the upper", "", []string{"--upper", "R/upper", "R/upper/sub/l.tar", "R/mnt"}, "layer R/upper/sub/l.tar is inside upper directory R/upper"},
		{"no image of that name", "", []string{"no-such-image:1", "R/mnt"}, "no-such-image:1"},
		{"missing upper", "", []string{"--upper", "R/none", "R/a", "R/mnt"}, "upper directory R/none does not exist"},
		{"upper is a file", "", []string{"--upper", "R/file", "R/a", "R/mnt"}, "upper directory R/file is not a directory"},
		{"same directory as upper and lower", "", []string{"--upper", "R/a", "R/a", "R/mnt"}, "R/a is both the upper directory and a layer"},
		{"the same through a symlink", "", []string{"--upper", "R/link", "R/a", "R/mnt"}, "R/a is both the upper directory and a layer"},
		{"upper inside a lower", "", []string{"--upper", "R/a/sub", "R/b", "R/a", "R/mnt"}, "upper directory R/a/sub is inside layer R/a"},
		{"lower inside the upper", "", []string{"--upper", "R/upper", "R/upper/sub", "R/mnt"}, "layer R/upper/sub is inside upper directory R/upper"},
		{"upper inside a lower through a bind mount", "", []string{"--upper", "R/bind/sub", "R/a", "R/mnt"}, "is inside layer R/a"},
		{"workdir inside upper", "", []string{"--upper", "R/upper", "--work", "R/upper/sub", "R/a", "R/mnt"}, "workdir R/upper/sub is inside upper directory R/upper"},
		{"upper inside workdir", "", []string{"--upper", "R/work/sub", "--work", "R/work", "R/a", "R/mnt"}, "upper directory R/work/sub is inside workdir R/work"},
		{"workdir is the upper", "", []string{"--upper", "R/upper", "--work", "R/upper", "R/a", "R/mnt"}, "is both upper directory and workdir"},
		{"workdir in a layer", "", []string{"--upper", "R/upper", "--work", "R/a/sub", "R/a", "R/mnt"}, "workdir R/a/sub and layer R/a overlap"},
		{"missing workdir", "upperdir=R/upper,workdir=R/none", []string{"R/a", "R/mnt"}, "workdir R/none does not exist"},
		{"workdir on another filesystem", "", []string{"--upper", "R/upper", "--work", "R/tmp", "R/a", "R/mnt"}, "is on another filesystem or mount"},
		{"no place beside the upper", "", []string{"--upper", "R/tmp", "R/a", "R/mnt"}, "is itself a mountpoint (tmpfs)"},
		{"upper in use by the kernel", "", []string{"--upper", "R/ku", "R/a", "R/mnt"}, "upper directory R/ku is in use: it is upperdir of the overlay mounted on R/kmnt"},
		{"workdir in use by the kernel", "", []string{"--upper", "R/upper", "--work", "R/kw", "R/a", "R/mnt"}, "workdir R/kw is in use"},
		{"missing mountpoint", "", []string{"R/a", "R/none"}, "mountpoint R/none does not exist"},
		{"mountpoint is a file", "", []string{"R/a", "R/file"}, "mountpoint R/file is not a directory"},
		{"mountpoint inside the upper", "", []string{"--upper", "R/upper", "R/a", "R/upper/sub"}, "mountpoint R/upper/sub is inside upper directory R/upper"},
		{"mountpoint inside the workdir", "", []string{"--upper", "R/upper", "--work", "R/work", "R/a", "R/work/sub"}, "is inside workdir R/work"},
		{"ephemeral inside a layer", "", []string{"--ephemeral", "R/", "R/mnt"}, "set TMPDIR"},
		{"more than 500 layers", "lowerdir=" + strings.Repeat("R/a:", 500) + "R/b", []string{"R/mnt"}, "501 layers are too many"},
	}
	root := layout(t)
	mounted(t, root+"/a", root+"/bind", "", unix.MS_BIND, "")
	mounted(t, "tmpfs", root+"/tmp", "tmpfs", 0, "")
	mounted(t, "overlay", root+"/kmnt", "overlay", 0, "lowerdir="+root+"/b,upperdir="+root+"/ku,workdir="+root+"/kw")
	t.Setenv("TMPDIR", root+"/other")
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := plan(t, root, strings.ReplaceAll(tt.opts, "R/", root+"/"), tt.args...)
			want := strings.ReplaceAll(tt.want, "R/", root+"/")
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Fatalf("got %v\nwant %s", err, want)
			}
			if code := exitCode(err); code != exitRefused {
				t.Errorf("exit code %d, want %d", code, exitRefused)
			}
		})
	}
	for _, dir := range []string{root, root + "/other"} {
		found, err := filepath.Glob(dir + "/.*.unionfs-work")
		more, err2 := filepath.Glob(dir + "/unionfs-ephemeral-*")
		if errors.Join(err, err2) != nil || len(found)+len(more) > 0 {
			t.Errorf("left behind: %q %q", found, more)
		}
	}
}

func TestMountAccepts(t *testing.T) {
	needMount(t)
	root := layout(t)
	tests := []struct {
		name string
		opts string
		args []string
	}{
		{"on the layer itself", "", []string{"R/a", "R/a"}},
		{"on the upper itself", "", []string{"--upper", "R/upper", "R/a", "R/upper"}},
		{"inside a layer, as root", "", []string{"R/a", "R/a/sub"}},
		{"a layer inside the mountpoint", "", []string{"R/a/sub", "R/a"}},
		{"the same layer twice", "", []string{"R/a", "R/a", "R/mnt"}},
		{"a layer inside another", "", []string{"R/a/sub", "R/a", "R/mnt"}},
		{"500 layers", "lowerdir=" + strings.Repeat(root+"/a:", 499) + root + "/b", []string{"R/mnt"}},
		{"names like a longer one", "", []string{"--upper", "R/upper", "--work", "R/other", "R/a", "R/mnt"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := plan(t, root, tt.opts, tt.args...); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestDefaultWorkdirIsBesideTheUpper(t *testing.T) {
	needMount(t)
	root := layout(t)
	p, err := plan(t, root, "", "--upper", "R/upper", "R/a", "R/mnt")
	if err != nil {
		t.Fatal(err)
	}
	work := root + "/.upper.unionfs-work"
	if p.work != work {
		t.Errorf("workdir %s, want %s", p.work, work)
	}
	for _, d := range []string{"work", "index"} {
		if err := os.Mkdir(filepath.Join(work, d), 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(work+"/index/x", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := p.leftovers.remove(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(work + "/index/x"); err != nil {
		t.Errorf("an index was removed: %v", err)
	}
	if err := os.Remove(work + "/index/x"); err != nil {
		t.Fatal(err)
	}
	if p, err = plan(t, root, "", "--upper", "R/upper", "R/a", "R/mnt"); err != nil {
		t.Fatal(err)
	}
	if err := p.leftovers.remove(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(work); !os.IsNotExist(err) {
		t.Errorf("an empty workdir stayed: %v", err)
	}
}

func TestEphemeralLooksLikeTheTopLayerAndGoes(t *testing.T) {
	needMount(t)
	root := layout(t)
	t.Setenv("TMPDIR", root+"/other")
	p, err := plan(t, root, "", "--ephemeral", "R/a", "R/mnt")
	if err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := p.dressEphemeral(stack.Attr{Mode: unix.S_IFDIR | 0o751, UID: 33, GID: 44}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Stat(p.upper, &st); err != nil || st.Mode&0o7777 != 0o751 || st.Uid != 33 || st.Gid != 44 {
		t.Errorf("upper: %v mode %o owner %d:%d", err, st.Mode, st.Uid, st.Gid)
	}
	if err := os.WriteFile(p.upper+"/file", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := p.leftovers.remove(); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(root + "/other"); err != nil || len(left) > 0 {
		t.Errorf("left: %v %v", left, err)
	}
}

func TestUpperKeepsItsNamespace(t *testing.T) {
	needMount(t)
	if !privileged() {
		t.Skip("needs the first user namespace")
	}
	root := layout(t)
	p, err := plan(t, root, "", "--upper", "R/upper", "R/a", "R/mnt")
	if err != nil || p.namespace != whiteout.Trusted {
		t.Fatalf("new upper as root: %v, %v", p.namespace, err)
	}
	if p, err = plan(t, root, "userxattr", "--upper", "R/upper", "R/a", "R/mnt"); err != nil || p.namespace != whiteout.User {
		t.Errorf("userxattr: %v, %v", p.namespace, err)
	}
	if err := unix.Setxattr(root+"/upper", "user.overlay.impure", []byte("y"), 0); err != nil {
		t.Fatal(err)
	}
	if p, err = plan(t, root, "", "--upper", "R/upper", "R/a", "R/mnt"); err != nil || p.namespace != whiteout.User {
		t.Errorf("upper with user.overlay marks: %v, %v", p.namespace, err)
	}
}

func TestReadOnlyUpperIsTheTopLayer(t *testing.T) {
	needMount(t)
	root := layout(t)
	p, err := plan(t, root, "ro", "--upper", "R/upper", "R/a", "R/mnt")
	if err != nil || p.upper != "" || p.work != "" || len(p.lowers.Layers) != 2 || p.lowers.Layers[0].Dir != root+"/upper" {
		t.Errorf("plan %+v, %v", p, err)
	}
}

func TestCheckFuse(t *testing.T) {
	dir := t.TempDir()
	if err := checkFuse(dir+"/none", true); exitCode(err) != exitRefused || !strings.Contains(err.Error(), "modprobe fuse") {
		t.Errorf("no device: %v", err)
	}
	if err := checkFuse("/dev/null", true); exitCode(err) != exitRefused || !strings.Contains(err.Error(), "mknod") {
		t.Errorf("another device: %v", err)
	}
}
