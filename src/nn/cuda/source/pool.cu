// The root's max-pool 3x3 with stride 2 after one zero on every side, and the global average, as nn/pool.rs has them.

typedef struct { const E *x; E *y; u8 *winner; i64 images, height, width, channels, out_height, out_width; } MaxPool;

// A thread for four channels of an output pixel; winner may be null.
KERNEL(max_pool, MaxPool) {
    u32 quads = p.channels / 4, i = thread_number(), width = p.out_width, height = p.out_height;
    if (thread_number() >= p.images * height * width * quads) return;
    i64 channel = i % quads * 4, ox = i / quads % width, oy = i / quads / width % height;
    i64 image = i / quads / width / height;
    float best[4] = {-INFINITY, -INFINITY, -INFINITY, -INFINITY};
    u8 which[4] = {0, 0, 0, 0};
    for (int tap = 0; tap < 9; tap++) {
        i64 iy = 2 * oy + tap / 3 - 1, ix = 2 * ox + tap % 3 - 1;
        int inside = iy >= 0 && ix >= 0 && iy < p.height && ix < p.width;
        Quad q;
        if (inside) q = read4(p.x + ((image * p.height + iy) * p.width + ix) * p.channels + channel);
        for (int j = 0; j < 4; j++) {
            float v = inside ? wide(q.v[j]) : 0.0f;
            // A NaN wins, so that it is seen in the loss.
            if (v > best[j] || v != v) {
                best[j] = v;
                which[j] = (u8)tap;
            }
        }
    }
    Quad out;
    i64 to = ((image * p.out_height + oy) * p.out_width + ox) * p.channels + channel;
    for (int j = 0; j < 4; j++) {
        out.v[j] = narrow(best[j]);
        if (p.winner) p.winner[to + j] = which[j];
    }
    write4(p.y + to, out);
}

typedef struct { const E *dy; const u8 *winner; E *dx; i64 images, height, width, channels, out_height, out_width; } MaxPoolBackward;

// A thread for four channels of an input pixel, which up to four outputs may have taken.
KERNEL(max_pool_backward, MaxPoolBackward) {
    u32 quads = p.channels / 4, i = thread_number(), width = p.width, height = p.height;
    if (thread_number() >= p.images * height * width * quads) return;
    i64 channel = i % quads * 4, ix = i / quads % width, iy = i / quads / width % height;
    i64 image = i / quads / width / height;
    float sum[4] = {0, 0, 0, 0};
    // Input row iy is tap a of output row oy where 2 oy + a - 1 = iy.
    for (i64 a = (iy + 1) % 2; a < 3; a += 2) {
        for (i64 b = (ix + 1) % 2; b < 3; b += 2) {
            i64 oy = (iy + 1 - a) / 2, ox = (ix + 1 - b) / 2;
            if (iy + 1 < a || ix + 1 < b || oy >= p.out_height || ox >= p.out_width) continue;
            i64 at = ((image * p.out_height + oy) * p.out_width + ox) * p.channels + channel;
            Quad d = read4(p.dy + at);
            for (int j = 0; j < 4; j++) sum[j] += p.winner[at + j] == a * 3 + b ? wide(d.v[j]) : 0.0f;
        }
    }
    Quad out;
    for (int j = 0; j < 4; j++) out.v[j] = narrow(sum[j]);
    write4(p.dx + ((image * p.height + iy) * p.width + ix) * p.channels + channel, out);
}

typedef struct { const E *x; float *means; i64 pixels, channels; } Average;

// A thread for a channel of an image. Blocks are (channels, image).
KERNEL(average, Average) {
    i64 channel = thread_number(), image = blockIdx.y;
    if (channel >= p.channels) return;
    const E *x = p.x + image * p.pixels * p.channels + channel;
    double sum = 0;
    for (i64 pixel = 0; pixel < p.pixels; pixel++) sum += wide(x[pixel * p.channels]);
    p.means[image * p.channels + channel] = (float)(sum / (double)p.pixels);
}

typedef struct { const float *dmeans; E *dx; i64 pixels, channels; } AverageBackward;

KERNEL(average_backward, AverageBackward) {
    i64 channel = thread_number(), image = blockIdx.y;
    if (channel >= p.channels) return;
    E d = narrow(p.dmeans[image * p.channels + channel] * (1.0f / (float)p.pixels));
    E *dx = p.dx + image * p.pixels * p.channels + channel;
    for (i64 pixel = 0; pixel < p.pixels; pixel++) dx[pixel * p.channels] = d;
}
