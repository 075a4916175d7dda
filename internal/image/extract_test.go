package image

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/sys"
	"github.com/unionfs-go/unionfs/whiteout"
)

// extractTo unpacks a tar into a new directory, beside which a canary lies.
func extractTo(t testing.TB, data []byte) (root string, out Extracted, err error) {
	t.Helper()
	root = filepath.Join(t.TempDir(), "a", "root")
	if err := os.MkdirAll(root, 0o755); err != nil {
		t.Fatal(err)
	}
	fd, err := sys.Openat(unix.AT_FDCWD, root, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer sys.Close(fd) //nolint:errcheck // a directory
	out, err = Extract(context.Background(), bytes.NewReader(data), fd, nil, testNS(), Limits{Entries: 1000, Bytes: 1 << 20})
	ents, rerr := os.ReadDir(filepath.Dir(root))
	if rerr != nil || len(ents) != 1 {
		t.Errorf("SOMETHING WAS WRITTEN OUTSIDE: %v %v", ents, rerr)
	}
	return root, out, err
}

// testNS is where the tests can write marks.
func testNS() whiteout.Namespace {
	if os.Geteuid() == 0 {
		return whiteout.Trusted
	}
	return whiteout.User
}

// describeTree is a tree in one line.
func describeTree(t *testing.T, root string) string {
	t.Helper()
	var words []string
	first := map[uint64]string{}
	err := filepath.Walk(root, func(p string, _ os.FileInfo, err error) error {
		if err != nil || p == root {
			return err
		}
		words = append(words, describeOne(t, p, strings.TrimPrefix(p, root+"/"), first))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(words, " ")
}

func describeOne(t *testing.T, p, rel string, first map[uint64]string) string {
	t.Helper()
	var st unix.Statx_t
	if err := sys.Statx(unix.AT_FDCWD, p, &st); err != nil {
		t.Fatal(err)
	}
	word := rel
	switch uint32(st.Mode) & unix.S_IFMT {
	case unix.S_IFDIR:
		m, err := whiteout.ReadMarks(unix.AT_FDCWD, p, true, testNS())
		if err != nil {
			t.Fatal(err)
		}
		word += "/"
		if m.Opacity == whiteout.OpaqueDir {
			word += "opaque"
		}
		return word
	case unix.S_IFREG:
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		word += "=" + string(b)
	case unix.S_IFLNK:
		target, err := os.Readlink(p)
		if err != nil {
			t.Fatal(err)
		}
		word += "->" + target
	case unix.S_IFIFO:
		word += "|"
	default:
		if isWhiteout(&st) {
			return word + "!"
		}
		word += fmt.Sprintf(":%d:%d", st.Rdev_major, st.Rdev_minor)
	}
	if at, ok := first[st.Ino]; ok {
		word += "@" + at
	} else {
		first[st.Ino] = rel
	}
	return word
}

func TestHardCasesUnpack(t *testing.T) {
	for _, c := range hardCases {
		t.Run(c.name, func(t *testing.T) {
			if strings.HasPrefix(c.tar, "chr null") {
				needRoot(t)
			}
			root, out, err := extractTo(t, buildTar(t, c.tar))
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("error %v, want one with %q", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got := describeTree(t, root)
			if out.Opaque {
				got += " ROOT-OPAQUE"
			}
			if got != c.want {
				t.Errorf("tree %q, want %q", got, c.want)
			}
		})
	}
}

func TestOwnersModesTimesAndAttributesAreRestored(t *testing.T) {
	needRoot(t)
	caps := make([]byte, 20)
	binary.LittleEndian.PutUint32(caps, 0x02000001)
	binary.LittleEndian.PutUint32(caps[4:], 1<<13)
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for _, h := range []*tar.Header{
		{Typeflag: tar.TypeDir, Name: "./", Mode: 0o711, Uid: 9, ModTime: time.Unix(7, 0)},
		{Typeflag: tar.TypeDir, Name: "d", Mode: 0o555, Uid: 1, Gid: 2, ModTime: time.Unix(-5, 0)},
		{Typeflag: tar.TypeReg, Name: "d/suid", Mode: 0o6755, Uid: 4000000000, ModTime: time.Unix(3, 500), Format: tar.FormatPAX, PAXRecords: map[string]string{
			"SCHILY.xattr.security.capability": string(caps), "SCHILY.xattr.user.e": "", "SCHILY.xattr.user.n": "a\x00b",
			"SCHILY.xattr.trusted.overlay.redirect": "/evil", "SCHILY.xattr.user.overlay.opaque": "y",
		}},
		{Typeflag: tar.TypeSymlink, Name: "l", Linkname: "x", Mode: 0o777, Uid: 3, ModTime: time.Unix(4, 0)},
	} {
		if err := tw.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	root, _, err := extractTo(t, buf.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	got := snapshot(t, root)
	want := []string{
		`"" mode=40711 owner=9:0`,
		`"d" mode=40555 owner=1:2 mtime=-5`,
		fmt.Sprintf(`"d/suid" mode=106755 owner=4000000000:0 size=0 sum=e3b0c44298fc1c14 mtime=3 security.capability=%x user.e= user.n=610062`, caps),
		`"l" mode=120777 owner=3:0 target="x" mtime=4`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	m, err := whiteout.ReadMarks(unix.AT_FDCWD, filepath.Join(root, "d/suid"), false, whiteout.Trusted)
	if err != nil || m.Redirect != "" || m.Opacity != whiteout.Transparent {
		t.Errorf("a layer's own attributes became marks: %+v, %v", m, err)
	}
}

func TestLimitsEndHostileLayers(t *testing.T) {
	var many strings.Builder
	for i := range 1001 {
		fmt.Fprintf(&many, "file f%d\n", i)
	}
	if _, _, err := extractTo(t, buildTar(t, many.String())); err == nil || !strings.Contains(err.Error(), "entries") {
		t.Errorf("too many entries: %v", err)
	}
	big := "file a " + strings.Repeat("x", 1<<20) + "\nfile b y"
	if _, _, err := extractTo(t, buildTar(t, big)); err == nil || !strings.Contains(err.Error(), "bytes") {
		t.Errorf("too many bytes: %v", err)
	}
	deep := "file " + strings.Repeat("d/", 3000) + "f 1"
	if _, _, err := extractTo(t, buildTar(t, deep)); err == nil {
		t.Error("a path beyond PATH_MAX was unpacked")
	}
	cut := buildTar(t, "file a 123456789")
	if _, _, err := extractTo(t, cut[:512+4]); err == nil {
		t.Error("a tar that ends in a file was unpacked")
	}
}

// FuzzExtract feeds arbitrary bytes as a layer: nothing may panic or touch what
// is outside of the directory.
func FuzzExtract(f *testing.F) {
	for _, c := range hardCases {
		f.Add(buildTar(f, c.tar))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		_, _, _ = extractTo(t, data)
	})
}
