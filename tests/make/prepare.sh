#!/usr/bin/env bash
# Finds what is missing on a Debian or Ubuntu with rustup, as one apt-get line; runs it at once when root.
# usage: prepare.sh up|test
set -euo pipefail
cd "$(dirname "$0")/../.."

declare -A package=([cc]=build-essential [musl-gcc]=musl-tools [wasm-opt]=binaryen [python3]=python3 [curl]=curl)
if [ "${1:-test}" = test ]; then
    package+=([ip]=iproute2 [node]=nodejs [openssl]=openssl [h2load]=nghttp2-client [dockerd]=docker.io [docker-compose]=docker-compose)
    # A node of the test cluster, and what builds it.
    package+=([go]=golang-go [containerd]=containerd [runc]=runc [nft]=nftables)
fi

missing=()
for command in "${!package[@]}"; do
    command -v "$command" >/dev/null || [ -x "/usr/sbin/$command" ] || missing+=("${package[$command]}")
done
python3 -m pip --version >/dev/null 2>&1 || missing+=(python3-pip)
[ "${1:-test}" != test ] || [ -x /usr/lib/cni/bridge ] || missing+=(containernetworking-plugins)

if [ ${#missing[@]} -gt 0 ]; then
    line="apt-get install -y --no-install-recommends $(printf '%s\n' "${missing[@]}" | sort -u | tr '\n' ' ')"
    if [ "$(id -u)" = 0 ]; then
        printf '\033[1m==> %s\033[0m\n' "$line"
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive $line >/dev/null
    else
        printf 'missing packages; run:\n  sudo apt-get update && sudo %s\n' "$line" >&2
        exit 1
    fi
fi

if [ "${1:-test}" = test ]; then
    # Kubernetes is built from its modules; Go fetches the toolchain that they ask for, from 1.21 on.
    minor=$(go env GOVERSION | sed -n 's/^go1\.\([0-9]*\).*/\1/p')
    [ "${minor:-0}" -ge 21 ] || { echo "Go is older than 1.21; see https://go.dev/doc/install" >&2; exit 1; }
fi
command -v rustup >/dev/null || { echo "missing rustup; see https://rustup.rs" >&2; exit 1; }
# rust-toolchain.toml names the toolchain, its components and targets.
toolchain=$(sed -n 's/^channel = "\(.*\)"/\1/p' rust-toolchain.toml)
have=$(rustup +"$toolchain" target list --installed 2>/dev/null || true)
components=$(rustup +"$toolchain" component list --installed 2>/dev/null || true)
read -ra targets < <(sed -n 's/^targets = \[\(.*\)\]/\1/p' rust-toolchain.toml | tr -d '",')
for target in "${targets[@]}"; do
    grep -qx "$target" <<<"$have" || need=1
done
for component in clippy rustfmt; do
    grep -q "^$component" <<<"$components" || need=1
done
if [ -n "${need:-}" ]; then
    printf '\033[1m==> rustup: toolchain %s\033[0m\n' "$toolchain"
    rustup toolchain install "$toolchain" --profile minimal --component clippy --component rustfmt "${targets[@]/#/--target=}"
fi
