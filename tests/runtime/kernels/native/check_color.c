/* Compares every compiled-in instruction set with the definition of color.h on random tables, bit for bit. The picture
 * and the tables lie in blocks of their size, for sanitizers. Usage: check_color [CASES [SEED]] */
#include "color.h"
#include "drawing.h"

#include <stdio.h>
#include <string.h>

static int32_t line_level(const uint8_t *lines, int32_t x) {
    const int32_t w = x < 8192 ? x << 2 : (x >> 1) | 0x8000, i = w >> 8;
    return lines[i] + ((32 * (int8_t)lines[256 + i] + (w & 255) * lines[512 + i] + 4096) >> 13);
}

static void draw_tables(uint16_t *linear, int16_t *matrix, int shift, uint8_t *lines, uint8_t *encode) {
    for (int i = 0; i < 768; i++) linear[i] = (uint16_t)draw();
    const ptrdiff_t most = 32767 - ((ptrdiff_t)1 << (shift - 1));
    for (int o = 0; o < 3; o++) {
        ptrdiff_t left = most;
        for (int c = 0; c < 3; c++) {
            const ptrdiff_t magnitude = draw() % 4 ? between(0, left) : left;
            matrix[3 * o + c] = (int16_t)(draw() % 2 ? magnitude : -magnitude);
            left -= magnitude;
        }
    }
    for (int i = 0; i < 256; i++) {
        lines[i] = (uint8_t)between(0, 251);
        lines[256 + i] = (uint8_t)draw();
        lines[512 + i] = (uint8_t)between(0, 112);
    }
    for (int32_t x = 0; x < 65536; x++) encode[x] = (uint8_t)line_level(lines, x);
}

int main(int argc, char **argv) {
    const int cases = read_arguments(argc, argv, 1000);
    long checked = 0;
    uint16_t *const linear = malloc(768 * sizeof *linear);
    int16_t *const matrix = malloc(9 * sizeof *matrix);
    uint8_t *const lines = malloc(768), *const encode = malloc(65536);
    for (int k = 0; k < cases; k++) {
        const int shift = (int)between(1, 14);
        draw_tables(linear, matrix, shift, lines, encode);
        const iqa_color color = {linear, matrix, shift, lines, encode};
        const ptrdiff_t height = between(1, 4), width = between(1, 200), padding = draw() % 2 ? between(0, 5) : 0;
        const ptrdiff_t stride = 3 * width + padding, bytes = stride * (height - 1) + 3 * width;
        uint8_t *const pixels = malloc((size_t)bytes), *const out = malloc((size_t)bytes);
        uint8_t *const expected = malloc((size_t)bytes);
        for (ptrdiff_t i = 0; i < bytes; i++) expected[i] = pixels[i] = (uint8_t)(draw() >> 32);
        for (ptrdiff_t y = 0; y < height; y++)
            for (ptrdiff_t x = 0; x < width; x++)
                for (int o = 0; o < 3; o++) {
                    int64_t sum = (int64_t)1 << (shift - 1);
                    const uint8_t *const pixel = pixels + y * stride + 3 * x;
                    for (int c = 0; c < 3; c++) sum += (int64_t)matrix[3 * o + c] * linear[256 * c + pixel[c]];
                    sum >>= shift;
                    expected[y * stride + 3 * x + o] =
                        (uint8_t)line_level(lines, (int32_t)(sum < 0 ? 0 : sum > 65535 ? 65535 : sum));
                }
        for (int s = 0; iqa_instruction_sets[s]; s++) {
            const iqa_instruction_set *const set = iqa_instruction_sets[s];
            if (!set->supported()) continue;
            memcpy(out, pixels, (size_t)bytes);
            iqa_to_srgb(set, &color, out, height, width, stride);
            if (memcmp(out, expected, (size_t)bytes) != 0) {
                printf("case %d: %s differs (%td x %td, shift %d)\n", k, set->name, height, width, shift);
                return 1;
            }
            checked += 3 * height * width;
        }
        free(expected);
        free(out);
        free(pixels);
    }
    free(encode);
    free(lines);
    free(matrix);
    free(linear);
    for (int s = 0; iqa_instruction_sets[s]; s++)
        if (iqa_instruction_sets[s]->supported()) printf("%s ", iqa_instruction_sets[s]->name);
    printf("agree: %ld values of %d cases\n", checked, cases);
    return 0;
}
