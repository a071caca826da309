#!/usr/bin/env bash
# Builds the filter and shrinks it.
# usage: wasm.sh OUT [cargo arguments]
set -euo pipefail
cd "$(dirname "$0")/../.."
out=$1
shift
cargo build -p portcullis-filter --target wasm32-wasip1 --profile wasm "$@"
built="${CARGO_TARGET_DIR:-target}/wasm32-wasip1/wasm/portcullis_filter.wasm"
mkdir -p "$(dirname "$out")"
sum=$(sha256sum <"$built")
stamp="$out.built-from"
[ -f "$out" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$sum" ] && exit 0
# The features are named: Envoy's V8 refuses a module optimised with all of them. Function names stay (-g), so that a trap
# has a backtrace; the standard library's debug tables, which are as large as the code, go.
wasm-opt --strip-dwarf -O3 -g --enable-bulk-memory --enable-sign-ext --enable-nontrapping-float-to-int --enable-mutable-globals \
    --enable-multivalue --enable-reference-types "$built" -o "$out.new"
python3 -B tests/make/shorten-names.py "$out.new"
mv "$out.new" "$out"
printf '%s' "$sum" >"$stamp"
printf '%s: %s bytes\n' "$out" "$(stat -c %s "$out")"
