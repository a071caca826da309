#!/usr/bin/env bash
# Changes one thing at a time in the crates that decide, and counts which changes the tests notice.
# usage: mutants.sh [SHARD/OF]   without an argument every change; 0/8 the first of eight parts
set -euo pipefail
cd "$(dirname "$0")/../.."
wanted=90
version=27.1.0
tools="${PORTCULLIS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/portcullis}/tools/cargo-mutants-$version"
[ -x "$tools/bin/cargo-mutants" ] || cargo install -q --locked --root "$tools" "cargo-mutants@$version"
out="${CARGO_TARGET_DIR:-$PWD/target}/mutants"
mkdir -p "$out"
caught=0 missed=0
for crate in portcullis-engine portcullis-attachment; do
    rm -rf "$out/$crate"
    # 2: some were missed; 3: some took too long, which counts as caught. Anything else is no result.
    "$tools/bin/cargo-mutants" mutants --package "$crate" --test-package "$crate" --output "$out/$crate" --no-shuffle \
        --timeout 120 --colors never ${1:+--shard "$1"} || { status=$?; [ $status = 2 ] || [ $status = 3 ]; }
    count() { wc -l <"$out/$crate/mutants.out/$1.txt"; }
    caught=$((caught + $(count caught) + $(count timeout)))
    missed=$((missed + $(count missed)))
done
[ $((caught + missed)) -gt 0 ] || { echo "nothing was changed" >&2; exit 1; }
rate=$((100 * caught / (caught + missed)))
printf 'caught %s of %s changes: %s %%; the others: %s/*/mutants.out/missed.txt\n' "$caught" $((caught + missed)) "$rate" "$out"
[ "$rate" -ge "$wanted" ] || { echo "fewer than $wanted %" >&2; exit 1; }
