package pack

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/stack"
	"github.com/unionfs-go/unionfs/whiteout"
)

// tree makes a directory by a shell script.
func tree(t testing.TB, script string) string {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command("bash", "-ec", script)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("script failed: %v\n%s", err, out)
	}
	return dir
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: trusted attributes, devices")
	}
}

// open makes a stack of directories, top first.
func open(t testing.TB, dirs ...string) *stack.Stack {
	t.Helper()
	var layers []stack.Layer
	for _, d := range dirs {
		l, err := stack.OpenDir(d, stack.DirOptions{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		layers = append(layers, l)
	}
	return stack.New(layers)
}

// packed packs and lists the entries, and checks the rules that hold for every
// layer: sorted, parents first, whiteouts before their siblings, nothing twice.
func packed(t *testing.T, s *stack.Stack, opt Options) (Result, []*tar.Header) {
	t.Helper()
	var buf bytes.Buffer
	res, err := Write(context.Background(), s, &buf, opt)
	if err != nil {
		t.Fatal(err)
	}
	var list []*tar.Header
	seen := map[string]bool{}
	tr := tar.NewReader(&buf)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(h.Name, "/")
		if seen[name] {
			t.Errorf("%s comes twice", name)
		}
		seen[name] = true
		if dir := filepath.Dir(name); dir != "." && !seen[dir] {
			t.Errorf("%s comes before its parent", name)
		}
		if h.Uname != "" || h.Gname != "" {
			t.Errorf("%s has a user name", name)
		}
		list = append(list, h)
	}
	if res.Counts.Entries != len(list) {
		t.Errorf("%d entries counted, %d written", res.Counts.Entries, len(list))
	}
	return res, list
}

func names(list []*tar.Header) string {
	out := make([]string, 0, len(list))
	for _, h := range list {
		out = append(out, h.Name)
	}
	return strings.Join(out, " ")
}

// TestWhatALayerHolds packs an upper over a lower, both made by scripts.
func TestWhatALayerHolds(t *testing.T) {
	needRoot(t)
	const opaque, redirect = "setfattr -n trusted.overlay.opaque -v y ", "setfattr -n trusted.overlay.redirect -v "
	cases := []struct{ name, lower, upper, want string }{
		{"nothing", "mkdir a", "mkdir -m 755 a; touch -r $L/a a", ""},
		{"touched directory alone", "mkdir a", "mkdir -m 755 a; touch -d 2020-01-01 a", "a/"},
		{"unchanged parent of a change", "mkdir -p a/b; touch a/b/f", "mkdir -p a/b; echo x >a/b/g; touch -r $L/a a; touch -r $L/a/b a/b", "a/ a/b/ a/b/g"},
		{"needed whiteout", "mkdir a; touch a/x", "mkdir a; mknod a/x c 0 0; echo >a/b", "a/ a/.wh.x a/b"},
		{"needless whiteout", "mkdir a", "mknod x c 0 0; mkdir a; mknod a/y c 0 0; touch -r $L/a a", ""},
		{"whiteouts are one inode", "touch x y z", "mknod x c 0 0; ln x y; ln x z", ".wh.x .wh.y .wh.z"},
		{"aufs whiteout", "touch x", ": >.wh.x; echo >y", ".wh.x y"},
		{"aufs whiteout beside a file", "touch x", ": >.wh.x; echo >x", "x"},
		{"aufs opaque", "mkdir d; touch d/x d/y", "mkdir d; : >d/.wh..wh..opq; : >d/y", "d/ d/.wh.x d/y"},
		{"opaque over nothing", "", "mkdir d; echo >d/x; " + opaque + "d", "d/ d/x"},
		{"opaque over a file", "touch d", "mkdir d; echo >d/x; " + opaque + "d", "d/ d/x"},
		{"opaque with few names", "mkdir -p d/sub; touch d/x d/y d/sub/z", "mkdir -p d/sub; echo >d/x; " + opaque + "d", "d/ d/.wh.y d/sub/ d/sub/.wh.z d/x"},
		{"opaque with many names", "mkdir d; touch d/{1..65}", "mkdir d; echo >d/x; " + opaque + "d", "d/ d/.wh..wh..opq d/x"},
		{"opaque inside opaque", "mkdir -p d/e; touch d/{1..70} d/e/{1..70}", "mkdir -p d/e; echo >d/e/x; " + opaque + "d; " + opaque + "d/e", "d/ d/.wh..wh..opq d/e/ d/e/x"},
		{"redirect", "mkdir -p a/s; echo 1 >a/s/f", "mkdir b; mknod a c 0 0; " + redirect + "a b", ".wh.a b/ b/s/ b/s/f"},
		{"redirect over another directory", "mkdir a b; echo 1 >a/f; echo 2 >b/f; echo 3 >b/g", "mkdir b; mknod a c 0 0; " + redirect + "a b", ".wh.a b/ b/.wh.g b/f"},
		{"absolute redirect with changes in it", "mkdir -p a/s; echo 1 >a/s/f; echo 2 >a/s/g", "mkdir -p b/s; mknod b/s/f c 0 0; echo >b/s/h; mknod a c 0 0; " + redirect + "/a/s b/s", ".wh.a b/ b/s/ b/s/g b/s/h"},
		{"hard links", "", "echo 1 >b; ln b a; ln b c", "a b c"},
		{"file to directory and back", "mkdir d; touch d/x f", "echo >d; mkdir f; echo >f/x; " + opaque + "f", "d f/ f/x"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			lower := tree(t, c.lower)
			upper := tree(t, "L="+lower+"; umask 022; "+c.upper)
			res, list := packed(t, open(t, upper, lower), Options{})
			if got := names(list); got != c.want {
				t.Errorf("layer %q, want %q", got, c.want)
			}
			if c.want == "" && res.DiffID != EmptyDiffID {
				t.Errorf("an empty layer has the DiffID %s", res.DiffID)
			}
		})
	}
}

