# Where an installation lies, and with what it is made; read by install.sh, uninstall.sh and
# wheels.sh. The unit has the same paths.
# shellcheck shell=bash disable=SC2034
DESTDIR=${DESTDIR:-}
DESTDIR=${DESTDIR%/}
case "$DESTDIR" in "" | /*) ;; *) DESTDIR="$PWD/$DESTDIR" ;; esac
PREFIX=${PREFIX:-/usr/local}
SERVICE_USER=trunkbridge
HOME_OF_IT=/opt/trunkbridge
RELEASES=$HOME_OF_IT/releases
CURRENT=$HOME_OF_IT/current
ETC=/etc/trunkbridge
STATE=/var/lib/trunkbridge
UNITS=/etc/systemd/system

say() { printf '%s: %s\n' "$(basename "$0" .sh)" "$*"; }
complain() { printf '%s: %s\n' "$(basename "$0" .sh)" "$*" >&2; }

in_a_home() { case "$1" in /home/* | /root/*) true ;; *) false ;; esac; }

# The service's interpreter: PYTHON, or one outside of home folders if there is any.
find_python() {
    local candidate real last=""
    for candidate in ${PYTHON:+"$PYTHON"} /usr/bin/python3 /usr/local/bin/python3 \
        python3 python3.13 python3.12 python3.11; do
        real=$("$candidate" -c 'import os, sys, venv, ensurepip
print(os.path.realpath(sys.executable))
sys.exit(sys.version_info < (3, 11))' 2>/dev/null) || continue
        if [ "$candidate" = "${PYTHON:-}" ] || ! in_a_home "$real"; then
            echo "$real"
            return
        fi
        last=${last:-$real}
    done
    if [ -z "$last" ]; then
        complain "Python 3.11 or newer with venv is needed and was not found (python3-venv, or PYTHON=)"
        return 1
    fi
    echo "$last"
}

# What building our own wheel needs, at the versions and hashes of requirements.lock.
needs_of_the_build() {
    awk 'function flush() { if (block ~ /^hatchling==|# +(via )?hatchling\n/) printf "%s", block }
        /^[a-z]/ { flush(); block = "" }
        { block = block $0 "\n" }
        END { flush() }' requirements.lock
}

# Where `make setup` keeps the wheels of exactly these locks for an interpreter.
kept_wheels() {
    local minor
    minor=$("$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    echo ".cache/wheels/$(cat requirements-daemon.lock requirements.lock | sha256sum | cut -c1-16)-$minor"
}

# WHEELS, else what `make setup` keeps, else nothing: then the package index is asked.
find_wheels() {
    if [ -n "${WHEELS:-}" ]; then
        echo "$WHEELS"
    elif [ -e "$(kept_wheels "$1")/.complete" ]; then
        kept_wheels "$1"
    fi
}
