#!/usr/bin/env bash
# Runs the Go benchmarks of every package that has some.
#
#   scripts/bench.sh [ARGUMENTS OF GO TEST]      default -bench=. -benchmem
source "$(dirname "$0")/env.sh"

scripts/deps.sh bench
[ $# -gt 0 ] || set -- -bench=. -benchmem
uname -a
go version
go test -run '^$' "$@" ./...
