package realtest

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/unionfs-go/unionfs/internal/difftest"
)

// job is what is done in the mounted image: installing packages (which the image
// brings along, so that no network is needed), adding a user, compiling,
// removing and renaming directories of lower layers. It runs in a mount
// namespace of its own, so that no mount stays.
const job = `set -e
root=$1
mount -t proc proc "$root/proc"
inside() {
	chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 \
		DEBIAN_FRONTEND=noninteractive "$@" </dev/null
}
inside apt-get -q -y --no-download --no-install-recommends \
	-o APT::Sandbox::User=root -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= install less tree
inside useradd --create-home --shell /bin/bash --comment 'A user' demo
inside python3 -m compileall -q -j 1 /usr/lib/python3.11/json /usr/lib/python3.11/email
inside sh -c 'echo "daemon off;" >>/etc/nginx/nginx.conf'
inside sh -c 'find /etc/nginx -type f | xargs chmod o-r'
inside rm -rf /usr/share/doc /usr/share/perl5/Debconf
inside mv /usr/share/nginx /usr/share/web
inside mv /usr/share/web/html /srv/html
inside ln /etc/debian_version /etc/debian_version.same
inside tree --version
inside dpkg --verify || echo "dpkg --verify: exit $?"
umount "$root/proc"
`

// work does the job in a mount and gives what it printed.
func (b *lab) work(mnt string) string {
	b.t.Helper()
	return b.run("unshare", "--mount", "--propagation", "private", "bash", "-c", job, "job", mnt)
}

func TestRealImage(t *testing.T) {
	folder := imageFolder(t)
	b := newLab(t)
	mnt, upper := b.mkdir("mnt"), b.mkdir("upper")

	b.mount(mnt, "--upper", upper, "oci:"+folder+":"+imageName)
	layers := b.layers(mnt)
	if len(layers) != 3 {
		t.Fatalf("the image has %d layers: %v", len(layers), layers)
	}
	before := rawLayers(t, layers)

	kernel := difftest.Dirs{Layers: layers, Upper: b.mkdir("kupper"), Work: b.mkdir("kwork"), Mnt: b.mkdir("kmnt")}
	km, err := difftest.Kernel{Options: "redirect_dir=on,index=on"}.Mount(kernel)
	if err != nil {
		t.Skipf("kernel overlayfs cannot be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if isMounted(kernel.Mnt) {
			_ = km.Kill()
		}
	})
	untouched := dump(t, kernel.Mnt)
	sameLines(t, "the image before any change", "on unionfs", dump(t, mnt), "on the kernel", untouched)

	sameLines(t, "what the programs printed", "on unionfs", printed(b.work(mnt)), "on the kernel", printed(b.work(kernel.Mnt)))
	ours := dump(t, mnt)
	sameLines(t, "the tree after the job", "on unionfs", ours, "on the kernel", dump(t, kernel.Mnt))
	unchanged := both(untouched, ours)

	b.commitAndCompare(mnt, ours)
	b.unionfs("umount", mnt)
	if err := km.Unmount(); err != nil {
		t.Error(err)
	}
	b.compareLayers(upper, kernel.Upper, layers, unchanged)

	sameLines(t, "the layers below", "before", before, "after", rawLayers(t, layers))
	checkBlobs(t, folder)
	checkBlobs(t, b.path("store"))
}

// commitAndCompare makes an image of the mount's change and looks at it in
// three ways: mounted, unpacked by umoci, and listed by skopeo.
func (b *lab) commitAndCompare(mnt string, ours []string) {
	t := b.t
	t.Helper()
	id := strings.TrimSpace(b.unionfs("commit", "-m", "packages added, documentation removed", mnt, "changed:1"))
	if !regexp.MustCompile(`^sha256:[0-9a-f]{64}$`).MatchString(id) {
		t.Errorf("commit printed %q, want the ID of the image", id)
	}
	again := b.mkdir("again")
	b.mount(again, "changed:1")
	sameLines(t, "the committed image", "in the mount that was committed", ours, "in the image mounted again", dump(t, again))
	if layers := b.layers(again); len(layers) != 4 {
		t.Errorf("the new image has %d layers, want 4: %v", len(layers), layers)
	}
	for path, want := range map[string]bool{
		"usr/bin/less": true, "home/demo/.bashrc": true, "usr/share/web": true, "srv/html": true,
		"usr/share/doc": false, "usr/share/nginx": false, "usr/share/perl5/Debconf": false, "usr/share/web/html": false,
	} {
		if _, err := os.Lstat(filepath.Join(again, path)); (err == nil) != want {
			t.Errorf("%s in the new image: %v, want it there: %v", path, err, want)
		}
	}
	b.run("chroot", again, "/usr/bin/less", "--version")
	b.unionfs("umount", again)

	// What a peer makes of the image must be the same tree.
	b.run("umoci", "unpack", "--image", b.path("store")+":changed:1", b.path("bundle"))
	sameLines(t, "the committed image", "in the mount that was committed", ours,
		"unpacked by umoci", dump(t, b.path("bundle/rootfs")))
	if err := os.RemoveAll(b.path("bundle")); err != nil {
		t.Error(err)
	}
	if text := b.run("skopeo", "inspect", "--config", "oci:"+b.path("store")+":changed:1"); !strings.Contains(text, "documentation removed") {
		t.Errorf("skopeo does not show the message of the commit:\n%s", text)
	}
}

// compareLayers packs both uppers: the kernel's must make the same layer as
// ours. Only files that are as they were may be more in the kernel's: it copies
// up what is merely opened for writing.
func (b *lab) compareLayers(upper, kernelUpper string, layers []string, unchanged map[string]bool) {
	t := b.t
	t.Helper()
	pack := func(dir, name string) []string {
		args := []string{"pack"}
		for _, l := range layers {
			args = append(args, "--lower", l)
		}
		b.unionfs(append(args, dir, "-O", b.path(name))...)
		return entries(t, b.path(name))
	}
	ours, kernels := pack(upper, "ours.tar"), pack(kernelUpper, "kernel.tar")
	if len(ours) < 50 {
		t.Errorf("the layer has only %d entries:\n%s", len(ours), strings.Join(ours, "\n"))
	}
	kernels = slices.DeleteFunc(kernels, func(line string) bool {
		return unchanged[strings.TrimSuffix(pathOf(line), "/")] && !slices.Contains(ours, line)
	})
	sameLines(t, "the packed layer", "of our upper", ours, "of the kernel's", kernels)
}

// both gives the paths of the lines that two dumps have in common.
func both(before, after []string) map[string]bool {
	was := map[string]bool{}
	for _, line := range before {
		was[line] = true
	}
	paths := map[string]bool{}
	for _, line := range after {
		if was[line] {
			paths[pathOf(line)] = true
		}
	}
	return paths
}

// rawLayers lists the layers as they are on disk, with every time.
func rawLayers(t *testing.T, layers []string) []string {
	t.Helper()
	var all []string
	for _, dir := range layers {
		lines, err := difftest.Dump(dir, difftest.DumpOptions{Raw: true})
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range lines {
			all = append(all, filepath.Base(filepath.Dir(dir))+" "+l)
		}
	}
	return all
}

// printed gives the lines of an output without those that tell of speed.
func printed(text string) []string {
	var lines []string
	for _, line := range strings.Split(text, "\n") {
		if strings.HasPrefix(line, "Fetched ") {
			continue
		}
		lines = append(lines, line)
	}
	return lines
}
