/* A layer of a context network at BLOCK positions at a time, for one instruction set: instruction_sets.h includes
   this once for each, with these defined:

   WAY, TARGET         name of the set, and what the compiler must know to use it
   BLOCK, LANES        positions at a time; outputs of a vector
   PARTS               sixteens of outputs at a time: what is loaded of an input serves all of them
   SUMS, PAIRS, INPUT  types: LANES sums of 32 bits; as many pairs of weights; one pair of inputs
   LOAD(p), BOTH(p)    the sums, or the pairs of weights, that stand at p
   GIVEN(p)            the pair of inputs at p, for every output
   ADD(s, w, a)        s + w.first * a.first + w.second * a.second
   STORE(p, s)         the sums, to p */

#define JOIN_(a, b) a##_##b
#define JOIN(a, b) JOIN_(a, b)

/* Sums of `parts` sixteens of a layer's outputs, from number `part` on, for each position of a block, [BLOCK][MOST]. */
INLINE TARGET void JOIN(sixteens, WAY)(const int16_t *const from[], const struct layer *own, int64_t part, int parts,
                                       int32_t *out) {
    enum { VECTORS = 16 / LANES };
    SUMS sum[BLOCK][PARTS][VECTORS];
    const int16_t *weight = own->weights + part * own->pairs * 32;
    for (int p = 0; p < BLOCK; p++)
        for (int q = 0; q < parts; q++)
            for (int v = 0; v < VECTORS; v++) sum[p][q][v] = LOAD(own->bias + (part + q) * 16 + v * LANES);
    for (int64_t span = 0; span < own->count; span++) {
        int64_t begin = own->spans[2 * span], end = begin + 2 * (int64_t)own->spans[2 * span + 1];
        for (int64_t i = begin; i < end; i += 2, weight += 32) {
            PAIRS both[PARTS][VECTORS];
            for (int q = 0; q < parts; q++)
                for (int v = 0; v < VECTORS; v++) both[q][v] = BOTH(weight + q * own->pairs * 32 + 2 * v * LANES);
            for (int p = 0; p < BLOCK; p++) {
                INPUT given = GIVEN(from[p] + i);
                for (int q = 0; q < parts; q++)
                    for (int v = 0; v < VECTORS; v++) sum[p][q][v] = ADD(sum[p][q][v], both[q][v], given);
            }
        }
    }
    for (int p = 0; p < BLOCK; p++)
        for (int q = 0; q < parts; q++)
            for (int v = 0; v < VECTORS; v++) STORE(out + p * MOST + (part + q) * 16 + v * LANES, sum[p][q][v]);
}

/* Sums of a layer for each position of a block, [BLOCK][MOST]. from: where the inputs of each position begin. */
static TARGET void JOIN(layer, WAY)(const int16_t *const from[], const struct layer *own, int32_t *out) {
    int64_t part = 0;
    for (; part + PARTS <= own->outputs; part += PARTS) JOIN(sixteens, WAY)(from, own, part, PARTS, out);
    for (; part < own->outputs; part++) JOIN(sixteens, WAY)(from, own, part, 1, out);
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
#undef PARTS
#undef LANES
#undef SUMS
#undef PAIRS
#undef INPUT
#undef LOAD
#undef BOTH
#undef GIVEN
#undef ADD
#undef STORE