func TestUnknownLowersKeepEveryMark(t *testing.T) {
	needRoot(t)
	upper := tree(t, "mknod x c 0 0; mkdir -p d/e; echo >d/e/f; setfattr -n trusted.overlay.opaque -v y d; setfattr -n trusted.overlay.opaque -v y d/e")
	_, list := packed(t, open(t, upper), Options{LowersUnknown: true})
	if got, want := names(list), ".wh.x d/ d/.wh..wh..opq d/e/ d/e/f"; got != want {
		t.Errorf("layer %q, want %q", got, want)
	}
	for _, bad := range []string{
		"mkdir d; setfattr -n trusted.overlay.redirect -v a d",
		"mkdir d; truncate -s 9 d/f; setfattr -n trusted.overlay.metacopy d/f",
	} {
		_, err := Write(context.Background(), open(t, tree(t, bad)), io.Discard, Options{LowersUnknown: true})
		if !errors.Is(err, ErrInput) || !strings.Contains(err.Error(), "/d") || !strings.Contains(err.Error(), "--lower") {
			t.Errorf("%s: error %v", bad, err)
		}
	}
}

func TestNamesNoImageCanHoldAreListedBeforeAnythingIsWritten(t *testing.T) {
	needRoot(t)
	upper := tree(t, "setfattr -n trusted.overlay.uuid -v 0123456789abcdef .; touch .wh.a; mkdir -p d/.wh.b; touch d/.wh.b/x; echo >z")
	var buf bytes.Buffer
	_, err := Write(context.Background(), open(t, upper), &buf, Options{})
	var names *NameError
	if !errors.As(err, &names) || strings.Join(names.Paths, " ") != ".wh.a d/.wh.b" || !errors.Is(err, ErrInput) {
		t.Errorf("error %v", err)
	}
	if buf.Len() > 0 {
		t.Errorf("%d bytes were written", buf.Len())
	}
}

