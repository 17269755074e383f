/* Every step-th pixel of a line, one body for every instruction set; pixels are just bytes.
 *
 *   compact     out[p*pixel + b] = x[p*step + b],   b < pixel
 *
 * A pixel is copied as one machine word, or as two that overlap: always exactly its own bytes.
 */

#define PIXELS(i) for (ptrdiff_t i = 0; i < pixels; i++)

/* Pixels of one element of type WORD; at fixed steps the compiler makes shuffles of it. */
#define COMPACT_WORDS(WORD, BITS)                                                                  \
    typedef WORD __attribute__((aligned(1), may_alias)) PASTE(word##BITS, LEVEL);                  \
    static void PASTE(compact##BITS, LEVEL)(const void *x, ptrdiff_t step, void *out,              \
                                            ptrdiff_t pixels)                                      \
    {                                                                                              \
        const PASTE(word##BITS, LEVEL) *from = x;                                                  \
        PASTE(word##BITS, LEVEL) *restrict to = out;                                               \
        if (step == 2 * sizeof(WORD))                                                              \
            PIXELS(p) to[p] = from[2 * p];                                                         \
        else if (step == 3 * sizeof(WORD))                                                         \
            PIXELS(p) to[p] = from[3 * p];                                                         \
        else                                                                                       \
            PIXELS(p) to[p] = *(const PASTE(word##BITS, LEVEL) *)((const char *)x + p * step);     \
    }
COMPACT_WORDS(unsigned char, 8)
COMPACT_WORDS(unsigned short, 16)
COMPACT_WORDS(unsigned int, 32)
COMPACT_WORDS(unsigned long long, 64)

/* width < pixel <= 2 * width; memcpy of a constant size is a plain load and store. */
#define COMPACT_PAIRS(WIDTH)                                                                       \
    PIXELS(p)                                                                                      \
    {                                                                                              \
        memcpy(to + p * pixel, from + p * step, WIDTH);                                            \
        memcpy(to + p * pixel + pixel - WIDTH, from + p * step + pixel - WIDTH, WIDTH);            \
    }

static void PASTE(compact, LEVEL)(const void *x, ptrdiff_t step, void *out, ptrdiff_t pixels,
                                  ptrdiff_t pixel)
{
    const char *from = x;
    char *restrict to = out;
    if (pixel == 1)
        PASTE(compact8, LEVEL)(x, step, out, pixels);
    else if (pixel == 2)
        PASTE(compact16, LEVEL)(x, step, out, pixels);
    else if (pixel == 4)
        PASTE(compact32, LEVEL)(x, step, out, pixels);
    else if (pixel == 8)
        PASTE(compact64, LEVEL)(x, step, out, pixels);
    else if (pixel < 4)
        COMPACT_PAIRS(2)
    else if (pixel < 8)
        COMPACT_PAIRS(4)
    else if (pixel <= 16)
        COMPACT_PAIRS(8)
    else if (pixel <= 32)
        COMPACT_PAIRS(16)
    else
        PIXELS(p) memcpy(to + p * pixel, from + p * step, (size_t)pixel);
}

#undef PIXELS
#undef COMPACT_WORDS
#undef COMPACT_PAIRS
