// A stand-in for cuDNN: the three products of a convolution by plain loops, for NHWC in f32 and bfloat16 with f32 sums.
// It lists algorithms that must not be taken (too large, refused, of no fixed order where that is asked for) before one
// that may, spoils the workspace, and refuses descriptors that do not fit together.
#include "cuda.h"
#include <stdlib.h>
#include <string.h>

#define FLOAT 0
#define BFLOAT16 9
#define NHWC 1
#define BAD_PARAM 2000
#define WORKSPACE 4096

typedef struct { Stream *stream; } Handle;
typedef struct { int type, n, c, h, w; } Tensor;
typedef struct { int type, k, c, h, w; } Filter;
typedef struct { int pad_h, pad_w, stride_h, stride_w, math; } Conv;
typedef struct { int algo, status; float time; size_t memory; int determinism, math, reserved[3]; } Perf;

size_t cudnnGetVersion(void) { return 90000; }
const char *cudnnGetErrorString(int code) { return "an error of the stand-in"; }
int cudnnCreate(Handle **h) { return standin_context() ? (*h = calloc(1, sizeof **h), 0) : 1001; }
int cudnnSetStream(Handle *h, Stream *stream) { return h->stream = stream, 0; }
int cudnnCreateTensorDescriptor(Tensor **t) { return *t = calloc(1, sizeof **t), 0; }
int cudnnCreateFilterDescriptor(Filter **f) { return *f = calloc(1, sizeof **f), 0; }
int cudnnCreateConvolutionDescriptor(Conv **c) { return *c = calloc(1, sizeof **c), 0; }

int cudnnSetTensor4dDescriptor(Tensor *t, int format, int type, int n, int c, int h, int w) {
    *t = (Tensor){type, n, c, h, w};
    return format == NHWC && n > 0 && c > 0 && h > 0 && w > 0 ? 0 : BAD_PARAM;
}

int cudnnSetFilter4dDescriptor(Filter *f, int type, int format, int k, int c, int h, int w) {
    *f = (Filter){type, k, c, h, w};
    return format == NHWC && k > 0 && c > 0 && h > 0 && w > 0 ? 0 : BAD_PARAM;
}

int cudnnSetConvolution2dDescriptor(Conv *c, int ph, int pw, int sh, int sw, int dh, int dw, int mode, int type) {
    *c = (Conv){ph, pw, sh, sw, 0};
    return mode == 1 && type == FLOAT && dh == 1 && dw == 1 ? 0 : BAD_PARAM;
}

int cudnnSetConvolutionMathType(Conv *c, int math) { return c->math = math, 0; }

static int fits(const Tensor *x, const Filter *w, const Conv *c, const Tensor *y) {
    return x->type == w->type && x->type == y->type && x->n == y->n && x->c == w->c && y->c == w->k &&
           y->h == (x->h + 2 * c->pad_h - w->h) / c->stride_h + 1 && y->w == (x->w + 2 * c->pad_w - w->w) / c->stride_w + 1;
}

// In bfloat16 the tensor cores want channels in eights, in f32 in fours.
static int aligned(const Tensor *x) { return x->c % (x->type == FLOAT ? 4 : 8) == 0; }

static int list(int fitting, int room, int *count, Perf *perf) {
    if (!fitting || room < 4) return BAD_PARAM;
    perf[0] = (Perf){0, 3000, 1, 0, 1, 0, {0}};
    perf[1] = (Perf){2, 0, 1, (size_t)1 << 40, 1, 0, {0}};
    perf[2] = (Perf){3, 0, 2, 0, 0, 0, {0}};
    perf[3] = (Perf){1, 0, 3, WORKSPACE, 1, 0, {0}};
    return *count = 4, 0;
}

// Timing finds no memory now and then.
static int timed(const Filter *w, int fitting, int room, int *count, Perf *perf) {
    return w->k % 3 ? list(fitting, room, count, perf) : 4000;
}

#define LISTS(Pass, A, a, B, b, C, c, x, w, y) \
    int cudnnGetConvolution##Pass##Algorithm_v7(Handle *h, A *a, B *b, Conv *conv, C *c, int room, int *count, Perf *perf) { \
        return list(fits(x, w, conv, y), room, count, perf); \
    } \
    int cudnnFindConvolution##Pass##Algorithm(Handle *h, A *a, B *b, Conv *conv, C *c, int room, int *count, Perf *perf) { \
        return timed(w, fits(x, w, conv, y), room, count, perf); \
    }
LISTS(Forward, Tensor, x, Filter, w, Tensor, y, x, w, y)
LISTS(BackwardData, Filter, w, Tensor, y, Tensor, x, x, w, y)
LISTS(BackwardFilter, Tensor, x, Tensor, y, Filter, w, x, w, y)

int cudnnGetConvolutionForwardWorkspaceSize(Handle *h, void *x, void *w, void *c, void *y, int algo, size_t *bytes) {
    return *bytes = algo == 1 ? WORKSPACE : 0, 0;
}
int cudnnGetConvolutionBackwardDataWorkspaceSize(Handle *h, void *w, void *y, void *c, void *x, int algo, size_t *bytes) {
    return *bytes = algo == 1 ? WORKSPACE : 0, 0;
}
int cudnnGetConvolutionBackwardFilterWorkspaceSize(Handle *h, void *x, void *y, void *c, void *w, int algo, size_t *bytes) {
    return *bytes = algo == 1 ? WORKSPACE : 0, 0;
}

