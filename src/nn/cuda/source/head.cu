// The head's linear layer and the losses, in f32 and f64 as nn/loss.rs has them.

#define TILE 16
// Products that are summed before the sum is added to the total.
#define CHAIN 512

typedef struct {
    const float *a, *b, *bias;
    float *c;
    i64 rows, columns, inner, a_row, a_inner, b_inner, b_column, add;
} Product;

// c = a b (+ bias of the column) (+ what c holds), by tiles of 16 x 16. Blocks are (columns, rows).
KERNEL(product, Product) {
    __shared__ float left[TILE][TILE], right[TILE][TILE];
    int tx = threadIdx.x % TILE, ty = threadIdx.x / TILE;
    i64 row = (i64)blockIdx.y * TILE + ty, column = (i64)blockIdx.x * TILE + tx;
    float total = 0, sum = 0;
    for (i64 first = 0; first < p.inner; first += TILE) {
        i64 k = first + tx, m = first + ty;
        left[ty][tx] = row < p.rows && k < p.inner ? p.a[row * p.a_row + k * p.a_inner] : 0.0f;
        right[ty][tx] = column < p.columns && m < p.inner ? p.b[m * p.b_inner + column * p.b_column] : 0.0f;
        __syncthreads();
        for (int i = 0; i < TILE; i++) sum += left[ty][i] * right[i][tx];
        __syncthreads();
        if ((first + TILE) % CHAIN == 0) {
            total += sum;
            sum = 0;
        }
    }
    total += sum;
    if (row < p.rows && column < p.columns) {
        float *to = p.c + row * p.columns + column;
        if (p.bias) total += p.bias[column];
        *to = p.add ? *to + total : total;
    }
}

// The same for many rows and columns, to the bit: tiles of 64 x 64, of which each thread sums 4 x 4 in registers.
#define SIDE 64
#define DEPTH 16
#define EACH 4
// Rows of what is shared begin in different banks, at addresses that four values may be read from at once.
#define STRIDE (SIDE + EACH)

KERNEL(product_wide, Product) {
    __shared__ ALIGNED(16) float left[DEPTH][STRIDE], right[DEPTH][STRIDE];
    int tx = threadIdx.x % (SIDE / EACH), ty = threadIdx.x / (SIDE / EACH);
    i64 top = (i64)blockIdx.y * SIDE, start = (i64)blockIdx.x * SIDE;
    float total[EACH][EACH] = {{0}}, sum[EACH][EACH] = {{0}};
    for (i64 first = 0; first < p.inner; first += DEPTH) {
        for (int part = 0; part < SIDE * DEPTH / BLOCK; part++) {
            int at = (int)threadIdx.x + part * BLOCK;
            // Neighbouring threads read neighbouring values, whichever way the matrix lies.
            int k = p.a_inner == 1 ? at % DEPTH : at / SIDE, i = p.a_inner == 1 ? at / DEPTH : at % SIDE;
            i64 row = top + i, m = first + k;
            left[k][i] = row < p.rows && m < p.inner ? p.a[row * p.a_row + m * p.a_inner] : 0.0f;
            k = p.b_inner == 1 ? at % DEPTH : at / SIDE, i = p.b_inner == 1 ? at / DEPTH : at % SIDE;
            i64 column = start + i;
            m = first + k;
            right[k][i] = column < p.columns && m < p.inner ? p.b[m * p.b_inner + column * p.b_column] : 0.0f;
        }
        __syncthreads();
        for (int k = 0; k < DEPTH; k++) {
            float l[EACH], r[EACH];
            for (int i = 0; i < EACH; i++) l[i] = left[k][ty * EACH + i], r[i] = right[k][tx * EACH + i];
            for (int i = 0; i < EACH; i++)
                for (int j = 0; j < EACH; j++) sum[i][j] += l[i] * r[j];
        }
        __syncthreads();
        if ((first + DEPTH) % CHAIN == 0) {
            for (int i = 0; i < EACH; i++)
                for (int j = 0; j < EACH; j++) total[i][j] += sum[i][j], sum[i][j] = 0;
        }
    }
    for (int i = 0; i < EACH; i++) {
        for (int j = 0; j < EACH; j++) {
            i64 row = top + ty * EACH + i, column = start + tx * EACH + j;
            if (row >= p.rows || column >= p.columns) continue;
            float value = total[i][j] + sum[i][j], *to = p.c + row * p.columns + column;
            if (p.bias) value += p.bias[column];
            *to = p.add ? *to + value : value;
        }
    }
}

