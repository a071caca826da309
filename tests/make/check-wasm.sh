#!/usr/bin/env bash
# Holds the module to its byte budget and to the host functions it may import.
# usage: check-wasm.sh FILE
set -euo pipefail
budget=950000
size=$(stat -c %s "$1")
[ "$size" -le "$budget" ] || { echo "$1 has $size bytes, the budget is $budget" >&2; exit 1; }
python3 - "$1" <<'PY'
import sys

data = open(sys.argv[1], "rb").read()
assert data[:4] == b"\0asm", "not a wasm module"


def leb(at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return value, at


def name(at):
    length, at = leb(at)
    return data[at : at + length].decode(), at + length


at, imports, sections = 8, [], []
while at < len(data):
    kind = data[at]
    size, start = leb(at + 1)
    at = start + size
    if kind == 0:
        sections.append(name(start)[0])
    if kind == 2:
        count, here = leb(start)
        for _ in range(count):
            module, here = name(here)
            field, here = name(here)
            imported = data[here]
            here += 1
            assert imported == 0, f"{module}.{field} is no function"
            _, here = leb(here)
            imports.append((module, field))

wasi = {"random_get", "environ_get", "environ_sizes_get", "clock_time_get", "fd_write", "proc_exit"}
bad = [
    f"{module}.{field}"
    for module, field in imports
    if not (module == "env" and field.startswith("proxy_")) and not (module == "wasi_snapshot_preview1" and field in wasi)
]
if bad:
    sys.exit("imports that Envoy need not grant: " + ", ".join(bad))
if "portcullis" not in sections:
    sys.exit("the custom section `portcullis` is missing: the controller could not tell what this filter decodes")
print(f"{sys.argv[1]}: {len(data)} bytes, {len(imports)} imports, all allowed")
PY
