#!/usr/bin/env bash
# Holds the module to its byte budget and to the host functions it may import.
# usage: check-wasm.sh FILE
set -euo pipefail
file=$(realpath "$1")
cd "$(dirname "$0")/../.."
budget=950000
size=$(stat -c %s "$file")
[ "$size" -le "$budget" ] || { echo "$file has $size bytes, the budget is $budget" >&2; exit 1; }
python3 -B - "$file" <<'PY'
import sys

sys.path.insert(0, "tests/make")
from wasm_module import MAGIC, leb, sections, text

data = open(sys.argv[1], "rb").read()
assert data[:4] == MAGIC, "not a wasm module"
imports, customs = [], []
for kind, section in sections(data, 8):
    if kind == 0:
        customs.append(text(section, 0)[0])
    if kind == 2:
        count, here = leb(section, 0)
        for _ in range(count):
            module, here = text(section, here)
            field, here = text(section, here)
            imported = section[here]
            here += 1
            assert imported == 0, f"{module}.{field} is no function"
            _, here = leb(section, here)
            imports.append((module, field))

wasi = {"random_get", "environ_get", "environ_sizes_get", "clock_time_get", "fd_write", "proc_exit"}
bad = [
    f"{module}.{field}"
    for module, field in imports
    if not (module == "env" and field.startswith("proxy_")) and not (module == "wasi_snapshot_preview1" and field in wasi)
]
if bad:
    sys.exit("imports that Envoy need not grant: " + ", ".join(bad))
if "portcullis" not in customs:
    sys.exit("the custom section `portcullis` is missing: the controller could not tell what this filter decodes")
print(f"{sys.argv[1]}: {len(data)} bytes, {len(imports)} imports, all allowed")
PY
