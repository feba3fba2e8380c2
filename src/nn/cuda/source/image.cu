// From stored pixels to what the root's convolution reads, with the numbers of data/sampling.rs to the bit: products and
// sums are rounded one by one (MUL, ADD), weights are computed in double.

typedef struct { const float *x; E *out; i64 pixels, padded; } Spread;

// To E, the three colours followed by zeros up to `padded`. A thread for a pixel of f32 input.
KERNEL(spread, Spread) {
    i64 i = thread_number();
    if (i >= p.pixels) return;
    for (i64 c = 0; c < p.padded; c++) p.out[i * p.padded + c] = narrow(c < 3 ? p.x[3 * i + c] : 0.0f);
}

// Of each look: offset of its bytes, height, width, channels; of either axis start, length, resized, first;
// mirrored; whether it is warped; then as double sin and cos over the scale, and the shift in pixels, down and right.
#define LOOK_WORDS 18

// Of the scaling: what each of 256 levels becomes, by channel; then three means and three deviations.
#define MEANS 768
#define DEVIATIONS 771

// Source pixels of one output pixel along an axis, and what their weights are divided by.
typedef struct { i64 low, high; double center, support, sum; } Taps;

DEVICE double tap_weight(Taps t, i64 x) {
    double d = ((double)x + 0.5 - t.center) / t.support, weight = 1.0 - (d < 0 ? -d : d);
    return weight < 0 ? 0.0 : weight;
}

DEVICE Taps axis_taps(const u64 *axis, i64 at) {
    i64 length = (i64)axis[1];
    double scale = (double)length / (double)axis[2];
    Taps t;
    t.support = scale > 1.0 ? scale : 1.0;
    t.center = DMUL((double)at + 0.5, scale);
    double low = floor(t.center - t.support + 0.5);
    t.low = low < 0 ? 0 : (i64)low;
    if (t.low > length - 1) t.low = length - 1;
    t.high = (i64)floor(t.center + t.support + 0.5);
    if (t.high < t.low + 1) t.high = t.low + 1;
    if (t.high > length) t.high = length;
    t.sum = 0;
    for (i64 x = t.low; x < t.high; x++) t.sum += tap_weight(t, x);
    return t;
}

DEVICE float tap(Taps t, i64 x) { return (float)((double)(float)tap_weight(t, x) / t.sum); }

// `shares`: grey becomes its share of full brightness, which is scaled after the warp.
typedef struct { const u8 *bytes; const u64 *table; const float *scaling; float *out; i64 height, width, shares; } Render;

// Crop, resize and mirror. A thread for a pixel; blocks are (pixels, image).
KERNEL(render, Render) {
    i64 i = thread_number(), image = blockIdx.y;
    if (i >= p.height * p.width) return;
    const u64 *look = p.table + image * LOOK_WORDS;
    i64 width = (i64)look[2], channels = (i64)look[3], column = i % p.width;
    const u8 *bytes = p.bytes + look[0];
    // What is warped is mirrored by the warp.
    int mirrored = look[12] && !look[13];
    Taps y = axis_taps(look + 4, (i64)look[7] + i / p.width);
    Taps x = axis_taps(look + 8, (i64)look[11] + (mirrored ? p.width - 1 - column : column));
    float value[3] = {0, 0, 0};
    for (i64 row = y.low; row < y.high; row++) {
        const u8 *line = bytes + (((i64)look[4] + row) * width + (i64)look[8]) * channels;
        float across[3] = {0, 0, 0}, down = tap(y, row);
        for (i64 at = x.low; at < x.high; at++) {
            float weight = tap(x, at);
            // Loops over three that are left early, so that the arrays stay in registers.
            for (int c = 0; c < 3; c++) {
                if (c >= channels) break;
                u8 level = line[at * channels + c];
                float v = channels == 1 && p.shares ? (float)level / 255.0f : p.scaling[256 * c + level];
                across[c] = ADD(across[c], MUL(weight, v));
            }
        }
        for (int c = 0; c < 3; c++) value[c] = ADD(value[c], MUL(down, across[c]));
    }
    float *out = p.out + (image * p.height * p.width + i) * 3;
    for (int c = 0; c < 3; c++) out[c] = channels == 1 ? value[0] : value[c];
}

// ...2 1 0 1 2...: mirrored about the border pixel, which is not repeated.
DEVICE i64 reflect(i64 at, i64 length) {
    if (length == 1) return 0;
    i64 period = 2 * (length - 1), m = at % period;
    if (m < 0) m += period;
    return m < period - m ? m : period - m;
}

typedef struct { const float *from; const u64 *table; const float *scaling; float *out; i64 height, width, shares; } Warp;

DEVICE float scaled(const float *scaling, int c, float share) { return (share - scaling[MEANS + c]) / scaling[DEVIATIONS + c]; }

// Rotation, scale and shift about the centre, linear; looks that are not warped are copied. Scales grey's shares.
KERNEL(warp_image, Warp) {
    i64 i = thread_number(), image = blockIdx.y, pixels = p.height * p.width;
    if (i >= pixels) return;
    const u64 *look = p.table + image * LOOK_WORDS;
    const float *from = p.from + image * pixels * 3;
    float *out = p.out + (image * pixels + i) * 3;
    int scales = p.shares && look[3] == 1;
    if (!look[13]) {
        for (int c = 0; c < 3; c++) out[c] = scales ? scaled(p.scaling, c, from[3 * i + c]) : from[3 * i + c];
        return;
    }
    i64 row = i / p.width, column = look[12] ? p.width - 1 - i % p.width : i % p.width;
    double sin = __longlong_as_double((i64)look[14]), cos = __longlong_as_double((i64)look[15]);
    double cy = ((double)p.height - 1.0) / 2.0, cx = ((double)p.width - 1.0) / 2.0;
    double dy = (double)row - cy - __longlong_as_double((i64)look[16]);
    double dx = (double)column - cx - __longlong_as_double((i64)look[17]);
    double sy = DADD(DADD(cy, DMUL(sin, dx)), DMUL(cos, dy)), sx = DADD(DADD(cx, DMUL(cos, dx)), -DMUL(sin, dy));
    double y0 = floor(sy), x0 = floor(sx);
    float fy = (float)(sy - y0), fx = (float)(sx - x0);
    const float *upper = from + reflect((i64)y0, p.height) * p.width * 3;
    const float *lower = from + reflect((i64)y0 + 1, p.height) * p.width * 3;
    i64 left = 3 * reflect((i64)x0, p.width), right = 3 * reflect((i64)x0 + 1, p.width);
    for (int c = 0; c < 3; c++) {
        float a = ADD(MUL(upper[left + c], 1.0f - fx), MUL(upper[right + c], fx));
        float b = ADD(MUL(lower[left + c], 1.0f - fx), MUL(lower[right + c], fx));
        float v = ADD(MUL(a, 1.0f - fy), MUL(b, fy));
        out[c] = scales ? scaled(p.scaling, c, v) : v;
    }
}

typedef struct { const float *a, *b; const double *share; float *out; i64 count; } Mix;

// Mixup: `share` of each image and the rest of its partner. The share is read, so that a recorded launch serves all.
KERNEL(mix, Mix) {
    i64 i = thread_number();
    float share = (float)p.share[0];
    if (i < p.count) p.out[i] = ADD(MUL(share, p.a[i]), MUL(1.0f - share, p.b[i]));
}
