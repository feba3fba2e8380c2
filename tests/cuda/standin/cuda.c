// A stand-in for the driver, so that tests/cuda.rs and the bench run where there is no GPU: it proves nothing of cuDNN,
// speed or memory, but that the program keeps the driver's rules.
//
// Work is put off until somebody waits, and streams then take turns at random, so that a missing event, page-locked
// bytes changed too early or memory freed in use give wrong values or end the program. Memory lies before a page that
// cannot be touched, is NaN when it is new, and is gone when it was freed. A call in another context than its stream's,
// a wait or an allocation while work is captured, and a graph destroyed in use are refused. Kernels are modules of
// nvrtc.c.
#define _GNU_SOURCE
#include "cuda.h"
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define DEVICES 2
#define ROOM ((size_t)6 << 30)
#define PAGE 4096
#define SUCCESS 0
#define INVALID_VALUE 1
#define OUT_OF_MEMORY 2
#define INVALID_CONTEXT 201
#define INVALID_HANDLE 400
#define NOT_FOUND 500
#define CAPTURE_UNSUPPORTED 900

typedef struct Exec Exec;
typedef struct Task {
    int (*ready)(void *);
    void (*run)(void *);
    void *data;
    size_t bytes;
    Exec *of;
    struct Task *next;
} Task;
typedef struct { Task *first, *last; } Queue;
struct Exec { Queue tasks; int pending; };
struct Stream { int device, capturing, spoilt; Queue queue, captured; Stream *next; };
typedef struct { int device; uint64_t asked, done; } Event;
typedef struct Memory { char *start, *base; size_t bytes, mapped; int device, host; struct Memory *next; } Memory;
typedef struct { int device; void *handle; } Module;
typedef struct { int device; void (*run)(const void *, const unsigned *); unsigned words; } Function;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t more = PTHREAD_COND_INITIALIZER;
static Stream *streams;
static Memory *memories;
static size_t used[DEVICES];
static int contexts[DEVICES];
static __thread int *current;
static uint64_t chance = 1;

void standin_wrong(const char *what) {
    fprintf(stderr, "stand-in of CUDA: %s\n", what);
    abort();
}

static int refuse(int code, const char *what) {
    fprintf(stderr, "stand-in of CUDA: refused: %s\n", what);
    return code;
}

int standin_context(void) { return current != 0; }

static void add(Queue *to, Task *task) {
    task->next = 0;
    if (to->last) to->last->next = task;
    else to->first = task;
    to->last = task;
}

static Task *copy(const Task *from) {
    Task *task = malloc(sizeof *task);
    *task = *from;
    task->data = malloc(from->bytes + 1);
    memcpy(task->data, from->data, from->bytes);
    return task;
}

static void drop(Task *task) {
    free(task->data);
    free(task);
}

// Runs one piece of work of some stream that has any it can run. The lock is held.
static int turn(void) {
    int count = 0;
    for (Stream *s = streams; s; s = s->next) count++;
    chance = chance * 6364136223846793005u + 1442695040888963407u;
    int skip = count ? (chance >> 33) % count : 0;
    Stream *s = streams;
    for (int i = 0; i < skip; i++) s = s->next;
    for (int i = 0; i < count; i++, s = s->next ? s->next : streams) {
        Task *task = s->queue.first;
        if (!task || (task->ready && !task->ready(task->data))) continue;
        task->run(task->data);
        if (task->of) task->of->pending--;
        s->queue.first = task->next;
        if (!task->next) s->queue.last = 0;
        drop(task);
        pthread_cond_broadcast(&more);
        return 1;
    }
    return 0;
}

// Works until `done` says so. The lock is held, and let go while only another thread can bring more.
static void work(int (*done)(void *), void *of) {
    while (!done(of)) {
        if (turn()) continue;
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec += 60;
        if (pthread_cond_timedwait(&more, &lock, &until)) standin_wrong("nothing can go on: somebody waits for what nobody does");
    }
}

