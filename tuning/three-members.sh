#!/usr/bin/env bash
# Three members of one cluster on this machine, for trying things out: Ctrl-C stops all of them, the
# next start finds their data again.
#
#   tuning/three-members.sh [DIRECTORY] [FLAG...]
#
# DIRECTORY holds their data and logs (default ./corestone.three); flags go to every member.
# CORESTONE names the binary, otherwise the one in target/release is built if need be.
# Undo: remove DIRECTORY.
set -euo pipefail

here=$(cd "$(dirname "$0")/.." && pwd)
directory=${1:-corestone.three}
[ $# -eq 0 ] || shift
if [ -z "${CORESTONE:-}" ]; then
    cargo build --release --quiet --manifest-path "$here/Cargo.toml" -p server
    CORESTONE=${CARGO_TARGET_DIR:-$here/target}/release/corestone
fi
mkdir -p "$directory"

# Member n: clients on n2379, peers on n2380, the binary protocol on n2378.
cluster=""
for n in 1 2 3; do
    cluster+="${cluster:+,}m$n=http://127.0.0.1:${n}2380"
done

pids=()
stop() {
    trap - INT TERM HUP
    # A stopped leader hands over first; the last one has nobody to hand over to.
    kill "${pids[@]}" 2>/dev/null || true
    wait
}
trap 'stop; exit 0' INT TERM HUP

# A session each: Ctrl-C is for this script alone, which then stops every member once; two signals
# would end them on the spot, without a leader's farewell.
for n in 1 2 3; do
    setsid "$CORESTONE" --name "m$n" --data-dir "$directory/m$n" \
        --listen-client-urls "http://127.0.0.1:${n}2379" \
        --advertise-client-urls "http://127.0.0.1:${n}2379" \
        --listen-peer-urls "http://127.0.0.1:${n}2380" \
        --initial-advertise-peer-urls "http://127.0.0.1:${n}2380" \
        --listen-binary-urls "http://127.0.0.1:${n}2378" \
        --initial-cluster "$cluster" --initial-cluster-state new \
        "$@" 2>>"$directory/m$n.log" &
    pids+=($!)
    echo "m$n: process ${pids[-1]}, clients http://127.0.0.1:${n}2379, log $directory/m$n.log"
done
echo "export ETCDCTL_ENDPOINTS=127.0.0.1:12379,127.0.0.1:22379,127.0.0.1:32379"

# One may be killed to see what the others do; the script ends when none is left.
wait "${pids[@]}" || true
for pid in "${pids[@]}"; do
    while kill -0 "$pid" 2>/dev/null; do
        wait "$pid" || true
    done
done
