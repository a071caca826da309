#!/usr/bin/env bash
# Checks each crate alone: its own Cargo.toml must suffice, whatever features its neighbours switch on.
set -euo pipefail
cd "$(dirname "$0")/../.."
for crate in portcullis-engine portcullis-cases portcullis-xds portcullis-api portcullis-attachment portcullis-gateway portcullis-manifest portcullis portcullis-e2e; do
    printf '  %s\n' "$crate"
    cargo check -q -p "$crate"
done
cargo check -q -p portcullis-engine --target wasm32-unknown-unknown
# The engine and the xDS session must never wait for the heavy generated crates.
for crate in portcullis-engine portcullis-xds; do
    if cargo tree -q -p "$crate" -e normal --prefix none | grep -E '^(kube|k8s-openapi|gateway-api|envoy-types)' >&2; then
        echo "$crate depends on a heavy crate" >&2
        exit 1
    fi
done
