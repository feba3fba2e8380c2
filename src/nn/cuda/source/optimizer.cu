// Updates of all parameters at once, a block for each unit: an output's weights, or a whole vector.
// Nothing moves once `stopped` says that a loss was no number.

// Of each unit: where it begins, its length, the bits of its factor on the rate (double), whether it is clipped.
#define UNIT_WORDS 4

DEVICE double unit_factor(const u64 *unit) { return __longlong_as_double((i64)unit[2]); }

typedef struct {
    float *w;
    const float *g;
    float *m;
    const u64 *table, *stopped;
    const double *scalars;
    double momentum, weight_decay, clipping, eps;
    i64 nesterov;
} SgdAgc;

// As nn/sgd_agc.rs; a clipping below zero is none. scalars[1] is the rate.
KERNEL(sgd_agc, SgdAgc) {
    const u64 *unit = p.table + (i64)UNIT_WORDS * blockIdx.x;
    if (p.stopped[0]) return;
    i64 count = unit[1];
    float *w = p.w + unit[0], *m = p.m + unit[0];
    const float *g = p.g + unit[0];
    float factor = 1, lr = (float)(p.scalars[1] * unit_factor(unit)), momentum = (float)p.momentum, decay = (float)p.weight_decay;
    if (unit[3] && p.clipping >= 0) {
        float own = 0, other = 0;
        for (i64 i = threadIdx.x; i < count; i += BLOCK) {
            own += w[i] * w[i];
            other += g[i] * g[i];
        }
        double weight = sqrt(block_sum(own)), gradient = sqrt(block_sum(other));
        double limit = p.clipping * (weight > p.eps ? weight : p.eps);
        if (gradient > limit) factor = (float)(limit / (gradient > 1e-6 ? gradient : 1e-6));
    }
    for (i64 i = threadIdx.x; i < count; i += BLOCK) {
        float d = g[i] * factor + decay * w[i];
        m[i] = momentum * m[i] + d;
        w[i] -= lr * (p.nesterov ? d + momentum * m[i] : m[i]);
    }
}

typedef struct {
    float *w;
    const float *g;
    float *m, *v;
    const u64 *table, *stopped;
    const double *scalars;
    double beta1, beta2, eps, weight_decay;
} AdamW;

// As nn/adamw.rs. scalars[1] is the rate, scalars[3] and [4] are 1 - beta^step for either beta.
KERNEL(adamw, AdamW) {
    const u64 *unit = p.table + (i64)UNIT_WORDS * blockIdx.x;
    if (p.stopped[0]) return;
    double lr = p.scalars[1] * unit_factor(unit);
    float keep = (float)(1 - lr * p.weight_decay), step = (float)(lr / p.scalars[3]), root = (float)sqrt(p.scalars[4]);
    float beta1 = (float)p.beta1, beta2 = (float)p.beta2, rest1 = (float)(1 - p.beta1), rest2 = (float)(1 - p.beta2), eps = (float)p.eps;
    for (i64 i = unit[0] + threadIdx.x; i < unit[0] + unit[1]; i += BLOCK) {
        float g = p.g[i], m = beta1 * p.m[i] + rest1 * g, v = beta2 * p.v[i] + rest2 * g * g;
        p.m[i] = m;
        p.v[i] = v;
        p.w[i] = keep * p.w[i] - step * m / (sqrtf(v) / root + eps);
    }
}

typedef struct { float *gradient; const u64 *stopped; i64 count; } Clear;

// Gradients that made a loss no number stay, so that they can be told.
KERNEL(clear, Clear) {
    i64 i = thread_number();
    if (i < p.count && !p.stopped[0]) p.gradient[i] = 0;
}

typedef struct { const float *w; float *mean; const u64 *stopped; i64 count; double share; } Mean;

// A running mean of the weights.
KERNEL(running_mean, Mean) {
    i64 i = thread_number();
    if (i < p.count && !p.stopped[0]) p.mean[i] += (float)p.share * (p.w[i] - p.mean[i]);
}

typedef struct { float *a, *b; i64 count; } Exchange;

KERNEL(exchange, Exchange) {
    i64 i = thread_number();
    if (i >= p.count) return;
    float a = p.a[i];
    p.a[i] = p.b[i];
    p.b[i] = a;
}
