// CUDA's words for a C compiler, so that tests run the very sources of the kernels on the processor.
//
// The threads of a block are coroutines that take turns at every barrier, so barriers, shared memory and the order of
// sums are the device's. Blocks run one after the other. Results must not depend on whose turn comes first, which the
// order of turns brings to light where a barrier is missing; shared memory is NaN before a block. Only a test reads
// this file.
#define _GNU_SOURCE
#include <math.h>
#include <setjmp.h>
#include <string.h>
#include <ucontext.h>

typedef struct { unsigned x, y, z; } Place;
static Place blockIdx, threadIdx, gridDim;

static unsigned __float_as_uint(float v) { unsigned u; memcpy(&u, &v, 4); return u; }
static float __uint_as_float(unsigned u) { float v; memcpy(&v, &u, 4); return v; }
static double __longlong_as_double(long long u) { double v; memcpy(&v, &u, 8); return v; }

#define MUL(a, b) ((float)((a) * (b)))
#define ADD(a, b) ((float)((a) + (b)))
#define DMUL(a, b) ((a) * (b))
#define DADD(a, b) ((a) + (b))
#define atomicAdd(to, by) (*(to) += (by))
#define __shared__ static __attribute__((section("block_shared")))
#define DEVICE static __attribute__((unused))
#define ALIGNED(bytes) __attribute__((aligned(bytes)))

#define THREADS 256
#define STACK 32768
static jmp_buf home, inside[THREADS];
static char stacks[THREADS][STACK] __attribute__((aligned(16)));
static int born[THREADS], done[THREADS], running;
static void (*body)(const void *);
static const void *arguments;
extern char __start_block_shared[] __attribute__((visibility("hidden")));
extern char __stop_block_shared[] __attribute__((visibility("hidden")));

// Turns and blocks in order, backwards, or jumping about, and otherwise after each barrier.
unsigned order;

static unsigned turn_of(unsigned i, unsigned round) {
    if (order == 0) return i;
    if (order == 1) return THREADS - 1 - i;
    return (i * (2 * round + 77) + 31 * round) % THREADS;
}

// Back to the scheduler; the next turn of this thread goes on from here.
static __attribute__((noinline)) void __syncthreads(void) {
    if (!_setjmp(inside[running])) _longjmp(home, 1);
}

// A coroutine is a thread of one block after the other.
static void fiber(void) {
    for (;;) {
        body(arguments);
        done[running] = 1;
        __syncthreads();
    }
}

static __attribute__((noinline)) void turn(int thread) {
    running = thread;
    threadIdx = (Place){thread, 0, 0};
    if (_setjmp(home)) return;
    if (born[thread]) _longjmp(inside[thread], 1);
    born[thread] = 1;
    ucontext_t context;
    getcontext(&context);
    context.uc_stack.ss_sp = stacks[thread];
    context.uc_stack.ss_size = STACK;
    context.uc_link = 0;
    makecontext(&context, fiber, 0);
    setcontext(&context);
}

// Runs a kernel on every block of a grid. A thread that ended no longer takes part in barriers.
static void on_grid(void (*kernel)(const void *), const void *words, const unsigned *grid) {
    body = kernel;
    arguments = words;
    gridDim = (Place){grid[0], grid[1], grid[2]};
    unsigned blocks = grid[0] * grid[1] * grid[2];
    for (unsigned i = 0; i < blocks; i++) {
        unsigned block = order == 0 ? i : blocks - 1 - i;
        memset(__start_block_shared, 0xff, __stop_block_shared - __start_block_shared);
        blockIdx = (Place){block % grid[0], block / grid[0] % grid[1], block / grid[0] / grid[1]};
        memset(done, 0, sizeof done);
        int left = THREADS;
        for (unsigned round = 0; left > 0; round++) {
            for (unsigned place = 0; place < THREADS; place++) {
                int t = turn_of(place, round);
                if (done[t]) continue;
                turn(t);
                left -= done[t];
            }
        }
    }
}

// KERNEL(name, Arguments) gives `name`, which runs the grid, and `name_words`, how many words the structure has.
#define KERNEL(name, Arguments) \
    static void name##_thread(Arguments p); \
    static void name##_entry(const void *words) { name##_thread(*(const Arguments *)words); } \
    void name(const void *words, const unsigned *grid) { on_grid(name##_entry, words, grid); } \
    const unsigned name##_words = sizeof(Arguments) / 8; \
    static void name##_thread(Arguments p)
