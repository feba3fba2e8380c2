// What every kernel begins with. Compiled as CUDA C++ by NVRTC, and as C by the tests, which put host.c before it.
//
// A kernel takes one structure whose fields are all eight bytes wide: pointers, i64, double. Blocks have BLOCK
// threads. Sums have a fixed order: each thread its own values first, then the threads of a block in two levels.
// NARROW says whether activations (E) are bfloat16 or f32.

#ifdef __CUDACC__
#define KERNEL(name, Arguments) extern "C" __global__ void __launch_bounds__(BLOCK) name(const __grid_constant__ Arguments p)
#define DEVICE static __device__ __forceinline__
#define ALIGNED(bytes) __align__(bytes)
// One rounding each, never fused.
#define MUL(a, b) __fmul_rn(a, b)
#define ADD(a, b) __fadd_rn(a, b)
#define DMUL(a, b) __dmul_rn(a, b)
#define DADD(a, b) __dadd_rn(a, b)
#ifndef INFINITY
#define INFINITY __int_as_float(0x7f800000)
#endif
#endif

#define BLOCK 256

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

#if NARROW
typedef u16 E;
DEVICE float wide(E v) { return __uint_as_float((u32)v << 16); }
DEVICE E narrow(float v) {
#ifdef __CUDA_ARCH__
    u16 r;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(r) : "f"(v));
    return r;
#else
    u32 bits = __float_as_uint(v);
    return v != v ? (E)0x7fc0 : (E)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
#endif
}
#else
typedef float E;
DEVICE float wide(E v) { return v; }
DEVICE E narrow(float v) { return v; }
#endif

// Four neighbouring channels, read and written at once.
typedef struct ALIGNED(4 * sizeof(E)) { E v[4]; } Quad;

DEVICE Quad read4(const E *from) { return *(const Quad *)from; }
DEVICE void write4(E *to, Quad q) { *(Quad *)to = q; }

#define PARTS 16

// The sum of every thread's value, given to every thread: sixteen sums of sixteen values, then the sum of those.
// Two barriers are enough: whoever writes `sums` again has passed the second, before which they were read.
DEVICE double block_sum(double value) {
    __shared__ double sums[BLOCK], parts[PARTS];
    sums[threadIdx.x] = value;
    __syncthreads();
    if (threadIdx.x < PARTS) {
        double part = 0;
        for (int i = 0; i < BLOCK / PARTS; i++) part += sums[PARTS * i + threadIdx.x];
        parts[threadIdx.x] = part;
    }
    __syncthreads();
    double total = 0;
    for (int i = 0; i < PARTS; i++) total += parts[i];
    return total;
}

DEVICE double block_max(double value) {
    __shared__ double tops[BLOCK], parts[PARTS];
    tops[threadIdx.x] = value;
    __syncthreads();
    if (threadIdx.x < PARTS) {
        double part = tops[threadIdx.x];
        for (int i = 1; i < BLOCK / PARTS; i++) part = tops[PARTS * i + threadIdx.x] > part ? tops[PARTS * i + threadIdx.x] : part;
        parts[threadIdx.x] = part;
    }
    __syncthreads();
    double top = parts[0];
    for (int i = 1; i < PARTS; i++) top = parts[i] > top ? parts[i] : top;
    return top;
}

// A thread's number among those of a launch with one dimension.
DEVICE i64 thread_number(void) { return (i64)blockIdx.x * BLOCK + threadIdx.x; }

// What a thread of a pass over a map has: four channels, and every step-th pixel of a chunk.
// Blocks are (chunk, part of the channels, image).
typedef struct { int active, row, rows, channel; i64 first, last, image; } Walk;

DEVICE Walk walk(i64 pixels, i64 channels, i64 chunk) {
    int quads = (int)(channels / 4), lanes = quads < BLOCK ? quads : BLOCK;
    int quad = blockIdx.y * lanes + threadIdx.x % lanes;
    Walk w;
    w.rows = BLOCK / lanes;
    w.row = threadIdx.x / lanes;
    w.active = w.row < w.rows && quad < quads;
    w.channel = 4 * quad;
    w.first = blockIdx.x * chunk;
    w.last = w.first + chunk < pixels ? w.first + chunk : pixels;
    w.image = blockIdx.z;
    return w;
}
