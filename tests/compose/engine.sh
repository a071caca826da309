#!/usr/bin/env bash
# Starts or stops a Docker engine of the tests' own: its socket, its data and its pid are not the machine's.
#   engine.sh start FOLDER   (prints DOCKER_HOST)      engine.sh stop FOLDER
set -euo pipefail

# Where Debian has dockerd; an ordinary PATH lacks it.
PATH=$PATH:/usr/sbin:/sbin
action=$1
folder=$2
socket=$folder/docker.sock
pidfile=$folder/docker.pid
data=${PORTCULLIS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/portcullis}/docker

running() {
    [[ -s $pidfile ]] && kill -0 "$(cat "$pidfile")" 2>/dev/null
}

case $action in
start)
    if [[ $(id -u) != 0 ]]; then
        echo "the Docker engine needs root: run the tests as root" >&2
        exit 1
    fi
    if ! command -v dockerd >/dev/null; then
        echo "dockerd is missing: apt-get install -y docker.io docker-compose" >&2
        exit 1
    fi
    mkdir -p "$folder" "$data"
    if ! running; then
        # No default bridge, no firewall rules: compose makes a bridge of its own, and ports are published by the engine's
        # userland proxy. vfs works inside a container too.
        setsid dockerd --storage-driver=vfs --data-root "$data" --exec-root "$folder/exec" --pidfile "$pidfile" \
            --host "unix://$socket" --bridge=none --iptables=false --ip6tables=false --ip-forward=false --ip-masq=false \
            </dev/null >"$folder/dockerd.log" 2>&1 &
    fi
    for _ in $(seq 300); do
        if DOCKER_HOST=unix://$socket docker version >/dev/null 2>&1; then
            echo "unix://$socket"
            exit 0
        fi
        sleep 0.1
    done
    tail -20 "$folder/dockerd.log" >&2
    exit 1
    ;;
stop)
    if running; then
        pid=$(cat "$pidfile")
        kill "$pid"
        for _ in $(seq 200); do
            kill -0 "$pid" 2>/dev/null || exit 0
            sleep 0.1
        done
        echo "dockerd $pid does not stop" >&2
        exit 1
    fi
    ;;
*)
    echo "usage: engine.sh start|stop FOLDER" >&2
    exit 2
    ;;
esac
