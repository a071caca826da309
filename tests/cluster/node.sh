#!/usr/bin/env bash
# Starts the node: containerd with the images of the cache, the kubelet, kube-proxy and CoreDNS.
# usage: node.sh FOLDER
set -euo pipefail
. "$(dirname "$0")/settings.sh"
[ ${#inside[@]} -gt 0 ] || { echo "a node needs a network namespace; see network.sh" >&2; exit 1; }
mkdir -p "$run"/{containerd,cni,kubelet,pods}

cat >"$run/cni/10-test.conflist" <<JSON
{"cniVersion": "1.0.0", "name": "$namespace", "plugins": [
  {"type": "bridge", "bridge": "pods", "isGateway": true, "ipMasq": false, "hairpinMode": true,
   "ipam": {"type": "host-local", "dataDir": "$run/addresses", "ranges": [[{"subnet": "$pods"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
JSON
# restrict_oom_score_adj: lowering it takes CAP_SYS_RESOURCE, which a container may lack.
cat >"$run/containerd/config.toml" <<TOML
version = 2
root = "$run/containerd/root"
state = "$run/containerd/state"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs"]
[grpc]
address = "${containerd#unix://}"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "localhost/pause:test"
restrict_oom_score_adj = true
enable_unprivileged_ports = true
enable_unprivileged_icmp = true
netns_mounts_under_state_dir = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "$run/cni"
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
BinaryName = "$(PATH=$PATH:/usr/sbin command -v runc)"
SystemdCgroup = false
TOML
start "$(command -v containerd)" --config "$run/containerd/config.toml"
await containerd container version
for image in "$built"/images/*.tar; do container images import "$image" >/dev/null; done

# Without a server of names above it, a pod asks CoreDNS alone.
: >"$run/resolv.conf"
# A control group of this cluster's own, with either version of control groups.
if [ -f /sys/fs/cgroup/cgroup.controllers ]; then
    mkdir -p "/sys/fs/cgroup/$namespace"
else
    for hierarchy in /sys/fs/cgroup/*/; do mkdir -p "$hierarchy$namespace"; done
fi
cat >"$run/kubelet.yaml" <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: $address
healthzBindAddress: 127.0.0.1
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $run/pki/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: $run/pki/kubelet.crt
tlsPrivateKeyFile: $run/pki/kubelet.key
containerRuntimeEndpoint: $containerd
cgroupDriver: cgroupfs
cgroupRoot: /$namespace
failCgroupV1: false
failSwapOn: false
clusterDNS: [$dns_service]
clusterDomain: cluster.local
resolvConf: $run/resolv.conf
podLogsDir: $run/pods
evictionHard: {memory.available: 50Mi, nodefs.available: "1%", nodefs.inodesFree: "1%", imagefs.available: "1%"}
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
maxPods: 200
shutdownGracePeriod: 0s
registerNode: true
YAML
start "$bin/kubelet" --config "$run/kubelet.yaml" --kubeconfig "$run/kubeconfig/kubelet" --root-dir "$run/kubelet" \
    --cert-dir "$run/kubelet/pki" --hostname-override "$node" --node-ip "$address"
await kubelet kubectl wait --for=condition=Ready "node/$node" --timeout=1s

cat >"$run/kube-proxy.yaml" <<YAML
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
bindAddress: $address
healthzBindAddress: 127.0.0.1:10256
metricsBindAddress: 127.0.0.1:10249
hostnameOverride: $node
clusterCIDR: 10.244.0.0/16
clientConnection: {kubeconfig: $run/kubeconfig/proxy}
conntrack: {maxPerCore: 0}
nodePortAddresses: ["10.200.$number.0/30"]
YAML
start "$bin/kube-proxy" --config "$run/kube-proxy.yaml"
await kube-proxy "${inside[@]}" curl -sf http://127.0.0.1:10256/healthz

kubectl apply -f "$here/dns.yaml" >/dev/null
kubectl -n kube-system rollout status deployment/coredns --timeout=60s >/dev/null
