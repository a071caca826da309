#!/usr/bin/env bash
# Puts a Kubernetes into the cache: its commands, etcd, CoreDNS, Helm, the conformance suite of Gateway API with its backend,
# the definitions of Gateway API, and the images that a node needs. Everything comes from Go modules, pinned by source/go.sum.
# Six minutes on two cores; nothing if the cache has it.
set -euo pipefail
cd "$(dirname "$0")"
helm=v4.2.3
target=$(./where.sh)
[ -f "$target/complete" ] && exit 0

kubernetes=$(sed -n 's/^\tk8s.io\/kubernetes v//p' source/go.mod)
say() { printf '\033[1m==> %s\033[0m\n' "$*"; }
mkdir -p "$target"
work=$(mktemp -d "$target/.build.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/bin" "$work/images"

# Go and the registry it asks are the caller's; everything else that decides what comes out is set here.
export CGO_ENABLED=0 GOFLAGS=-buildvcs=false GOWORK=off
build() { go -C source "$@"; }
stamp="-s -w"
IFS=. read -r major minor _ <<<"$kubernetes"
for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    # An API server that does not know its version refuses to serve some of its own APIs.
    for pair in "gitVersion=v$kubernetes" "gitMajor=$major" "gitMinor=$minor" gitTreeState=clean \
        gitCommit=0000000000000000000000000000000000000000 buildDate=1970-01-01T00:00:00Z; do
        stamp+=" -X $package.$pair"
    done
done

say "the modules of Kubernetes $kubernetes (once)"
build mod download
say "etcd"
build build -trimpath -ldflags "-s -w" -o "$work/bin/etcd" go.etcd.io/etcd/server/v3
for command in kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl; do
    say "$command"
    build build -trimpath -ldflags "$stamp" -o "$work/bin/" "k8s.io/kubernetes/cmd/$command"
done
say "CoreDNS"
build build -trimpath -ldflags "-s -w" -o "$work/bin/" ./coredns
say "the conformance suite of Gateway API and its backend"
build build -trimpath -ldflags "-s -w" -o "$work/bin/" sigs.k8s.io/gateway-api/conformance/echo-basic
build test -c -trimpath -ldflags "-s -w" -o "$work/bin/gateway-conformance.test" ./conformance
say "Helm ${helm#v}"
(cd / && GOBIN="$work/bin" go install -trimpath -ldflags "-s -w" "helm.sh/helm/v4/cmd/helm@$helm")

cp -r --no-preserve=mode "$(build list -m -f '{{.Dir}}' sigs.k8s.io/gateway-api)/config/crd" "$work/crds"
musl-gcc -static -O2 -o "$work/bin/pause" pause.c
image() { python3 -B image.py "$work/images/$1.tar" --file "$work/bin/$1=/$1" "${@:2}"; }
image pause --name localhost/pause:test
image coredns --name localhost/coredns:test
# The names that the suite's own manifests use, so that nothing is pulled.
mapfile -t names < <(grep -rhoE '[^ "]+/echo-basic:[^ "]+' "$(build list -m -f '{{.Dir}}' sigs.k8s.io/gateway-api/conformance)" \
    --include=*.yaml | sort -u)
image echo-basic "${names[@]/#/--name=}"

# Two builds at once come to the same; the first one's stays.
for part in bin images crds; do
    mv -T "$work/$part" "$target/$part" 2>/dev/null || [ -d "$target/$part" ]
done
: >"$target/complete"
