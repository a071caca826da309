#!/usr/bin/env bash
# Prints the folder of the cache that holds what build.sh builds, keyed by everything that it is built from.
set -euo pipefail
cd "$(dirname "$0")"
cache=${PORTCULLIS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/portcullis}
key=$(find source build.sh image.py pause.c -type f | LC_ALL=C sort | xargs sha256sum | sha256sum | cut -c1-16)
printf '%s/cluster/%s\n' "$cache" "$key"
