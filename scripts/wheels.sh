#!/usr/bin/env bash
# Keeps in .cache/wheels what `make install` needs, so that it also works without a network.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/layout.sh

python=$(find_python)
folder=$(kept_wheels "$python")
[ ! -e "$folder/.complete" ] || exit 0
say "keeping the wheels that make install needs in $folder"
rm -rf .cache/wheels
mkdir -p "$folder"
needs_of_the_build >"$folder/build.lock"
for lock in requirements-daemon.lock "$folder/build.lock"; do
    .venv/bin/python -m pip download --quiet --disable-pip-version-check --require-hashes \
        --only-binary=:all: --python-version "${folder##*-}" --dest "$folder" -r "$lock"
done
touch "$folder/.complete"
