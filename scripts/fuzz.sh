#!/usr/bin/env bash
# Fuzzes: every Go fuzz target for FUZZTIME, then the differential test against
# kernel overlayfs for FUZZTIME. A failing input is kept by Go in the package's
# testdata/fuzz; a failing operation sequence is made smaller and printed with
# its seed.
#
#   scripts/fuzz.sh [PACKAGE...]      default: every package
#
#   FUZZTIME   how long each target runs: 30s, 10m, 2h; default 60s
#   SEED       the first seed of the differential test; default: the clock
source "$(dirname "$0")/env.sh"

time=${FUZZTIME:-60s}
[ $# -gt 0 ] || set -- ./...

scripts/deps.sh test
while read -r package target; do
	say "$package $target for $time"
	go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" "$package"
done < <(go test -json -list '^Fuzz' "$@" 2>/dev/null |
	jq -r 'select(.Action == "output" and (.Output | startswith("Fuzz"))) | "\(.Package) \(.Output | rtrimstr("\n"))"')

say "differential test against kernel overlayfs for $time"
case $time in
*h) seconds=$((${time%h} * 3600)) ;;
*m) seconds=$((${time%m} * 60)) ;;
*) seconds=${time%s} ;;
esac
export UNIONFS_DIFF_SECONDS=$seconds UNIONFS_DIFF_SEED=${SEED:-$(date +%s)}
echo "first seed: $UNIONFS_DIFF_SEED"
go test -race -count=1 -timeout 0 -v -run '^TestDifferential$' ./internal/difftest
