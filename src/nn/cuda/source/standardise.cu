// Weight standardisation as nn/standardise.rs has it, a block for each output's row of weights.
// Master weights and gradients are rows of [tap][input] in f32; what convolutions read is E, with the inputs of a
// tap followed by zeros up to `padded`.

// Of each row: where its weights begin, where what convolutions read begins, taps, inputs, padded inputs.
#define ROW_WORDS 5

typedef struct { const float *w; E *hat; float *moments; const u64 *table; double epsilon; } Standardise;

KERNEL(standardise, Standardise) {
    const u64 *row = p.table + (i64)ROW_WORDS * blockIdx.x;
    const float *w = p.w + row[0];
    E *hat = p.hat + row[1];
    i64 taps = row[2], inputs = row[3], padded = row[4], count = taps * inputs;
    float shift = w[0], sum = 0, square = 0;
    for (i64 i = threadIdx.x; i < count; i += BLOCK) {
        float d = w[i] - shift;
        sum += d;
        square += d * d;
    }
    double d = block_sum(sum) / (double)count, variance = block_sum(square) / (double)count - d * d;
    float mean = (float)(shift + d), scale = (float)(1 / sqrt((variance < 0 ? 0 : variance) + p.epsilon));
    // Divisions of 32 bits: a row has fewer values than that.
    for (u32 i = threadIdx.x; i < taps * padded; i += BLOCK) {
        u32 tap = i / (u32)padded, input = i % (u32)padded;
        hat[i] = narrow(input < inputs ? (w[tap * inputs + input] - mean) * scale : 0.0f);
    }
    if (threadIdx.x == 0) {
        p.moments[2 * (i64)blockIdx.x] = mean;
        p.moments[2 * (i64)blockIdx.x + 1] = scale;
    }
}

typedef struct { const float *w, *moments; const E *dhat; float *dw; i64 taps, inputs, padded; } StandardiseBackward;

// Adds the gradient of a convolution's weights, given that of the standardised ones.
KERNEL(standardise_backward, StandardiseBackward) {
    i64 row = blockIdx.x, count = p.taps * p.inputs;
    const float *w = p.w + row * count;
    const E *dhat = p.dhat + row * p.taps * p.padded;
    float mean = p.moments[2 * row], scale = p.moments[2 * row + 1], sum = 0, dot = 0;
    for (u32 i = threadIdx.x; i < count; i += BLOCK) {
        float g = wide(dhat[i / (u32)p.inputs * p.padded + i % (u32)p.inputs]);
        sum += g;
        dot += g * (w[i] - mean);
    }
    double n = (double)count, r = scale;
    float a = (float)(block_sum(sum) / n), b = (float)(block_sum(dot) / n * r * r);
    for (u32 i = threadIdx.x; i < count; i += BLOCK) {
        float g = wide(dhat[i / (u32)p.inputs * p.padded + i % (u32)p.inputs]);
        p.dw[row * count + i] += scale * (g - a - (w[i] - mean) * b);
    }
}
