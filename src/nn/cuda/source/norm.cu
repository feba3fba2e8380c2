// GroupNorm with ReLU as nn/norm.rs has it: y = max(0, a x + b), a = weight r, b = bias - mean a.

// Sums over one chunk of pixels of an image, for each channel: parts[image][chunk][2][channels].
DEVICE void store_parts(double *parts, i64 channels, i64 chunks, Walk w, const float *first, const float *second) {
    __shared__ double one[BLOCK], two[BLOCK];
    int lanes = BLOCK / w.rows < channels / 4 ? BLOCK / w.rows : (int)(channels / 4);
    double *to = parts + ((w.image * chunks + blockIdx.x) * 2) * channels;
    for (int j = 0; j < 4; j++) {
        __syncthreads();
        one[threadIdx.x] = first[j];
        two[threadIdx.x] = second[j];
        __syncthreads();
        if (w.active && w.row == 0) {
            double a = 0, b = 0;
            for (int row = 0; row < w.rows; row++) {
                a += one[row * lanes + threadIdx.x];
                b += two[row * lanes + threadIdx.x];
            }
            to[w.channel + j] = a;
            to[channels + w.channel + j] = b;
        }
    }
}

typedef struct { const E *x; double *parts; i64 pixels, channels, chunk, chunks; } NormParts;

// Sums of x - x0 and of its square; x0, the first pixel, keeps a large mean from swallowing the variance.
KERNEL(norm_parts, NormParts) {
    Walk w = walk(p.pixels, p.channels, p.chunk);
    float sum[4] = {0, 0, 0, 0}, square[4] = {0, 0, 0, 0};
    if (w.active) {
        const E *x = p.x + w.image * p.pixels * p.channels + w.channel;
        Quad shift = read4(x);
        for (i64 pixel = w.first + w.row; pixel < w.last; pixel += w.rows) {
            Quad q = read4(x + pixel * p.channels);
            for (int j = 0; j < 4; j++) {
                float d = wide(q.v[j]) - wide(shift.v[j]);
                sum[j] += d;
                square[j] += d * d;
            }
        }
    }
    store_parts(p.parts, p.channels, p.chunks, w, sum, square);
}

typedef struct { const E *x; const double *parts; float *moments; i64 pixels, channels, groups, chunks; double epsilon; } NormMoments;

// Mean and 1 / sqrt(var + epsilon) of a group of an image, from its channels' sums. Blocks are (group, image).
KERNEL(norm_moments, NormMoments) {
    i64 group = blockIdx.x, image = blockIdx.y, size = p.channels / p.groups;
    const E *x = p.x + image * p.pixels * p.channels + group * size;
    const double *parts = p.parts + image * p.chunks * 2 * p.channels + group * size;
    double n = (double)p.pixels, all = n * (double)size, sum = 0, square = 0;
    for (i64 i = threadIdx.x; i < p.chunks * size; i += BLOCK) sum += parts[i / size * 2 * p.channels + i % size];
    for (i64 c = threadIdx.x; c < size; c += BLOCK) sum += wide(x[c]) * n;
    double mean = block_sum(sum) / all;
    for (i64 i = threadIdx.x; i < p.chunks * size; i += BLOCK) {
        const double *part = parts + i / size * 2 * p.channels + i % size;
        square += part[p.channels] - 2 * (mean - wide(x[i % size])) * part[0];
    }
    for (i64 c = threadIdx.x; c < size; c += BLOCK) {
        double d = mean - wide(x[c]);
        square += n * d * d;
    }
    double variance = block_sum(square) / all;
    if (threadIdx.x == 0) {
        float *to = p.moments + 2 * (image * p.groups + group);
        to[0] = (float)mean;
        // A variance that is no number stays one.
        to[1] = (float)(1 / sqrt((variance < 0 ? 0 : variance) + p.epsilon));
    }
}

// a and b of four channels.
DEVICE void lines(const float *moments, const float *weight, const float *bias, i64 groups, i64 channels, Walk w, float *a, float *b) {
    // Divisions of 32 bits, which are several times as fast.
    u32 size = (u32)channels / (u32)groups;
    for (int j = 0; j < 4; j++) {
        u32 c = w.channel + j;
        const float *m = moments + 2 * (w.image * groups + c / size);
        a[j] = weight[c] * m[1];
        b[j] = bias[c] - m[0] * a[j];
    }
}

typedef struct { const E *x; const float *moments, *weight, *bias; E *y; i64 pixels, channels, groups, chunk; } NormForward;

KERNEL(norm_forward, NormForward) {
    Walk w = walk(p.pixels, p.channels, p.chunk);
    if (!w.active) return;
    float a[4], b[4];
    lines(p.moments, p.weight, p.bias, p.groups, p.channels, w, a, b);
    i64 from = w.image * p.pixels * p.channels + w.channel;
    for (i64 pixel = w.first + w.row; pixel < w.last; pixel += w.rows) {
        Quad q = read4(p.x + from + pixel * p.channels);
        for (int j = 0; j < 4; j++) {
            float z = wide(q.v[j]) * a[j] + b[j];
            // Unlike fmaxf this lets a NaN through, so that it is seen in the loss.
            q.v[j] = narrow(z < 0 ? 0.0f : z);
        }
        write4(p.y + from + pixel * p.channels, q);
    }
}