func TestHeadersCarryWhatLayersCan(t *testing.T) {
	needRoot(t)
	upper := tree(t, `
echo x >f; chown 4000000000:5 f; chmod 6711 f; touch -d '1960-01-01 00:00:00.7' f
setfattr -n user.a=b -v 1 f; setfattr -n user.keep -v k f; setfattr -n trusted.overlay.origin f
setfattr -n trusted.overlay.overlay.opaque -v y f; setfattr -n user.fuseoverlayfs.opaque -v y f
mknod dev b 7 3; mkfifo p; ln -s t l
echo r >rootless; setfattr -n user.containers.override_stat -v 7:8:4755 rootless
echo >blk; setfattr -n user.containers.override_stat -v 0:6:0660:block-8-1 blk
python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("sock")'`)
	caps := make([]byte, 24)
	binary.LittleEndian.PutUint32(caps, 0x03000001)
	caps[20] = 1
	res, list := packed(t, open(t, upper), Options{OverrideStat: true})
	got := map[string]string{}
	for _, h := range list {
		line := fmt.Sprintf("%c %o %d:%d %d", h.Typeflag, h.Mode, h.Uid, h.Gid, h.ModTime.Unix())
		if h.Typeflag != tar.TypeReg || h.Name != "f" {
			line = fmt.Sprintf("%c %o %d:%d", h.Typeflag, h.Mode, h.Uid, h.Gid)
		}
		if h.Devmajor != 0 {
			line += fmt.Sprintf(" dev %d:%d", h.Devmajor, h.Devminor)
		}
		for _, k := range []string{"user.a=b", "user.keep", "trusted.overlay.origin", "trusted.overlay.opaque", "trusted.overlay.overlay.opaque", "user.fuseoverlayfs.opaque"} {
			if v, ok := h.PAXRecords["SCHILY.xattr."+k]; ok {
				line += " " + k + "=" + v
			}
		}
		got[h.Name] = line
	}
	for name, want := range map[string]string{
		"f":   "0 6711 4000000000:5 -315619200 user.keep=k trusted.overlay.opaque=y",
		"dev": "4 644 0:0 dev 7:3", "p": "6 644 0:0", "l": "2 777 0:0",
		"rootless": "0 4755 7:8", "blk": "4 660 0:6 dev 8:1", "sock": "",
	} {
		if got[name] != want {
			t.Errorf("%s: %q, want %q", name, got[name], want)
		}
	}
	notices := strings.Join(res.Notices, "\n")
	if !strings.Contains(notices, "sock") || !strings.Contains(notices, "user.a=b") || res.Counts.Skipped != 1 {
		t.Errorf("notices %q, %d skipped", notices, res.Counts.Skipped)
	}
	if v2 := capsV2(caps); len(v2) != 20 || binary.LittleEndian.Uint32(v2) != 0x02000001 {
		t.Errorf("capability became %x", v2)
	}
	if _, list := packed(t, open(t, upper), Options{}); strings.Contains(fmt.Sprint(list), "7:8") {
		t.Error("remembered owners count where anybody could have set them")
	}
}

func TestTimesAreCutClampedOrKept(t *testing.T) {
	upper := tree(t, "echo >a; touch -d '2001-02-03 04:05:06.999999999 UTC' a; echo >b; touch -d '1969-12-31 23:59:58.5 UTC' b")
	clamp := time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		opt  Options
		a, b time.Time
	}{
		{Options{}, time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC), time.Unix(-2, 0)},
		{Options{Nanoseconds: true}, time.Date(2001, 2, 3, 4, 5, 6, 999999999, time.UTC), time.Unix(-2, 5e8)},
		{Options{Timestamp: &clamp}, clamp, time.Unix(-2, 0)},
	} {
		_, list := packed(t, open(t, upper), c.opt)
		if !list[0].ModTime.Equal(c.a) || !list[1].ModTime.Equal(c.b) {
			t.Errorf("%+v: times %v and %v", c.opt, list[0].ModTime, list[1].ModTime)
		}
	}
}

func TestTheSameUpperGivesTheSameBytes(t *testing.T) {
	upper := tree(t, "head -c 1500000 /dev/urandom >r; yes | head -c 5000000 >y; mkdir d; for i in {1..50}; do echo $i >d/$i; done; ln r d/r")
	for _, comp := range []Compression{None, Gzip, Zstd} {
		var first Result
		for i, procs := range []int{1, 4} {
			old := runtime.GOMAXPROCS(procs)
			res, err := Write(context.Background(), open(t, upper), io.Discard, Options{Compression: comp})
			runtime.GOMAXPROCS(old)
			if err != nil {
				t.Fatal(err)
			}
			if i == 0 {
				first = res
			} else if res.Digest != first.Digest || res.DiffID != first.DiffID || res.Size != first.Size {
				t.Errorf("%s: %+v, then %+v", comp, first, res)
			}
		}
	}
}

// restless is a layer whose file "log" changes each time it is opened or read,
// up to a number of times.
type restless struct {
	stack.Layer
	path   string
	left   int
	onRead bool
}

func (r *restless) Root() stack.Dir { return restlessDir{r.Layer.Root(), r} }

func (r *restless) change() {
	if r.left == 0 {
		return
	}
	r.left--
	if f, err := os.OpenFile(r.path, os.O_WRONLY|os.O_APPEND, 0); err == nil {
		_, _ = f.WriteString("x")
		_ = f.Close()
	}
}

