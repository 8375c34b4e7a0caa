/* A layer of a context network at BLOCK positions at a time, for one instruction set: context.c includes this once for
   each, with these defined:

   WAY, TARGET         name of the set, and what the compiler must know to use it
   BLOCK, LANES        positions at a time; outputs of a vector
   SUMS, PAIRS, INPUT  types: LANES sums of 32 bits; as many pairs of weights; one pair of inputs
   LOAD(p), BOTH(p)    the sums, or the pairs of weights, that stand at p
   GIVEN(p)            the pair of inputs at p, for every output
   ADD(s, w, a)        s + w.first * a.first + w.second * a.second
   STORE(p, s)         the sums, to p */

#define JOIN_(a, b) a##_##b
#define JOIN(a, b) JOIN_(a, b)

/* Sums of a layer for each position of a block, [BLOCK][MOST]. from: where the inputs of each position begin. */
static TARGET void JOIN(layer, WAY)(const int16_t *const from[], const struct layer *own, int32_t *out) {
    enum { VECTORS = 16 / LANES };
    const int16_t *weight = own->weights;
    for (int64_t part = 0; part < own->outputs; part++) {
        SUMS sum[BLOCK][VECTORS];
        for (int v = 0; v < VECTORS; v++)
            for (int p = 0; p < BLOCK; p++) sum[p][v] = LOAD(own->bias + part * 16 + v * LANES);
        for (int64_t span = 0; span < own->count; span++) {
            int64_t begin = own->spans[2 * span], end = begin + 2 * (int64_t)own->spans[2 * span + 1];
            for (int64_t i = begin; i < end; i += 2, weight += 32) {
                PAIRS both[VECTORS];
                for (int v = 0; v < VECTORS; v++) both[v] = BOTH(weight + 2 * v * LANES);
                for (int p = 0; p < BLOCK; p++) {
                    INPUT given = GIVEN(from[p] + i);
                    for (int v = 0; v < VECTORS; v++) sum[p][v] = ADD(sum[p][v], both[v], given);
                }
            }
        }
        for (int p = 0; p < BLOCK; p++)
            for (int v = 0; v < VECTORS; v++) STORE(out + p * MOST + part * 16 + v * LANES, sum[p][v]);
    }
}

static TARGET void JOIN(network, WAY)(const struct layer *layers, const int16_t *const row[], int64_t n, int64_t own,
                                      float mean[][MOST], float scale[][MOST]) {
    network(JOIN(layer, WAY), BLOCK, layers, row, n, own, mean, scale);
}

#undef JOIN_
#undef JOIN
#undef WAY
#undef TARGET
#undef BLOCK
#undef LANES
#undef SUMS
#undef PAIRS
#undef INPUT
#undef LOAD
#undef BOTH
#undef GIVEN
#undef ADD
#undef STORE
