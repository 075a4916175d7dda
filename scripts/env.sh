# shellcheck shell=bash
# Sourced by the other scripts: goes to the root of the checkout and finds Go.
# Not meant to be run.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# CI may run without HOME, which Go's caches need.
export HOME=${HOME:-$(getent passwd "$(id -u)" | cut -d: -f6)}

# The usual places of Go and of Debian's administrative tools.
for dir in /usr/local/go/bin /usr/sbin /sbin; do
	case ":$PATH:" in
	*":$dir:"*) ;;
	*) [ -d "$dir" ] && PATH=$PATH:$dir ;;
	esac
done
export PATH

# say prints a heading for the step that follows.
say() { printf '\n== %s\n' "$*"; }

# die prints an error and ends the script.
die() {
	printf '%s: %s\n' "$(basename "$0")" "$*" >&2
	exit 1
}
