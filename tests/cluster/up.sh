#!/usr/bin/env bash
# Runs a Kubernetes with its state in FOLDER until its standard input ends, then stops all of it: whoever holds the other end
# of the pipe takes the cluster along, however it dies. Prints `ready` when it is.
# usage: up.sh FOLDER control   etcd and the API server alone, on loopback; several may run side by side
#        up.sh FOLDER node      all of it, with a node, in a network namespace from which nothing leaves the machine (root)
# The administrator's kubeconfig is FOLDER/kubeconfig/admin.
set -euo pipefail
cd "$(dirname "$0")"
folder=${1:?usage: up.sh FOLDER control|node}
[ -f "$(./where.sh)/complete" ] || { echo "no Kubernetes in the cache; run: make cluster" >&2; exit 1; }
[ ! -e "$folder/pid" ] || { echo "$folder is in use or was; take another folder" >&2; exit 1; }

trap './down.sh "$folder"' EXIT
trap 'exit 1' INT TERM HUP
case ${2:-} in
control)
    ./pki.sh "$folder"
    ./control.sh "$folder"
    ;;
node)
    ./network.sh "$folder"
    ./pki.sh "$folder"
    ./control.sh "$folder"
    ./node.sh "$folder"
    ;;
*)
    echo "usage: up.sh FOLDER control|node" >&2
    exit 2
    ;;
esac
echo ready
cat >/dev/null
