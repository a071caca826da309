#!/bin/sh
# Writes an authority and the example's certificates beside this script: certificates.yaml for Portcullis, ca.crt for clients.
# In a cluster cert-manager does this, or `kubectl create secret tls`.
set -eu
umask 077
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

quietly() {
    "$@" 2> log || { cat log >&2; exit 1; }
}

# NAME HOST: a key and a certificate for it, as a Secret.
certificate() {
    quietly openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$1.key" -subj "/CN=$2" -out "$1.csr"
    printf 'subjectAltName=DNS:%s\n' "$2" > "$1.ext"
    quietly openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -extfile "$1.ext" -out "$1.crt"
    cat << EOF
---
apiVersion: v1
kind: Secret
metadata:
  name: $1-certificate
  namespace: shop
type: kubernetes.io/tls
data:
  tls.crt: $(base64 -w 0 < "$1.crt")
  tls.key: $(base64 -w 0 < "$1.key")
EOF
}

quietly openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -days 30 -subj '/CN=example authority' -out ca.crt
{
    cat << EOF
apiVersion: v1
kind: ConfigMap
metadata:
  name: ca
  namespace: shop
data:
  ca.crt: |
$(sed 's/^/    /' ca.crt)
EOF
    certificate shop shop.example.com
    certificate api api.example.com
    certificate admin admin.example.com
} > "$here/.certificates.yaml"
cp ca.crt "$here/ca.crt"
# In one step: whoever watches the folder never reads half a file.
mv "$here/.certificates.yaml" "$here/certificates.yaml"
