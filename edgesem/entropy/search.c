/* Search: what a sender works out about a latent before it codes it. No bytes depend on how, only on which decisions; but
   for `edgesem_in_steps` and `edgesem_in_units`, which a receiver needs, too: they give the same on every machine.

   Part of the library that kernel.c begins; the same rules hold. Sums of floats are taken in one order, that in which
   edgesem/codec/{budget,copying,motion}.py take them without these functions. Planes are [channels][positions]. */

#include <stdint.h>

#define EXPORT __attribute__((visibility("default")))
#define OUT_OF_RANGE -2 /* something lies beyond an array */
#define ROUNDER 12582912.0f /* 1.5 * 2^23: a small number added to it is rounded to the nearest whole one */
enum { MOST_SIDE = 256, MOST_BLOCK = 16, ORDERS = 8 };

static int64_t lesser(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t greater(int64_t a, int64_t b) { return a > b ? a : b; }
static int64_t within(int64_t at, int64_t side) { return greater(0, lesser(at, side - 1)); }
static int sides_fit(int64_t height, int64_t width) {
    return height >= 1 && height <= MOST_SIDE && width >= 1 && width <= MOST_SIDE;
}

/* Of one position in four of planes [channels][height][width]: how many have a size above each of `limits`
   [knots][2][channels], the first for the value itself, the second for its distance from the mean of its four
   neighbours. counts [knots][2][channels]. */
EXPORT int64_t edgesem_count(const float *values, int64_t channels, int64_t height, int64_t width, const float *limits,
                             int64_t knots, int32_t *counts) {
    float found[2][MOST_SIDE * MOST_SIDE / 4];
    if (!sides_fit(height, width)) return OUT_OF_RANGE;
    for (int64_t c = 0; c < channels; c++) {
        int64_t n = 0;
        for (int64_t y = 0; y < height; y += 2) {
            const float *own = values + (c * height + y) * width, *up = own - (y > 0 ? width : 0);
            const float *down = own + (y + 1 < height ? width : 0);
            for (int64_t x = 0; x < width; x += 2, n++) {
                float beside = own[x > 0 ? x - 1 : 0] + own[x + 1 < width ? x + 1 : x];
                found[0][n] = __builtin_fabsf(own[x]);
                found[1][n] = __builtin_fabsf(own[x] - (up[x] + down[x] + beside) * 0.25f);
            }
        }
        for (int64_t k = 0; k < 2 * knots; k++) {
            int32_t count = 0;
            float limit = limits[k * channels + c];
            for (int64_t i = 0; i < n; i++) count += found[k & 1][i] > limit;
            counts[k * channels + c] = count;
        }
    }
    return 0;
}

/* Squared steps by which planes [channels][count] exceed `left`, in sum, and how many exceed `large`, at each of `knots`
   qualities, added to `sums` and `counts` [knots][count]; scale [knots][channels][each], steps squared, where each is 1 or
   `count`. Without `counts` nothing is counted. */
EXPORT int64_t edgesem_excess(const float *planes, int64_t channels, int64_t count, const float *scale, int64_t each,
                              int64_t knots, float left, float large, float *sums, float *counts) {
    if (each != 1 && each != count) return OUT_OF_RANGE;
    for (int64_t c = 0; c < channels; c++)
        for (int64_t k = 0; k < knots; k++) {
            const float *own = planes + c * count, *steps = scale + (k * channels + c) * each;
            float *sum = sums + k * count, *more = counts ? counts + k * count : 0;
            for (int64_t i = 0; i < count; i++) {
                float off = own[i] * steps[each == 1 ? 0 : i], over = off - left;
                if (counts) more[i] += off > large ? 1.0f : 0.0f;
                sum[i] += over > 0 ? over : 0;
            }
        }
    return 0;
}

/* How the first planes [channels][count] of a latent differ from those of another, in steps: their squares, none above
   `most`, in sum, added to `off` [count]. scale [channels]: steps per unit. */
EXPORT int64_t edgesem_off(const float *own, const float *other, int64_t channels, int64_t count, const float *scale,
                           float most, float *off) {
    for (int64_t c = 0; c < channels; c++) {
        const float *mine = own + c * count, *theirs = other + c * count;
        float steps = scale[c];
        for (int64_t i = 0; i < count; i++) {
            float less = mine[i] * steps - theirs[i] * steps, square = less * less;
            off[i] += square < most ? square : most;
        }
    }
    return 0;
}

/* How planes [channels][count] of a latent differ from a reference and from its origin: `error` and `change` of the same
   form, squares less 2 and `times` noise [channels], the latter not below 0. */
EXPORT int64_t edgesem_differ(const float *own, const float *reference, const float *origin, const float *noise,
                              int64_t channels, int64_t count, float times, float *error, float *change) {
    for (int64_t c = 0; c < channels; c++)
        for (int64_t i = c * count; i < (c + 1) * count; i++) {
            float off = own[i] - reference[i], moved = own[i] - origin[i];
            error[i] = off * off - 2 * noise[c];
            moved = moved * moved - times * noise[c];
            change[i] = moved > 0 ? moved : 0;
        }
    return 0;
}

/* A reference's planes [channels][count] in 1/8 steps, rounded, none beyond `most`; steps [channels][each], where each is
   1 or `count`. */
EXPORT int64_t edgesem_in_steps(const float *planes, int64_t channels, int64_t count, const float *steps, int64_t each,
                                float most, float *found) {
    if ((each != 1 && each != count) || !(most < ROUNDER / 4)) return OUT_OF_RANGE;
    for (int64_t c = 0; c < channels; c++)
        for (int64_t i = 0; i < count; i++) {
            float value = planes[c * count + i] * steps[each == 1 ? c : c * count + i] * 8;
            value = value > -most ? value : -most;
            value = value < most ? value : most;
            found[c * count + i] = (value + ROUNDER) - ROUNDER;
        }
    return 0;
}

/* How many values of planes [channels][count] are off a reference's, which are in 1/8 steps, by more than `limit` steps,
   at positions that are not `copied` [count]; steps as above. Without a reference it is 0, without `copied` none is. */
EXPORT int64_t edgesem_large(const float *planes, const float *reference, int64_t channels, int64_t count,
                             const float *steps, int64_t each, const uint8_t *copied, float limit) {
    int64_t found = 0;
    if (each != 1 && each != count) return OUT_OF_RANGE;
    for (int64_t c = 0; c < channels; c++) {
        int32_t here = 0;
        for (int64_t i = 0; i < count; i++) {
            float off = planes[c * count + i] * steps[each == 1 ? c : c * count + i];
            if (reference) off -= reference[c * count + i] * 0.125f;
            here += (__builtin_fabsf(off) > limit) & !(copied && copied[i]);
        }
        found += here;
    }
    return found;
}

/* Put values [channels][count] in 1/8 steps, as units of the encoder, into planes [channels][positions] at `places`
   [count]; steps as above, of all positions. */
EXPORT int64_t edgesem_in_units(const float *values, int64_t channels, const int64_t *places, int64_t count,
                                const float *steps, int64_t each, float *planes, int64_t positions) {
    if (each != 1 && each != positions) return OUT_OF_RANGE;
    for (int64_t i = 0; i < count; i++)
        if (places[i] < 0 || places[i] >= positions) return OUT_OF_RANGE;
    for (int64_t c = 0; c < channels; c++)
        for (int64_t i = 0; i < count; i++) {
            int64_t at = c * positions + places[i];
            planes[at] = values[c * count + i] * 0.125f / steps[each == 1 ? c : at];
        }
    return 0;
}

/* Which positions [height][width] are copied where each border between copied and coded ones costs `border`, in so many
   sweeps: see copying.py. Returns the bits of the shortest form of their map, as copy_map.py defines it. */
EXPORT int64_t edgesem_smooth(const float *saved, int64_t height, int64_t width, float border, int64_t sweeps,
                              uint8_t *copied) {
    float rows[2][MOST_SIDE], *above = rows[0], *here = rows[1];
    if (!sides_fit(height, width)) return OUT_OF_RANGE;
    for (int64_t i = 0; i < height * width; i++) copied[i] = !(saved[i] > 0);
    for (int changed = 1; sweeps > 0 && changed; sweeps--) {
        changed = 0;
        for (int64_t x = 0; x < width; x++) above[x] = 0;
        for (int64_t y = 0; y < height; y++) {
            uint8_t *own = copied + y * width;
            for (int64_t x = 0; x < width; x++) here[x] = own[x] ? -border : border;
            for (int64_t x = 0; x < width; x++) {
                float below = y + 1 == height ? 0 : own[width + x] ? -border : border;
                float left = x ? here[x - 1] : 0, right = x + 1 < width ? here[x + 1] : 0;
                float beside = above[x] + below + left + right;
                uint8_t now = !(saved[y * width + x] + beside > 0);
                changed |= now != own[x];
                own[x] = now;
            }
            float *swapped = above;
            above = here, here = swapped;
        }
    }
    int64_t shortest = INT64_MAX;
    for (int prediction = 0; prediction < 2; prediction++) {
        int64_t bits[ORDERS], last = -1;
        for (int order = 0; order < ORDERS; order++) bits[order] = 0;
        for (int64_t y = 0, place = 0; y < height; y++)
            for (int64_t x = 0; x < width; x++, place++) {
                int wrong = !copied[place] ^ (y && !copied[place - width]);
                if (prediction && x) wrong ^= !copied[place - 1] ^ (y && !copied[place - width - 1]);
                if (!wrong) continue;
                uint32_t run = (uint32_t)(place - last - 1);
                last = place;
                for (int order = 0; order < ORDERS; order++)
                    bits[order] += 2 * (32 - __builtin_clz(run + (1u << order))) - order - 1;
            }
        for (int order = 0; order < ORDERS; order++) shortest = lesser(shortest, bits[order]);
    }
    return 4 + shortest;
}

/* For each block of positions that has `changed`, the vector of those up to `radius` around (dy, dx) by which `had`
   [channels][height][width] is nearest to `wanted`, and how far off that is: `best` [blocks] holds how near it must be,
   field [blocks][2] what it is otherwise. See motion.py. */
EXPORT int64_t edgesem_match(const float *wanted, const float *had, int64_t channels, int64_t height, int64_t width,
                             const uint8_t *changed, int64_t block, int64_t dy, int64_t dx, int64_t radius, float most,
                             double vector_cost, float *best, int16_t *field) {
    if (!sides_fit(height, width) || block < 1 || block > MOST_BLOCK || radius < 0 || radius > MOST_SIDE) return OUT_OF_RANGE;
    int64_t across = (width + block - 1) / block, blocks = (height + block - 1) / block * across, size = height * width;
    for (int64_t number = 0; number < blocks; number++) {
        if (!changed[number]) continue;
        int64_t top = number / across * block, start = number % across * block;
        int64_t rows = lesser(block, height - top), columns = lesser(block, width - start);
        for (int64_t i = dy - radius; i <= dy + radius; i++)
            for (int64_t j = dx - radius; j <= dx + radius; j++) {
                float off[MOST_BLOCK * MOST_BLOCK];
                int64_t from[MOST_BLOCK * MOST_BLOCK];
                for (int64_t y = 0; y < rows; y++)
                    for (int64_t x = 0; x < columns; x++)
                        from[y * block + x] = within(top + y + i, height) * width + within(start + x + j, width);
                for (int64_t c = 0; c < channels; c++)
                    for (int64_t y = 0; y < rows; y++)
                        for (int64_t x = 0; x < columns; x++) {
                            float own = wanted[c * size + (top + y) * width + start + x];
                            float less = own - had[c * size + from[y * block + x]], square = less * less;
                            off[y * block + x] = (c ? off[y * block + x] : 0) + (square < most ? square : most);
                        }
                double sum = 0;
                for (int64_t y = 0; y < rows; y++)
                    for (int64_t x = 0; x < columns; x++) sum += off[y * block + x];
                sum += vector_cost;
                if (sum < best[number]) {
                    best[number] = (float)sum;
                    field[2 * number] = (int16_t)i, field[2 * number + 1] = (int16_t)j;
                }
            }
    }
    return 0;
}

/* Patches of 4 x 4 pixels of a frame [4 * height][4 * width][3], one behind the other: see pixel_input.py. */
EXPORT int64_t edgesem_patches(const uint8_t *frame, int64_t height, int64_t width, uint8_t *patches) {
    for (int64_t y = 0; y < height; y++)
        for (int64_t row = 0; row < 4; row++) {
            const uint8_t *from = frame + (4 * y + row) * width * 12;
            uint8_t *to = patches + y * width * 48 + row * 12;
            for (int64_t x = 0; x < width; x++, from += 12, to += 48) __builtin_memcpy(to, from, 12);
        }
    return 0;
}