typedef struct { int pass; Tensor x, y; Filter w; Conv c; void *xp, *wp, *yp, *room; float alpha, beta; } Work;

static size_t size(int type) { return type == FLOAT ? 4 : 2; }

static float *wide(const void *from, int type, size_t count) {
    float *out = malloc(4 * count);
    if (type == FLOAT) return memcpy(out, from, 4 * count);
    for (size_t i = 0; i < count; i++) {
        uint32_t bits = (uint32_t)((const uint16_t *)from)[i] << 16;
        memcpy(out + i, &bits, 4);
    }
    return out;
}

static void narrow(void *to, int type, const float *from, size_t count, float alpha, float beta) {
    float *before = beta == 0 ? 0 : wide(to, type, count);
    for (size_t i = 0; i < count; i++) {
        float v = alpha * from[i] + (before ? beta * before[i] : 0);
        uint32_t bits;
        memcpy(&bits, &v, 4);
        if (type == FLOAT) ((float *)to)[i] = v;
        else ((uint16_t *)to)[i] = v != v ? 0x7fff : (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    }
    free(before);
}

static void compute(void *data) {
    Work *k = data;
    Tensor X = k->x, Y = k->y;
    Filter W = k->w;
    size_t nx = (size_t)X.n * X.c * X.h * X.w, ny = (size_t)Y.n * Y.c * Y.h * Y.w, nw = (size_t)W.k * W.c * W.h * W.w;
    standin_check(k->xp, nx * size(X.type), "a convolution's x");
    standin_check(k->yp, ny * size(Y.type), "a convolution's y");
    standin_check(k->wp, nw * size(W.type), "a convolution's w");
    if (k->room) {
        standin_check(k->room, WORKSPACE, "a convolution's workspace");
        memset(k->room, 0xff, WORKSPACE);
    }
    float *x = k->pass == 1 ? calloc(nx, 4) : wide(k->xp, X.type, nx);
    float *w = k->pass == 2 ? calloc(nw, 4) : wide(k->wp, W.type, nw);
    float *y = k->pass == 0 ? calloc(ny, 4) : wide(k->yp, Y.type, ny);
    for (int n = 0; n < X.n; n++)
        for (int oy = 0; oy < Y.h; oy++)
            for (int ox = 0; ox < Y.w; ox++)
                for (int a = 0; a < W.h; a++)
                    for (int b = 0; b < W.w; b++) {
                        int iy = oy * k->c.stride_h + a - k->c.pad_h, ix = ox * k->c.stride_w + b - k->c.pad_w;
                        if (iy < 0 || ix < 0 || iy >= X.h || ix >= X.w) continue;
                        float *restrict px = x + (((size_t)n * X.h + iy) * X.w + ix) * X.c;
                        float *restrict py = y + (((size_t)n * Y.h + oy) * Y.w + ox) * Y.c;
                        for (int o = 0; o < W.k; o++) {
                            float *restrict pw = w + (((size_t)o * W.h + a) * W.w + b) * W.c, sum = 0, g = py[o];
                            if (k->pass == 0) {
                                for (int i = 0; i < X.c; i++) sum += px[i] * pw[i];
                                py[o] += sum;
                            } else if (k->pass == 1) {
                                for (int i = 0; i < X.c; i++) px[i] += g * pw[i];
                            } else {
                                for (int i = 0; i < X.c; i++) pw[i] += g * px[i];
                            }
                        }
                    }
    if (k->pass == 0) narrow(k->yp, Y.type, y, ny, k->alpha, k->beta);
    if (k->pass == 1) narrow(k->xp, X.type, x, nx, k->alpha, k->beta);
    if (k->pass == 2) narrow(k->wp, W.type, w, nw, k->alpha, k->beta);
    free(x), free(w), free(y);
}

static int push(Handle *h, int algo, void *room, size_t bytes, Work k) {
    if (!fits(&k.x, &k.w, &k.c, &k.y) || !aligned(&k.x) || (algo == 1 && (!room || bytes < WORKSPACE)) || algo == 0 || algo == 2)
        return BAD_PARAM;
    if (algo != 1) k.room = 0;
    return standin_push(h->stream, compute, &k, sizeof k) ? 5000 : 0;
}

int cudnnConvolutionForward(Handle *h, const float *alpha, Tensor *x, void *xp, Filter *w, void *wp, Conv *c, int algo,
                            void *room, size_t bytes, const float *beta, Tensor *y, void *yp) {
    return push(h, algo, room, bytes, (Work){0, *x, *y, *w, *c, xp, wp, yp, room, *alpha, *beta});
}

int cudnnConvolutionBackwardData(Handle *h, const float *alpha, Filter *w, void *wp, Tensor *y, void *yp, Conv *c, int algo,
                                 void *room, size_t bytes, const float *beta, Tensor *x, void *xp) {
    return push(h, algo, room, bytes, (Work){1, *x, *y, *w, *c, xp, wp, yp, room, *alpha, *beta});
}

int cudnnConvolutionBackwardFilter(Handle *h, const float *alpha, Tensor *x, void *xp, Tensor *y, void *yp, Conv *c, int algo,
                                   void *room, size_t bytes, const float *beta, Filter *w, void *wp) {
    return push(h, algo, room, bytes, (Work){2, *x, *y, *w, *c, xp, wp, yp, room, *alpha, *beta});
}
