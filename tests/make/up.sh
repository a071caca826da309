#!/usr/bin/env bash
# Starts the quickstart in the background: an echo backend and Envoy with the controller. Does nothing that is already done.
set -euo pipefail
cd "$(dirname "$0")/../.."
: "${PORTCULLIS_ENVOY:?}"
run=$PWD/.run
requests=manifests/examples/quickstart/curl.txt
mkdir -p "$run"
# The salt key and the admin socket live here.
chmod 700 "$run"

alive() { # name: whether what we started is still there, and still the same program
    local pid
    pid=$(cat "$run/$1.pid" 2>/dev/null) && [ -n "$pid" ] && [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$2" ]
}

print_requests() {
    printf '\n\033[1mTry these; the comment is the answer to expect:\033[0m\n\n'
    if [ -t 1 ]; then
        sed -E $'s/#(.*)$/\033[2m#\\1\033[0m/' "$requests"
    else
        cat "$requests"
    fi
    cp "$requests" "$run/curl.txt"
    printf '\nThe reason of each answer: tail -n 1 %s\nEdit manifests/examples/quickstart/*.yaml and repeat. Stop with: make down\n' "${run#"$PWD"/}/access.log"
}

stamp=$(cat dist/portcullis dist/portcullis.wasm "$0" | sha256sum | cut -d' ' -f1)
if alive echo envoy && alive portcullis portcullis && [ "$(cat "$run/stamp" 2>/dev/null)" = "$stamp" ]; then
    echo "already running"
    print_requests
    exit 0
fi
tests/make/down.sh --quiet

owner() { # port: who listens there
    python3 - "$1" <<'PY'
import glob, os, sys
port = int(sys.argv[1])
inodes = set()
for table in ("/proc/net/tcp", "/proc/net/tcp6"):
    try:
        for line in open(table).read().splitlines()[1:]:
            field = line.split()
            if field[3] == "0A" and int(field[1].rsplit(":", 1)[1], 16) == port:
                inodes.add(f"socket:[{field[9]}]")
    except OSError:
        pass
if not inodes:
    sys.exit(0)
for link in glob.glob("/proc/[0-9]*/fd/*"):
    try:
        if os.readlink(link) in inodes:
            pid = link.split("/")[2]
            print(f"{open(f'/proc/{pid}/comm').read().strip()} (pid {pid})")
            sys.exit(0)
    except OSError:
        pass
print("a program of another user")
PY
}
for port in 10080 10081; do
    who=$(owner $port)
    [ -z "$who" ] || { echo "port $port is in use by $who; stop it, then run \`make up\` again" >&2; exit 1; }
done

# With hot restart, Envoy asks to be ended when its parent ends, and the parent is this script.
setsid "$PORTCULLIS_ENVOY" -c envoy-config/echo.yaml --disable-hot-restart --concurrency 1 --log-level warning \
    >"$run/echo.log" 2>&1 </dev/null &
echo $! >"$run/echo.pid"

setsid dist/portcullis run -f manifests/examples/quickstart --envoy "$PORTCULLIS_ENVOY" --concurrency 2 \
    --state-dir "$run/state" --run-dir "$run/envoy" >"$run/portcullis.log" 2>"$run/portcullis.err" </dev/null &
echo $! >"$run/portcullis.pid"

for _ in $(seq 100); do
    if grep -q '^ready' "$run/portcullis.log" && curl -fsS -o /dev/null http://127.0.0.1:10081/ 2>/dev/null; then
        cat "$run/portcullis.log"
        ln -sfn envoy/edge.public/access.log "$run/access.log"
        echo "$stamp" >"$run/stamp"
        print_requests
        exit 0
    fi
    if ! alive portcullis portcullis || ! alive echo envoy; then break; fi
    sleep 0.1
done
echo "the quickstart did not start:" >&2
tail -n 20 "$run/portcullis.log" "$run/portcullis.err" "$run/echo.log" >&2
tests/make/down.sh --quiet
exit 1
