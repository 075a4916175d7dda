#!/usr/bin/env bash
# Makes the data sets that `unionfs bench` measures on, once:
#
#   scripts/bench-data.sh [DIR] [NAME...]     NAME: go debian npm git (default: all)
#
# DIR is the cache folder, by default $UNIONFS_BENCH_DATA or ~/.cache/unionfs-bench.
# A set that is there is kept, so that a second run needs no network. A set that
# cannot be made is named with the reason; bench then skips its workloads.
#   go      the toolchain on PATH with the source tree of its standard library
#   debian  a minimal Debian root file system with some cached packages (needs root)
#   npm     a project with node_modules and a filled package cache
#   git     the Go source tree as a repository with two branches
# Large and generated files (1 GiB file, many layers, big directories) are made
# by bench itself.
set -euo pipefail

dir=${1:-${UNIONFS_BENCH_DATA:-${XDG_CACHE_HOME:-$HOME/.cache}/unionfs-bench}}
shift || true
names=("$@")
[ ${#names[@]} -gt 0 ] || names=(go debian npm git)

say() { printf 'bench-data: %s\n' "$*" >&2; }

need() {
	local tool
	for tool in "$@"; do
		command -v "$tool" >/dev/null || { say "$tool is not installed"; return 1; }
	done
}

# The parts go into a directory of their own that gets its name when complete.
make_go() {
	need go
	local root
	root=$(go env GOROOT)
	mkdir -p "$1/pkg"
	cp -a "$root/src" "$root/bin" "$root/VERSION" "$root/go.env" "$1/"
	cp -a "$root/pkg/tool" "$root/pkg/include" "$1/pkg/"
}

make_debian() {
	need mmdebstrap
	[ "$(id -u)" = 0 ] || { say "debian: making device nodes and foreign owners needs root"; return 1; }
	mmdebstrap --quiet --variant=minbase --include=ca-certificates \
		--skip=cleanup/apt \
		--customize-hook='chroot "$1" apt-get -q clean' \
		--customize-hook='chroot "$1" apt-get -q -y --no-install-recommends --download-only install less jq tree file' \
		bookworm "$1" >&2
}

make_npm() {
	need npm
	cat >"$1/package.json" <<-'JSON'
		{
		  "name": "unionfs-bench",
		  "version": "1.0.0",
		  "private": true,
		  "dependencies": { "express": "4.21.2", "eslint": "9.20.0", "webpack": "5.97.1" }
		}
	JSON
	# The second one fills the cache with what npm ci asks for.
	(
		cd "$1"
		npm install --silent --ignore-scripts --no-audit --no-fund --cache "$1/.npm-cache" >&2
		npm ci --silent --ignore-scripts --no-audit --no-fund --cache "$1/.npm-cache" >&2
	)
}

make_git() {
	need go git
	mkdir "$1/tree"
	cp -a "$(go env GOROOT)/src/." "$1/tree/"
	(
		cd "$1/tree"
		# The sizes and times alone decide what is changed: a copy of the
		# repository has other inode numbers and is not to be read anew.
		git init -q -b main
		git config user.name bench
		git config user.email bench@localhost
		git config core.checkStat minimal
		git config core.trustctime false
		git config gc.auto 0
		git add -A
		git commit -q -m 'the tree'
		git checkout -q -b other
		find cmd -name '*.go' | sort | awk 'NR % 2' | while read -r f; do
			echo '// changed' >>"$f"
		done
		git rm -rq --ignore-unmatch image
		git commit -q -a -m 'another tree'
		git checkout -q main
		git gc -q
		sleep 1
		git update-index -q --refresh || true
	)
}

mkdir -p "$dir"
failed=0
for name in "${names[@]}"; do
	case $name in go | debian | npm | git) ;; *)
		say "no data set $name; there are: go debian npm git"
		exit 2
		;;
	esac
	if [ -d "$dir/$name" ]; then
		say "$name: there"
		continue
	fi
	say "$name: making it"
	rm -rf "$dir/.new-$name"
	mkdir "$dir/.new-$name"
	# Not within the condition: there set -e would be off.
	set +e
	(set -e; "make_$name" "$dir/.new-$name")
	status=$?
	set -e
	if [ $status = 0 ]; then
		mv "$dir/.new-$name" "$dir/$name"
	else
		say "$name: could not be made; its workloads will be skipped"
		rm -rf "$dir/.new-$name"
		failed=1
	fi
done
exit $failed
