#!/usr/bin/env bash
# Makes a Debian bookworm image of three layers with mmdebstrap and umoci, none
# of which is ours, so that it can serve as the reference in tests:
#
#   1  a minimal system (mmdebstrap minbase)
#   2  python3 and nginx-light by apt; the packages "less" and "tree" downloaded
#      for an apt-get install without network
#   3  the documentation removed (usr/share/doc, usr/share/man, usr/share/info)
#
#   scripts/real-image.sh [FOLDER]     default $UNIONFS_STORE, else /var/tmp/unionfs-real
#
# FOLDER becomes, or is, an OCI image layout; the image is its reference
# "debian:real". It is made once, in about a minute, and reused when it is there.
source "$(dirname "$0")/env.sh"

folder=${1:-${UNIONFS_STORE:-/var/tmp/unionfs-real}}
name=debian:real
suite=bookworm

exists() {
	[ -f "$folder/index.json" ] && jq -e --arg name "$name" \
		'any(.manifests[]; .annotations["org.opencontainers.image.ref.name"] == $name)' \
		"$folder/index.json" >/dev/null
}

scripts/deps.sh image
if exists; then
	echo "real-image: $name is in $folder" >&2
	exit 0
fi
[ "$(id -u)" = 0 ] || die "making the image needs root: device nodes and foreign owners"

mkdir -p "$folder"
# One maker at a time; the second finds the image made.
exec 9>"$folder/.real-image.lock"
flock 9
if exists; then
	exit 0
fi

work=$(mktemp -d "${REAL_IMAGE_TMPDIR:-/var/tmp}/unionfs-real-image.XXXXXX")
root=$work/bundle/rootfs
cleanup() {
	umount "$root/proc" 2>/dev/null || true
	rm -rf --one-file-system "$work"
}
trap cleanup EXIT

# step prints what is done, with the seconds so far.
step() { printf 'real-image: %3d s: %s\n' "$SECONDS" "$*" >&2; }

# inside runs a command in the root filesystem.
inside() {
	chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 \
		DEBIAN_FRONTEND=noninteractive "$@" </dev/null >>"$work/log" 2>&1 ||
		{ tail -n 40 "$work/log" >&2; die "failed in the new system: $*"; }
}

# repack makes a layer of what changed in the bundle.
repack() {
	umoci repack --refresh-bundle --image "$work/oci:real" --history.created_by "$1" "$work/bundle" >>"$work/log" 2>&1 ||
		{ tail -n 40 "$work/log" >&2; die "umoci repack failed"; }
}

step "layer 1: minimal system with mmdebstrap"
mmdebstrap --quiet --variant=minbase --mode=root "$suite" "$work/base.tar" </dev/null >"$work/log" 2>&1 ||
	{ tail -n 40 "$work/log" >&2; die "mmdebstrap failed"; }
umoci init --layout "$work/oci"
umoci new --image "$work/oci:real"
umoci config --image "$work/oci:real" --config.cmd /bin/bash --config.env PATH=/usr/sbin:/usr/bin:/sbin:/bin \
	--history.created_by "unionfs scripts/real-image.sh"
umoci raw add-layer --image "$work/oci:real" --history.created_by "mmdebstrap minbase $suite" "$work/base.tar"
rm "$work/base.tar"
umoci unpack --image "$work/oci:real" "$work/bundle" >>"$work/log" 2>&1

step "layer 2: python3 and nginx-light"
# Daemons must not start, and names must resolve, while packages are installed.
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod 755 "$root/usr/sbin/policy-rc.d"
mv "$root/etc/resolv.conf" "$work/resolv.conf" 2>/dev/null || true
cp -L /etc/resolv.conf "$root/etc/resolv.conf"
mount -t proc proc "$root/proc"
proxy=$(apt-config shell P Acquire::http::Proxy | sed -n "s/^P='\(.*\)'$/\1/p")
options=(-q -y -o APT::Sandbox::User=root -o Acquire::Languages=none ${proxy:+-o "Acquire::http::Proxy=$proxy"})
inside apt-get "${options[@]}" update
inside apt-get "${options[@]}" install --no-install-recommends python3 nginx-light
inside apt-get clean
inside apt-get "${options[@]}" install --no-install-recommends --download-only less tree
umount "$root/proc"
rm "$root/etc/resolv.conf" "$root/usr/sbin/policy-rc.d"
[ ! -e "$work/resolv.conf" ] || mv "$work/resolv.conf" "$root/etc/resolv.conf"
repack "apt-get install python3 nginx-light"

step "layer 3: without documentation"
rm -rf "$root/usr/share/doc" "$root/usr/share/man" "$root/usr/share/info"
repack "rm -rf /usr/share/doc /usr/share/man /usr/share/info"

step "store it as $name in $folder"
skopeo copy --quiet "oci:$work/oci:real" "oci:$folder:$name"
rm -f "$folder/.real-image.lock"
exists || die "$name is not in $folder/index.json after the copy"
step "done"
