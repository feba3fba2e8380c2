#!/bin/sh
# Fuzzes each target for FUZZ_SECONDS: fuzz/run.sh FOLDER-OF-PROGRAMS [TARGET…]
#
# What is found in a run goes on from fuzz/corpus/TARGET, which is never written to; new inputs are thrown away but for
# those that end the program, which stay in fuzz/artifacts/TARGET. Ends with 1 where there is any.
set -u
programs=$1
shift
here=$(cd "$(dirname "$0")" && pwd)
[ $# -gt 0 ] || set -- $(ls "$here/targets" | sed 's/\.rs$//')
memory=/dev/shm
[ -d $memory ] && [ -w $memory ] || memory=${TMPDIR:-/tmp}
found=0
for target in "$@"; do
    work=$(mktemp -d "$memory/fuzz-$target-XXXXXX")
    mkdir -p "$work/new" "$here/artifacts/$target"
    TMPDIR=$work "$programs/$target" -max_total_time="${FUZZ_SECONDS:-600}" -timeout=10 -rss_limit_mb=2048 \
        -max_len="${FUZZ_BYTES:-16384}" -print_final_stats=1 -verbosity=0 \
        -artifact_prefix="$here/artifacts/$target/" "$work/new" "$here/corpus/$target" >"$work/log" 2>&1
    status=$?
    tail -n 40 "$work/log" | grep -E 'stat::number_of_executed_units|stat::average_exec|SUMMARY|panicked|ERROR' |
        sed "s/^/$target: /"
    if [ $status -ne 0 ]; then
        found=1
        cat "$work/log"
    fi
    rm -rf "$work"
done
exit $found
