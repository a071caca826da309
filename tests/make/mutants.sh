#!/usr/bin/env bash
# Changes one thing at a time in the crates that decide, and counts which changes the tests notice.
# usage: mutants.sh [SHARD/OF]   without an argument every change; 0/8 every eighth one, from the first
# MUTANTS_SAMPLE=N               about N changes of each crate, spread evenly; SHARD/OF then counts such samples
# MUTANTS_CRATES="NAME ..."      only these crates
set -euo pipefail
cd "$(dirname "$0")/../.."
wanted=90
version=27.1.0
crates=${MUTANTS_CRATES:-portcullis-engine portcullis-attachment}
tools="${PORTCULLIS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/portcullis}/tools/cargo-mutants-$version"
mutants="$tools/bin/cargo-mutants"
[ -x "$mutants" ] || cargo install -q --locked --root "$tools" "cargo-mutants@$version"
out="${CARGO_TARGET_DIR:-$PWD/target}/mutants"
mkdir -p "$out/tree"

# The changes are made in a copy that stays, so that dependencies are compiled once. Git writes only files that differ:
# Cargo must see what a change left behind as newer than what was built with it.
GIT_INDEX_FILE="$out/index" git add --all
tree=$(GIT_INDEX_FILE="$out/index" git write-tree)
GIT_INDEX_FILE="$out/tree.index" git --work-tree="$out/tree" read-tree --reset -u "$tree"
cd "$out/tree"
export CARGO_TARGET_DIR="$out/target"

# The tests that notice most, which run first; the others see only what these missed.
declare -A quick=(
    [portcullis-engine]="--cargo-arg=--lib --cargo-arg=--test=cases"
    [portcullis-attachment]="--cargo-arg=--test=attachment"
)
# What is measured in time says nothing about a change, and takes most of it; and so do thousands of signatures.
slow=(--skip in_proportion --skip matching_the_dearest --skip speed:: --skip one_byte_changed)
# Nothing is optimised here, so that recursion takes more.
export RUST_MIN_STACK=33554432

run() {
    local crate=$1 status=0
    shift
    nice -n 10 "$mutants" mutants --in-place --package "$crate" --test-package "$crate" --profile mutants --output "$out/$crate" \
        --shuffle --timeout 150 --colors never "$@" -- -- "${slow[@]}" || status=$?
    # 2: some were missed; 3: some took too long, which counts as caught. Anything else is no result.
    case $status in 0 | 2 | 3) ;; *) exit "$status" ;; esac
}

failed=
for crate in $crates; do
    all=$("$mutants" mutants --list --package "$crate" | wc -l)
    shard=${1:-0/1}
    if [ -n "${MUTANTS_SAMPLE:-}" ]; then
        of=$(((all + MUTANTS_SAMPLE - 1) / MUTANTS_SAMPLE))
        shard=$((${shard%%/*} % of))/$of
    fi
    rm -rf "${out:?}/$crate"
    # shellcheck disable=SC2086
    run "$crate" --sharding round-robin --shard "$shard" ${quick[$crate]:-}
    results="$out/$crate/mutants.out"
    tried=$(cat "$results"/{caught,timeout,missed}.txt | wc -l)
    sort "$results/missed.txt" >"$out/$crate/missed"
    # Named one by one, as patterns that match nothing else.
    mapfile -t names < <(sed 's/[][\.^$*+?(){}|]/\\&/g; s/.*/--re=^&$/' "$out/$crate/missed")
    if [ ${#names[@]} -gt 0 ]; then
        run "$crate" "${names[@]}"
        # Changes of fields are tried whatever the pattern.
        comm -12 "$out/$crate/missed" <(sort "$results/missed.txt") >"$out/$crate/missed.new"
        mv "$out/$crate/missed.new" "$out/$crate/missed"
    fi
    missed=$(wc -l <"$out/$crate/missed")
    awk -v crate="$crate" -v all="$all" -v caught="$((tried - missed))" -v missed="$missed" -v wanted="$wanted" 'BEGIN {
        n = caught + missed
        if (n == 0) { print crate ": nothing was changed"; exit 1 }
        # Wilson: the rate of all changes lies between these in 95 of 100 samples.
        p = caught / n; z = 1.96; d = 1 + z * z / n
        m = (p + z * z / (2 * n)) / d; s = z * sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / d
        printf "%s: caught %d of %d changes, %.1f %%", crate, caught, n, 100 * p
        if (n < all * 0.9) printf "; a sample of %d: %.0f to %.0f %% of all", all, 100 * (m - s), 100 * (m + s > 1 ? 1 : m + s)
        print ""
        exit 100 * p < wanted
    }' || failed="$failed $crate"
    sed 's/^/  missed: /' "$out/$crate/missed"
done
[ -z "$failed" ] || { echo "fewer than $wanted %:$failed" >&2; exit 1; }
