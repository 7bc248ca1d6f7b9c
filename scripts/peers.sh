#!/usr/bin/env bash
# Unpacks into .cache/peers the Debian packages of servers that the tests put between
# the daemon and a carrier, with the libraries they need and this machine has not.
# They are not installed: Debian would start them now and enable them for every boot. So
# no root is needed, nothing outside .cache/ changes, and a server of the machine's own is
# used as it is. Idempotent; what is there is not touched, so that it works again offline.
set -euo pipefail
cd "$(dirname "$0")/.."

SERVERS="kamailio:kamailio rtpengine-daemon:rtpengine" # package:command
TARGET=$PWD/.cache/peers

say() { printf 'setup: %s\n' "$*"; }
complain() { printf 'setup: %s\n' "$*" >&2; }

is_there() {
    PATH="$TARGET/usr/sbin:$TARGET/usr/bin:$PATH:/usr/sbin" command -v "$1" >/dev/null
}

update_lists() {
    if [ "$(id -u)" = 0 ]; then
        apt-get update -qq >/dev/null 2>&1 || true
    else
        sudo -n apt-get update -qq >/dev/null 2>&1 || true
    fi
}

# What installing the package would bring to this machine: itself and what is missing.
missing_packages() {
    LC_ALL=C apt-get -s --no-install-recommends install "$1" 2>/dev/null | awk '$1 == "Inst" {print $2}'
}

unpack() {
    local package=$1 folder file wanted
    wanted=$(missing_packages "$package")
    [ -n "$wanted" ] || return 1
    folder=$(mktemp -d)
    # shellcheck disable=SC2086  # one word for each package
    if ! (cd "$folder" && apt-get download -qq $wanted >/dev/null 2>&1); then
        rm -rf "$folder"
        return 1
    fi
    mkdir -p "$TARGET"
    for file in "$folder"/*.deb; do
        dpkg-deb --fsys-tarfile "$file" | tar -x -C "$TARGET" --no-same-owner --keep-directory-symlink
    done
    rm -rf "$folder"
}

wanted=()
for pair in $SERVERS; do
    is_there "${pair#*:}" || wanted+=("$pair")
done
[ ${#wanted[@]} -gt 0 ] || exit 0
names=$(printf "%s " "${wanted[@]%%:*}")
if [ -n "${NO_APT:-}" ]; then
    complain "NO_APT is set, not unpacked: $names"
elif ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
    complain "no apt-get and dpkg-deb here, not unpacked: $names"
else
    say "unpacking Debian packages into .cache/peers: $names"
    updated=""
    for pair in "${wanted[@]}"; do
        unpack "${pair%%:*}" && continue
        [ -n "$updated" ] || update_lists
        updated=yes
        unpack "${pair%%:*}" || complain "Debian package ${pair%%:*} could not be unpacked"
    done
fi
