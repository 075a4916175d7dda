#!/usr/bin/env bash
# Builds the static binary.
#
#   scripts/build.sh [OUTPUT]      default ./unionfs
source "$(dirname "$0")/env.sh"

out=${1:-unionfs}
version=$(git describe --tags --always --dirty 2>/dev/null || echo unknown)
commit=$(git rev-parse HEAD 2>/dev/null || echo unknown)
# The date of the commit, not of the build: the same commit gives the same binary.
date=$(git show -s --format=%cI HEAD 2>/dev/null || echo unknown)

CGO_ENABLED=0 go build -trimpath -buildvcs=false \
	-ldflags "-s -w -X main.version=$version -X main.commit=$commit -X main.date=$date" \
	-o "$out" ./cmd/unionfs
