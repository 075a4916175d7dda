package stack

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/sys"
	"github.com/unionfs-go/unionfs/whiteout"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// buildLayers makes the layers that text describes, top first, and returns
// their directories. A line "==" begins a layer; every other line is
// "TYPE PATH [=CONTENT] [->TARGET] [ATTR=VALUE]...":
//
//	dir, file, fifo, link   an object ("dir ." sets attributes of the root)
//	dev                     a whiteout device
//	xwh                     a whiteout by attribute
//
// An attribute that begins with "t." or "u." means trusted.overlay. or
// user.overlay. Directories on the way are made.
func buildLayers(t testing.TB, text string) []string {
	t.Helper()
	base := t.TempDir()
	var dirs []string
	for _, line := range strings.Split(text, "\n") {
		w := strings.Fields(line)
		switch {
		case len(w) == 0:
			continue
		case w[0] == "==":
			dirs = append(dirs, filepath.Join(base, fmt.Sprintf("layer%03d", len(dirs))))
			must(t, os.Mkdir(dirs[len(dirs)-1], 0o755))
			continue
		}
		buildObject(t, filepath.Join(dirs[len(dirs)-1], w[1]), w[0], w[2:])
	}
	return dirs
}

func buildObject(t testing.TB, path, typ string, args []string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	content, target := "", ""
	var attrs []string
	for _, a := range args {
		switch {
		case strings.HasPrefix(a, "="):
			content = a[1:]
		case strings.HasPrefix(a, "->"):
			target = a[2:]
		default:
			attrs = append(attrs, a)
		}
	}
	switch typ {
	case "dir":
		must(t, os.MkdirAll(path, 0o755))
	case "file":
		must(t, os.WriteFile(path, []byte(content), 0o644))
	case "fifo":
		must(t, unix.Mkfifo(path, 0o644))
	case "link":
		must(t, os.Symlink(target, path))
	case "dev":
		if err := unix.Mknod(path, unix.S_IFCHR, 0); err != nil {
			t.Skipf("cannot make whiteout devices: %v", err)
		}
	case "xwh":
		must(t, os.WriteFile(path, nil, 0o644))
		attrs = append(attrs, "t.whiteout=")
	default:
		t.Fatalf("fixture: unknown type %q", typ)
	}
	for _, a := range attrs {
		name, value, _ := strings.Cut(a, "=")
		name = strings.Replace(strings.Replace("^"+name, "^t.", "trusted.overlay.", 1), "^u.", "user.overlay.", 1)
		if err := unix.Lsetxattr(path, strings.TrimPrefix(name, "^"), []byte(value), 0); err != nil {
			if strings.HasPrefix(name, "trusted.") {
				t.Skipf("cannot set trusted attributes: %v", err)
			}
			t.Fatalf("set %s of %s: %v", name, path, err)
		}
	}
}

// openStack opens directories as layers of a stack that is closed by the test.
func openStack(t testing.TB, dirs []string, opt DirOptions) *Stack {
	t.Helper()
	var layers []Layer
	for _, d := range dirs {
		l, err := OpenDir(d, opt)
		must(t, err)
		t.Cleanup(func() { must(t, l.Close()) })
		layers = append(layers, l)
	}
	return New(layers)
}

// dumpStack describes what the union shows, one line for each object below dir,
// sorted: "d/", "f=content", "l->target", "p|" for anything else, and
// "name!errno" for a name that is listed and cannot be had.
func dumpStack(t testing.TB, s *Stack) string {
	t.Helper()
	var lines []string
	var walk func(e Entry, prefix string)
	walk = func(e Entry, prefix string) {
		ents, err := ReadDir(e.Reals)
		must(t, err)
		for _, d := range ents {
			path := prefix + d.Name
			c, err := s.Lookup(e, d.Name)
			if err != nil {
				lines = append(lines, fmt.Sprintf("%s!%s", path, unix.ErrnoName(err.(unix.Errno))))
				continue
			}
			a := c.Top().Object.Attr()
			if d.Type != a.Type() {
				t.Errorf("%s is listed as %#o and is %#o", path, d.Type, a.Type())
			}
			if d.Ino != a.Ino || d.Layer != c.Top().Layer {
				t.Errorf("%s is listed as inode %d of layer %d and is %d of layer %d", path, d.Ino, d.Layer, a.Ino, c.Top().Layer)
			}
			if w, err := s.Walk("/" + path); err != nil || len(w.Reals) != len(c.Reals) || w.Top().Layer != c.Top().Layer {
				t.Errorf("Walk(%s): %v, %v", path, w, err)
			}
			if c.IsDir() {
				lines = append(lines, path+"/")
				walk(c, path+"/")
				continue
			}
			lines = append(lines, path+describe(t, c))
		}
	}
	walk(s.Root(), "")
	sort.Strings(lines)
	return strings.Join(lines, "\n")
}

