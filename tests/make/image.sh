#!/usr/bin/env bash
# Builds the image FROM scratch: two files, nothing else to patch. It has two names, as what runs in the controller's pods and
# what is unpacked in Envoy's is upgraded apart.
set -euo pipefail
cd "$(dirname "$0")/../.."
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp dist/portcullis dist/portcullis.wasm "$work/"
cat >"$work/Dockerfile" <<'DOCKERFILE'
FROM scratch
COPY portcullis portcullis.wasm /
# Numeric, so that an orchestrator can see that it is not root.
USER 65532:65532
ENTRYPOINT ["/portcullis"]
DOCKERFILE
# The classic builder is in every Docker; the newer one is a plugin that may be missing.
DOCKER_BUILDKIT=0 docker build --quiet --tag "portcullis/controller:$version" --tag "portcullis/filter:$version" "$work"
