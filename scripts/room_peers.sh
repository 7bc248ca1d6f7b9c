#!/usr/bin/env bash
# Builds and fetches what the tests put into a room beside the Python SDK: a participant on the
# Go SDK (.cache/bin/go-peer) and livekit-client for Chromium (.cache/peers/browser). Both by
# the hashes of their lock files. Idempotent; what is there is not touched, so that it works
# again offline.
set -euo pipefail
cd "$(dirname "$0")/.."

GO_PEER=tests/system/go_peer
BROWSER_PEER=tests/system/browser_peer
UMD=livekit-client.umd.js

say() { printf 'setup: %s\n' "$*"; }
complain() { printf 'setup: %s\n' "$*" >&2; }
fingerprint() { cat "$@" | sha256sum | cut -d' ' -f1; }

build_go_peer() {
    local go wanted target=.cache/bin/go-peer
    wanted=$(fingerprint "$GO_PEER"/*.go "$GO_PEER"/go.mod "$GO_PEER"/go.sum)
    [ -x "$target" ] && [ "$(cat .cache/build/go-peer.made 2>/dev/null)" = "$wanted" ] && return 0
    go=$(command -v go || echo "$PWD/.cache/go/bin/go")
    if [ ! -x "$go" ]; then
        complain "no go, so the tests have no participant on the Go SDK"
        return 0
    fi
    say "building a participant on the Go SDK (once, about a minute)"
    mkdir -p .cache/bin .cache/build
    if (cd "$GO_PEER" && GOFLAGS=-mod=readonly nice "$go" build -trimpath -ldflags "-s -w" \
        -o "$OLDPWD/$target.new" .) 2>.cache/go-peer-build.log; then
        mv "$target.new" "$target"
        printf '%s' "$wanted" >.cache/build/go-peer.made
    else
        tail -n 3 .cache/go-peer-build.log >&2
        complain "the participant on the Go SDK could not be built (.cache/go-peer-build.log)"
    fi
}

fetch_livekit_client() {
    local wanted target=.cache/peers/browser folder
    wanted=$(fingerprint "$BROWSER_PEER/package-lock.json")
    [ "$(cat "$target/.made" 2>/dev/null)" = "$wanted" ] && return 0
    if ! command -v npm >/dev/null; then
        complain "no npm, so the tests have no browser in the room"
        return 0
    fi
    say "fetching livekit-client for the browser in the room"
    folder=$(mktemp -d)
    cp "$BROWSER_PEER"/package*.json "$folder"
    if (cd "$folder" && nice npm ci --ignore-scripts --no-audit --no-fund) >.cache/npm.log 2>&1; then
        mkdir -p "$target"
        cp "$folder/node_modules/livekit-client/dist/$UMD" "$target/$UMD"
        printf '%s' "$wanted" >"$target/.made"
    else
        tail -n 3 .cache/npm.log >&2
        complain "livekit-client could not be fetched (.cache/npm.log)"
    fi
    rm -rf "$folder"
}

build_go_peer
fetch_livekit_client
