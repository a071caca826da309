#!/usr/bin/env bash
# Runs the engine's cases in wasm32 under Node, as the filter's processor sees them.
set -euo pipefail
cd "$(dirname "$0")/../.."
# The runner must be of the version that the test was built with, so the lock file names it.
version=$(sed -n '/^name = "wasm-bindgen"$/{n;s/^version = "\(.*\)"$/\1/p}' Cargo.lock)
tools="${PORTCULLIS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/portcullis}/tools/wasm-bindgen-$version"
runner="$tools/bin/wasm-bindgen-test-runner"
if [ ! -x "$runner" ]; then
    echo "  building wasm-bindgen-test-runner $version, once"
    # It runs for a second and is built once: not worth an optimised build.
    export CARGO_PROFILE_RELEASE_OPT_LEVEL=1
    install() { cargo install -q --root "$tools" --bin wasm-bindgen-test-runner "wasm-bindgen-cli@$version" "$@"; }
    # Its lock file may name releases that a mirror does not have yet.
    install --locked || install
fi
export CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER="$runner"
cargo test -p portcullis-engine --target wasm32-unknown-unknown --test cases_wasm
