package main_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestPodmansCallOfFuseOverlayfs(t *testing.T) {
	f := newFixture(t, "l/A/one=1", "l/B/two=2", "diff/", "work/", "merged/")
	r := f.run("fuse-overlayfs", "-o",
		`lowerdir=l/A:l/B,upperdir=diff,workdir=work,context="system_u:object_r:container_file_t:s0:c1,c2",volatile`, "merged")
	if r.code != 0 || !strings.Contains(r.errOut, `option "context=system_u:object_r:container_file_t:s0:c1,c2" is known but not supported`) {
		t.Fatalf("exit code %d, %q", r.code, r.errOut)
	}
	if f.read("merged/one") != "1" || f.read("merged/two") != "2" {
		t.Error("not merged")
	}
	// Podman looks at the type of the filesystem, and unmounts by itself.
	var st unix.Statfs_t
	if err := unix.Statfs(f.path("merged"), &st); err != nil || st.Type != 0x65735546 {
		t.Errorf("type %#x, %v", st.Type, err)
	}
	pid := f.ps("merged").PID
	if out, err := exec.Command("fusermount3", "-u", f.path("merged")).CombinedOutput(); err != nil {
		t.Errorf("fusermount3: %v %s", err, out)
	}
	ended(t, pid)
	f.fails(f.run("fuse-overlayfs", "-o", "lowerdir=none", "merged"), 1, "layer none does not exist")
	if r := f.run("fuse-overlayfs", "--version"); r.code != 0 || !strings.Contains(r.out, "unionfs") {
		t.Errorf("version: %+v", r)
	}
}

func TestContainerdsLeadingSource(t *testing.T) {
	f := newFixture(t, "a/one=1", "b/two=2", "m/")
	if r := f.run("fuse-overlayfs", "overlay", f.path("m"), "-o", "lowerdir="+f.path("a")+":"+f.path("b"), "-t", "fuse-overlayfs"); r.code != 0 {
		t.Fatalf("%+v", r)
	}
	if e := f.ps("m"); e.Source != "overlay" {
		t.Errorf("source %q", e.Source)
	}
	f.ok("umount", "m")
}

// mount(8) finds its helpers in /sbin only, so each script has an /sbin of its
// own: the real one below, the helpers above.
const withHelpers = `mkdir sbin.u sbin.w
	ln -s $BIN/mount.unionfs $BIN/mount.fuse.unionfs sbin.u/
	mount -t overlay overlay -o lowerdir=/usr/sbin,upperdir=sbin.u,workdir=sbin.w /usr/sbin
	if [ ! -L /sbin ]; then mount --bind /usr/sbin /sbin; fi
	`

func TestMountCommandAndFstab(t *testing.T) {
	f := newFixture(t, "a/one=1", "u/", "m/", "n/", "o/")
	if _, err := os.Stat("/usr/sbin"); err != nil {
		t.Skip("needs /usr/sbin")
	}
	fstab := "$D/a $D/m unionfs upperdir=$D/u,noauto,nofail,x-systemd.requires=x,nosuid 0 0\n" +
		"overlay $D/n fuse.unionfs lowerdir=$D/a,noauto 0 0\n"
	f.write("fstab", strings.ReplaceAll(fstab, "$D", f.dir))
	r := f.shell(withHelpers + `
		mount -T fstab $PWD/m; cat m/one; echo 2 >m/two
		findmnt -n -o SOURCE,FSTYPE $PWD/m; findmnt -n -o OPTIONS $PWD/m | grep -c nosuid
		mount -T fstab $PWD/n; cat n/one; findmnt -n -o SOURCE,FSTYPE $PWD/n
		mount -t unionfs $PWD/a $PWD/o; cat o/one
		mount -t unionfs $PWD/none $PWD/o || echo code $?
		$BIN/unionfs umount m n o`)
	want := "1" + f.path("a") + " fuse.unionfs\n1\n1overlay fuse.unionfs\n1code 32\n"
	if r.out != want || r.code != 0 || !strings.Contains(r.errOut, "none does not exist") {
		t.Errorf("exit code %d\n got %q\nwant %q\n%s", r.code, r.out, want, r.errOut)
	}
	if f.read("u/two") != "2\n" {
		t.Error("what was written is not in the upper")
	}
}
