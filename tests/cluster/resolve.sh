#!/usr/bin/env bash
# Writes source/go.mod and source/go.sum anew after one of these versions was changed.
set -euo pipefail
cd "$(dirname "$0")/source"
kubernetes=1.36.3
etcd=v3.6.16
coredns=v1.14.4
gateway_api=v1.6.3

folder=$(cd / && go mod download -json "k8s.io/kubernetes@v$kubernetes" | sed -n 's/.*"Dir": "\(.*\)",/\1/p')
{
    printf 'module portcullis.dev/cluster\n\n'
    grep -E '^(go|godebug) ' "$folder/go.mod"
    cat <<MOD

require (
	github.com/coredns/coredns $coredns
	go.etcd.io/etcd/server/v3 $etcd
	k8s.io/kubernetes v$kubernetes
	sigs.k8s.io/gateway-api $gateway_api
	sigs.k8s.io/gateway-api/conformance $gateway_api
)

replace (
MOD
    # Kubernetes names its own parts by their place in its repository; published they are modules of the same version.
    sed -n "s#^\t\(k8s.io/[^ ]*\) => ./staging/.*#\t\1 => \1 v0.${kubernetes#1.}#p" "$folder/go.mod"
    echo ')'
} >go.mod
go mod tidy
