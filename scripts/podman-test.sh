#!/usr/bin/env bash
# Runs Debian's podman and buildah over unionfs as mount_program, does the same
# over the kernel's overlayfs, and compares what comes out, file by file.
#
#   scripts/podman-test.sh [BINARY]     default: built now
#
# It needs root, podman, buildah, crun, skopeo and the image of real-image.sh. It
# takes about three minutes and 4 GB in TMPDIR, and is not a part of CI. The
# storage of the machine is left alone: everything lies below one directory.
#
#   UNIONFS_PODMAN_KEEP=1   keeps the directory
source "$(dirname "$0")/env.sh"

[ "$(id -u)" = 0 ] || die "needs root"
for tool in podman buildah crun skopeo jq fuse-overlayfs getfattr; do
	command -v "$tool" >/dev/null || die "$tool is missing: apt-get install podman buildah crun skopeo jq fuse-overlayfs attr"
done

# In a mount namespace of its own nothing can be left mounted, and crun finds the
# one kind of control groups that it accepts.
if [ "${1:-}" != --inside ]; then
	binary=${1:-}
	work=$(mktemp -d "${TMPDIR:-/tmp}/unionfs-podman.XXXXXX")
	work=$(realpath "$work")
	chmod 755 "$work"
	[ -n "${UNIONFS_PODMAN_KEEP:-}" ] || trap 'rm -rf --one-file-system "$work"' EXIT
	if [ -n "$binary" ]; then
		cp "$binary" "$work/unionfs"
	else
		scripts/build.sh "$work/unionfs"
	fi
	ln -s unionfs "$work/fuse-overlayfs"
	unshare --mount --propagation private "$0" --inside "$work"
	left=$(pgrep -f "^$work/fuse-overlayfs" || true)
	[ -z "$left" ] || die "daemons are left: $left"
	exit
fi

work=$2
mount -t cgroup2 none /sys/fs/cgroup
image=oci:${UNIONFS_REAL_IMAGE:-/var/tmp/unionfs-real}:debian:real
run=(--ulimit nofile=1024:2000 --ulimit nproc=1000:1000 --network=none --cgroups=disabled --runtime crun)

# store NAME PROGRAM makes a storage of its own; PROGRAM "" is native overlay.
store() {
	storage=$work/$1
	mkdir -p "$storage/tmp"
	export TMPDIR=$storage/tmp CONTAINERS_STORAGE_CONF=$storage/storage.conf
	cat >"$CONTAINERS_STORAGE_CONF" <<-END
		[storage]
		driver = "overlay"
		graphroot = "$storage/root"
		runroot = "$storage/run"
		[storage.options.overlay]
	END
	[ -z "$2" ] || echo "mount_program = \"$2\"" >>"$CONTAINERS_STORAGE_CONF"
}

# A build with what is hard for a union: packages, owners, deletions, renames of
# lower directories, links, modes alone.
mkdir -p "$work/context/data/sub"
echo one >"$work/context/data/one"
echo two >"$work/context/data/sub/two"
chmod 640 "$work/context/data/sub/two"
cat >"$work/context/Containerfile" <<'END'
FROM base
RUN dpkg -i /var/cache/apt/archives/less_*.deb /var/cache/apt/archives/tree_*.deb && tree --version && less --version >/dev/null
COPY --chown=33:42 data /srv/data
RUN rm -rf /usr/share/zoneinfo && mkdir /usr/share/zoneinfo && echo new >/usr/share/zoneinfo/only
RUN mv /usr/share/perl5 /usr/share/perl5.moved && mv /etc/nginx /srv/nginx && rm /srv/nginx/mime.types
RUN ln /usr/bin/less /usr/local/bin/more && chmod 700 /usr/bin/tree && chown -R 1:1 /srv/nginx && rm -rf /var/cache/apt/archives
RUN useradd -m somebody && mkfifo /srv/fifo && ln -s /etc/passwd /srv/link && truncate -s 1M /srv/sparse
END

# dump DIR lists a tree: type, mode, owner, size, target, attributes and content.
# Left out is what a second run of the same would change as well, and what podman
# itself loses with any mount_program, since it then commits by comparing trees: a
# new link to an old file becomes a copy, and a file that changed neither its size
# nor its time counts as unchanged (etc/group-, and likewise passwd-).
dump() (
	cd "$1" || exit
	local skip=(-path ./var/log -o -path ./var/cache/ldconfig -o -path ./var/lib/dpkg/status-old -o -path ./etc/hostname
		-o -path ./etc/hosts -o -path ./etc/resolv.conf -o -path ./etc/shadow -o -path './etc/*-')
	find . \( "${skip[@]}" \) -prune -o \( -type d -printf '%p d %m %U:%G\n' \) \
		-o \( -type l -printf '%p l %U:%G %l\n' \) -o \( -type f -printf '%p f %m %U:%G %s\n' \) -o -printf '%p %y %m %U:%G\n' | sort
	find . \( "${skip[@]}" \) -prune -o -type f -print0 | sort -z | xargs -0 sha256sum
	getfattr -R -P -d -m '^(user|security)' --absolute-names . 2>/dev/null | grep -v '^security.selinux' || true
)

