package main_test

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// The refusals that need a living daemon or another mount namespace; all others
// are in mountplan_test.go.

func TestMountRefusesAnUpperOrWorkdirInUse(t *testing.T) {
	f := newFixture(t, "a/one=1", "u/", "w/", "u2/", "m/", "n/")
	f.mount("--upper", "u", "--work", "w", "a", "m")
	f.fails(f.run("unionfs", "mount", "--upper", "u", "a", "n"), 3, "in use by another mount")
	f.fails(f.run("unionfs", "mount", "--upper", "u2", "--work", "w", "a", "n"), 3, "in use by another mount")
	f.ok("umount", "m")
	f.mount("--upper", "u", "a", "n")
	f.ok("umount", "n")
}

func TestMountRefusesAVolatileMarkThatWasLeft(t *testing.T) {
	f := newFixture(t, "a/one=1", "u/", "w/", "m/")
	f.mount("-o", "volatile", "--upper", "u", "--work", "w", "a", "m")
	pid := f.ps("m").PID
	kill(t, pid, unix.SIGKILL)
	ended(t, pid)
	f.ok("umount", "m")
	f.fails(f.run("unionfs", "mount", "--upper", "u", "--work", "w", "a", "m"), 3, "work/incompat/volatile")
	if len(f.mounts()) > 0 {
		t.Error("mounted all the same")
	}
	// A volatile mount that ends well leaves none.
	f.mount("-o", "volatile", "--upper", "u", "a", "m")
	f.ok("umount", "m")
	f.mount("--upper", "u", "a", "m")
	f.ok("umount", "m")
}

func TestMountRefusesWithoutFuse(t *testing.T) {
	f := newFixture(t, "a/one=1", "m/")
	f.fails(f.shell(`mount --bind /dev/null /dev/fuse; $BIN/unionfs mount a m`), 3, "/dev/fuse is not the FUSE device")
	f.fails(f.shell(`mount -t tmpfs tmpfs /dev; mknod -m 666 /dev/null c 1 3; $BIN/unionfs mount a m`), 3, "start the container with --device /dev/fuse")
}

// asUser is the prefix of a command run as a user without rights, in a script of
// fixture.shell that has made /dev/fuse accessible.
const asUser = `setpriv --reuid 65534 --regid 65534 --clear-groups env HOME=$PWD/home `

// withFuse makes /dev/fuse accessible to all in the namespace of a script.
const withFuse = `mknod -m 666 fusedev c 10 229; mount --bind fusedev /dev/fuse; mkdir -p home; chown 65534 home .; `

func TestMountRefusesAUserWithoutFusermount(t *testing.T) {
	f := newFixture(t, "a/one=1", "m/")
	f.fails(f.shell(`mknod -m 600 fusedev c 10 229; mount --bind fusedev /dev/fuse; `+asUser+`$BIN/unionfs mount a m`),
		3, "chmod 666 /dev/fuse")
	f.fails(f.shell(`rm -f fusedev; `+withFuse+`
		for p in fusermount3 fusermount; do for d in /usr/bin /bin; do
			if [ -e $d/$p ] && [ ! -c $d/$p ]; then mount --bind /dev/null $d/$p; fi
		done; done
		`+asUser+`$BIN/unionfs mount a m`), 3, "install the package fuse3")
}

func TestPlainUserMounts(t *testing.T) {
	f := newFixture(t, "a/one=1", "a/two=2", "u/", "m/", "locked/x=1")
	r := f.shell(withFuse + `chown -R 65534 a u m; chmod 700 locked
		` + asUser + `sh -euc '
			$BIN/unionfs mount --upper u a m
			echo 3 >m/three; rm m/two; ls m; $BIN/unionfs ps | grep -c "$PWD/m "
			$BIN/unionfs umount m
			ls -l u | grep -c "^c"; getfattr --absolute-names -d -m user.overlay u | grep -c uuid
			grep -c "$PWD/m " /proc/self/mountinfo || true'
		` + asUser + `sh -euc '
			TMPDIR=$PWD/home $BIN/unionfs mount --ephemeral a m
			mkdir m/d; echo 4 >m/d/f; chmod 0 m/d; $BIN/unionfs umount m; ls home'
		` + asUser + `$BIN/unionfs mount locked m || echo code $?`)
	want := "one\nthree\n1\n1\n1\n0\ncode 3\n"
	if r.out != want || !strings.Contains(r.errOut, "layer locked cannot be read") {
		t.Errorf("got %q\nwant %q\n%s", r.out, want, r.errOut)
	}
	// The user's socket directory, when there is no better one.
	_ = unix.Rmdir("/tmp/unionfs-65534")
}

func TestRootOfAUserNamespaceMounts(t *testing.T) {
	f := newFixture(t, "a/one=1", "a/two=2", "u/", "m/")
	r := f.shell(`unshare --user --map-root-user --mount sh -euc '
		$BIN/unionfs mount --log log --upper u a m
		echo 3 >m/three; rm m/two; ls m; $BIN/unionfs ps | grep -c "$PWD/m "
		$BIN/unionfs umount m'
		getfattr --absolute-names -d -m user.overlay u | grep -c uuid`)
	if r.code != 0 || r.out != "one\nthree\n1\n1\n" {
		t.Errorf("exit code %d, %q\n%s", r.code, r.out, r.errOut)
	}
}
