#!/bin/sh
# One folder with all that a machine with a GPU needs to test and measure: sh bundle.sh FOLDER.
# It is built without a GPU and without CUDA; libraries are opened where it runs.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
out=${1:?a folder}
cargo=${CARGO:-cargo}
mkdir -p "$out/peers" "$out/reference"
cd "$root"
# What cargo built under a name, stripped and packed.
put() {
    "$cargo" build --release --locked --features cuda,nccl "$1" "$2" --message-format=json |
        sed -n "s/.*\"name\":\"$2\".*\"executable\":\"\([^\"]*\)\".*/\1/p" | tail -1 > "$out/path"
    strip -o "$out/$3" "$(cat "$out/path")"
    rm -f "$out/path" "$out/$3.gz"
    gzip -9 "$out/$3"
}
put --bin scaleshot scaleshot
put --test cuda tests
put --bench cuda bench
cp tests/reference/bit_model.json "$out/reference/"
cp benches/peers/bit.py benches/peers/cuda_torch.py benches/peers/compare_cuda.py "$out/peers/"
cp "$here/run.sh" "$out/"
bytes=$(du -sb "$out" | cut -f1)
du -ab "$out" | sort -n
echo "$out: $bytes bytes; on the machine with the GPU: sh run.sh"
[ "$bytes" -lt 60000000 ] || { echo "larger than 60 MB" >&2; exit 1; }
