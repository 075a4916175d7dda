package main_test

import (
	"strings"
	"testing"
)

// remembered makes a layer as rootless tools unpack images: what they could not
// keep is in user.containers.override_stat.
const remembered = `
	mkdir -p a/etc/private a/tmp u m w
	echo sh >a/su; setfattr -n user.containers.override_stat -v 0:0:4755 a/su
	echo secret >a/shadow; chmod 600 a/shadow; setfattr -n user.containers.override_stat -v 0:42:0640 a/shadow
	: >a/null; setfattr -n user.containers.override_stat -v 0:0:0666:char-1-3 a/null
	: >a/fifo; setfattr -n user.containers.override_stat -v 0:0:0600:pipe a/fifo
	echo key >a/etc/private/key; setfattr -n user.containers.override_stat -v 0:0:0700 a/etc/private
	: >a/old; setfattr -n user.fuseoverlayfs.override_stat -v 3:4:0644 a/old
	: >a/odd; setfattr -n user.containers.override_stat -v what a/odd
	ln -s shadow a/link; echo ro >a/ro; chmod 444 a/ro
	chown -Rh 65534:65534 a u m w; `

// see compares lines of output with what was wanted.
func see(t *testing.T, got, want string) {
	t.Helper()
	want = strings.TrimSpace(strings.ReplaceAll(want, "\t", ""))
	if got = strings.TrimSpace(got); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// script runs a script in a mount namespace of its own and returns what it says.
func (f *fixture) script(text string) string {
	f.t.Helper()
	r := f.shell("set -eu; " + text)
	if r.code != 0 {
		f.t.Fatalf("exit code %d\n%s%s", r.code, r.out, r.errOut)
	}
	return r.out
}

func TestPlainUserSeesTheImagesOwners(t *testing.T) {
	f := newFixture(t)
	out := f.script(withFuse + remembered + asUser + `sh -euc '
		$BIN/unionfs mount --upper u --work w a m; cd m
		stat -c "%n %A %u:%g %t,%T" su shadow null fifo old odd link etc/private
		cat shadow etc/private/key
		getfattr -d -m - shadow | grep -c override || true
		cd ..; $BIN/unionfs umount m'`)
	see(t, out, `su -rwsr-xr-x 0:0 0,0
		shadow -rw-r----- 0:42 0,0
		null crw-rw-rw- 0:0 1,3
		fifo prw------- 0:0 0,0
		old -rw-r--r-- 3:4 0,0
		odd -rw-r--r-- 65534:65534 0,0
		link lrwxrwxrwx 0:0 0,0
		etc/private drwx------ 0:0 0,0
		secret
		key
		0`)
}

func TestPlainUserChangesOwnersAndModes(t *testing.T) {
	f := newFixture(t)
	out := f.script(withFuse + remembered + asUser + `sh -euc '
		see() { stat -c "%n %A %u:%g" "$@"; }
		$BIN/unionfs mount --upper u --work w a m; cd m
		echo more >>shadow; see shadow; cat shadow
		echo x >>su; see su
		chown 5:6 ro; chmod 4711 ro; see ro
		echo 1 >new; chown 0:0 new; chmod 400 new; echo 2 >>new; cat new; see new
		chown 65534:65534 new; see new
		chown 0:50 etc/private; chmod g+s etc/private; mkdir etc/private/sub; : >etc/private/file; see etc/private/*
		mv etc/private etc/moved; rm -rf etc/moved null; : >null; see null; ls etc
		chmod 600 fifo; see fifo
		chown -h 0:0 link; chown -h 7:7 link 2>/dev/null && echo forgotten
		setfattr -n user.containers.override_stat -v 1:1:0777 shadow 2>/dev/null && echo fooled
		cd ..; $BIN/unionfs umount m; $BIN/unionfs mount --upper u --work w a m; cd m
		see shadow su ro new fifo
		cd ..; $BIN/unionfs umount m
		getfattr -n user.containers.override_stat --only-values u/ro; echo
		getfattr -n user.containers.override_stat --only-values u/new 2>/dev/null || echo real
		stat -c "%n %a %u" u/ro u/new
		$BIN/unionfs pack --lower a u -O l.tar >/dev/null'
		tar --numeric-owner -tvf l.tar | awk '{print $1, $2, $NF}' | grep -E " (shadow|su|ro|new|fifo)$"`)
	see(t, out, `shadow -rw-r----- 0:42
		secret
		more
		su -rwxr-xr-x 0:0
		ro -rws--x--x 5:6
		1
		2
		new -r-------- 0:0
		new -r-------- 65534:65534
		etc/private/file -rw-r--r-- 65534:50
		etc/private/key -rw-r--r-- 65534:65534
		etc/private/sub drwxr-sr-x 65534:50
		null -rw-r--r-- 65534:65534
		fifo prw------- 0:0
		shadow -rw-r----- 0:42
		su -rwxr-xr-x 0:0
		ro -rws--x--x 5:6
		new -r-------- 65534:65534
		fifo prw------- 0:0
		5:6:4711
		real
		u/ro 711 65534
		u/new 400 65534
		prw------- 0/0 fifo
		lrwxrwxrwx 0/0 shadow
		-r-------- 65534/65534 new
		-rws--x--x 5/6 ro
		-rw-r----- 0/42 shadow
		-rwxr-xr-x 0/0 su`)
}

// Files of others below, as in /usr, are no obstacle either.
func TestPlainUserOnLayersOfRoot(t *testing.T) {
	f := newFixture(t)
	out := f.script(withFuse + `mkdir -p a/d u m w; chown 65534 u m w
		echo r >a/d/f; chmod 4755 a/d/f; ln -s f a/d/l; mkfifo a/d/p; mknod a/d/nul c 1 3; setcap cap_net_raw=ep a/d/f
		` + asUser + `sh -euc '
		$BIN/unionfs mount --upper u --work w a m; cd m
		echo w >>d/f; chown 1:1 d; chmod 600 d/nul d/p; mv d e; ln e/f e/g; touch -h -d @1 e/l
		stat -c "%n %A %u:%g %h %t,%T" e/*; cat e/g
		cd ..; $BIN/unionfs umount m; $BIN/unionfs mount --upper u --work w a m; cd m
		stat -c "%n %A %u:%g %h %t,%T" e/*; rm -rf e; ls
		python3 -c "
import os
f=os.open(\"q\",os.O_CREAT|os.O_WRONLY|os.O_EXCL,0o444); os.write(f,b\"data\n\"); os.close(f)"; cat q
		cd ..; $BIN/unionfs umount m'`)
	tree := `e/f -rwxr-xr-x 0:0 2 0,0
		e/g -rwxr-xr-x 0:0 2 0,0
		e/l lrwxrwxrwx 0:0 1 0,0
		e/nul crw------- 0:0 1 1,3
		e/p prw------- 0:0 1 0,0
		`
	see(t, out, tree+"r\nw\n"+tree+"data")
}

func TestOwnerOption(t *testing.T) {
	f := newFixture(t)
	out := f.script(withFuse + remembered + asUser + `sh -euc '
		for o in image me 7:8; do
			$BIN/unionfs mount --owner $o --upper u --work w a m
			: >m/new-$o; chown 9:9 m/new-$o; stat -c "%n %a %u:%g" m/shadow m/new-$o
			$BIN/unionfs umount m
		done
		getfattr -n user.containers.override_stat --only-values u/new-7:8'`)
	see(t, out, `m/shadow 640 0:42
		m/new-image 644 9:9
		m/shadow 640 65534:65534
		m/new-me 644 65534:65534
		m/shadow 640 7:8
		m/new-7:8 644 7:8
		7:8:0644`)
}

func TestMappedOwners(t *testing.T) {
	f := newFixture(t)
	out := f.script(`mkdir -p a u m w; : >a/zero; : >a/five; chown 5:5 a/five; : >a/far; chown 70000:70000 a/far
		$BIN/unionfs mount -o uidmapping=0:100000:1000,gidmapping=0:200000:1000 --upper u --work w a m
		see() { stat -c "%n %u:%g" "$@"; }
		see m/*
		chown 100007:200007 m/zero; see m/zero u/zero
		chown 5 m/zero 2>&1 | grep -c "too large"; touch m/root 2>/dev/null || echo refused
		chmod 777 m; setpriv --reuid 100033 --regid 200033 --clear-groups sh -c ": >m/made; mkdir m/dir"; see m/made m/dir u/made u/dir
		$BIN/unionfs umount m`)
	see(t, out, `m/far 65534:65534
		m/five 100005:200005
		m/zero 100000:200000
		m/zero 100007:200007
		u/zero 7:7
		1
		refused
		m/made 100033:200033
		m/dir 100033:200033
		u/made 33:33
		u/dir 33:33`)
}

func TestSquashedOwners(t *testing.T) {
	f := newFixture(t)
	out := f.script(`mkdir -p a u m w; : >a/five; chown 5:6 a/five
		see() { stat -c "%n %u:%g" "$@"; }
		for o in squash_to_root squash_to_uid=9 squash_to_root,squash_to_gid=7; do
			$BIN/unionfs mount -o $o --upper u --work w a m
			: >m/new; chown 3:3 m/new; see m/five m/new u/new; rm m/new
			$BIN/unionfs umount m
		done`)
	see(t, out, `m/five 0:0
		m/new 0:0
		u/new 0:0
		m/five 9:6
		m/new 9:3
		u/new 9:3
		m/five 0:7
		m/new 0:7
		u/new 0:7`)
}

// Root with xattr_permissions remembers everything, for filesystems that keep
// nothing.
func TestXattrPermissions(t *testing.T) {
	for mode, attr := range map[string]string{"1": "security.fuseoverlayfs.override_stat", "2": "user.containers.override_stat"} {
		f := newFixture(t)
		out := f.script(`mkdir -p a u m w; echo f >a/f; chmod 640 a/f; chown 5:6 a/f; mknod a/dev b 8 1
			see() { stat -c "%n %A %u:%g %t,%T" "$@"; }
			o="-o xattr_permissions=` + mode + `"
			$BIN/unionfs mount $o --upper u --work w a m; cd m
			: >new; chown 7:8 new; chmod 4711 new; mknod null c 1 3; mkdir -m 2775 d; chown 0:9 d; chmod 2775 d; : >d/in; chmod 600 f dev; chown 33:33 null
			setcap cap_net_raw=ep new; getcap new
			see new null d d/in f dev
			cd ..; $BIN/unionfs umount m; $BIN/unionfs mount $o --upper u --work w a m; cd m
			see new null d d/in f dev; ls
			cd ..; $BIN/unionfs umount m
			stat -c "%n %F %a %u:%g" u/new u/null u/f u/d
			getfattr -n ` + attr + ` --only-values u/null u/f`)
		tree := `new -rws--x--x 7:8 0,0
			null crw-r--r-- 33:33 1,3
			d drwxrwsr-x 0:9 0,0
			d/in -rw-r--r-- 0:9 0,0
			f -rw------- 5:6 0,0
			dev brw------- 0:0 8,1
			`
		see(t, out, "new cap_net_raw=ep\n"+tree+tree+`d
			dev
			f
			new
			null
			u/new regular empty file 711 0:0
			u/null regular empty file 644 0:0
			u/f regular file 600 0:0
			u/d directory 775 0:0
			33:33:0644:char-1-3`+"5:6:0600")
	}
}

// In a user namespace the mount is direct, and does what the kernel refuses
// there: redirected directories, metadata-only copies, the hardlink index.
func TestUserNamespace(t *testing.T) {
	f := newFixture(t)
	body := func(id string) string {
		return withFuse + `mkdir -p a/d u m w; echo f >a/d/f; ln a/d/f a/d/g; chmod 700 a/d; chown -R 65534:65534 a u m w
		` + asUser + id + ` sh -euc '
		$BIN/unionfs mount -o metacopy=on --upper u --work w a m; cd m
		stat -c "%n %u:%g %h" d/f
		mv d e; chmod 600 e/f; [ "$(stat -c %i e/f)" = "$(stat -c %i e/g)" ]; cat e/g; stat -c "%n %a %h" e/g
		rm e/f; : >new; stat -c "%n %u:%g" new; grep -c "$PWD .*user_id=0," /proc/self/mountinfo
		cd ..; $BIN/unionfs umount m
		getfattr --only-values -n user.overlay.redirect u/e; echo; ls -l u | grep -c "^c"'
		stat -c "%u:%g" u/new`
	}
	want := `d/f 0:0 2
		f
		e/g 600 2
		new 0:0
		1
		d
		1
		65534:65534`
	see(t, f.script(body("unshare --user --map-root-user --mount")), want)
}

// An image committed by a plain user has the owners that it had and no root
// directory of his.
func TestPlainUserCommitsTheImagesOwners(t *testing.T) {
	f := newFixture(t)
	out := f.script(withFuse + `mkdir -p s/etc s/dev m; echo s >s/etc/shadow; chmod 640 s/etc/shadow; chown 0:42 s/etc/shadow; mknod s/dev/null c 1 3
		echo su >s/su; chmod 4755 s/su; tar -C s -cf base.tar .; chmod 644 base.tar; chown 65534 m
		` + asUser + `UNIONFS_STORE=$PWD/home/store sh -euc '
		$BIN/unionfs image import base.tar app:1 >/dev/null
		$BIN/unionfs mount --ephemeral app:1 m
		echo more >>m/etc/shadow; chown 33:33 m/su; ln -s x m/l; stat -c "%n %A %u:%g" m m/etc/shadow m/dev/null m/su
		id=$($BIN/unionfs commit m app:2); $BIN/unionfs umount m
		$BIN/unionfs mount --read-only app:2 m; cd m; stat -c "%n %A %u:%g" . etc/shadow dev/null su l; cat etc/shadow
		cd ..; $BIN/unionfs umount m'`)
	see(t, out, `m drwxr-xr-x 0:0
		m/etc/shadow -rw-r----- 0:42
		m/dev/null crw-r--r-- 0:0
		m/su -rwxr-xr-x 33:33
		. drwxr-xr-x 0:0
		etc/shadow -rw-r----- 0:42
		dev/null crw-r--r-- 0:0
		su -rwxr-xr-x 33:33
		l lrwxrwxrwx 0:0
		s
		more`)
}
