#!/usr/bin/env bash
# Takes away what scripts/install.sh made. Configuration, state and the user stay; PURGE=1
# takes them too. DESTDIR= and PREFIX= as for the installation.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/layout.sh

if [ "$(id -u)" != 0 ] && [ -z "$DESTDIR" ]; then
    complain "not root: use sudo, or DESTDIR="
    exit 1
fi
if [ -z "$DESTDIR" ] && [ -d /run/systemd/system ]; then
    systemctl disable --now trunkbridge.service 2>/dev/null ||
        complain "trunkbridge.service could not be stopped or disabled"
fi
rm -f "$DESTDIR$UNITS/trunkbridge.service" "$DESTDIR$PREFIX/lib/sysusers.d/trunkbridge.conf"
rm -f "$DESTDIR$PREFIX/bin/trunkbridge"
rm -rf "$DESTDIR$HOME_OF_IT"
say "removed $HOME_OF_IT, $PREFIX/bin/trunkbridge and the unit"
if [ -z "$DESTDIR" ] && [ -d /run/systemd/system ]; then
    systemctl daemon-reload || complain "systemctl daemon-reload failed: run it yourself"
fi
if [ -n "${PURGE:-}" ]; then
    rm -rf "$DESTDIR$ETC" "$DESTDIR$STATE"
    if [ -z "$DESTDIR" ] && getent passwd "$SERVICE_USER" >/dev/null; then
        userdel "$SERVICE_USER" || complain "user $SERVICE_USER could not be removed"
    fi
    say "removed $ETC, $STATE and the user"
else
    say "kept $ETC and $STATE (PURGE=1 removes them)"
fi
