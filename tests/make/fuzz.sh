#!/usr/bin/env bash
# Fuzzes each target of the engine for a while; a crash is left in fuzz/artifacts and ends the run.
# usage: fuzz.sh SECONDS
set -euo pipefail
cd "$(dirname "$0")/../.."
seconds=${1:-30}
version=0.13.2
tools="${PORTCULLIS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/portcullis}/tools/cargo-fuzz-$version"
rustup toolchain list | grep -q '^nightly' || rustup toolchain install nightly --profile minimal
[ -x "$tools/bin/cargo-fuzz" ] || cargo install -q --locked --root "$tools" "cargo-fuzz@$version"
cd filter/engine/fuzz
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/../../../target}/fuzz"
targets=$(sed -n '/^\[\[bin\]\]/{n;s/^name = "\(.*\)"/\1/p}' Cargo.toml)
[ -n "$targets" ] || { echo "no fuzz targets in filter/engine/fuzz/Cargo.toml" >&2; exit 1; }
log=$(mktemp)
trap 'rm -f "$log"' EXIT
for target in $targets; do
    mkdir -p "corpus/$target" "regressions/$target"
    RUSTUP_TOOLCHAIN=nightly "$tools/bin/cargo-fuzz" run --fuzz-dir . "$target" "corpus/$target" "regressions/$target" -- \
        -max_total_time="$seconds" -rss_limit_mb=2048 -print_final_stats=1 >"$log" 2>&1 ||
        { tail -n 60 "$log" >&2; exit 1; }
    printf '  %s, %s s: %s inputs\n' "$target" "$seconds" "$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")"
done
