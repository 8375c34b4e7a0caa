/* Instruction sets that a layer of a context network is computed with, those of this architecture: all give the same
   numbers. context.c includes this once, and this includes layer.h once for each of them. */

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>

#define WAY sse2
#define TARGET
#define BLOCK 2
#define PARTS 1
#define LANES 4
#define SUMS __m128i
#define PAIRS __m128i
#define INPUT __m128i
#define LOAD(p) _mm_loadu_si128((const __m128i *)(p))
#define BOTH LOAD
#define GIVEN(p) _mm_set1_epi32(pair_at(p))
#define ADD(s, w, a) _mm_add_epi32(s, _mm_madd_epi16(w, a))
#define STORE(p, s) _mm_storeu_si128((__m128i *)(p), s)
static inline int32_t pair_at(const int16_t *p) {
    int32_t pair;
    __builtin_memcpy(&pair, p, sizeof pair);
    return pair;
}
#include "layer.h"

#define WAY avx2
#define TARGET __attribute__((target("avx2")))
#define BLOCK 6
#define PARTS 1
#define LANES 8
#define SUMS __m256i
#define PAIRS __m256i
#define INPUT __m256i
#define LOAD(p) _mm256_loadu_si256((const __m256i *)(p))
#define BOTH LOAD
#define GIVEN(p) _mm256_set1_epi32(pair_at(p))
#define ADD(s, w, a) _mm256_add_epi32(s, _mm256_madd_epi16(w, a))
#define STORE(p, s) _mm256_storeu_si256((__m256i *)(p), s)
#include "layer.h"

#define WAY avx512
#define TARGET __attribute__((target("avx512f,avx512bw,avx512vnni")))
#define BLOCK 8
#define PARTS 2
#define LANES 16
#define SUMS __m512i
#define PAIRS __m512i
#define INPUT __m512i
#define LOAD(p) _mm512_loadu_si512(p)
#define BOTH LOAD
#define GIVEN(p) _mm512_set1_epi32(pair_at(p))
#define ADD(s, w, a) _mm512_dpwssd_epi32(s, w, a)
#define STORE(p, s) _mm512_storeu_si512(p, s)
#include "layer.h"

#elif defined(__aarch64__)
#include <arm_neon.h>

#define WAY neon
#define TARGET
#define BLOCK 4
#define PARTS 1
#define LANES 4
#define SUMS int32x4_t
#define PAIRS int16x4x2_t
#define INPUT int16x4_t
#define LOAD(p) vld1q_s32(p)
#define BOTH(p) vld2_s16(p)
#define GIVEN(p) vreinterpret_s16_s32(vld1_dup_s32((const int32_t *)(p)))
#define ADD(s, w, a) vmlal_lane_s16(vmlal_lane_s16(s, (w).val[0], a, 0), (w).val[1], a, 1)
#define STORE(p, s) vst1q_s32(p, s)
#include "layer.h"

#else
#define WAY plain
#define TARGET
#define BLOCK 1
#define PARTS 1
#define LANES 1
#define SUMS int32_t
#define PAIRS const int16_t *
#define INPUT const int16_t *
#define LOAD(p) (*(p))
#define BOTH(p) (p)
#define GIVEN(p) (p)
#define ADD(s, w, a) ((s) + (w)[0] * (a)[0] + (w)[1] * (a)[1])
#define STORE(p, s) (*(p) = (s))
#include "layer.h"
#endif

typedef void Network(const struct layer *layers, const int16_t *const row[], int64_t n, int64_t own,
                     float mean[][MOST], float scale[][MOST]);

static const struct {
    Network *network;
    int block;
} ways[] = {
#if defined(__x86_64__)
    {network_sse2, 2}, {network_avx2, 6}, {network_avx512, 8}
#elif defined(__aarch64__)
    {network_neon, 4}
#else
    {network_plain, 1}
#endif
};
enum { WAYS = sizeof ways / sizeof *ways };

/* Which of `ways`, the instruction sets that are compiled in, is the fastest that this machine has: it has those before
   it too. All give the same numbers. */
EXPORT int64_t edgesem_best_way(void) {
#if defined(__x86_64__)
    uint32_t a, b, c, d, low, high;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE)) return 0;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0)); /* the registers that the system saves */
    if ((low & 0x06) != 0x06 || !__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b & bit_AVX2)) return 0;
    int wide = (low & 0xE0) == 0xE0 && (b & bit_AVX512F) && (b & bit_AVX512BW) && (c & bit_AVX512VNNI);
    return wide ? 2 : 1;
#else
    return 0;
#endif
}