int standin_push_when(Stream *stream, int (*ready)(void *), void (*run)(void *), const void *data, size_t bytes) {
    if (!stream) return refuse(INVALID_HANDLE, "the default stream is nobody's here");
    if (current != &contexts[stream->device]) return refuse(INVALID_CONTEXT, "a call without its stream's context");
    Task task = {ready, run, (void *)data, bytes, 0, 0};
    pthread_mutex_lock(&lock);
    add(stream->capturing ? &stream->captured : &stream->queue, copy(&task));
    pthread_cond_broadcast(&more);
    pthread_mutex_unlock(&lock);
    return SUCCESS;
}

int standin_push(Stream *stream, void (*run)(void *), const void *data, size_t bytes) {
    return standin_push_when(stream, 0, run, data, bytes);
}

static Memory *of(const void *at, size_t bytes) {
    for (Memory *m = memories; m; m = m->next)
        if ((char *)at >= m->start && (char *)at + bytes <= m->start + m->bytes) return m;
    return 0;
}

void standin_check(const void *at, size_t bytes, const char *what) {
    Memory *m = of(at, bytes);
    if (!m || m->host) {
        char text[200];
        snprintf(text, sizeof text, "%s: %zu bytes at %p are not on a device", what, bytes, at);
        standin_wrong(text);
    }
}

static void *take(size_t bytes, int device, int host) {
    size_t room = (bytes + 255) / 256 * 256, mapped = (room + PAGE - 1) / PAGE * PAGE;
    if (!host && used[device] + mapped > ROOM) return 0;
    char *base = mmap(0, mapped + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) return 0;
    mprotect(base + mapped, PAGE, PROT_NONE);
    Memory *m = malloc(sizeof *m);
    *m = (Memory){base + mapped - room, base, bytes, mapped + PAGE, device, host, memories};
    if (bytes <= (64u << 20)) memset(m->start, 0xff, room);
    memories = m;
    if (!host) used[device] += mapped;
    return m->start;
}

static int give(void *at) {
    for (Memory **m = &memories; *m; m = &(*m)->next) {
        if ((*m)->start != at) continue;
        Memory *gone = *m;
        *m = gone->next;
        munmap(gone->base, gone->mapped);
        if (!gone->host) used[gone->device] -= gone->mapped - PAGE;
        free(gone);
        return SUCCESS;
    }
    return refuse(INVALID_VALUE, "memory is freed that is not there");
}

// Devices and contexts.

int cuInit(unsigned flags) { return flags ? INVALID_VALUE : SUCCESS; }
int cuDriverGetVersion(int *version) { return *version = 13000, SUCCESS; }
int cuDeviceGetCount(int *count) { return *count = DEVICES, SUCCESS; }
int cuDeviceGet(int *device, int ordinal) { return ordinal < 0 || ordinal >= DEVICES ? 101 : (*device = ordinal, SUCCESS); }
int cuDeviceGetName(char *name, int room, int device) { return snprintf(name, room, "stand-in %d", device), SUCCESS; }
int cuDeviceTotalMem_v2(size_t *bytes, int device) { return *bytes = ROOM, SUCCESS; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    *value = attribute == 75 ? 9 : attribute == 76 ? 0 : 1;
    return SUCCESS;
}
int cuDevicePrimaryCtxRetain(int **context, int device) { return *context = &contexts[device], SUCCESS; }
int cuDevicePrimaryCtxRelease_v2(int device) { return SUCCESS; }
int cuCtxGetCurrent(int **context) { return *context = current, SUCCESS; }
int cuCtxSetCurrent(int *context) { return current = context, SUCCESS; }
int cuGetErrorName(int code, const char **name) { return *name = "an error of the stand-in", SUCCESS; }
int cuGetErrorString(int code, const char **text) { return *text = "an error of the stand-in", SUCCESS; }

// Streams, events and graphs.

static int capturing(void) {
    for (Stream *s = streams; s; s = s->next)
        if (s->capturing && current == &contexts[s->device]) return s->spoilt = 1;
    return 0;
}

