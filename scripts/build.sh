#!/usr/bin/env bash
# Builds the static binary.
#
#   scripts/build.sh [OUTPUT]      default ./unionfs
source "$(dirname "$0")/env.sh"

out=${1:-unionfs}
flags=()
# A release is named by its tag; the commit is stamped by Go itself, from git.
if version=$(git describe --tags --exact-match 2>/dev/null); then
	flags+=(-ldflags "-s -w -X main.version=${version#v}")
else
	flags+=(-ldflags "-s -w")
fi
git status --porcelain >/dev/null 2>&1 || flags+=(-buildvcs=false)

CGO_ENABLED=0 go build -trimpath "${flags[@]}" -o "$out" ./cmd/unionfs
