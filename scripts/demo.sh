#!/usr/bin/env bash
# The main job on a small image that is embedded in the binary: mount it, change
# it, commit the change as a new image layer, mount both beside each other. Works
# as root, and as a plain user who may open /dev/fuse. Takes seconds and leaves
# nothing behind but lines in the log of the daemon.
#
#   scripts/demo.sh [BINARY]      default: builds one
source "$(dirname "$0")/env.sh"

case ${1:-} in
"") binary= ;;
*) binary=$(realpath "$1") ;;
esac

scripts/deps.sh demo
[ -n "$binary" ] || scripts/deps.sh build
if [ ! -r /dev/fuse ] || [ ! -w /dev/fuse ]; then
	die "/dev/fuse is missing or not accessible: as root run 'modprobe fuse; chmod 666 /dev/fuse', or run the demo as root"
fi

# Everything happens in a folder of its own, with an image store of its own.
work=$(mktemp -d "${TMPDIR:-/tmp}/unionfs-demo.XXXXXX")
cleanup() {
	cd /
	for m in "$work/new" "$work/original" "$work/app"; do
		if mountpoint -q "$m" 2>/dev/null; then
			"$work/bin/unionfs" umount "$m" >/dev/null 2>&1 || umount -l "$m" 2>/dev/null || fusermount3 -uz "$m"
		fi
	done
	# The workdir that overlay marks need is not readable by its owner.
	chmod -R u+rwX "$work" 2>/dev/null || true
	rm -rf --one-file-system "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

mkdir "$work/bin"
if [ -n "$binary" ]; then
	cp "$binary" "$work/bin/unionfs"
else
	scripts/build.sh "$work/bin/unionfs"
fi
export PATH="$work/bin:$PATH" UNIONFS_STORE="$work/store"
cd "$work"

if [ -t 1 ]; then
	bold=$(tput bold 2>/dev/null || true) plain=$(tput sgr0 2>/dev/null || true)
else
	bold='' plain=''
fi

# tell prints what comes next.
tell() { printf '\n# %s\n' "$*"; }

# run prints a command, then runs it.
run() {
	printf '%s$ %s%s\n' "$bold" "$*" "$plain"
	bash -c "$*"
}

# must_fail prints a command that is expected to fail, and its message.
must_fail() {
	printf '%s$ %s%s\n' "$bold" "$*" "$plain"
	if bash -c "$*" 2>&1; then
		die "this should have failed: $*"
	fi
}

tell "An image of three layers, a small web application, goes into a store of its own."
run "unionfs demo-image store"

tell "Mount it. What is changed goes into the directory 'upper', never into the image."
run "mkdir app upper"
run "unionfs mount --upper upper webapp:1.0 app"
run "unionfs ps"
run "tree -F --noreport app/srv app/etc"

tell "Change a file of the second layer, and remove a directory of it."
run "sed -i 's/It works/It works, and it was changed/' app/srv/app/static/index.html"
run "rm -r app/srv/app/docs"

tell "The upper holds the changed file and one mark for the removed directory."
run "find upper -mindepth 1 -printf '%y %P\n' | sort -k2"

tell "Make a new image of it. Only the change is packed."
run "unionfs commit -m 'docs removed' app webapp:1.1"
run "unionfs image ls"

tell "Mount the new image and the original beside each other."
run "mkdir original new"
run "unionfs mount webapp:1.0 original"
run "unionfs mount webapp:1.1 new"
run "ls original/srv/app"
run "ls new/srv/app"
run "grep -h h1 original/srv/app/static/index.html new/srv/app/static/index.html"
must_fail "ls new/srv/app/docs"
must_fail "touch new/srv/app/server.py"
[ -d original/srv/app/docs ] || die "the original has lost its docs/"
[ ! -e new/srv/app/docs ] || die "the new image still has docs/"

tell "The new layer: its digest, and what is in it."
run "unionfs image inspect webapp:1.1 | jq -r '.[0].Layers[-1].digest' | tee digest"
run "tar -tvf store/blobs/sha256/\$(cut -d: -f2 digest)"

tell "Unmount."
run "unionfs umount new original app"