int cuStreamCreate(Stream **stream, unsigned flags) {
    if (!current) return refuse(INVALID_CONTEXT, "a stream without a context");
    pthread_mutex_lock(&lock);
    *stream = calloc(1, sizeof **stream);
    (*stream)->device = current - contexts;
    (*stream)->next = streams;
    streams = *stream;
    pthread_mutex_unlock(&lock);
    return SUCCESS;
}

static int empty(void *stream) { return !((Stream *)stream)->queue.first; }

int cuStreamSynchronize(Stream *stream) {
    pthread_mutex_lock(&lock);
    if (stream->capturing) {
        stream->spoilt = 1;
        pthread_mutex_unlock(&lock);
        return refuse(CAPTURE_UNSUPPORTED, "a wait for a stream that is captured");
    }
    work(empty, stream);
    pthread_mutex_unlock(&lock);
    return SUCCESS;
}

int cuStreamDestroy_v2(Stream *stream) {
    cuStreamSynchronize(stream);
    pthread_mutex_lock(&lock);
    Stream **s = &streams;
    while (*s != stream) s = &(*s)->next;
    *s = stream->next;
    pthread_mutex_unlock(&lock);
    free(stream);
    return SUCCESS;
}

int cuEventCreate(Event **event, unsigned flags) {
    if (!current) return refuse(INVALID_CONTEXT, "an event without a context");
    *event = calloc(1, sizeof **event);
    (*event)->device = current - contexts;
    return SUCCESS;
}

typedef struct { Event *event; uint64_t number; } Mark;
static void mark(void *data) { ((Mark *)data)->event->done = ((Mark *)data)->number; }
static int marked(void *data) { return ((Mark *)data)->event->done >= ((Mark *)data)->number; }
static void nothing(void *data) { (void)data; }

int cuEventRecord(Event *event, Stream *stream) {
    if (stream->capturing) return refuse(CAPTURE_UNSUPPORTED, "an event in a captured stream");
    Mark m = {event, ++event->asked};
    return standin_push(stream, mark, &m, sizeof m);
}

int cuStreamWaitEvent(Stream *stream, Event *event, unsigned flags) {
    if (stream->capturing) return refuse(CAPTURE_UNSUPPORTED, "an event in a captured stream");
    Mark m = {event, event->asked};
    return standin_push_when(stream, marked, nothing, &m, sizeof m);
}

int cuEventSynchronize(Event *event) {
    Mark m = {event, event->asked};
    pthread_mutex_lock(&lock);
    work(marked, &m);
    pthread_mutex_unlock(&lock);
    return SUCCESS;
}

int cuEventDestroy_v2(Event *event) { return SUCCESS; }

int cuStreamBeginCapture_v2(Stream *stream, int mode) {
    if (current != &contexts[stream->device]) return refuse(INVALID_CONTEXT, "a capture without its stream's context");
    if (stream->capturing) return refuse(CAPTURE_UNSUPPORTED, "a capture within another");
    stream->capturing = 1;
    stream->spoilt = 0;
    return SUCCESS;
}

int cuStreamEndCapture(Stream *stream, Exec **graph) {
    *graph = 0;
    stream->capturing = 0;
    Queue captured = stream->captured;
    stream->captured = (Queue){0, 0};
    if (stream->spoilt) return refuse(901, "what was captured was spoilt");
    *graph = calloc(1, sizeof **graph);
    (*graph)->tasks = captured;
    return SUCCESS;
}

int cuGraphInstantiateWithFlags(Exec **exec, Exec *graph, unsigned long long flags) {
    *exec = calloc(1, sizeof **exec);
    for (Task *t = graph->tasks.first; t; t = t->next) add(&(*exec)->tasks, copy(t));
    return SUCCESS;
}

int cuGraphLaunch(Exec *exec, Stream *stream) {
    if (current != &contexts[stream->device]) return refuse(INVALID_CONTEXT, "a graph without its stream's context");
    if (stream->capturing) return refuse(CAPTURE_UNSUPPORTED, "a graph within a captured stream");
    pthread_mutex_lock(&lock);
    for (Task *t = exec->tasks.first; t; t = t->next) {
        Task *task = copy(t);
        task->of = exec;
        exec->pending++;
        add(&stream->queue, task);
    }
    pthread_cond_broadcast(&more);
    pthread_mutex_unlock(&lock);
    return SUCCESS;
}