typedef struct { const float *x; float *sums; i64 rows, columns; } ColumnSums;

// Adds the sum of each column.
KERNEL(column_sums, ColumnSums) {
    i64 column = thread_number();
    if (column >= p.columns) return;
    double sum = 0;
    for (i64 row = 0; row < p.rows; row++) sum += p.x[row * p.columns + column];
    p.sums[column] += (float)sum;
}

// Classes where there are any, else the soft targets. scalars[0] is the scale of every term.
typedef struct { const float *logits; const int *classes; const float *soft; const double *scalars; float *gradient; double *terms; i64 columns; } SoftmaxLoss;

// A block for an example: sum_j y_j (log sum_k exp z_k - z_j), and its gradient p_j sum_k y_k - y_j.
KERNEL(softmax_loss, SoftmaxLoss) {
    i64 example = blockIdx.x;
    const float *z = p.logits + example * p.columns;
    int chosen = p.classes ? p.classes[example] : -1;
    const float *soft = p.soft + (p.classes ? 0 : example * p.columns);
    double top = -INFINITY, total = 0, mass = 0, loss = 0, scale = p.scalars[0];
    for (i64 j = threadIdx.x; j < p.columns; j += BLOCK) top = z[j] > top ? z[j] : top;
    top = block_max(top);
    for (i64 j = threadIdx.x; j < p.columns; j += BLOCK) {
        total += exp(z[j] - top);
        mass += p.classes ? (j == chosen ? 1.0 : 0.0) : (double)soft[j];
    }
    double log_total = log(block_sum(total)) + top;
    mass = block_sum(mass);
    for (i64 j = threadIdx.x; j < p.columns; j += BLOCK) {
        double y = p.classes ? (j == chosen ? 1.0 : 0.0) : (double)soft[j];
        if (y != 0) loss += y * (log_total - z[j]);
        p.gradient[example * p.columns + j] = (float)(scale * (exp(z[j] - log_total) * mass - y));
    }
    loss = block_sum(loss);
    if (threadIdx.x == 0) p.terms[example] = loss;
}

typedef struct { const float *logits, *values; const u8 *known; const double *scalars; float *gradient; double *terms; i64 columns; } SigmoidLoss;

// The same over known labels: max(z, 0) - z y + log(1 + exp(-|z|)), and its gradient sigmoid(z) - y.
KERNEL(sigmoid_loss, SigmoidLoss) {
    i64 example = blockIdx.x;
    double loss = 0, scale = p.scalars[0];
    for (i64 j = threadIdx.x; j < p.columns; j += BLOCK) {
        i64 at = example * p.columns + j;
        double z = p.logits[at], y = p.values[at], size = z < 0 ? -z : z, e = exp(-size);
        if (!p.known[at]) {
            p.gradient[at] = 0;
            continue;
        }
        loss += (z < 0 ? 0 : z) - z * y + log1p(e);
        p.gradient[at] = (float)(scale * ((z >= 0 ? 1 / (1 + e) : e / (1 + e)) - y));
    }
    loss = block_sum(loss);
    if (threadIdx.x == 0) p.terms[example] = loss;
}

typedef struct { const double *terms, *scalars; double *loss; i64 count; } AddLoss;

// Adds the scaled sum of the terms to the loss of the step.
KERNEL(add_loss, AddLoss) {
    if (thread_number() != 0) return;
    double sum = 0;
    for (i64 i = 0; i < p.count; i++) sum += p.terms[i];
    p.loss[0] += sum * p.scalars[0];
}

typedef struct { double *loss, *losses; u64 *stopped; const double *scalars; i64 room; } NoteLoss;

// Ends a step: its loss goes to a place that the host reads when it has time. A loss that is no number stops all
// further updates, so that the weights stay those before it.
KERNEL(note_loss, NoteLoss) {
    if (thread_number() != 0) return;
    double loss = p.loss[0];
    p.losses[(u64)p.scalars[2] % (u64)p.room] = loss;
    if (!(loss - loss == 0)) p.stopped[0] = 1;
    p.loss[0] = 0;
}
