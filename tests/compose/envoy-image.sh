#!/usr/bin/env bash
# Builds an image named as the official one, FROM scratch, from the cached Envoy and the C library that it is linked to.
#   envoy-image.sh ENVOY TAG
set -euo pipefail

envoy=$1
tag=$2

context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
chmod 755 "$context"
mkdir -p "$context/usr/local/bin" "$context/etc/envoy" "$context/etc/ssl/certs" "$context/tmp"
chmod 1777 "$context/tmp"
cp "$envoy" "$context/usr/local/bin/envoy"
ldd "$envoy" | grep -o '/[^ ]*' | while read -r library; do
    mkdir -p "$context$(dirname "$library")"
    cp -L "$library" "$context$library"
done
printf 'root:x:0:0::/:/bin/false\nenvoy:x:101:101::/:/bin/false\n' >"$context/etc/passwd"
tar -C "$context" --sort=name --mtime=@0 -c . |
    docker import --change 'CMD ["/usr/local/bin/envoy", "-c", "/etc/envoy/envoy.yaml"]' - "$tag" >/dev/null
