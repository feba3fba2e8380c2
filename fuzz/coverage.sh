#!/bin/sh
# RUSTC_WORKSPACE_WRAPPER: compiles this project's own crates so that libFuzzer sees which code an input reaches.
# Dependencies stay as the release build made them, so nothing but the project and its targets is compiled.
exec "$@" --cfg fuzzing --check-cfg 'cfg(fuzzing)' \
    -C passes=sancov-module \
    -C llvm-args=-sanitizer-coverage-level=4 \
    -C llvm-args=-sanitizer-coverage-inline-8bit-counters \
    -C llvm-args=-sanitizer-coverage-pc-table \
    -C llvm-args=-sanitizer-coverage-trace-compares
