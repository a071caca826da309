#!/usr/bin/env bash
# Makes the cluster's network namespace and a link to it. It has no default route and nothing is forwarded from it: what is sent
# in it cannot leave the machine.
# usage: network.sh FOLDER
set -euo pipefail
mkdir -p "${1:?usage: network.sh FOLDER}"
# Making a namespace fails if there is one of that name, so that a number is taken once.
for number in $(seq 0 255); do
    if ip netns add "portcullis-$number" 2>/dev/null; then
        echo "$number" >"$1/network"
        break
    fi
done
[ -f "$1/network" ] || { echo "cannot make a network namespace; are you root?" >&2; exit 1; }
. "$(dirname "$0")/settings.sh"

outer=portcullis-h$number
ip link add "$outer" type veth peer name node netns "$namespace"
ip addr add "10.200.$number.1/30" dev "$outer"
ip link set "$outer" up
ip -n "$namespace" addr add "$address/30" dev node
ip -n "$namespace" link set lo up
ip -n "$namespace" link set node up
# Before kube-proxy rewrites the address of a service, the kernel wants a route to it. A bridge without ports swallows what is not
# rewritten.
ip -n "$namespace" link add services type bridge
ip -n "$namespace" link set services up
ip -n "$namespace" route add "$services" dev services src "$address"
"${inside[@]}" sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0
