/* Compares every compiled-in instruction set with plain sums on random weights, bit for bit. Image, weights and output
 * lie in blocks of their size, for sanitizers. Usage: check_resize [CASES [SEED]] */
#include "drawing.h"
#include "resize.h"

#include <stdio.h>
#include <string.h>

typedef struct {
    iqa_side side;
    int32_t *first, *count, *weights;
} drawn_side;

/* Outputs whose inputs begin and end ever further on, as those of a filter do. */
static drawn_side draw_side(ptrdiff_t inputs, ptrdiff_t outputs) {
    drawn_side drawn;
    const ptrdiff_t reach = between(1, inputs), taps = (reach + IQA_TAPS - 1) / IQA_TAPS * IQA_TAPS;
    drawn.first = malloc((size_t)outputs * sizeof(int32_t));
    drawn.count = malloc((size_t)outputs * sizeof(int32_t));
    drawn.weights = calloc((size_t)(outputs * taps), sizeof(int32_t));
    for (ptrdiff_t i = 0; i < outputs; i++) {
        const ptrdiff_t last = outputs == 1 ? inputs : reach + i * (inputs - reach) / (outputs - 1);
        drawn.first[i] = (int32_t)(last - reach);
        drawn.count[i] = (int32_t)reach;
        for (ptrdiff_t t = 0; t < reach; t++)
            drawn.weights[i * taps + t] = (int32_t)between(-(1 << 22), 1 << 22) / (draw() % 2 ? 1 : (int32_t)reach);
    }
    drawn.side = (iqa_side){drawn.first, drawn.count, drawn.weights, outputs, taps};
    return drawn;
}

static void free_side(drawn_side *drawn) {
    free(drawn->first);
    free(drawn->count);
    free(drawn->weights);
}

/* One pass: the output has `lines` lines of side->size pixels; steps are in bytes. */
static void pass(const uint8_t *in, ptrdiff_t line, ptrdiff_t step, const iqa_side *side, ptrdiff_t lines, uint8_t *out,
                 ptrdiff_t out_line, ptrdiff_t out_step) {
    for (ptrdiff_t l = 0; l < lines; l++)
        for (ptrdiff_t i = 0; i < side->size; i++)
            for (int c = 0; c < 3; c++) {
                uint32_t sum = 1u << (IQA_WEIGHT_BITS - 1);
                for (ptrdiff_t t = 0; t < side->count[i]; t++)
                    sum += (uint32_t)side->weights[i * side->taps + t] * in[l * line + (side->first[i] + t) * step + c];
                const int32_t level = (int32_t)sum >> IQA_WEIGHT_BITS;
                out[l * out_line + i * out_step + c] = (uint8_t)(level < 0 ? 0 : level > 255 ? 255 : level);
            }
}

int main(int argc, char **argv) {
    const int cases = read_arguments(argc, argv, 1000);
    long checked = 0;
    for (int k = 0; k < cases; k++) {
        const ptrdiff_t height = between(1, 40), width = between(1, 60), padding = between(0, 5);
        const int across = draw() % 4 != 0, down = draw() % 4 != 0, flipped = draw() % 2;
        const ptrdiff_t h = down ? between(1, 50) : height, w = across ? between(1, 70) : width;
        const ptrdiff_t stride = 3 * width + padding, pixels = stride * (height - 1) + 3 * width;
        uint8_t *const block = malloc((size_t)pixels), *const out = malloc((size_t)(3 * h * w));
        uint8_t *const between_passes = malloc((size_t)(3 * height * w)), *const expected = malloc((size_t)(3 * h * w));
        for (ptrdiff_t i = 0; i < pixels; i++) block[i] = (uint8_t)(draw() >> 32);
        const iqa_image image = {flipped ? block + (height - 1) * stride : block, height, width,
                                 flipped ? -stride : stride};
        drawn_side columns = draw_side(width, w), rows = draw_side(height, h);

        if (across)
            pass(image.pixels, image.row_stride, 3, &columns.side, height, between_passes, 3 * w, 3);
        else
            for (ptrdiff_t y = 0; y < height; y++)
                memcpy(between_passes + 3 * w * y, image.pixels + image.row_stride * y, (size_t)(3 * w));
        if (down)
            pass(between_passes, 3, 3 * w, &rows.side, w, expected, 3, 3 * w);
        else
            memcpy(expected, between_passes, (size_t)(3 * h * w));

        for (int s = 0; iqa_instruction_sets[s]; s++) {
            const iqa_instruction_set *const set = iqa_instruction_sets[s];
            if (!set->supported()) continue;
            memset(out, 0xA5, (size_t)(3 * h * w));
            if (iqa_resize(set, &image, down ? &rows.side : NULL, across ? &columns.side : NULL, out)) return 2;
            if (memcmp(out, expected, (size_t)(3 * h * w)) != 0) {
                printf("case %d: %s differs (%td x %td to %td x %td)\n", k, set->name, height, width, h, w);
                return 1;
            }
            checked += 3 * h * w;
        }
        free_side(&rows);
        free_side(&columns);
        free(expected);
        free(between_passes);
        free(out);
        free(block);
    }
    for (int s = 0; iqa_instruction_sets[s]; s++)
        if (iqa_instruction_sets[s]->supported()) printf("%s ", iqa_instruction_sets[s]->name);
    printf("agree: %ld values of %d cases\n", checked, cases);
    return 0;
}
