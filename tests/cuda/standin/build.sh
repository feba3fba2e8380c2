#!/bin/sh
# The stand-ins as libraries in a folder, to be put on LD_LIBRARY_PATH: sh build.sh FOLDER. Needs a C compiler only.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=${1:?a folder}
mkdir -p "$out"
make_one() {
    library=$1
    shift
    cc -std=gnu11 -O3 -fassociative-math -fno-signed-zeros -fno-trapping-math -shared -fPIC -w -I"$here" -o "$out/$library" "$@"
}
make_one libcuda.so "$here/cuda.c" -lpthread -ldl
make_one libcudnn.so "$here/cudnn.c" -L"$out" -lcuda -Wl,-rpath,'$ORIGIN'
make_one libnccl.so "$here/nccl.c" -L"$out" -lcuda -Wl,-rpath,'$ORIGIN'
make_one libnvrtc.so -DHOST="\"$here/../../../src/nn/cuda/host.c\"" "$here/nvrtc.c"
