#!/bin/sh
# All GPU tests and the bench, in one call of under nine minutes, on a machine with nothing but a driver, CUDA's
# libraries and PyTorch: sh run.sh [FOLDER FOR RESULTS]. Leaves tests.json, doctor.json and cuda.json there.
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-$here/results}
mkdir -p "$out"
begun=$(date +%s)
# The libraries that PyTorch brought, where they are not on the path already.
python=${PYTHON:-python3}
found=$("$python" - <<'PY'
import glob, os, site, sys
roots = site.getsitepackages() + [site.getusersitepackages()] + sys.path
folders = []
for root in dict.fromkeys(r for r in roots if r):
    folders += [d for d in glob.glob(os.path.join(root, "nvidia", "*", "lib")) if os.path.isdir(d)]
print(":".join(dict.fromkeys(folders)))
PY
)
# cudarc looks for libnccl.so; the wheel brings libnccl.so.2.
links=$(mktemp -d)
for program in scaleshot tests bench; do
    gzip -dc "$here/$program.gz" > "$links/$program" && chmod +x "$links/$program"
done
for folder in $(echo "$found" | tr ':' ' '); do
    for library in "$folder"/libnccl.so.2; do [ -e "$library" ] && ln -sf "$library" "$links/libnccl.so"; done
done
export LD_LIBRARY_PATH="$links:$found:${LD_LIBRARY_PATH:-}"
export SCALESHOT_REFERENCE="$here/reference" SCALESHOT_REQUIRE_GPU=1 SCALESHOT_CUDA_CACHE="$links/cache"

"$links/scaleshot" doctor --json --store "$links/store" > "$out/doctor.json"
cat "$out/doctor.json"
problem=$("$python" -c 'import json, sys; print(json.load(open(sys.argv[1]))["gpus"]["problem"] or "")' "$out/doctor.json")
if [ -n "$problem" ]; then
    echo "nothing was tested or measured: $problem" >&2
    "$links/scaleshot" doctor --store "$links/store" >&2
    for file in tests cuda; do
        "$python" -c 'import json, sys; print(json.dumps([{"error": "left out: " + sys.argv[1]}]))' "$problem" > "$out/$file.json"
    done
    rm -rf "$links"
    exit 1
fi

# One at a time: they share a GPU, and one that fails must not take the others down.
: > "$out/tests.log"
failed=0
results=
names=$("$links/tests" --list 2>> "$out/tests.log" | sed -n 's/: test$//p')
if [ -z "$names" ]; then
    echo "the tests did not start:"
    tail -5 "$out/tests.log"
    failed=1
fi
try() {
    name=$1
    shift
    left=$((200 - ($(date +%s) - begun)))
    if [ $left -le 0 ]; then
        state="left out: the time was over"
        failed=1
    elif env "$@" timeout "$left" "$links/tests" --exact "$name" --nocapture >> "$out/tests.log" 2>&1; then
        state=ok
    else
        state=failed
        failed=1
    fi
    echo "test $name $*: $state"
    results="$results,{\"test\":\"$name\",\"with\":\"$*\",\"state\":\"$state\"}"
}
for name in $names; do
    try "$name"
done
# The ways that are not the default ones.
for name in passes_are_the_processors a_continued_training_is_the_same_to_the_bit; do
    try "$name" SCALESHOT_CUDA_GRAPHS=0
done
try passes_are_the_processors SCALESHOT_CUDA_DETERMINISTIC=0
printf '[%s]\n' "${results#,}" > "$out/tests.json"
[ $failed = 0 ] || tail -60 "$out/tests.log"

# What is left of nine minutes, and of that some seconds to clean up.
left=$((520 - ($(date +%s) - begun)))
SCALESHOT="$links/scaleshot" SCALESHOT_BENCH_CUDA="$links/bench" SCALESHOT_BENCH_OUT="$out/cuda.json" \
    SCALESHOT_BENCH_SECONDS=${SCALESHOT_BENCH_SECONDS:-$left} "$python" "$here/peers/compare_cuda.py" || failed=1
rm -rf "$links"
exit $failed
