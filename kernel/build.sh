#!/bin/sh
# Builds the kernel's wheel into kernel/target/wheels and prints its path; with an argument, the
# module is unpacked into that folder as well, from where PYTHONPATH finds it.
#
# It needs cargo and maturin (MATURIN names another one than that of the PATH). Paths of the machine
# that builds are kept out of the binary.
set -eu
cd "$(dirname "$0")"
RUSTFLAGS="${RUSTFLAGS:-} --remap-path-prefix=$PWD=kernel"
RUSTFLAGS="$RUSTFLAGS --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}/registry/src=crates"
export RUSTFLAGS
rm -rf target/wheels
"${MATURIN:-maturin}" build --release --quiet --out target/wheels --interpreter "${PYTHON:-python3}" >&2
wheel=$(ls target/wheels/*.whl)
if [ $# -gt 0 ]; then
    mkdir -p "$1"
    "${PYTHON:-python3}" -m zipfile -e "$wheel" "$1"
fi
echo "$PWD/$wheel"
