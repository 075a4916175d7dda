package image

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/unionfs-go/unionfs/internal/pack"
	"github.com/unionfs-go/unionfs/internal/stack"
	"github.com/unionfs-go/unionfs/whiteout"
)

// The lower layers of the round trip, top first, and what is done above them.
const (
	lowerTop = `
mkdir -p etc top
echo overridden >etc/conf
echo only-top >top/f
chmod 2775 top`
	lowerBottom = `
mkdir -p etc usr/share/doc/pkg usr/share/man opq/sub deep/a/b/c bulk links keep type
echo base >etc/conf; echo shadow >etc/shadow; chmod 640 etc/shadow; chown 0:42 etc/shadow
for i in $(seq 1 30); do echo doc $i >usr/share/doc/pkg/$i; done
echo man >usr/share/man/x.1
echo o >opq/o; echo s >opq/sub/s
echo c >deep/a/b/c/c
for i in $(seq 1 200); do : >bulk/$i; done
mkdir links2; echo two names >links2/a; ln links2/a links2/b
echo linked >links/one; ln links/one links/two; ln links/one links/three
dd if=/dev/urandom of=big bs=1000 count=3000 status=none
echo file >type/f2d; mkdir type/d2f type/d2l; echo x >type/d2f/x
ln -s target sym; mkfifo fifo; mknod null c 1 3
echo keep >keep/me; touch -d '2001-01-01' keep keep/me .
echo cap >capped; setcap cap_net_raw+ep capped
echo mc >meta; truncate -s 5M sparse; printf end >>sparse`
	changes = `
echo changed >>etc/conf
rm usr/share/man/x.1
rm -rf usr/share/doc
rm -rf opq; mkdir opq; echo new >opq/n
rm -rf bulk; mkdir bulk; echo 7 >bulk/7
echo more >>links/one
echo mod >>links2/a; rm links2/a
ln big big2; ln etc/shadow etc/shadow-
rm -rf type/d2f; echo now-file >type/d2f
rm type/f2d; mkdir type/f2d; echo in >type/f2d/in
rmdir type/d2l; ln -s ../etc type/d2l
rm sym; mkdir sym
chmod 600 meta; chown 4000000000:3 meta; touch -d '1931-01-01 00:00:00.9' meta
setcap cap_net_raw+ep meta
mkdir -m 1777 newdir; echo y >newdir/y; ln newdir/y newdir/z
setfattr -n user.color -v blue newdir; setfattr -n user.empty newdir/y; setfacl -m u:7:rwx newdir; setfacl -d -m g:8:r newdir
setfattr -n trusted.note -v t newdir/y
mknod newdir/dev b 7 200; mkfifo -m 622 newdir/p; chown -h 5:6 fifo
touch -d '2001-01-01' keep/tmp; rm keep/tmp; touch -d '2001-01-01' keep
n=$(printf 'n%.0s' $(seq 1 250)); mkdir -p long/$n/$n; echo l >long/$n/$n/$n
printf x >"$(printf 'lat\351n')"; printf x >$'new\nline'
python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("sock")'
rm null capped`
	// moves need redirect_dir: directories with lower content are renamed,
	// also inside each other.
	moves = `
mv deep moved
mkdir moved/a/extra; echo e >moved/a/extra/e
mv moved/a/b moved/b2
rm moved/b2/c/c; echo c2 >moved/b2/c/c2
mv top etc/top-was-here
mkdir deep; echo fresh >deep/fresh
chmod 700 etc/top-was-here/f
chmod 4755 sparse`
)

func TestKernelUpperRoundTrips(t *testing.T) {
	needRoot(t)
	needTool(t, "setcap", "setfattr", "setfacl", "python3")
	cases := map[string]struct{ opts, script string }{
		"default options":             {"redirect_dir=off,metacopy=off,index=off", changes},
		"redirect metacopy and index": {"redirect_dir=on,metacopy=on,index=on", changes + moves},
	}
	for name, c := range cases {
		for _, comp := range []pack.Compression{pack.Gzip, pack.Zstd} {
			t.Run(name+" "+string(comp), func(t *testing.T) { roundTrip(t, c.opts, c.script, comp) })
		}
	}
}