func describe(t testing.TB, e Entry) string {
	t.Helper()
	o := e.Data().Object
	a := o.Attr()
	switch a.Type() {
	case unix.S_IFREG:
		f, err := o.Open()
		must(t, err)
		defer f.Close()
		b, err := io.ReadAll(io.NewSectionReader(f, 0, a.Size))
		must(t, err)
		return "=" + string(b)
	case unix.S_IFLNK:
		target, err := o.Readlink()
		must(t, err)
		return "->" + target
	}
	return "|"
}

// mountKernel mounts the directories, top first, with the kernel's overlayfs,
// nowhere: the returned path is a descriptor. A stack of one gets an empty layer.
func mountKernel(t testing.TB, dirs []string) string {
	t.Helper()
	if len(dirs) == 1 {
		dirs = []string{dirs[0], t.TempDir()}
	}
	return mountOverlay(t, func(set func(key, value string)) {
		for _, d := range dirs {
			set("lowerdir+", d)
		}
		set("metacopy", "on")
		set("redirect_dir", "on")
	})
}

func mountOverlay(t testing.TB, config func(set func(key, value string))) string {
	t.Helper()
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		t.Skipf("cannot use the kernel's overlayfs: %v", err)
	}
	defer unix.Close(fs)
	config(func(key, value string) {
		t.Helper()
		if err := unix.FsconfigSetString(fs, key, value); err != nil {
			t.Fatalf("overlayfs option %s=%s: %v", key, value, err)
		}
	})
	if err := unix.FsconfigCreate(fs); err != nil {
		buf := make([]byte, 4096)
		n, _ := unix.Read(fs, buf)
		t.Fatalf("mount overlayfs: %v: %s", err, buf[:max(n, 0)])
	}
	mnt, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	must(t, err)
	t.Cleanup(func() { must(t, unix.Close(mnt)) })
	return fmt.Sprintf("/proc/self/fd/%d/", mnt)
}

// dumpDir is dumpStack for a mounted tree.
func dumpDir(t testing.TB, root string) string {
	t.Helper()
	var lines []string
	var walk func(prefix string)
	walk = func(prefix string) {
		d, err := os.Open(root + prefix)
		must(t, err)
		names, err := d.Readdirnames(-1)
		_ = d.Close()
		must(t, err)
		for _, name := range names {
			path := prefix + name
			var st unix.Stat_t
			if err := unix.Lstat(root+path, &st); err != nil {
				lines = append(lines, fmt.Sprintf("%s!%s", path, unix.ErrnoName(err.(unix.Errno))))
				continue
			}
			switch st.Mode & unix.S_IFMT {
			case unix.S_IFDIR:
				lines = append(lines, path+"/")
				walk(path + "/")
			case unix.S_IFREG:
				b, err := os.ReadFile(root + path)
				must(t, err)
				lines = append(lines, path+"="+string(b))
			case unix.S_IFLNK:
				target, err := os.Readlink(root + path)
				must(t, err)
				lines = append(lines, path+"->"+target)
			default:
				lines = append(lines, path+"|")
			}
		}
	}
	walk("")
	sort.Strings(lines)
	return strings.Join(lines, "\n")
}

// tidy sorts the lines of a listing and drops what indents them.
func tidy(text string) string {
	lines := strings.Fields(text)
	sort.Strings(lines)
	return strings.Join(lines, "\n")
}

// layerCase is layers and what their union shows.
type layerCase struct {
	what   string
	layers string
	want   string
	// notKernel says why the kernel shows something else; "" is compared.
	notKernel string
}

func runLayerCases(t *testing.T, cases []layerCase) {
	for _, c := range cases {
		t.Run(c.what, func(t *testing.T) {
			dirs := buildLayers(t, c.layers)
			for _, opt := range []DirOptions{{}, {NoClone: true, FDs: sys.NewFDCache(1)}} {
				if got := dumpStack(t, openStack(t, dirs, opt)); got != tidy(c.want) {
					t.Errorf("the union shows\n%s\nwant\n%s", got, tidy(c.want))
				}
			}
			if c.notKernel != "" {
				return
			}
			if got := dumpDir(t, mountKernel(t, dirs)); got != tidy(c.want) {
				t.Errorf("the kernel shows\n%s\nwant\n%s", got, tidy(c.want))
			}
		})
	}
}

// userOptions reads a layer as a rootless mount does.
var userOptions = DirOptions{Namespace: whiteout.User, NoClone: true}
