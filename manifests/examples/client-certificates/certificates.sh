#!/bin/sh
# Writes an authority and the example's certificates beside this script: certificates.yaml for Portcullis, and for clients ca.crt
# and a certificate with its key each. In a cluster SPIRE or cert-manager does this.
set -eu
umask 077
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

quietly() {
    "$@" 2> log || { cat log >&2; exit 1; }
}

# NAME SUBJECT-ALTERNATIVE-NAME: a key and a certificate.
certificate() {
    quietly openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$1.key" -subj "/O=shop/CN=$1" -out "$1.csr"
    printf 'subjectAltName=%s\n' "$2" > "$1.ext"
    quietly openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -extfile "$1.ext" -out "$1.crt"
}

quietly openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -days 30 -subj '/CN=example authority' -out ca.crt
certificate server DNS:services.example.com
certificate orders URI:spiffe://example.org/ns/shop/sa/orders
certificate stock URI:spiffe://example.org/ns/shop/sa/stock
certificate partner URI:spiffe://partner.example/reader
cat > "$here/.certificates.yaml" << EOF
apiVersion: v1
kind: ConfigMap
metadata:
  name: client-ca
  namespace: shop
data:
  ca.crt: |
$(sed 's/^/    /' ca.crt)
---
apiVersion: v1
kind: Secret
metadata:
  name: server-certificate
  namespace: shop
type: kubernetes.io/tls
data:
  tls.crt: $(base64 -w 0 < server.crt)
  tls.key: $(base64 -w 0 < server.key)
EOF
cp ca.crt orders.crt orders.key stock.crt stock.key partner.crt partner.key "$here"
# In one step: whoever watches the folder never reads half a file.
mv "$here/.certificates.yaml" "$here/certificates.yaml"
