#!/usr/bin/env bash
# Checks formatting, go vet and golangci-lint (.golangci.yml).
#
#   scripts/lint.sh [PACKAGE...]      default ./...
source "$(dirname "$0")/env.sh"

# The linter is pinned here and not in go.mod: its dependencies are none of ours.
golangci=github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

[ $# -gt 0 ] || set -- ./...

say "gofmt"
unformatted=$(gofmt -l bench cmd cow fs internal mountinfo scripts whiteout 2>/dev/null)
[ -z "$unformatted" ] || die "not formatted, run gofmt -w on: $unformatted"

say "go vet"
go vet "$@"

say "shell scripts"
for script in scripts/*.sh .ci/run; do
	bash -n "$script"
done
if command -v shellcheck >/dev/null; then
	shellcheck -S warning -x -P scripts scripts/*.sh .ci/run
fi

say "golangci-lint"
go run "$golangci" run --allow-parallel-runners "$@"
