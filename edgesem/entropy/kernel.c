/* Kernel: the loops of the entropy coder that Python does slowly: put and get of interleaved rANS, and rounding.

   A plain shared library. It needs no header of Python and calls no other library, so one build serves every Python on
   a machine's architecture; edgesem/entropy/kernel.py loads it. edgesem/entropy/rans.py says what the loops compute, and
   does the same without them.

   Nothing from outside is believed: a function reads and writes only the memory that its lengths name, whatever stands
   in the arrays. Functions keep no state between calls, so several threads may call them at once, on arrays of their
   own. */

#include <stdint.h>

#if !defined(__FLT_EVAL_METHOD__) || __FLT_EVAL_METHOD__ != 0
#error "a float must be computed as a float: on 32-bit x86 compile with -msse2 -mfpmath=sse, or do without the kernel"
#endif

#define EXPORT __attribute__((visibility("default")))
#define MASK 0xFFFF
#define WORDS_END -1    /* the symbols need more words than there are */
#define OUT_OF_RANGE -2 /* a number of an entry, a table or lanes that there is not */

#define AT_ONCE 512            /* symbols that are looked at before they are rounded */
#define FARTHEST 255.0f        /* the largest radius that a table may have */
#define ROUNDER 12582912.0f    /* 1.5 * 2^23: a small number added to it is rounded to the nearest whole one */

/* Raised with each change of a function's arguments: kernel.py takes no other. */
EXPORT int64_t edgesem_kernel_version(void) { return 4; }

/* Code rows of `width` symbols, the last first. Words go to `words` from `room` downward.
   state [width]; entries [count]; frequency, start [size] of each entry; words [room].
   Returns how many words were written, or a negative number. */
EXPORT int64_t edgesem_put(uint64_t *state, int64_t width, const int32_t *entries, int64_t count,
                           const uint64_t *frequency, const uint64_t *start, int64_t size, uint16_t *words,
                           int64_t room) {
    int64_t top = room, lane = width;
    if (width < 1) return OUT_OF_RANGE;
    for (int64_t place = count - 1; place >= 0; place--) {
        int64_t entry = entries[place];
        if (entry < 0 || entry >= size) return OUT_OF_RANGE;
        lane = lane > 0 ? lane - 1 : width - 1;
        uint32_t x = (uint32_t)state[lane], f = (uint32_t)frequency[entry];
        if (f == 0) return OUT_OF_RANGE;
        if (x >> 16 >= f) {
            if (top == 0) return WORDS_END;
            words[--top] = x & MASK;
            x >>= 16;
        }
        state[lane] = x + x / f * (0x10000 - f) + (uint32_t)start[entry];
    }
    return room - top;
}

/* Decode `count` symbols in rows of `width`, the first first, and give their entries.
   state [width]; scale [count], the table of each symbol; frequency, start [ends[tables - 1]] of each entry; ends
   [tables], where each table ends among the entries; likeliest [tables], the entry of each table to try first; words
   [waiting]; entries [count].
   Returns how many words were read, or a negative number. */
EXPORT int64_t edgesem_get(uint64_t *state, int64_t width, const int64_t *scale, int64_t count,
                           const uint64_t *frequency, const uint64_t *start, const int64_t *ends,
                           const int32_t *likeliest, int64_t tables, const uint16_t *words, int64_t waiting,
                           int32_t *entries) {
    int64_t taken = 0, lane = 0;
    if (width < 1) return OUT_OF_RANGE;
    for (int64_t place = 0; place < count; place++) {
        int64_t table = scale[place];
        if (table < 0 || table >= tables) return OUT_OF_RANGE;
        uint32_t x = (uint32_t)state[lane], slot = x & MASK;
        int64_t entry = likeliest[table];
        uint32_t within = slot - (uint32_t)start[entry], f = (uint32_t)frequency[entry]; /* wraps below the start */
        if (within >= f) { /* the last entry of the table that does not start behind the slot */
            entry = table ? ends[table - 1] : 0;
            for (int64_t left = ends[table] - entry; left > 1;) {
                int64_t half = left / 2;
                entry = start[entry + half] <= slot ? entry + half : entry;
                left -= half;
            }
            within = slot - (uint32_t)start[entry];
            f = (uint32_t)frequency[entry];
        }
        entries[place] = (int32_t)entry;
        x = f * (x >> 16) + within;
        if (x < 0x10000) {
            if (taken == waiting) return WORDS_END;
            x = x << 16 | words[taken++];
        }
        state[lane] = x;
        lane = lane + 1 < width ? lane + 1 : 0;
    }
    return taken;
}

/* Round `size` symbols and look up what they are coded as; `mean`, in 1/8 steps, becomes what is decoded.
   mean, scale [size]: of channels one behind the other, each with `count` symbols; scale is the table of each, in whole
   numbers. A symbol's value is in `planes` [size / count][positions], at one of places [count], and times `steps`, as
   many or one a channel (`each`), in whole steps. Tables below `least` are taken for that one, and what then is below
   `first` is not coded. radius, centre [tables]; eighths [size of the tables], what is added to a mean for each entry;
   entries [size]. Returns how many entries there are, or a negative number. */
EXPORT int64_t edgesem_round(float *mean, const float *scale, int64_t size, const float *planes, int64_t positions,
                             const float *steps, int64_t each, const int64_t *places, int64_t count, int64_t least,
                             int64_t first, const int32_t *radius, const int32_t *centre, int64_t tables,
                             const int32_t *eighths, int64_t entries_size, int32_t *entries) {
    int64_t coded = 0;
    float lowest = least >= first ? 0.0f : (float)first;
    if ((each != 1 && each != positions) || (size > 0 && count < 1)) return OUT_OF_RANGE;
    for (int64_t i = 0; i < count; i++)
        if (places[i] < 0 || places[i] >= positions) return OUT_OF_RANGE;
    for (int64_t begin = 0, stop; begin < size; begin = stop) {
        int64_t channel = begin / count, start = channel * count, chosen[AT_ONCE], found = 0;
        stop = begin + AT_ONCE < start + count ? begin + AT_ONCE : start + count;
        for (int64_t place = begin; place < stop; place++) { /* no branch that a processor would have to foretell */
            if (!(scale[place] >= 0 && scale[place] < (float)tables)) return OUT_OF_RANGE;
            chosen[found] = place;
            found += scale[place] >= lowest;
        }
        for (int64_t number = 0; number < found; number++) {
            int64_t place = chosen[number], table = (int64_t)scale[place];
            table = table < least ? least : table;
            if (table >= tables) return OUT_OF_RANGE;
            int64_t from = places[place - start];
            float wanted = planes[channel * positions + from] * steps[each == 1 ? channel : channel * positions + from];
            float off = wanted - mean[place] * 0.125f;
            off = off >= -FARTHEST ? off <= FARTHEST ? off : FARTHEST : -FARTHEST;
            int32_t symbol = (int32_t)((off + ROUNDER) - ROUNDER), most = radius[table];
            symbol = symbol < -most ? -most : symbol > most ? most : symbol;
            int64_t entry = (int64_t)centre[table] + symbol;
            if (entry < 0 || entry >= entries_size) return OUT_OF_RANGE;
            mean[place] += (float)eighths[entry];
            entries[coded++] = (int32_t)entry;
        }
    }
    return coded;
}