typedef struct { const E *x, *dy; const float *moments, *weight, *bias; double *parts; i64 pixels, channels, groups, chunk, chunks; } NormSums;

// Sums of g and of g x, where g is the gradient of y where y > 0.
KERNEL(norm_sums, NormSums) {
    Walk w = walk(p.pixels, p.channels, p.chunk);
    float sum[4] = {0, 0, 0, 0}, dot[4] = {0, 0, 0, 0};
    if (w.active) {
        float a[4], b[4];
        lines(p.moments, p.weight, p.bias, p.groups, p.channels, w, a, b);
        i64 from = w.image * p.pixels * p.channels + w.channel;
        for (i64 pixel = w.first + w.row; pixel < w.last; pixel += w.rows) {
            Quad q = read4(p.x + from + pixel * p.channels), d = read4(p.dy + from + pixel * p.channels);
            for (int j = 0; j < 4; j++) {
                float x = wide(q.v[j]), g = x * a[j] + b[j] > 0 ? wide(d.v[j]) : 0.0f;
                sum[j] += g;
                dot[j] += g * x;
            }
        }
    }
    store_parts(p.parts, p.channels, p.chunks, w, sum, dot);
}

typedef struct { const double *parts; const float *moments, *weight; double *totals; float *slopes; i64 pixels, channels, groups, chunks; } NormTotals;

// For a group of an image: totals[image][2][channels] of g and of g xh, and p and q of dx = a g + p x + q.
KERNEL(norm_totals, NormTotals) {
    i64 group = blockIdx.x, image = blockIdx.y, size = p.channels / p.groups;
    const float *m = p.moments + 2 * (image * p.groups + group);
    double mean = m[0], r = m[1], first = 0, second = 0, n = (double)(p.pixels * size);
    for (i64 c = group * size + threadIdx.x; c < (group + 1) * size; c += BLOCK) {
        double sum = 0, dot = 0;
        for (i64 chunk = 0; chunk < p.chunks; chunk++) {
            const double *part = p.parts + (image * p.chunks + chunk) * 2 * p.channels + c;
            sum += part[0];
            dot += part[p.channels];
        }
        dot = (dot - mean * sum) * r;
        p.totals[image * 2 * p.channels + c] = sum;
        p.totals[(image * 2 + 1) * p.channels + c] = dot;
        first += p.weight[c] * sum;
        second += p.weight[c] * dot;
    }
    first = block_sum(first) / n;
    second = block_sum(second) / n;
    if (threadIdx.x == 0) {
        float *to = p.slopes + 2 * (image * p.groups + group);
        to[0] = (float)(-r * r * second);
        to[1] = (float)(-r * first + r * r * mean * second);
    }
}

typedef struct { const double *totals; float *weight, *bias; i64 images, channels; } NormGradients;

// Adds the gradients of weight and bias, image after image.
KERNEL(norm_gradients, NormGradients) {
    i64 c = thread_number();
    if (c >= p.channels) return;
    double sum = 0, dot = 0;
    for (i64 image = 0; image < p.images; image++) {
        sum += p.totals[image * 2 * p.channels + c];
        dot += p.totals[(image * 2 + 1) * p.channels + c];
    }
    p.bias[c] += (float)sum;
    p.weight[c] += (float)dot;
}

typedef struct { const E *x, *dy, *residual; const float *moments, *weight, *bias, *slopes; E *dx; i64 pixels, channels, groups, chunk; } NormBackward;

// dx = a g + p x + q (+ residual, which may be null).
KERNEL(norm_backward, NormBackward) {
    Walk w = walk(p.pixels, p.channels, p.chunk);
    if (!w.active) return;
    float a[4], b[4], slope[4], level[4];
    lines(p.moments, p.weight, p.bias, p.groups, p.channels, w, a, b);
    u32 size = (u32)p.channels / (u32)p.groups;
    for (int j = 0; j < 4; j++) {
        const float *s = p.slopes + 2 * (w.image * p.groups + (u32)(w.channel + j) / size);
        slope[j] = s[0];
        level[j] = s[1];
    }
    i64 from = w.image * p.pixels * p.channels + w.channel;
    for (i64 pixel = w.first + w.row; pixel < w.last; pixel += w.rows) {
        i64 at = from + pixel * p.channels;
        Quad q = read4(p.x + at), d = read4(p.dy + at), r = q;
        if (p.residual) r = read4(p.residual + at);
        for (int j = 0; j < 4; j++) {
            float x = wide(q.v[j]), g = x * a[j] + b[j] > 0 ? wide(d.v[j]) : 0.0f;
            float dx = a[j] * g + slope[j] * x + level[j];
            q.v[j] = narrow(p.residual ? dx + wide(r.v[j]) : dx);
        }
        write4(p.dx + at, q);
    }
}
