#!/usr/bin/env bash
# Fails when a test run left something behind: a mount, a loop device, a process
# or a file that belongs to the folder the run worked in. Other runs on the same
# machine are left alone.
#
#   scripts/leftovers.sh FOLDER [--clean]      --clean also removes what it finds
source "$(dirname "$0")/env.sh"

folder=$(realpath "$1")
clean=${2:-}
found=0

# report KIND WHAT
report() {
	echo "left behind: $1: $2" >&2
	found=1
}

# Processes started by the run: they carry its name in their environment.
for environ in /proc/[0-9]*/environ; do
	pid=${environ//[!0-9]/}
	[ "$pid" != $$ ] || continue
	name=$(cat "/proc/$pid/comm" 2>/dev/null) || continue
	case $name in
	unionfs* | fuse-overlayfs | mount.* | *.test)
		if tr '\0' '\n' 2>/dev/null <"$environ" | grep -qxF "UNIONFS_TEST_RUN=$folder"; then
			report process "$pid $(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null)"
			[ "$clean" != --clean ] || kill "$pid" 2>/dev/null || true
		fi
		;;
	esac
done

# Mounts below the folder, the deepest first.
while read -r target; do
	report mount "$target"
	[ "$clean" != --clean ] || umount -l "$target" || true
done < <(awk -v dir="$folder/" 'index($5, dir) == 1 { print $5 }' /proc/self/mountinfo | sort -r)

# Loop devices whose file is below the folder.
if command -v losetup >/dev/null; then
	while read -r device file; do
		report "loop device" "$device $file"
		[ "$clean" != --clean ] || losetup -d "$device" || true
	done < <(losetup -n -O NAME,BACK-FILE 2>/dev/null | awk -v dir="$folder/" 'index($2, dir) == 1')
fi

# Files in the tests' temporary folder.
while read -r file; do
	report file "$file"
done < <(find "$folder/tmp" -mindepth 1 -maxdepth 1 2>/dev/null)

[ "$found" = 0 ] || exit 1
echo "nothing left behind"
