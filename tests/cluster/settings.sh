# What the scripts have in common; sourced with the run folder as the first argument.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
run=$(realpath "${1:?usage: $(basename "$0") FOLDER ...}")
built=$("$here/where.sh")
bin=$built/bin
mkdir -p "$run"/{pid,log,pki,kubeconfig}

# With a node, everything runs in a network namespace of its own; without one, on loopback, where others may be too.
if [ -f "$run/network" ]; then
    number=$(cat "$run/network")
    namespace=portcullis-$number
    address=10.200.$number.2
    inside=(nsenter "--net=/run/netns/$namespace")
else
    address=127.0.0.1
    inside=()
fi
port=$(cat "$run/port" 2>/dev/null || echo 6443)
node=node
pods=10.244.0.0/24
services=10.96.0.0/16
api_service=10.96.0.1
dns_service=10.96.0.10
# Names of sockets in the run folder; etcd wants them to look like ports.
etcd=unix://etcd:0
etcd_peers=unix://etcd-peers:0
containerd=unix://$run/containerd/c.sock

start() { # program argument...: in the background and in the run folder, its number in pid/ and its output in log/
    local name
    name=$(basename "$1")
    (cd "$run" && exec setsid "${inside[@]}" "$@") >"$run/log/$name" 2>&1 </dev/null &
    echo $! >"$run/pid/$name"
    disown
}

running() { # program: whether what we started is still there, and still the same program
    local pid
    pid=$(cat "$run/pid/$1" 2>/dev/null) && [ -n "$pid" ] && [ "$(basename "$(readlink "/proc/$pid/exe" 2>/dev/null)")" = "$1" ]
}

stop() { # program: asks it to end, insists after ten seconds
    local pid
    if running "$1"; then
        pid=$(cat "$run/pid/$1")
        kill -TERM "$pid" 2>/dev/null || true
        for _ in $(seq 100); do
            running "$1" || break
            sleep 0.1
        done
        if running "$1"; then kill -KILL "$pid" 2>/dev/null || true; fi
    fi
    rm -f "$run/pid/$1"
}

await() { # program command...: until the command succeeds; gives up when the program ends or after a minute
    local program=$1
    shift
    for _ in $(seq 600); do
        if "$@" >/dev/null 2>&1; then return; fi
        # A moment may pass until the new process is the program.
        if ! running "$program" && sleep 0.3 && ! running "$program"; then break; fi
        sleep 0.1
    done
    echo "$program did not become ready; the end of $run/log/$program:" >&2
    tail -n 20 "$run/log/$program" >&2
    return 1
}

kubectl() { "$bin/kubectl" --kubeconfig "$run/kubeconfig/admin" "$@"; }

container() { ctr --address "${containerd#unix://}" --namespace k8s.io "$@"; }
