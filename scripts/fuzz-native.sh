#!/usr/bin/env bash
# Coverage-guided fuzzing of the media core (native/fuzz) by libFuzzer.
#   fuzz-native.sh [MINUTES for each target] [TARGET...]
# What was found before is kept in .cache/fuzz-native; a crash is written there and ends it.
# libFuzzer's instrumentation is a pass of the stable compiler: neither nightly nor cargo-fuzz.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v cargo >/dev/null; then
    echo "fuzz: no cargo, so the media core is not fuzzed" >&2
    [ -z "${CI:-}" ] && exit 0
    exit 1
fi

minutes=${1:-1}
shift || true
export CARGO_TARGET_DIR=native/target/fuzz
export RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares"
# With --target, build scripts and macros are spared the instrumentation.
host=$(rustc -vV | sed -n 's/^host: //p')
nice cargo build --quiet --release --locked --target "$host" --manifest-path native/fuzz/Cargo.toml

targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
    mapfile -t targets < <(basename -s .rs native/fuzz/targets/*.rs)
fi
for target in "${targets[@]}"; do
    kept=.cache/fuzz-native/$target
    mkdir -p "$kept"
    printf 'fuzz: %s, %s min\n' "$target" "$minutes"
    nice "$CARGO_TARGET_DIR/$host/release/$target" "$kept" \
        -max_total_time=$((minutes * 60)) -max_len=4096 -len_control=20 -timeout=10 \
        -rss_limit_mb=1024 -print_final_stats=1 -artifact_prefix="$kept-" 2>&1 |
        grep --line-buffered -vE '^#[0-9]+[[:space:]]+(NEW|REDUCE|RELOAD|pulse)|^INFO:'
done
