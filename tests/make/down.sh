#!/usr/bin/env bash
# Stops what `make up` started, by the recorded process ids.
set -euo pipefail
cd "$(dirname "$0")/../.."
stopped=
for name in portcullis echo; do
    file=.run/$name.pid
    pid=$(cat "$file" 2>/dev/null || true)
    expected=$([ $name = echo ] && echo envoy || echo portcullis)
    if [ -n "$pid" ] && [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$expected" ]; then
        kill -TERM "$pid"
        for _ in $(seq 100); do
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.1
        done
        kill -KILL "$pid" 2>/dev/null || true
        stopped=stopped
    fi
    rm -f "$file"
done
rm -f .run/stamp
[ "${1:-}" = --quiet ] || echo "${stopped:-nothing was running}"
