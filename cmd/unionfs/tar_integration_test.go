package main_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// sh runs a shell script in the fixture's directory.
func (f *fixture) sh(script string) string {
	f.t.Helper()
	cmd := exec.Command("bash", "-e", "-c", script)
	cmd.Dir = f.dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		f.t.Fatalf("%s: %v: %s", script, err, out)
	}
	return string(out)
}

func TestLayerFilesMixWithDirectories(t *testing.T) {
	f := newFixture(t, "top/a/one=1", "base/a/two=2", "base/a/hidden=x", "base/gone=x", "base/link=l", "dir/three=3", "u/", "m/", "cache/", "store/")
	t.Setenv("XDG_CACHE_HOME", f.path("cache"))
	t.Setenv("UNIONFS_STORE", f.path("store/s"))
	f.write("top/.wh.gone", "")
	f.write("top/a/.wh.hidden", "")
	f.sh(`chmod 711 base/a; ln base/link base/a/name; tar --zstd -cf top.tar.zst -C top a/one a/.wh.hidden .wh.gone; tar -czf base.tar.gz -C base .`)
	f.mount("--upper", "u", "top.tar.zst", "base.tar.gz", "dir", "m")
	if got := f.read("m/a/one") + f.read("m/a/two") + f.read("m/three"); got != "123" {
		t.Errorf("the files have %q", got)
	}
	if got := f.sh("ls m m/a; stat -c %a m/a"); got != "m:\na\nlink\nthree\n\nm/a:\nname\none\ntwo\n711\n" {
		t.Errorf("the mount shows %q", got)
	}
	ino := f.sh("stat -c %i m/a/two m/a m/link")
	f.sh(`echo more >>m/a/two; mv m/a m/b; echo both >>m/link; grep both m/b/name; test m/link -ef m/b/name`)
	if e := f.ps("m"); e.Layers[0].Blob != f.path("top.tar.zst") || e.Layers[2].Dir != f.path("dir") {
		t.Errorf("ps: %+v", e.Layers)
	}
	f.ok("commit", "m", "app:1")
	f.ok("umount", "m")

	f.ok("-o", "lowerdir=top.tar.zst:base.tar.gz:dir,upperdir=u", "--log", f.path("log"), "m")
	if got := f.sh("stat -c %i m/b/two m/b m/b/name"); f.read("m/b/two") != "2more\n" || got != ino {
		t.Errorf("after a remount: %q, inodes %s, before %s", f.read("m/b/two"), got, ino)
	}
	if got := f.sh("stat -c %h m/b/name; cat m/b/name"); got != "2\nlboth\n" {
		t.Errorf("the hard link is %q", got)
	}
	f.ok("umount", "m")

	// The layer files are in the image as they were.
	for _, name := range []string{"top.tar.zst", "base.tar.gz"} {
		f.sh(`cmp ` + name + ` store/s/blobs/sha256/$(sha256sum <` + name + ` | cut -d' ' -f1)`)
	}
	f.mount("app:1", "m")
	if got := f.sh("find m | sort; stat -c %a m/b; cat m/b/two"); got != "m\nm/b\nm/b/name\nm/b/one\nm/b/two\nm/link\nm/three\n711\n2more\n" {
		t.Errorf("the image shows %q", got)
	}
	if e := f.ps("m"); e.Layers[0].Blob == "" {
		t.Errorf("the image was unpacked: %+v", e.Layers)
	}
	f.fails(f.run("unionfs", "image", "rm", "app:1"), 3, "in use")
	indexes := func() string { return f.sh("find cache -name '*.idx' | wc -l") }
	if before := indexes(); before == "0\n" {
		t.Error("nothing is in the cache")
	}
	f.ok("image", "prune", "--cache", "--keep", "1G")
	if got := indexes(); got == "0\n" {
		t.Error("--keep kept nothing")
	}
	f.ok("image", "prune", "--cache")
	if after := indexes(); after != "0\n" || f.read("m/b/two") != "2more\n" {
		t.Errorf("after prune --cache there are %s indexes", after)
	}
	f.ok("umount", "m")
}

func TestFilesThatAreNoLayersAreRefused(t *testing.T) {
	f := newFixture(t, "text=no tar", "m/")
	t.Setenv("XDG_CACHE_HOME", f.path("cache"))
	f.fails(f.run("unionfs", "mount", "--log", "log", "text", "m"), 3, "not a usable layer")
	if len(f.mounts()) > 0 {
		t.Error("something is mounted")
	}
}

// TestUmociImageUnpackedOrNotIsTheSame compares the ways to read an image whose
// upper layer leaves out the parents of what it holds, as umoci writes it.
func TestUmociImageUnpackedOrNotIsTheSame(t *testing.T) {
	for _, tool := range []string{"umoci", "tar", "find"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("needs %s", tool)
		}
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root, for owners")
	}
	f := newFixture(t, "m/", "u/", "cache/")
	t.Setenv("XDG_CACHE_HOME", f.path("cache"))
	t.Setenv("UNIONFS_STORE", f.path("store"))
	f.sh(`umoci init --layout l; umoci new --image l:i; umoci unpack --image l:i b; cd b/rootfs
		mkdir -p a/b c; chmod 2750 a/b; chown 3:4 a a/b; ln -s a/b link; echo 1 >a/b/old; chmod 1777 c; setfattr -n user.x -v y a
		cd ../..; umoci repack --image l:i b; rm -rf b; umoci unpack --image l:i b
		echo 2 >b/rootfs/a/b/new; rm b/rootfs/a/b/old; umoci repack --image l:i b; rm -rf b; umoci unpack --image l:i b`)
	const tree = ` find . -mindepth 1 -printf '%y %m %U:%G %p %l\n' | sort; getfattr -d -R -m - . ; cat a/b/new`
	want := f.sh("cd b/rootfs;" + tree)
	for _, how := range []string{"--no-unpack", "--unpack", ""} {
		args := append(strings.Fields(how), "oci:l:i", "m")
		f.mount(args...)
		if got := f.sh("cd m;" + tree); got != want {
			t.Errorf("%q shows\n%s\numoci unpacks\n%s", how, got, want)
		}
		if e := f.ps("m"); (e.Layers[0].Dir == "") != (how == "--no-unpack") {
			t.Errorf("%q: %+v", how, e.Layers)
		}
		f.ok("umount", "m")
	}
}