int cuGraphExecDestroy(Exec *exec) {
    if (exec->pending) standin_wrong("a graph is destroyed that still runs");
    for (Task *t = exec->tasks.first, *next; t; t = next) next = t->next, drop(t);
    free(exec);
    return SUCCESS;
}

int cuGraphDestroy(Exec *graph) { return cuGraphExecDestroy(graph); }

// Memory.

int cuMemGetInfo_v2(size_t *left, size_t *total) {
    if (!current) return refuse(INVALID_CONTEXT, "memory is asked for without a context");
    *total = ROOM;
    *left = ROOM - used[current - contexts];
    return SUCCESS;
}

int cuMemAllocAsync(void **at, size_t bytes, Stream *stream) {
    if (!current) return refuse(INVALID_CONTEXT, "memory without a context");
    pthread_mutex_lock(&lock);
    int refused = stream->capturing;
    if (refused) stream->spoilt = 1;
    *at = refused || !bytes ? 0 : take(bytes, stream->device, 0);
    pthread_mutex_unlock(&lock);
    if (refused) return refuse(CAPTURE_UNSUPPORTED, "memory while work is captured");
    return *at ? SUCCESS : bytes ? OUT_OF_MEMORY : INVALID_VALUE;
}

int cuMemAlloc_v2(void **at, size_t bytes) {
    if (!current) return refuse(INVALID_CONTEXT, "memory without a context");
    pthread_mutex_lock(&lock);
    int refused = capturing();
    *at = refused ? 0 : take(bytes, current - contexts, 0);
    pthread_mutex_unlock(&lock);
    if (refused) return refuse(CAPTURE_UNSUPPORTED, "memory while work is captured");
    return *at ? SUCCESS : OUT_OF_MEMORY;
}

static void free_now(void *data) { give(*(void **)data); }

int cuMemFreeAsync(void *at, Stream *stream) {
    if (stream->capturing) return stream->spoilt = 1, refuse(CAPTURE_UNSUPPORTED, "memory is freed while work is captured");
    Task task = {0, free_now, &at, sizeof at, 0, 0};
    pthread_mutex_lock(&lock);
    add(&stream->queue, copy(&task));
    pthread_mutex_unlock(&lock);
    return SUCCESS;
}

int cuMemFree_v2(void *at) {
    pthread_mutex_lock(&lock);
    int done = give(at);
    pthread_mutex_unlock(&lock);
    return done;
}

int cuMemHostAlloc(void **at, size_t bytes, unsigned flags) {
    if (!current) return refuse(INVALID_CONTEXT, "page-locked memory without a context");
    pthread_mutex_lock(&lock);
    *at = take(bytes, 0, 1);
    pthread_mutex_unlock(&lock);
    return *at ? SUCCESS : OUT_OF_MEMORY;
}

int cuMemFreeHost(void *at) { return cuMemFree_v2(at); }

typedef struct { char *to; const char *from; size_t bytes; int value; char own[]; } Move;

static void move(void *data) {
    Move *m = data;
    standin_check(m->to, m->bytes, "a copy's target");
    standin_check(m->from, m->bytes, "a copy's source");
    if (m->to < m->from + m->bytes && m->from < m->to + m->bytes) standin_wrong("a copy onto itself");
    memcpy(m->to, m->from, m->bytes);
}

static void move_in(void *data) {
    Move *m = data;
    standin_check(m->to, m->bytes, "a copy's target");
    memcpy(m->to, m->from ? m->from : m->own, m->bytes);
}

static void move_out(void *data) {
    Move *m = data;
    standin_check(m->from, m->bytes, "a copy's source");
    memcpy(m->to, m->from, m->bytes);
}

static void fill(void *data) {
    Move *m = data;
    standin_check(m->to, m->bytes, "a fill's target");
    memset(m->to, m->value, m->bytes);
}

