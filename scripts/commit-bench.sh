#!/usr/bin/env bash
# Measures `unionfs commit` against `buildah commit`: the same CHANGED files of
# an image of FILES files, ROUNDS rounds of both in turn, medians and their ratio.
#
# usage: [FILES=100000] [CHANGED=1000] [ROUNDS=5] scripts/commit-bench.sh [UNIONFS]
#
# Needs root, buildah with kernel overlayfs, python3 and 2 GB below ${TMPDIR:-/var/tmp}.
source "$(dirname "$0")/env.sh"
files=${FILES:-100000} changed=${CHANGED:-1000} rounds=${ROUNDS:-5}
for tool in buildah python3; do
	command -v $tool >/dev/null || { echo "commit-bench: needs $tool" >&2; exit 3; }
done
[ "$(id -u)" = 0 ] || { echo "commit-bench: needs root" >&2; exit 3; }
work=${TMPDIR:-/var/tmp}/commit-bench-$$ # buildah wants lower case
mkdir -m 700 "$work"
unionfs=${1:-$work/unionfs}
[ $# -ge 1 ] || CGO_ENABLED=0 go build -o "$unionfs" ./cmd/unionfs
export UNIONFS_STORE=$work/store
buildah() { command buildah --root "$work/bs" --runroot "$work/br" --storage-driver overlay "$@"; }
mkdir "$work/upper" "$work/m"
ctr=
cleanup() {
	"$unionfs" umount "$work/m" 2>/dev/null || true
	[ -z "$ctr" ] || { buildah umount "$ctr"; buildah rm "$ctr"; } >/dev/null 2>&1 || true
	umount "$work/bs/overlay" 2>/dev/null || true
	rm -rf "$work"
}
trap cleanup EXIT

python3 - "$files" >"$work/base.tar" <<'PY'
import io, sys, tarfile
n = int(sys.argv[1])
with tarfile.open(fileobj=sys.stdout.buffer, mode="w|") as t:
    for d in range((n + 999) // 1000):
        h = tarfile.TarInfo("d%04d" % d); h.type, h.mode = tarfile.DIRTYPE, 0o755
        t.addfile(h)
        for f in range(min(1000, n - d * 1000)):
            data = (("%d/%d " % (d, f)) * (20 + f % 200)).encode()
            h = tarfile.TarInfo("d%04d/f%03d" % (d, f)); h.size, h.mode, h.mtime = len(data), 0o644, 1000000000
            t.addfile(h, io.BytesIO(data))
PY
"$unionfs" image import "$work/base.tar" base:1 >/dev/null
rm "$work/base.tar"
ctr=$(buildah from -q "oci:$work/store:base:1")
mnt=$(buildah mount "$ctr")
"$unionfs" mount --upper "$work/upper" base:1 "$work/m"
# change appends to CHANGED files, spread over all directories.
change() {
	python3 - "$1" "$files" "$changed" <<'PY'
import sys
root, n, k = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
for i in range(k):
    j = i * n // k
    with open("%s/d%04d/f%03d" % (root, j // 1000, j % 1000), "a") as f:
        f.write("changed\n")
PY
}
change "$mnt"
change "$work/m"

# took prints the seconds that a command takes, and those of CPU.
took() {
	local TIMEFORMAT='%R %U %S'
	{ time "$@" >/dev/null 2>"$work/err"; } 2>&1 | awk '{ print $1, $2 + $3 }'
}
for i in $(seq "$rounds"); do
	took buildah commit -q "$ctr" "out:$i" >>"$work/t0"
	took "$unionfs" commit "$work/m" "out:$i" >>"$work/t1"
	took buildah commit -q "$ctr" "oci:$work/out$i:1" >>"$work/t2"
	rm -rf "$work/out$i"
	took "$unionfs" commit --compression zstd "$work/m" "zst:$i" >>"$work/t3"
done
# median prints the middle value of a column.
median() { cut -d' ' -f"$2" "$work/t$1" | sort -n | sed -n "$(((rounds + 1) / 2))p"; }
echo "$changed changed files of $files, medians of $rounds rounds in turn, seconds:"
printf '%-32s %8s %8s\n' '' wall CPU
names=('buildah commit, to its storage' 'unionfs commit, gzip' 'buildah commit, to a new oci:DIR' 'unionfs commit, zstd')
for k in 0 2 1 3; do
	printf '%-32s %8s %8s\n' "${names[$k]}" "$(median $k 1)" "$(median $k 2)"
done
for k in 0 2; do
	awk -v g="$(median 1 1)" -v b="$(median $k 1)" -v gc="$(median 1 2)" -v bc="$(median $k 2)" -v n="${names[$k]}" \
		'BEGIN { printf "unionfs (gzip) / %s: wall %.1f %%, CPU %.1f %%\n", n, 100 * g / b, 100 * gc / bc }'
done
