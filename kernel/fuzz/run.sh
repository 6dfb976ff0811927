#!/bin/sh
# Fuzzes the core: each target for so many seconds (60). Inputs that were found stay in corpus/, ones
# that fail in artifacts/. It needs a nightly compiler and cargo-fuzz.
set -eu
cd "$(dirname "$0")"
seconds=${1:-60}
# An input begins with a byte that chooses its form.
mkdir -p corpus/bodies corpus/blobs
for body in ../../tests/kernel/corpus/*/*.json; do
    { printf 0; cat "$body"; } > "corpus/bodies/$(basename "$body")"
done
for body in ../../tests/kernel/corpus/*/*.ndjson; do
    { printf 1; cat "$body"; } > "corpus/bodies/$(basename "$body")"
done
cp seeds/blobs/* corpus/blobs/
for target in bodies blobs; do
    echo "fuzzing $target for $seconds s"
    cargo +nightly fuzz run --fuzz-dir . "$target" -- \
        -max_total_time="$seconds" -max_len=4096 -timeout=10 -rss_limit_mb=2048 -print_final_stats=1
done
