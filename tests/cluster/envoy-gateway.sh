#!/usr/bin/env bash
# Puts Envoy Gateway into the cache, for the test that runs beside it: its program and its definitions, from its Go module.
# Four minutes on two cores; nothing if the cache has it.
# usage: envoy-gateway.sh         puts it there
#        envoy-gateway.sh where   prints the folder
set -euo pipefail
version=1.9.1
module=github.com/envoyproxy/gateway
cache=${PORTCULLIS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/portcullis}
target=$cache/envoy-gateway/$version
if [ "${1:-}" = where ]; then
    printf '%s\n' "$target"
    exit
fi
[ -d "$target" ] && exit 0

printf '\033[1m==> %s\033[0m\n' "Envoy Gateway $version"
mkdir -p "${target%/*}"
work=$(mktemp -d "${target%/*}/.build.XXXXXX")
trap 'rm -rf "$work"' EXIT
cd /
export CGO_ENABLED=0 GOFLAGS=-buildvcs=false GOWORK=off
GOBIN="$work" go install -trimpath -ldflags "-s -w" "$module/cmd/envoy-gateway@v$version"
source=$(go mod download -json "$module@v$version" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
mkdir "$work/crds"
for file in "$source"/charts/gateway-crds-helm/templates/generated/*.yaml; do
    # A condition around it makes each a template.
    grep -v '^{{-' "$file" >"$work/crds/${file##*/}"
done
chmod 755 "$work"
# Two builds at once come to the same; the first one's stays.
mv -T "$work" "$target" 2>/dev/null || [ -d "$target" ]