int cuMemcpyHtoDAsync_v2(void *to, const void *from, size_t bytes, Stream *stream) {
    pthread_mutex_lock(&lock);
    Memory *locked = of(from, bytes);
    pthread_mutex_unlock(&lock);
    // Page-locked bytes are read when the copy is made, others before the call returns.
    int own = !(locked && locked->host);
    if (own && stream->capturing) return refuse(CAPTURE_UNSUPPORTED, "bytes of the host in a captured stream");
    Move *m = malloc(sizeof *m + (own ? bytes : 0));
    *m = (Move){to, own ? 0 : from, bytes, 0};
    if (own) memcpy(m->own, from, bytes);
    int pushed = standin_push(stream, move_in, m, sizeof *m + (own ? bytes : 0));
    free(m);
    return pushed;
}

int cuMemcpyDtoHAsync_v2(void *to, const void *from, size_t bytes, Stream *stream) {
    if (stream->capturing) return refuse(CAPTURE_UNSUPPORTED, "a copy to the host in a captured stream");
    Move m = {to, from, bytes, 0};
    return standin_push(stream, move_out, &m, sizeof m);
}

int cuMemcpyDtoDAsync_v2(void *to, const void *from, size_t bytes, Stream *stream) {
    Move m = {to, from, bytes, 0};
    return standin_push(stream, move, &m, sizeof m);
}

int cuMemsetD8Async(void *to, unsigned char value, size_t bytes, Stream *stream) {
    Move m = {to, 0, bytes, value};
    return standin_push(stream, fill, &m, sizeof m);
}

// Kernels: a module is a shared library, see nvrtc.c.

int cuModuleLoadData(Module **module, const void *image) {
    if (!current) return refuse(INVALID_CONTEXT, "a module without a context");
    const unsigned char *b = image;
    if (memcmp(b, "\177ELF", 4)) return 200;
    uint64_t at, bytes;
    uint16_t one, count;
    memcpy(&at, b + 40, 8);
    memcpy(&one, b + 58, 2);
    memcpy(&count, b + 60, 2);
    bytes = at + (uint64_t)one * count;
    int file = memfd_create("module", 0);
    if (write(file, image, bytes) != (ssize_t)bytes) return 200;
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/fd/%d", getpid(), file);
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!handle) return refuse(200, dlerror());
    *module = malloc(sizeof **module);
    **module = (Module){current - contexts, handle};
    return SUCCESS;
}

int cuModuleUnload(Module *module) { return SUCCESS; }

int cuModuleGetFunction(Function **function, Module *module, const char *name) {
    char words[200];
    snprintf(words, sizeof words, "%s_words", name);
    unsigned *count = dlsym(module->handle, words);
    void *run = dlsym(module->handle, name);
    if (!count || !run) return NOT_FOUND;
    *function = malloc(sizeof **function);
    **function = (Function){module->device, run, *count};
    return SUCCESS;
}

typedef struct { void (*run)(const void *, const unsigned *); unsigned grid[3]; uint64_t words[]; } Launch;
static void run_kernel(void *data) { ((Launch *)data)->run(((Launch *)data)->words, ((Launch *)data)->grid); }

int cuLaunchKernel(Function *f, unsigned x, unsigned y, unsigned z, unsigned bx, unsigned by, unsigned bz, unsigned shared,
                   Stream *stream, void **parameters, void **extra) {
    if (!x || !y || !z || y > 65535 || z > 65535 || x > 0x7fffffff) return refuse(INVALID_VALUE, "a grid of no size, or too large");
    if (bx != 256 || by != 1 || bz != 1 || shared || extra) return refuse(INVALID_VALUE, "a block of another size");
    if (f->device != stream->device) return refuse(INVALID_HANDLE, "a kernel of another device");
    size_t bytes = sizeof(Launch) + 8 * f->words;
    Launch *launch = malloc(bytes);
    *launch = (Launch){f->run, {x, y, z}};
    memcpy(launch->words, parameters[0], 8 * f->words);
    int pushed = standin_push(stream, run_kernel, launch, bytes);
    free(launch);
    return pushed;
}