type restlessDir struct {
	stack.Dir
	r *restless
}

func (d restlessDir) Lookup(name string) (stack.Object, stack.Presence, error) {
	o, p, err := d.Dir.Lookup(name)
	if name == "log" && o != nil {
		o = restlessObject{o, d.r}
	}
	return o, p, err
}

type restlessObject struct {
	stack.Object
	r *restless
}

func (o restlessObject) Open() (stack.File, error) {
	f, err := o.Object.Open()
	if err == nil && !o.r.onRead {
		o.r.change()
	}
	return restlessFile{f, o.r}, err
}

type restlessFile struct {
	stack.File
	r *restless
}

func (f restlessFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(p, off)
	if f.r.onRead {
		f.r.change()
	}
	return n, err
}

func TestAFileThatChangesIsReadAgainAndNeverTorn(t *testing.T) {
	const small, large, ever = 1000, 3 << 20, 1 << 30
	cases := []struct {
		name    string
		size    int
		changes int
		onRead  bool
		frozen  bool
		fails   bool
	}{
		{"small file changes twice", small, 2, true, false, false},
		{"large file changes twice", large, 2, false, false, false},
		{"small file never settles", small, ever, true, false, true},
		{"large file never settles", large, ever, false, false, true},
		{"frozen file changes while it is read", large, 1, true, true, true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			path := tree(t, fmt.Sprintf("head -c %d /dev/zero >log", c.size))
			l := open(t, path).Layers()[0]
			s := stack.New([]stack.Layer{&restless{Layer: l, path: filepath.Join(path, "log"), left: c.changes, onRead: c.onRead}})
			var buf bytes.Buffer
			_, err := Write(context.Background(), s, &buf, Options{Frozen: c.frozen})
			if c.fails {
				if !errors.Is(err, ErrChanged) || !strings.Contains(err.Error(), "/log") {
					t.Errorf("error %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			h, err := tar.NewReader(&buf).Next()
			if err != nil || h.Size != int64(c.size+c.changes) {
				t.Errorf("packed %v, %v", h, err)
			}
		})
	}
}

func TestAFileWhoseIdentityChangedIsLookedUpAgain(t *testing.T) {
	path := tree(t, "echo one >f")
	s := open(t, path)
	w := newWalker(context.Background(), s, Options{}, tar.NewWriter(io.Discard))
	e, err := s.Walk("f")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(path, "g"), []byte("other"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(path, "g"), filepath.Join(path, "f")); err != nil {
		t.Fatal(err)
	}
	root := &dir{entry: s.Root(), delta: true, written: true}
	if _, err := w.tryFile(root, "f", e); !errors.Is(err, errRetry) {
		t.Errorf("a file swapped since its lookup: %v", err)
	}
	if err := w.file(root, "f", e); err != nil || w.counts.FileBytes != 5 {
		t.Errorf("packed %d bytes, %v", w.counts.FileBytes, err)
	}
}

func TestOverrideStatValues(t *testing.T) {
	for in, want := range map[string]whiteout.Override{
		"0:0:0755":             {Mode: 0o755},
		"1:2:40755:dir":        {UID: 1, GID: 2, Mode: 0o755, Type: unix.S_IFDIR},
		"1:2:0644:file":        {UID: 1, GID: 2, Mode: 0o644, Type: unix.S_IFREG},
		"0:0:0666:char-1-3":    {Mode: 0o666, Type: unix.S_IFCHR, Rdev: unix.Mkdev(1, 3)},
		"0:6:0660:block-259-7": {GID: 6, Mode: 0o660, Type: unix.S_IFBLK, Rdev: unix.Mkdev(259, 7)},
		"0:0:0600:pipe":        {Mode: 0o600, Type: unix.S_IFIFO},
	} {
		got, err := parseOverride(in)
		if err != nil || *got != want {
			t.Errorf("%s: %+v, %v", in, got, err)
		}
	}
	for _, bad := range []string{"", "1:2", "a:0:0", "0:0:0999", "0:0:0644:char-1", "0:0:0644:door", "-1:0:0"} {
		if _, err := parseOverride(bad); !errors.Is(err, ErrInput) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if whiteout.IsMark(whiteout.OverrideContainers) {
		t.Error("override_stat is taken for a mark and never read")
	}
}
