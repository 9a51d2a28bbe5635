#!/usr/bin/env bash
# A cluster on one machine for the suite, which talks to its first node: cluster.sh PROGRAM NODES PORT DIR [settings].
# It ends with its process group.
set -euo pipefail
program=$1 nodes=$2 port=$3 dir=$4
shift 4
# PORT may lie among those that the system gives to clients, so the others must not lie beside it.
base=$((10000 + port % (9000 / (2 * nodes)) * 2 * nodes))
peer() { printf '127.0.0.1:%d' $((base + $1)); }
peers=$(for ((n = 0; n < nodes; n++)); do peer "$n"; printf ' '; done)
node() { # number settings…
    local n=$1
    shift
    exec "$program" server --port $((n == 0 ? port : base + nodes + n)) --dir "$dir/$n" --peer-address "$(peer "$n")" --peers "${peers% }" "$@"
}
for ((n = 1; n < nodes; n++)); do
    node "$n" "$@" &
done
node 0 "$@"
