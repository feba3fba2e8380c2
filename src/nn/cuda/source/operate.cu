// RandAugment's operations on 8-bit RGB, exact to the grey level as data/randaugment has them. A block for an image.

// Of each operation: its code, the bits of its factor or threshold (double), and for GATHER where the first pixel comes
// from and the steps to the next one of a row and of a column, all in 16.16 fixed point: x, y, x and y along a row,
// x and y along a column.
#define OPERATION_WORDS 8
enum { COPY, GATHER, BRIGHTNESS, COLOR, CONTRAST, SHARPNESS, POSTERIZE, SOLARIZE, AUTO_CONTRAST, EQUALIZE };

typedef struct { const float *x, *scaling; u8 *levels; i64 count; } Levels;

// Normalised input back to grey levels.
KERNEL(to_levels, Levels) {
    i64 i = thread_number();
    if (i >= p.count) return;
    int c = (int)(i % 3);
    float level = roundf(MUL(ADD(MUL(p.x[i], p.scaling[DEVIATIONS + c]), p.scaling[MEANS + c]), 255.0f));
    p.levels[i] = level < 0 ? 0 : level > 255 ? 255 : (u8)level;
}

typedef struct { const u8 *levels; const float *scaling; float *x; i64 count; } FromLevels;

KERNEL(from_levels, FromLevels) {
    i64 i = thread_number();
    if (i < p.count) p.x[i] = p.scaling[256 * (i % 3) + p.levels[i]];
}

// ITU-R 601-2 luma.
DEVICE u32 luma(const u8 *rgb) { return ((u32)rgb[0] * 19595u + (u32)rgb[1] * 38470u + (u32)rgb[2] * 7471u + 0x8000u) >> 16; }

// Cut down within, clipped outside of 0 to 1.
DEVICE u8 blend(float from, float to, float alpha) {
    float v = ADD(from, MUL(alpha, to - from));
    return v < 0 ? 0 : v > 255 ? 255 : (u8)v;
}

typedef struct { const u8 *from; u8 *to; const u64 *table; i64 height, width; } Operate;

KERNEL(operate, Operate) {
    __shared__ u32 counts[3][256];
    __shared__ u8 levels[3][256];
    i64 pixels = p.height * p.width;
    const u64 *of = p.table + (i64)blockIdx.x * OPERATION_WORDS;
    const u8 *from = p.from + (i64)blockIdx.x * pixels * 3;
    u8 *to = p.to + (i64)blockIdx.x * pixels * 3;
    int code = (int)of[0];
    double factor = __longlong_as_double((i64)of[1]);
    float alpha = (float)factor, mean = 0;
    if ((code == BRIGHTNESS || code == COLOR || code == CONTRAST || code == SHARPNESS) && alpha == 1.0f) code = COPY;
    if (code == CONTRAST) {
        // Whole numbers, of which every double sum is exact.
        double sum = 0;
        for (i64 i = threadIdx.x; i < pixels; i += BLOCK) sum += luma(from + 3 * i);
        mean = (float)(u8)(block_sum(sum) / (double)pixels + 0.5);
    }
    if (code == AUTO_CONTRAST || code == EQUALIZE) {
        for (int c = 0; c < 3; c++) counts[c][threadIdx.x] = 0;
        __syncthreads();
        for (i64 i = threadIdx.x; i < 3 * pixels; i += BLOCK) atomicAdd(&counts[i % 3][from[i]], 1u);
        __syncthreads();
        if (threadIdx.x < 3) {
            const u32 *n = counts[threadIdx.x];
            int low = 0, high = 255;
            while (low < 255 && n[low] == 0) low++;
            while (high > 0 && n[high] == 0) high--;
            u64 step = ((u64)pixels - n[high]) / 255, sum = step / 2;
            double scale = high > low ? 255.0 / (double)(high - low) : 1.0, offset = -(double)low * scale;
            for (int v = 0; v < 256; v++) {
                u8 level = (u8)v;
                if (code == EQUALIZE && step > 0) {
                    u64 out = sum / step;
                    level = out > 255 ? 255 : (u8)out;
                    sum += n[v];
                } else if (code == AUTO_CONTRAST && high > low) {
                    double out = DADD(DMUL((double)v, scale), offset);
                    level = out < 0 ? 0 : out > 255 ? 255 : (u8)out;
                }
                levels[threadIdx.x][v] = level;
            }
        }
        __syncthreads();
    }
    for (i64 i = threadIdx.x; i < pixels; i += BLOCK) {
        i64 row = i / p.width, column = i % p.width;
        const u8 *pixel = from + 3 * i;
        i64 x = 0, y = 0;
        int inside = 1, edge = row == 0 || row + 1 >= p.height || column == 0 || column + 1 >= p.width;
        float grey = code == COLOR ? (float)luma(pixel) : mean;
        if (code == GATHER) {
            x = ((i64)of[2] + column * (i64)of[4] + row * (i64)of[6]) >> 16;
            y = ((i64)of[3] + column * (i64)of[5] + row * (i64)of[7]) >> 16;
            inside = x >= 0 && y >= 0 && x < p.width && y < p.height;
            pixel = from + 3 * (inside ? y * p.width + x : 0);
        }
        for (int c = 0; c < 3; c++) {
            u8 v = pixel[c], out = v;
            if (code == GATHER && !inside) out = 0;
            if (code == BRIGHTNESS || code == COLOR || code == CONTRAST) out = blend(grey, (float)v, alpha);
            if (code == SHARPNESS) {
                u32 sum = 0;
                float smooth = (float)v;
                if (!edge) {
                    for (i64 dy = -p.width; dy <= p.width; dy += p.width)
                        for (i64 dx = -1; dx <= 1; dx++) sum += pixel[3 * (dy + dx) + c];
                    smooth = (float)(u8)(ADD((float)(sum + 4u * v) / 13.0f, 0.5f));
                }
                out = blend(smooth, (float)v, alpha);
            }
            if (code == POSTERIZE) out = (u8)(((u32)v >> (u32)factor) << (u32)factor);
            if (code == SOLARIZE) out = (double)v < factor ? v : (u8)(255 - v);
            if (code == AUTO_CONTRAST || code == EQUALIZE) out = levels[c][v];
            to[3 * i + c] = out;
        }
    }
}
