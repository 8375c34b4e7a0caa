/* Kernel: the two loops of the entropy coder that Python does slowly, put and get of interleaved rANS.

   A plain shared library. It needs no header of Python and calls no other library, so one build serves every Python on
   a machine's architecture; edgesem/entropy/kernel.py loads it. edgesem/entropy/rans.py says what the loops compute, and
   does the same without them.

   Nothing from outside is believed: a function reads and writes only the memory that its lengths name, whatever stands
   in the arrays. Functions keep no state between calls, so several threads may call them at once, on arrays of their
   own. */

#include <stdint.h>

#define EXPORT __attribute__((visibility("default")))
#define MASK 0xFFFF
#define WORDS_END -1    /* the symbols need more words than there are */
#define OUT_OF_RANGE -2 /* a number of an entry, a table or lanes that there is not */

/* Raised with each change of a function's arguments: kernel.py takes no other. */
EXPORT int64_t edgesem_kernel_version(void) { return 1; }

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
