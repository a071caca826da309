#!/usr/bin/env bash
# Compares manifests/crds with the Rust types; --write replaces them.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cargo run -q --release --target x86_64-unknown-linux-musl -p portcullis -- crds >"$work/all.yaml"
python3 - "$work" <<'PY'
import re, sys
work = sys.argv[1]
for document in re.split(r"^---\n", open(work + "/all.yaml").read(), flags=re.M):
    name = re.search(r"^  name: (\S+)$", document, re.M)
    if name:
        open(f"{work}/{name.group(1)}.yaml", "w").write(document)
PY
rm "$work/all.yaml"
ls "$work"/*.yaml >/dev/null
if [ "${1:-}" = --write ]; then
    cp "$work"/*.yaml manifests/crds/
    # docs/api-coverage.md lists the fields of these definitions.
    PORTCULLIS_WRITE_CRDS=1 cargo test -q --release --target x86_64-unknown-linux-musl --workspace --test coverage
else
    diff -r manifests/crds "$work" || { echo "manifests/crds differs from the Rust types; run \`make crds\`" >&2; exit 1; }
fi
