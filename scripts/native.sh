#!/usr/bin/env bash
# Builds native/, the media core of the direct engine, into a wheel and installs it into .venv.
# Needs cargo and cmake; without them one line, and calls use the SDK engine. A wheel is kept in
# the user's cache by the hash of what it is made of.
#   native.sh        for setup
#   native.sh dev    build only what changed, for PYTHONPATH=native/target/python
#   native.sh check  format, clippy and the tests of the crates
set -euo pipefail
cd "$(dirname "$0")/.."

PACKAGE=native/python
say() { printf 'setup: %s\n' "$*"; }
complain() { printf 'setup: %s\n' "$*" >&2; }

fingerprint() {
    {
        find native/Cargo.* native/core native/python -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
        rustc --version
        uname -m
    } | sha256sum | cut -d' ' -f1
}

for tool in cargo cmake cc; do
    if ! command -v "$tool" >/dev/null; then
        complain "no $tool, so the direct engine is not built; calls use the SDK engine"
        exit 0
    fi
done

if [ "${1:-}" = dev ]; then
    nice cargo build --quiet --release --locked --manifest-path native/Cargo.toml
    mkdir -p native/target/python
    # Not in place: a process that has it mapped would crash.
    cp native/target/release/libtrunkbridge_native.so native/target/python/new
    mv native/target/python/new native/target/python/trunkbridge_native.abi3.so
    exit 0
fi

if [ "${1:-}" = check ]; then
    cd native
    cargo fmt --all --check
    nice cargo clippy --quiet --release --locked --workspace --all-targets -- -D warnings
    nice cargo test --quiet --release --locked
    exit 0
fi

wanted=$(fingerprint)
if [ "$(cat .venv/.native 2>/dev/null)" = "$wanted" ] && compgen -G ".cache/media-core/*.whl" >/dev/null; then
    exit 0
fi
kept="${XDG_CACHE_HOME:-$HOME/.cache}/trunkbridge/native/$wanted"
if ! compgen -G "$kept/*.whl" >/dev/null; then
    say "building the media core (native/, once, about four minutes)"
    rm -rf .cache/media-core
    mkdir -p .cache/media-core
    nice .venv/bin/maturin build --quiet --release --locked --strip \
        --manifest-path "$PACKAGE/Cargo.toml" --interpreter .venv/bin/python \
        --out .cache/media-core >.cache/native-build.log 2>&1 || {
        tail -n 5 .cache/native-build.log >&2
        complain "the media core could not be built (.cache/native-build.log)"
        # One of earlier sources is none of ours any more.
        .venv/bin/python -m pip uninstall --quiet --yes trunkbridge-native >/dev/null 2>&1 || true
        rm -rf .venv/.native .cache/media-core
        exit 1
    }
    mkdir -p "$kept"
    cp .cache/media-core/*.whl "$kept/"
fi
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-index --force-reinstall "$kept"/*.whl
rm -rf .cache/media-core # for `make install` and the image
mkdir -p .cache/media-core
cp "$kept"/*.whl .cache/media-core/
printf '%s' "$wanted" >.venv/.native
