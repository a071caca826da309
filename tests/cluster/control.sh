#!/usr/bin/env bash
# Starts etcd and the API server; with a node to come, also what schedules pods and runs the built-in controllers.
# usage: control.sh FOLDER
set -euo pipefail
. "$(dirname "$0")/settings.sh"
pki=$run/pki
kubeconfig=$run/kubeconfig

# Nothing here outlives the test, so nothing is flushed to the disk.
start "$bin/etcd" --name test --data-dir "$run/etcd" --unsafe-no-fsync --log-level warn \
    --listen-client-urls "$etcd" --advertise-client-urls "$etcd" \
    --listen-peer-urls "$etcd_peers" --initial-advertise-peer-urls "$etcd_peers" \
    --initial-cluster "test=$etcd_peers"
start "$bin/kube-apiserver" --etcd-servers "$etcd" --bind-address "$address" --advertise-address "$address" --secure-port "$port" \
    --cert-dir "$run/apiserver" --tls-cert-file "$pki/apiserver.crt" --tls-private-key-file "$pki/apiserver.key" \
    --client-ca-file "$pki/ca.crt" --authorization-mode Node,RBAC --enable-admission-plugins NodeRestriction --allow-privileged=true \
    --service-account-key-file "$pki/service-account.pub" --service-account-signing-key-file "$pki/service-account.key" \
    --service-account-issuer https://kubernetes.default.svc --service-cluster-ip-range "$services" \
    --kubelet-client-certificate "$pki/apiserver-kubelet-client.crt" --kubelet-client-key "$pki/apiserver-kubelet-client.key" \
    --kubelet-preferred-address-types InternalIP \
    --requestheader-client-ca-file "$pki/front-proxy-ca.crt" --requestheader-allowed-names front-proxy-client \
    --requestheader-extra-headers-prefix X-Remote-Extra- --requestheader-group-headers X-Remote-Group \
    --requestheader-username-headers X-Remote-User \
    --proxy-client-cert-file "$pki/front-proxy-client.crt" --proxy-client-key-file "$pki/front-proxy-client.key"
await kube-apiserver kubectl get --raw /readyz
[ ${#inside[@]} -gt 0 ] || exit 0

# One identity for all built-in controllers, the administrator's: a service account for each would take 4.5 s more.
identity=$kubeconfig/admin
start "$bin/kube-controller-manager" --kubeconfig "$identity" --authentication-kubeconfig "$identity" \
    --authorization-kubeconfig "$identity" --bind-address 127.0.0.1 --cert-dir "$run/controller-manager" --leader-elect=false \
    --service-account-private-key-file "$pki/service-account.key" --root-ca-file "$pki/ca.crt" \
    --cluster-signing-cert-file "$pki/ca.crt" --cluster-signing-key-file "$pki/ca.key" \
    --allocate-node-cidrs --cluster-cidr 10.244.0.0/16 --service-cluster-ip-range "$services"
start "$bin/kube-scheduler" --kubeconfig "$kubeconfig/scheduler" --authentication-kubeconfig "$kubeconfig/scheduler" \
    --authorization-kubeconfig "$kubeconfig/scheduler" --bind-address 127.0.0.1 --cert-dir "$run/scheduler" --leader-elect=false
await kube-controller-manager kubectl get serviceaccount default -n default