// lowersOf makes the two lower directories below dir.
func lowersOf(t *testing.T, dir string) (top, bottom string) {
	t.Helper()
	top, bottom = filepath.Join(dir, "top"), filepath.Join(dir, "bottom")
	for _, d := range []string{top, bottom, filepath.Join(dir, "upper"), filepath.Join(dir, "work")} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	shell(t, top, lowerTop)
	shell(t, bottom, lowerBottom)
	return top, bottom
}

func roundTrip(t *testing.T, opts, script string, comp pack.Compression) {
	dir := t.TempDir()
	top, bottom := lowersOf(t, dir)
	upper, merged := filepath.Join(dir, "upper"), filepath.Join(dir, "merged")
	layers := "lowerdir=" + top + ":" + bottom
	unmount := overlay(t, merged, layers+",upperdir="+upper+",workdir="+filepath.Join(dir, "work")+","+opts)
	shell(t, merged, script)
	want := snapshot(t, merged)
	unmount()

	store, err := OpenStore(filepath.Join(dir, "store"))
	if err != nil {
		t.Fatal(err)
	}
	img := commitDirs(t, store, comp, upper, top, bottom)
	mountAndCompare(t, store, img, filepath.Join(dir, "again"), want)

	second := commitDirs(t, store, comp, upper, top, bottom)
	if a, b := img.Manifest.Layers, second.Manifest.Layers; a[2].Digest != b[2].Digest || a[0].Digest != b[0].Digest {
		t.Errorf("packed twice: %v, then %v", a, b)
	}
}

// mountAndCompare unpacks an image and mounts its layers with the kernel. A
// wanted tree without its root is compared without it.
func mountAndCompare(t *testing.T, store *Store, img *Image, mnt string, want []string) {
	t.Helper()
	unpacked, err := store.Unpack(context.Background(), img, whiteout.Trusted, nil)
	if err != nil {
		t.Fatal(err)
	}
	var dirs []string
	for _, u := range unpacked {
		dirs = append(dirs, u.Dir)
	}
	unmount := overlay(t, mnt, "lowerdir="+strings.Join(dirs, ":"))
	got := snapshot(t, mnt)
	unmount()
	if len(want) > 0 && !strings.HasPrefix(want[0], `"" `) {
		got = withoutNoise(got)
	}
	sameTrees(t, "unpacked here", got, want)
}

// commitDirs commits directories, top first, as an image test:1 with fixed
// times.
func commitDirs(t *testing.T, store *Store, comp pack.Compression, dirs ...string) *Image {
	t.Helper()
	var layers []stack.Layer
	for _, d := range dirs {
		l, err := stack.OpenDir(d, stack.DirOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close() //nolint:errcheck // only read
		layers = append(layers, l)
	}
	req := CommitRequest{Created: time.Unix(1e9, 0), Name: &Reference{Name: "test", Tag: "1"}, Message: "a test", Author: "me"}
	for i := len(dirs) - 1; i >= 0; i-- {
		req.Parts = append(req.Parts, Part{Stack: stack.New(layers[i:]), Pack: pack.Options{Compression: comp}, CreatedBy: "test"})
	}
	req.Parts[len(dirs)-1].Pack.Index = filepath.Join(filepath.Dir(dirs[0]), "work", "index")
	done, err := store.Commit(context.Background(), req)
	if err != nil {
		t.Fatal(err)
	}
	img, err := store.Find("test:1")
	if err != nil {
		t.Fatal(err)
	}
	if img.ID() != done.ID {
		t.Fatalf("the image is %s, commit said %s", img.ID(), done.ID)
	}
	return img
}
