#!/usr/bin/env bash
# Makes the certificates of a cluster and a kubeconfig for each part of it; they are good for a day.
# usage: pki.sh FOLDER
set -euo pipefail
. "$(dirname "$0")/settings.sh"
umask 077
cd "$run/pki"

if [ ${#inside[@]} -eq 0 ]; then
    # The API server cannot let the kernel choose.
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])' >"$run/port"
    port=$(cat "$run/port")
fi

key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1.key" 2>/dev/null; }
authority() { # name
    key "$1"
    openssl req -x509 -new -key "$1.key" -subj "/CN=$1" -days 1 -out "$1.crt" \
        -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign,digitalSignature
}
certificate() { # name subject usage names authority
    key "$1"
    openssl req -new -key "$1.key" -subj "$2" -out "$1.csr"
    printf '%s\n' basicConstraints=critical,CA:FALSE keyUsage=critical,digitalSignature "extendedKeyUsage=$3" ${4:+"subjectAltName=$4"} >"$1.ext"
    openssl x509 -req -in "$1.csr" -CA "$5.crt" -CAkey "$5.key" -days 1 -extfile "$1.ext" -out "$1.crt" 2>/dev/null
}
kubeconfig() { # name
    cat >"$run/kubeconfig/$1" <<YAML
apiVersion: v1
kind: Config
clusters: [{name: test, cluster: {server: "https://$address:$port", certificate-authority-data: $(base64 -w0 ca.crt)}}]
users: [{name: $1, user: {client-certificate-data: $(base64 -w0 "$1.crt"), client-key-data: $(base64 -w0 "$1.key")}}]
contexts: [{name: test, context: {cluster: test, user: $1}}]
current-context: test
YAML
}

authority ca
authority front-proxy-ca
names=DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local
certificate apiserver /CN=kube-apiserver serverAuth "$names,IP:127.0.0.1,IP:$address,IP:$api_service" ca
certificate apiserver-kubelet-client /O=system:masters/CN=kube-apiserver-kubelet-client clientAuth "" ca
certificate front-proxy-client /CN=front-proxy-client clientAuth "" front-proxy-ca
certificate admin /O=system:masters/CN=admin clientAuth "" ca
certificate controller-manager /CN=system:kube-controller-manager clientAuth "" ca
certificate scheduler /CN=system:kube-scheduler clientAuth "" ca
certificate proxy /CN=system:kube-proxy clientAuth "" ca
certificate kubelet "/O=system:nodes/CN=system:node:$node" clientAuth,serverAuth "DNS:$node,IP:$address" ca
key service-account
openssl pkey -in service-account.key -pubout -out service-account.pub
for name in admin controller-manager scheduler proxy kubelet; do kubeconfig "$name"; done
