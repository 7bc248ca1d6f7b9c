#!/usr/bin/env bash
# Runs a command alone on the machine (what keeps real time must not share it), and with a
# network it can work on: libwebrtc gathers no candidate where loopback is the only
# interface, not even for a server on 127.0.0.1. Where that is so (a sandbox without a
# network, all cables out), the command gets a network namespace of its own with one more
# interface. Nothing of the machine's own network is touched.
set -euo pipefail

has_interface() {
    [ -n "$(ip -o -4 addr show up scope global 2>/dev/null)" ]
}

namespace=()
if command -v ip >/dev/null && ! has_interface; then
    if unshare -n true 2>/dev/null; then
        namespace=(unshare -n)
    elif unshare -rn true 2>/dev/null; then
        namespace=(unshare -rn)
    else
        echo "no network interface besides loopback and no right to make one: WebRTC will fail" >&2
    fi
fi
if [ ${#namespace[@]} -gt 0 ]; then
    echo "no network interface besides loopback: using a network namespace of our own" >&2
    # 192.0.2.0/24 is for documentation (RFC 5737): it collides with nothing.
    namespace+=(bash -c 'ip link set lo up && ip link add veth0 type veth peer name veth1 &&
        ip addr add 192.0.2.1/24 dev veth0 && ip link set veth0 up && ip link set veth1 up &&
        exec "$@"' alone)
fi
exec flock "${TMPDIR:-/tmp}/trunkbridge.lock" ${namespace[@]+"${namespace[@]}"} "$@"
