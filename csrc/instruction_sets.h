/* The instruction sets that the kernels are compiled for; each kernel has its routines in the table. */
#ifndef IQA_INSTRUCTION_SETS_H
#define IQA_INSTRUCTION_SETS_H

#include <stddef.h>
#include <stdint.h>

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define IQA_X86 1
#endif
#if defined(__aarch64__) && (defined(__GNUC__) || defined(__clang__))
#define IQA_NEON 1
#endif

struct iqa_color;
/* Converts `count` pixels of three bytes in place. See color.h. */
typedef void iqa_color_row(const struct iqa_color *color, uint8_t *pixels, ptrdiff_t count);

struct iqa_normalisation;
/* Normalises a row of interleaved pixels; planes[c] takes channel c: float, or uint16_t with the bits of halves.
 * It reads 3 * width bytes and not one more. See patches.h. */
typedef void iqa_row(const struct iqa_normalisation *normalisation, const uint8_t *pixels, ptrdiff_t width,
                     void *const planes[3]);

typedef struct {
    const char *name;
    int (*supported)(void);              /* by this processor and its operating system */
    iqa_row *rows[2];                    /* indexed by IQA_FLOAT32 and IQA_FLOAT16 */
    const struct iqa_resizing *resizing; /* see resize.h */
    iqa_color_row *color_row;
} iqa_instruction_set;

/* Best first, scalar last; ends with NULL. */
extern const iqa_instruction_set *const iqa_instruction_sets[];

typedef struct {
    const uint8_t *pixels;
    ptrdiff_t height, width; /* at least 1 */
    ptrdiff_t row_stride;    /* in bytes, may be negative or 0 */
} iqa_image;

#endif
