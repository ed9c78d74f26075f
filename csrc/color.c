/* All rows of a picture, and the scalar ones. */
#include "color.h"

void iqa_color_set_terms(iqa_color_terms terms, const iqa_color *color, int32_t offset) {
    const int32_t constant = (1 << (color->shift - 1)) - offset * (1 << color->shift);
    for (int c = 0; c < 3; c++)
        for (int v = 0; v < 256; v++) {
            for (int o = 0; o < 3; o++)
                terms[c][v][o] = color->matrix[3 * o + c] * (int32_t)color->linear[256 * c + v] + (c ? 0 : constant);
            terms[c][v][3] = 0;
        }
}

static inline int32_t held(int32_t x) { return x < 0 ? 0 : x > 65535 ? 65535 : x; }

void iqa_color_row_scalar(const iqa_color *color, uint8_t *pixels, ptrdiff_t count) {
    iqa_color_terms terms;
    iqa_color_set_terms(terms, color, 0);
    for (uint8_t *const end = pixels + 3 * count; pixels < end; pixels += 3) {
        const int32_t *const r = terms[0][pixels[0]], *const g = terms[1][pixels[1]], *const b = terms[2][pixels[2]];
        /* Compilers shift signed numbers arithmetically. */
        for (int o = 0; o < 3; o++) pixels[o] = color->encode[held((r[o] + g[o] + b[o]) >> color->shift)];
    }
}

void iqa_to_srgb(const iqa_instruction_set *instruction_set, const iqa_color *color, uint8_t *pixels, ptrdiff_t height,
                 ptrdiff_t width, ptrdiff_t row_stride) {
    if (row_stride == 3 * width) { /* the tables are made once */
        width *= height;
        height = 1;
    }
    for (ptrdiff_t y = 0; y < height; y++) instruction_set->color_row(color, pixels + y * row_stride, width);
}
