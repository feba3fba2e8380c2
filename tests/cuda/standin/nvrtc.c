// A stand-in for NVRTC: the system's C compiler makes a shared library of a program, as the host machine of the unit
// tests does. HOST is src/nn/cuda/host.c.
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct { char *text, *made, log[4096]; size_t bytes; } Program;

int nvrtcVersion(int *major, int *minor) { return *major = 0, *minor = 0; }
const char *nvrtcGetErrorString(int code) { return "an error of the stand-in"; }

int nvrtcCreateProgram(Program **p, const char *text, const char *name, int headers, const char *const *a, const char *const *b) {
    *p = calloc(1, sizeof **p);
    (*p)->text = strdup(text);
    return 0;
}

int nvrtcCompileProgram(Program *p, int options, const char *const *option) {
    char folder[] = "/tmp/standin-XXXXXX", path[100], command[1000];
    if (!mkdtemp(folder)) return 1;
    snprintf(path, sizeof path, "%s/k.c", folder);
    FILE *file = fopen(path, "w");
    fprintf(file, "#include \"%s\"\n%s", HOST, p->text);
    fclose(file);
    snprintf(command, sizeof command,
             "cc -std=gnu11 -O2 -U_FORTIFY_SOURCE -ffp-contract=off -fwrapv -w -shared -fPIC -o %s/k.so %s -lm 2>%s/log",
             folder, path, folder);
    int failed = system(command);
    snprintf(path, sizeof path, failed ? "%s/log" : "%s/k.so", folder);
    file = fopen(path, "r");
    fseek(file, 0, SEEK_END);
    size_t bytes = ftell(file);
    rewind(file);
    char *read = malloc(bytes + 1);
    bytes = fread(read, 1, bytes, file);
    fclose(file);
    if (failed) snprintf(p->log, sizeof p->log, "%.*s", (int)bytes, read);
    else p->made = read, p->bytes = bytes;
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command) || failed ? 6 : 0;
}

int nvrtcGetProgramLogSize(Program *p, size_t *bytes) { return *bytes = strlen(p->log) + 1, 0; }
int nvrtcGetProgramLog(Program *p, char *log) { return strcpy(log, p->log), 0; }
int nvrtcGetCUBINSize(Program *p, size_t *bytes) { return *bytes = p->bytes, 0; }
int nvrtcGetCUBIN(Program *p, char *cubin) { return memcpy(cubin, p->made, p->bytes), 0; }
int nvrtcDestroyProgram(Program **p) { return free((*p)->text), free((*p)->made), free(*p), *p = 0, 0; }
