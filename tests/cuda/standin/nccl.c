// A stand-in for NCCL: ranks of one process, whose sums wait in their streams until all have come.
#include "cuda.h"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define RANKS 8
typedef struct { char internal[128]; } Id;
typedef struct Group {
    Id id;
    int ranks, joined;
    // Of each rank: sums that have come to the head of its stream, and sums that were made.
    long came[RANKS], made[RANKS];
    float *values[RANKS];
    struct Group *next;
} Group;
typedef struct { Group *group; int rank; long asked; } Comm;
typedef struct { Comm *comm; long number; float *values; size_t count; } Sum;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t joined = PTHREAD_COND_INITIALIZER;
static Group *groups;
static int ids;

const char *ncclGetErrorString(int code) { return "an error of the stand-in"; }
int ncclGetUniqueId(Id *id) {
    memset(id, 0, sizeof *id);
    int number = __sync_add_and_fetch(&ids, 1);
    return memcpy(id, &number, sizeof number), 0;
}

int ncclCommInitRank(Comm **comm, int ranks, Id id, int rank) {
    if (!standin_context() || ranks > RANKS || rank >= ranks) return 4;
    pthread_mutex_lock(&lock);
    Group *g = groups;
    while (g && memcmp(&g->id, &id, sizeof id)) g = g->next;
    if (!g) {
        g = calloc(1, sizeof *g);
        *g = (Group){.id = id, .ranks = ranks, .next = groups};
        groups = g;
    }
    g->joined++;
    pthread_cond_broadcast(&joined);
    while (g->joined < g->ranks) pthread_cond_wait(&joined, &lock);
    pthread_mutex_unlock(&lock);
    *comm = calloc(1, sizeof **comm);
    **comm = (Comm){g, rank, 0};
    return 0;
}

// Called under the driver's lock, for the head of a stream.
static int ready(void *data) {
    Sum *s = data;
    Group *g = s->comm->group;
    g->came[s->comm->rank] = s->number;
    g->values[s->comm->rank] = s->values;
    for (int r = 0; r < g->ranks; r++)
        if (g->came[r] < s->number) return 0;
    return 1;
}

// The first to run sums for all: every stream stands at this sum, or has been given its values.
static void sum(void *data) {
    Sum *s = data;
    Group *g = s->comm->group;
    if (g->made[s->comm->rank] >= s->number) return;
    for (size_t i = 0; i < s->count; i++) {
        float total = 0;
        for (int r = 0; r < g->ranks; r++) total += g->values[r][i];
        for (int r = 0; r < g->ranks; r++) g->values[r][i] = total;
    }
    for (int r = 0; r < g->ranks; r++) g->made[r] = s->number;
}

int ncclAllReduce(const void *from, void *to, size_t count, int type, int op, Comm *comm, Stream *stream) {
    if (from != to || type != 7 || op != 0) return 4;
    Sum s = {comm, ++comm->asked, to, count};
    return standin_push_when(stream, ready, sum, &s, sizeof s) ? 1 : 0;
}

int ncclCommAbort(Comm *comm) { return 0; }
int ncclCommDestroy(Comm *comm) { return 0; }
