package cow

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/internal/sys"
	"github.com/unionfs-go/unionfs/whiteout"
)

func wantWhiteout(t *testing.T, dirfd int, name string) unix.Statx_t {
	t.Helper()
	var st unix.Statx_t
	must(t, sys.Statx(dirfd, name, &st))
	if whiteout.IsDevice(uint32(st.Mode), unix.Mkdev(st.Rdev_major, st.Rdev_minor)) {
		return st
	}
	m, err := whiteout.ReadMarks(dirfd, name, false, namespace())
	must(t, err)
	d, err := whiteout.ReadMarks(dirfd, "", true, namespace())
	must(t, err)
	if !m.XWhiteout || st.Size != 0 || d.Opacity != whiteout.HoldsXWhiteouts {
		t.Errorf("%s is no whiteout: mode %o, %+v in %+v", name, st.Mode, m, d)
	}
	return st
}

func TestWhiteouts(t *testing.T) {
	onFilesystems(t, func(t *testing.T, dir string) {
		for _, style := range []whiteout.Style{whiteout.Device, whiteout.Xattr} {
			for _, shared := range []bool{true, false} {
				t.Run(fmt.Sprintf("%v shared %v", style, shared), func(t *testing.T) {
					checkWhiteouts(t, newPlace(t, dir), style, shared)
				})
			}
		}
	})
}

func checkWhiteouts(t *testing.T, p *place, style whiteout.Style, shared bool) {
	w := p.open(t, WorkdirOptions{Namespace: namespace()})
	w.shared[style].off = !shared
	file := filepath.Join(p.upperDir, "file")
	must(t, os.WriteFile(file, []byte("x"), 0o600))
	must(t, os.MkdirAll(filepath.Join(p.upperDir, "dir", "a", "b"), 0o700))
	must(t, os.WriteFile(filepath.Join(p.upperDir, "dir", "f"), nil, 0o600))
	must(t, os.Chmod(filepath.Join(p.upperDir, "dir"), 0o555))

	must(t, w.Whiteout(p.upper, "free", style))
	if err := w.Whiteout(p.upper, "file", style); !errors.Is(err, ErrExist) {
		t.Errorf("whiteout at a taken name: %v", err)
	}
	if b, err := os.ReadFile(file); string(b) != "x" {
		t.Errorf("taken name: %q, %v", b, err)
	}
	must(t, w.WhiteoutOver(p.upper, "file", style))
	must(t, w.WhiteoutOver(p.upper, "file", style)) // a link of itself
	if err := w.WhiteoutOver(p.upper, "dir", style); !errors.Is(err, unix.EISDIR) {
		t.Errorf("whiteout over a directory: %v", err)
	}
	temp, err := w.SwapWhiteout(p.upper, "dir", style)
	must(t, err)
	var st unix.Statx_t
	must(t, sys.Statx(w.FD(), temp, &st))
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		t.Errorf("temp has mode %o", st.Mode)
	}
	must(t, w.RemoveTemp(temp))
	if _, err := w.SwapWhiteout(p.upper, "nothing", style); !errors.Is(err, unix.ENOENT) {
		t.Errorf("swap with nothing: %v", err)
	}
	inodes := map[uint64]bool{}
	for _, name := range []string{"free", "file", "dir"} {
		inodes[wantWhiteout(t, p.upper, name).Ino] = true
	}
	if shared != (len(inodes) == 1) {
		t.Errorf("%d inodes for 3 whiteouts", len(inodes))
	}
	must(t, w.Close())
	p.wantClean(t)
}

func TestWhiteoutWithTooManyLinks(t *testing.T) {
	if testing.Short() {
		t.Skip("makes 65000 links")
	}
	p := newPlace(t, os.TempDir())
	var fs unix.Statfs_t
	must(t, unix.Fstatfs(p.upper, &fs))
	if fs.Type != unix.EXT4_SUPER_MAGIC {
		t.Skip("knows the limit of ext4 only")
	}
	const limit = 65000 // EXT4_LINK_MAX
	w := p.open(t, WorkdirOptions{Namespace: namespace()})
	must(t, w.Whiteout(p.upper, "first", whiteout.Device))
	shared := w.shared[whiteout.Device].name
	for i := range limit - 2 {
		must(t, sys.Linkat(w.FD(), shared, w.FD(), fmt.Sprint("l", i)))
	}
	must(t, w.Whiteout(p.upper, "second", whiteout.Device))
	must(t, w.Whiteout(p.upper, "third", whiteout.Device))
	a, b, c := wantWhiteout(t, p.upper, "first"), wantWhiteout(t, p.upper, "second"), wantWhiteout(t, p.upper, "third")
	if a.Ino == b.Ino || b.Ino != c.Ino {
		t.Errorf("inodes %d %d %d", a.Ino, b.Ino, c.Ino)
	}
}
