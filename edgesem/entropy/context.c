/* Context: the networks of the context model, at the positions that are asked for, in integers.

   Part of the library that kernel.c begins; the same rules hold. edgesem/codec/compiled_context.py prepares what these
   functions take, and edgesem/codec/context.py does the same with ONNX Runtime. */

#include <stdint.h>

#define EXPORT __attribute__((visibility("default")))
#define INLINE static inline __attribute__((always_inline))
#define OUT_OF_RANGE -2 /* something lies beyond an array, or there is too much of it */
enum { LARGEST_BLOCK = 8, MOST = 256 }; /* positions at a time; outputs of a layer */
enum { HIDDEN_LIMIT = 511, VALUE_LIMIT = 2047, COARSE_LIMIT = 511, LAST_SCALE = 63, OPEN = 64, OPEN_BITS = 6 };

/* The layers of a network, in this order. Where `outputs` is 0 there is none. */
enum { FIRST, FIRST_BESIDE, SECOND, THIRD, DIRECT, DIRECT_BESIDE, LAYERS };
struct layer {
    int64_t outputs, count, pairs; /* sixteens of outputs; spans; pairs of inputs in all of them */
    const int32_t *spans, *bias, *shift;
    const int16_t *weights;
};

static int64_t lesser(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t greater(int64_t a, int64_t b) { return a > b ? a : b; }
INLINE int32_t limited(int32_t x, int32_t low, int32_t high) { return x < low ? low : x > high ? high : x; }

/* Computes sums of a layer for so many positions: see layer.h. */
typedef void Layer(const int16_t *const from[], const struct layer *layer, int32_t *out);

/* Sums of a layer by its power of two, rounded down, put or added to `out` [block][MOST]. */
INLINE void run(Layer *compute, int block, const struct layer *own, const int16_t *const from[], int add,
                int32_t *out) {
    int32_t sums[LARGEST_BLOCK * MOST];
    int64_t outputs = 16 * own->outputs;
    if (outputs == 0) return;
    compute(from, own, sums);
    for (int p = 0; p < block; p++) {
        int32_t *to = out + p * MOST, *sum = sums + p * MOST;
        if (add)
            for (int64_t o = 0; o < outputs; o++) to[o] = (int32_t)((uint32_t)to[o] + (uint32_t)(sum[o] >> (own->shift[o] & 31)));
        else
            for (int64_t o = 0; o < outputs; o++) to[o] = sum[o] >> (own->shift[o] & 31);
    }
}

/* What is between layers: `out` within limits. */
INLINE void hide(int block, const struct layer *own, const int32_t *out, int16_t *hidden) {
    for (int p = 0; p < block; p++)
        for (int64_t o = 0; o < 16 * own->outputs; o++)
            hidden[p * MOST + o] = (int16_t)limited(out[p * MOST + o], 0, HIDDEN_LIMIT);
}

/* All layers of a network, for the positions of a block, whose rows are given: means and scales of `n` channels, as
   floats. own: see edgesem_expect. */
INLINE void network(Layer *compute, int block, const struct layer *layers, const int16_t *const row[], int64_t n,
                    int64_t own, float mean[][MOST], float scale[][MOST]) {
    int32_t out[LARGEST_BLOCK * MOST];
    int16_t hidden[LARGEST_BLOCK * MOST];
    const int16_t *inner[LARGEST_BLOCK];
    for (int p = 0; p < block; p++) inner[p] = hidden + p * MOST;
    run(compute, block, &layers[FIRST], row, 0, out);
    run(compute, block, &layers[FIRST_BESIDE], row, 1, out);
    hide(block, &layers[FIRST], out, hidden);
    run(compute, block, &layers[SECOND], inner, 0, out);
    hide(block, &layers[SECOND], out, hidden);
    run(compute, block, &layers[THIRD], inner, 0, out);
    run(compute, block, &layers[DIRECT], row, 1, out);
    run(compute, block, &layers[DIRECT_BESIDE], row, 1, out);
    for (int p = 0; p < block; p++) {
        const int32_t *found = out + p * MOST;
        for (int64_t c = 0; c < n; c++) {
            int32_t value = limited(found[c], -VALUE_LIMIT, VALUE_LIMIT);
            if (own >= 0) value += limited(found[2 * n + c], 0, OPEN) * (row[p][own + c] - value) >> OPEN_BITS;
            mean[p][c] = (float)value;
            scale[p][c] = (float)limited(found[n + c], 0, LAST_SCALE);
        }
    }
}

#include "instruction_sets.h"

/* Read `plan`: for each layer its sixteens of outputs, how many spans, and these. 0, or OUT_OF_RANGE unless all that the
   layers read lies within the arrays, with rows at `low` to `high`. */
static int64_t read_plan(struct layer *layers, const int32_t *plan, int64_t plan_size, const int16_t *weights,
                         int64_t weights_size, const int32_t *rest, int64_t rest_size, int64_t low, int64_t high,
                         int64_t rows_size) {
    for (int kind = 0; kind < LAYERS; kind++) {
        if (plan_size < 2) return OUT_OF_RANGE;
        struct layer *own = &layers[kind];
        *own = (struct layer){plan[0], plan[1], 0, plan + 2, rest, 0, weights};
        if (own->outputs < 0 || own->outputs > MOST / 16) return OUT_OF_RANGE;
        if (own->count < 0 || own->count > (plan_size - 2) / 2) return OUT_OF_RANGE;
        plan += 2 + 2 * own->count, plan_size -= 2 + 2 * own->count;
        int64_t begin = -low, end = rows_size - high; /* what the layer may read, from where a row begins */
        if (kind == SECOND || kind == THIRD) begin = 0, end = 16 * layers[kind == SECOND ? FIRST : SECOND].outputs;
        for (int64_t span = 0; span < own->count; span++) {
            int64_t from = own->spans[2 * span], pairs = own->spans[2 * span + 1];
            if (from < begin || pairs < 0 || from + 2 * pairs > end) return OUT_OF_RANGE;
            own->pairs += pairs;
        }
        int64_t taken = 16 * own->outputs;
        if (2 * taken > rest_size || own->pairs > (int64_t)1 << 24 || 2 * taken * own->pairs > weights_size)
            return OUT_OF_RANGE;
        own->shift = rest + taken;
        rest += 2 * taken, rest_size -= 2 * taken;
        weights += 2 * taken * own->pairs, weights_size -= 2 * taken * own->pairs;
    }
    int64_t widest = greater(layers[DIRECT].outputs, layers[DIRECT_BESIDE].outputs);
    int holds = layers[FIRST].outputs > 0 && layers[SECOND].outputs > 0 && layers[THIRD].outputs >= widest &&
                layers[FIRST].outputs >= layers[FIRST_BESIDE].outputs;
    return holds ? 0 : OUT_OF_RANGE;
}

/* Means and scales that a network expects at `count` positions, [n][count] each, as floats.
   rows [rows_size]: what is known of each position, one row behind the other; places [count]: where each row begins.
   plan, weights, rest: the network; weights [outputs / 16][pairs][16][2] of each layer, `rest` its biases and shifts.
   own: where in a row the reference's values of these channels begin, negative without a reference. way: how layers are
   computed, 0 to `edgesem_best_way`. Returns 0 or a negative number. */
EXPORT int64_t edgesem_expect(const int16_t *rows, int64_t rows_size, const int32_t *places, int64_t count,
                              const int32_t *plan, int64_t plan_size, const int16_t *weights, int64_t weights_size,
                              const int32_t *rest, int64_t rest_size, int64_t n, int64_t own, int64_t way, float *mean,
                              float *scale) {
    struct layer layers[LAYERS];
    float means[LARGEST_BLOCK][MOST], scales[LARGEST_BLOCK][MOST];
    const int16_t *row[LARGEST_BLOCK];
    int64_t low = rows_size, high = 0, parts = own < 0 ? 2 : 3;
    for (int64_t place = 0; place < count; place++)
        low = lesser(low, places[place]), high = greater(high, places[place]);
    if (count < 1 || low < 0 || high > rows_size || way < 0 || way >= WAYS) return OUT_OF_RANGE;
    if (read_plan(layers, plan, plan_size, weights, weights_size, rest, rest_size, low, high, rows_size))
        return OUT_OF_RANGE;
    if (n < 1 || n > MOST || parts * n > 16 * layers[THIRD].outputs || own > rows_size - high - n) return OUT_OF_RANGE;
    int block = ways[way].block;
    for (int64_t begin = 0; begin < count; begin += block) {
        int64_t filled = lesser(block, count - begin);
        for (int p = 0; p < block; p++) row[p] = rows + places[begin + lesser(p, filled - 1)];
        ways[way].network(layers, row, n, own, means, scales);
        for (int64_t c = 0; c < n; c++)
            for (int64_t p = 0; p < filled; p++) {
                mean[c * count + begin + p] = means[p][c];
                scale[c * count + begin + p] = scales[p][c];
            }
    }
    return 0;
}

/* Note the values of `n` channels, the first of which is `start`, at `count` positions, [n][count], in their rows, as
   networks after this pass see them: at `fine` as they are, at `coarse`, and with a reference, whose values begin at
   `own`, their change at `change`, its size there + `sizes`, and that made coarse at `moved`. Negative: not noted. */
EXPORT int64_t edgesem_note(int16_t *rows, int64_t rows_size, const int32_t *places, int64_t count, const float *values,
                            int64_t n, int64_t fine, int64_t coarse, int64_t own, int64_t change, int64_t sizes,
                            int64_t moved) {
    int64_t ends[] = {fine, coarse, own, change, change < 0 ? -1 : change + sizes, moved};
    int64_t width = 0;
    for (int i = 0; i < 6; i++) {
        if (ends[i] > rows_size) return OUT_OF_RANGE;
        width = greater(width, ends[i] + n);
    }
    if (n < 0 || n > MOST || coarse < 0 || sizes < 0) return OUT_OF_RANGE;
    for (int64_t place = 0; place < count; place++)
        if (places[place] < 0 || places[place] > rows_size - width) return OUT_OF_RANGE;
    for (int64_t place = 0; place < count; place++) {
        int16_t *row = rows + places[place];
        for (int64_t c = 0; c < n; c++) {
            int32_t value = (int32_t)values[c * count + place];
            if (fine >= 0) row[fine + c] = (int16_t)value;
            row[coarse + c] = (int16_t)limited(value >> 1, -COARSE_LIMIT, COARSE_LIMIT);
            if (own < 0) continue;
            int32_t off = limited(value - row[own + c], -VALUE_LIMIT, VALUE_LIMIT), size = off < 0 ? -off : off;
            if (change >= 0) row[change + c] = (int16_t)off, row[change + sizes + c] = (int16_t)size;
            if (moved >= 0) row[moved + c] = (int16_t)limited(size >> 1, 0, COARSE_LIMIT);
        }
    }
    return 0;
}

int64_t edgesem_round(float *mean, const float *scale, int64_t size, const float *planes, int64_t positions,
                      const float *steps, int64_t each, const int64_t *places, int64_t count, int64_t least,
                      int64_t first, const int32_t *radius, const int32_t *centre, int64_t tables,
                      const int32_t *eighths, int64_t entries_size, int32_t *entries);

/* A pass of a sender in one: `edgesem_expect`, `edgesem_round` with the values at positions `at` [count], and
   `edgesem_note` of what is decoded, limited to what a value may be; nothing is noted where `coarse` is negative. `mean`
   becomes what is decoded. Returns how many entries there are, or a negative number. */
EXPORT int64_t edgesem_decide(int16_t *rows, int64_t rows_size, const int32_t *places, int64_t count,
                              const int32_t *plan, int64_t plan_size, const int16_t *weights, int64_t weights_size,
                              const int32_t *rest, int64_t rest_size, int64_t n, int64_t own, int64_t way,
                              const float *planes, int64_t positions, const float *steps, int64_t each,
                              const int64_t *at, int64_t least, int64_t first, const int32_t *radius,
                              const int32_t *centre, int64_t tables, const int32_t *eighths, int64_t entries_size,
                              int64_t fine, int64_t coarse, int64_t noted, int64_t change, int64_t sizes,
                              int64_t moved, float *mean, float *scale, int32_t *entries) {
    int64_t failed = edgesem_expect(rows, rows_size, places, count, plan, plan_size, weights, weights_size, rest,
                                    rest_size, n, own, way, mean, scale);
    if (failed) return failed;
    int64_t coded = edgesem_round(mean, scale, n * count, planes, positions, steps, each, at, count, least, first, radius,
                                  centre, tables, eighths, entries_size, entries);
    if (coded < 0) return coded;
    for (int64_t i = 0; i < n * count; i++) {
        float low = mean[i] > -VALUE_LIMIT ? mean[i] : -VALUE_LIMIT;
        mean[i] = low < VALUE_LIMIT ? low : VALUE_LIMIT;
    }
    if (coarse >= 0)
        failed = edgesem_note(rows, rows_size, places, count, mean, n, fine, coarse, noted, change, sizes, moved);
    return failed ? failed : coded;
}

/* Put the values of a reference, `n` channels at `count` positions, [n][count], into their rows: at `own` as they are, at
   `own_coarse` made coarse, and where they are `copied` also at `coarse`, and the first `sizes` at `fine`. Negative: not
   put. */
EXPORT int64_t edgesem_fill(int16_t *rows, int64_t rows_size, const int32_t *places, int64_t count,
                            const float *reference, const uint8_t *copied, int64_t n, int64_t own, int64_t own_coarse,
                            int64_t fine, int64_t sizes, int64_t coarse) {
    int64_t width = n + greater(greater(own, own_coarse), greater(fine, coarse));
    if (n < 0 || n > MOST || sizes > n || lesser(lesser(own, own_coarse), lesser(fine, coarse)) < 0) return OUT_OF_RANGE;
    for (int64_t place = 0; place < count; place++)
        if (places[place] < 0 || places[place] > rows_size - width) return OUT_OF_RANGE;
    for (int64_t place = 0; place < count; place++) {
        int16_t *row = rows + places[place];
        for (int64_t c = 0; c < n; c++) {
            int32_t value = (int32_t)reference[c * count + place];
            row[own + c] = (int16_t)value;
            row[own_coarse + c] = (int16_t)limited(value >> 1, -COARSE_LIMIT, COARSE_LIMIT);
        }
        if (!copied[place]) continue;
        for (int64_t c = 0; c < n; c++) row[coarse + c] = row[own_coarse + c];
        for (int64_t c = 0; c < sizes; c++) row[fine + c] = row[own + c];
    }
    return 0;
}
