#!/usr/bin/env bash
# Installs the Debian packages that a part of the project needs and that are
# missing; without root it only says which.
#
#   scripts/deps.sh build|demo|test|image|bench ...
#
# "demo" is what the demo needs beside a built binary, "image" what
# real-image.sh needs.
source "$(dirname "$0")/env.sh"

# need PACKAGE COMMAND: the package is wanted when the command is missing.
missing=()
go_wanted=
need() {
	command -v "$2" >/dev/null 2>&1 || missing+=("$1")
}

# need_package PACKAGE: for packages that bring no command of their own.
need_package() {
	[ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ] || missing+=("$1")
}

need_build() {
	go_wanted=yes
	need git git
	need_package ca-certificates
}

need_demo() {
	need fuse3 fusermount3
	need tree tree
	need jq jq
}

need_image() {
	need mmdebstrap mmdebstrap
	need umoci umoci
	need skopeo skopeo
	need jq jq
	need util-linux flock
	need_package debian-archive-keyring
}

need_test() {
	need_build
	need_demo
	need_image
	need gcc gcc # the race detector needs cgo
	need_package libc6-dev
	need make make
	need fuse-overlayfs fuse-overlayfs # the peer that the differential test must catch
	need attr setfattr
	need acl setfacl
	need libcap2-bin setcap
	need xfsprogs mkfs.xfs
	need btrfs-progs mkfs.btrfs
	need e2fsprogs mkfs.ext4
	need procps pgrep
	need util-linux losetup
	need psmisc fuser
	need tmux tmux
	need zstd zstd
	need python3 python3
	need podman podman
	need sqlite3 sqlite3
	need strace strace
	need shellcheck shellcheck
}

need_bench() {
	need_build
	need_demo
	need fuse-overlayfs fuse-overlayfs
	need fio fio
}

[ $# -gt 0 ] || set -- build
for set in "$@"; do
	case $set in
	build | demo | test | image | bench) "need_$set" ;;
	*) die "unknown set $set; the sets are build, demo, test, image, bench" ;;
	esac
done

if [ ${#missing[@]} -gt 0 ]; then
	mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)
	if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
		die "missing: install them with: sudo apt-get install ${missing[*]}"
	fi
	echo "+ apt-get install ${missing[*]}" >&2
	export DEBIAN_FRONTEND=noninteractive
	# The output of apt is only of interest when it fails.
	log=$(mktemp)
	trap 'rm -f "$log"' EXIT
	{ apt-get update -q && apt-get install -q -y --no-install-recommends "${missing[@]}"; } \
		</dev/null >"$log" 2>&1 || { cat "$log" >&2; die "apt-get failed, see above"; }
fi

# Go itself: the version of go.mod, or one that fetches it (1.21 and later do).
if [ -n "$go_wanted" ] && ! go version >/dev/null 2>&1; then
	die "Go is missing: install Go $(sed -n 's/^go //p' go.mod) or newer from https://go.dev/dl into /usr/local/go"
fi
