// What the stand-ins of CUDA's libraries share. See cuda.c.
#include <stddef.h>
#include <stdint.h>

typedef struct Stream Stream;

// Puts work at the end of a stream, or into the graph that is being captured there: `run` gets a copy of `bytes` bytes
// of `data`. Fails, as CUDA's codes have it, where the calling thread has not the stream's context.
int standin_push(Stream *stream, void (*run)(void *), const void *data, size_t bytes);

// Work that has to wait for others: runs once `ready` says so.
int standin_push_when(Stream *stream, int (*ready)(void *), void (*run)(void *), const void *data, size_t bytes);

// Ends the program where `bytes` bytes from `at` on are not all of one living allocation of a device.
void standin_check(const void *at, size_t bytes, const char *what);

// Whether the calling thread has a context.
int standin_context(void);

void standin_wrong(const char *what);
