#!/usr/bin/env bash
# Stops what up.sh started in FOLDER, by the recorded process ids, and removes its mounts, namespaces and control groups.
# usage: down.sh FOLDER
set -uo pipefail
. "$(dirname "$0")/settings.sh"

stop kube-proxy
stop kubelet
if running containerd; then
    mapfile -t tasks < <(container tasks ls -q)
    for task in "${tasks[@]}"; do container tasks kill -s KILL "$task"; done
    for _ in $(seq 50); do
        container tasks ls | grep -q RUNNING || break
        sleep 0.1
    done
    for task in "${tasks[@]}"; do container tasks rm -f "$task"; done
    mapfile -t containers < <(container containers ls -q)
    for one in "${containers[@]}"; do
        container containers rm "$one"
        # What the network's plugins remember of it.
        rm -f /var/lib/cni/results/*-"$one"-*
    done
fi >/dev/null 2>&1
stop containerd
# A shim outlives its containerd; those of this cluster have its socket on their command line.
for shim in /proc/[0-9]*; do
    line=$({ tr '\0' ' ' <"$shim/cmdline"; } 2>/dev/null) || continue
    case $line in
    *containerd-shim-runc-v2*" -address ${containerd#unix://} "*) kill -KILL "${shim#/proc/}" 2>/dev/null ;;
    esac
done
for program in kube-scheduler kube-controller-manager kube-apiserver etcd; do stop "$program"; done

findmnt -rno TARGET | grep "^$run/" | sort -r | while read -r mount; do umount -l "$mount"; done
if [ -n "${namespace:-}" ]; then
    ip netns del "$namespace" 2>/dev/null
    for group in /sys/fs/cgroup/"$namespace" /sys/fs/cgroup/*/"$namespace"; do
        [ -d "$group" ] && find "$group" -depth -type d -exec rmdir {} \; 2>/dev/null
    done
fi
exit 0