# job does everything with the current storage and writes what came out.
job() {
	local out=$work/$1.out c m
	mkdir -p "$out"
	if ! podman image exists base; then
		podman pull -q "$image" >/dev/null
		podman tag "$(podman images -q | head -n 1)" base
	fi
	buildah bud --isolation chroot --layers -q -t built "$work/context" >"$out/build.log" 2>&1 ||
		{ cat "$out/build.log"; die "$1: the build failed"; }
	podman run "${run[@]}" --name c built sh -c '
		set -e
		[ "$(cat /srv/data/sub/two)" = two ]; [ "$(stat -c %u:%g:%a /srv/data/sub/two)" = 33:42:640 ]
		[ -e /usr/share/perl5.moved ]; [ ! -e /usr/share/perl5 ]; [ "$(ls /usr/share/zoneinfo)" = only ]
		echo changed >>/etc/issue; rm /srv/data/one; mv /usr/share/perl5.moved /usr/share/perl5; rm -rf /usr/share/bash-completion
		mkdir /srv/made; echo x >/srv/made/x; chown 7:8 /srv/made/x; chmod 4755 /srv/made/x; python3 -c "print(1)"
		cp -a /usr/share/common-licenses /srv/licenses; sync' >"$out/run.log" 2>&1 || { cat "$out/run.log"; die "$1: the run failed"; }
	podman diff c | sort >"$out/diff"
	podman commit -q c committed >/dev/null
	podman rm c >/dev/null
	podman run "${run[@]}" --rm committed sh -c 'cat /etc/issue; stat -c %u:%g:%a /srv/made/x' >"$out/again"
	podman run "${run[@]}" --rm --read-only committed sh -c 'touch /x 2>&1; ls /' >"$out/readonly" 2>&1
	for c in built committed; do
		m=$(podman image mount "$c")
		dump "$m" >"$out/$c"
		podman image unmount "$c" >/dev/null
	done
	podman inspect committed --format '{{len .RootFS.Layers}}' >"$out/layers"
	grep -q "$work" /proc/self/mountinfo && podman umount -a >/dev/null
	return 0
}

# compare A B
compare() {
	local f
	for f in diff again readonly built committed layers; do
		diff -u "$work/$1.out/$f" "$work/$2.out/$f" >"$work/$2.$f.patch" ||
			{ head -n 40 "$work/$2.$f.patch"; die "$2: $f differs from $1"; }
	done
	echo "$2: as $1 ($(wc -l <"$work/$2.out/committed") lines of files, $(wc -l <"$work/$2.out/diff") of podman diff)"
}

began=$SECONDS
say "native overlay"
store native ""
job native

say "unionfs as mount_program"
store ours "$work/fuse-overlayfs"
podman info --format '{{json .Store.GraphOptions}}' | grep -q 'unionfs' || die "podman info does not show the version of the program"
job ours
compare native ours

say "a storage that fuse-overlayfs wrote is taken over, and given back"
store over /usr/bin/fuse-overlayfs
podman pull -q "$image" >/dev/null
podman tag "$(podman images -q | head -n 1)" base
podman run "${run[@]}" --name old base sh -c 'rm -rf /usr/share/zoneinfo; mkdir /usr/share/zoneinfo; echo o >/usr/share/zoneinfo/o; rm /etc/issue; echo kept >/srv/kept' >/dev/null
podman diff old | sort >"$work/old.before"
sed -i "s#/usr/bin/fuse-overlayfs#$work/fuse-overlayfs#" "$CONTAINERS_STORAGE_CONF"
# (Debian's fuse-overlayfs 1.10 leaves out one of the deletions.)
podman diff old | sort >"$work/old.after"
[ -z "$(comm -23 "$work/old.before" "$work/old.after")" ] || die "podman diff of a container of fuse-overlayfs has changed"
podman commit -q old old-committed >/dev/null
[ "$(podman run "${run[@]}" --rm old-committed sh -c 'ls /usr/share/zoneinfo; cat /srv/kept; ls /etc/issue 2>&1 | wc -l')" = $'o\nkept\n1' ] ||
	die "the container of fuse-overlayfs is not as it was"
podman rm old >/dev/null
job over
compare native over
sed -i "s#$work/fuse-overlayfs#/usr/bin/fuse-overlayfs#" "$CONTAINERS_STORAGE_CONF"
podman run "${run[@]}" --rm committed sh -c 'cat /etc/issue; stat -c %u:%g:%a /srv/made/x' | diff "$work/native.out/again" - ||
	die "fuse-overlayfs does not read what unionfs wrote"
say "passed in $((SECONDS - began)) s"
