#!/usr/bin/env bash
# Runs everything that CI runs: the checks of lint.sh, the static build, every
# test with the race detector on real mounts, and the demo. Nothing of it may be
# left on the machine afterwards.
#
#   scripts/test.sh
#
#   UNIONFS_DIFF_CASES   how many random cases the differential test runs of each
#                        kind; in CI 25
#   UNIONFS_DIFF_SEED    its first seed, by default 1: every run does the same;
#                        fuzz.sh looks for what is new
#   TMPDIR               where the tests work; a folder of their own is made in it
source "$(dirname "$0")/env.sh"

started=$SECONDS
scripts/deps.sh test

say "machine"
uname -a
go version
echo "cores: $(nproc), user: $(id -un), FUSE: $(ls -l /dev/fuse 2>/dev/null || echo 'no /dev/fuse')"

# A folder of our own, so that what a test forgets there is found.
work=$(mktemp -d "${TMPDIR:-/tmp}/unionfs-test.XXXXXX")
export TMPDIR=$work/tmp UNIONFS_TEST_RUN=$work
mkdir "$TMPDIR"
chmod 755 "$work" && chmod 1777 "$TMPDIR" # other users' processes work in it too
echo "tests work in $work on $(stat -f -c %T "$work")"
trap 'scripts/leftovers.sh "$work" --clean >/dev/null 2>&1 || true; rm -rf --one-file-system "$work"' EXIT

scripts/lint.sh

say "static build"
scripts/build.sh "$work/unionfs"
if ldd "$work/unionfs" >/dev/null 2>&1; then
	die "the binary is linked dynamically"
fi
"$work/unionfs" version

# -count=1: a cached result would hide what changed on the machine.
# -race: the daemon is concurrent everywhere.
# -p 1: one package after the other. Packages that mount at the same time disturb
# each other: a test in a mount namespace of its own keeps copies of the others'
# mounts alive, so that their daemons do not end with them. All is compiled
# before, which can be done side by side.
say "go test -race"
# Only a complete machine must run every test: there a skip is a failure unless
# scripts/skips.txt gives the reason.
gate=()
if [ "$(id -u)" = 0 ] && [ "${CI:-}" = true ]; then
	gate=(-skips scripts/skips.txt)
	export UNIONFS_DIFF_CASES=${UNIONFS_DIFF_CASES:-25}
else
	gate=(-skips scripts/skips.txt -lenient)
fi
# A program with the race detector sleeps for a second when it ends; the tests end
# thousands of them.
export GORACE=${GORACE:-atexit_sleep_ms=50}
go test -race -count=1 -run '^$' ./... >/dev/null
go run ./scripts/testgate "${gate[@]}" -- -race -count=1 -p 1 -timeout 25m ./...

say "leftovers"
scripts/leftovers.sh "$work"

say "demo"
scripts/demo.sh "$work/unionfs" </dev/null

# The same as a plain user, who may open /dev/fuse: a private mount namespace
# has a node of its own there.
if [ "$(id -u)" = 0 ]; then
	say "demo as a plain user"
	mkdir "$work/home"
	chown nobody "$work/home"
	mknod -m 666 "$work/fuse" c 10 229
	# shellcheck disable=SC2016 # the inner shell expands these
	unshare --mount --propagation private bash -c '
		mount --bind "$1/fuse" /dev/fuse
		HOME=$1/home setpriv --reuid nobody --regid nogroup --clear-groups scripts/demo.sh "$1/unionfs"
	' demo "$work" </dev/null >"$work/demo.log" 2>&1 || { cat "$work/demo.log"; die "the demo failed as a plain user"; }
	echo "passed"
fi
scripts/leftovers.sh "$work"

say "all passed in $((SECONDS - started)) s"
