/* Compares every compiled-in instruction set with a plain double-precision computation on random cases, bit for bit.
 *
 * Built for AArch64 and run under qemu-user, it tests NEON without such a machine; built for the host with the address
 * and undefined-behaviour sanitizers, it catches any access beyond the image, which lies in a block of its size. */
#include "patches.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t state = 0x9E3779B97F4A7C15u;

/* xorshift64*: the same cases on every machine. */
static uint64_t draw(void) {
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return state * 0x2545F4914F6CDD1Du;
}

static ptrdiff_t between(ptrdiff_t low, ptrdiff_t high) {
    return low + (ptrdiff_t)(draw() % (uint64_t)(high - low + 1));
}

static double uniform(double low, double high) { return low + (high - low) * (double)(draw() >> 11) * 0x1p-53; }

static void store(void *out, size_t index, double value, int dtype) {
    if (dtype == IQA_FLOAT32) {
        ((float *)out)[index] = (float)value;
    } else {
        const _Float16 half = (_Float16)value;
        memcpy((uint16_t *)out + index, &half, sizeof half);
    }
}

static ptrdiff_t bounce(__int128 index, ptrdiff_t side) {
    if (side == 1) return 0;
    const __int128 period = 2 * ((__int128)side - 1), phase = (index % period + period) % period;
    return (ptrdiff_t)(phase < side ? phase : period - phase);
}

static int64_t position(void) {
    switch (draw() % 8) {
        case 0: return INT64_MIN + (int64_t)(draw() % 100);
        case 1: return INT64_MAX - (int64_t)(draw() % 100);
        case 2: case 3: return between(-200, 200);
        default: return between(0, 40);
    }
}

int main(int argc, char **argv) {
    const int cases = argc > 1 ? atoi(argv[1]) : 1000;
    long checked = 0, exact = 0, simd = 0;

    for (int k = 0; k < cases; k++) {
        const ptrdiff_t height = between(1, 90), width = between(1, 90), padding = between(0, 5);
        const ptrdiff_t stride = 3 * width + padding, count = between(1, 3), h = between(1, 20), w = between(1, 70);
        const int flipped = draw() % 2, dtype = draw() % 2, swap = draw() % 2;
        const size_t item = dtype == IQA_FLOAT32 ? 4 : 2, values = (size_t)(count * 3 * h * w);

        uint8_t *const block = malloc((size_t)(stride * height - padding));
        void *const expected = malloc(values * item), *const out = malloc(values * item);
        for (ptrdiff_t i = 0; i < stride * height - padding; i++) block[i] = (uint8_t)(draw() >> 32);
        const iqa_image image = {flipped ? block + (height - 1) * stride : block, height, width,
                                 flipped ? -stride : stride};
        int64_t positions[6];
        for (int i = 0; i < 6; i++) positions[i] = position();
        const iqa_crops crops = {positions, count, h, w};

        uint32_t storage[3 * 256]; /* enough for either type */
        iqa_output output = {.table = storage, .swap_channels = swap, .dtype = dtype};
        for (int c = 0; c < 3; c++) {
            output.mean[c] = draw() % 4 ? uniform(0, 1) : (double)(draw() % 256) / 255;
            output.std[c] = uniform(0.05, 1);
            for (int x = 0; x < 256; x++)
                store(storage, (size_t)(256 * c + x), (x / 255.0 - output.mean[c]) / output.std[c], dtype);
        }

        size_t index = 0;
        for (ptrdiff_t n = 0; n < count; n++)
            for (int c = 0; c < 3; c++)
                for (ptrdiff_t y = 0; y < h; y++)
                    for (ptrdiff_t x = 0; x < w; x++) {
                        const ptrdiff_t row = bounce((__int128)positions[2 * n] + y, height);
                        const ptrdiff_t column = bounce((__int128)positions[2 * n + 1] + x, width);
                        const uint8_t pixel = image.pixels[row * image.row_stride + 3 * column + (swap ? 2 - c : c)];
                        store(expected, index++, (pixel / 255.0 - output.mean[c]) / output.std[c], dtype);
                    }

        for (int s = 0; iqa_instruction_sets[s]; s++) {
            const iqa_instruction_set *const set = iqa_instruction_sets[s];
            if (!set->supported()) continue;
            memset(out, 0xA5, values * item);
            if (iqa_extract(set, &image, &crops, &output, out, between(1, 3)) != 0) return 2;
            if (memcmp(out, expected, values * item) != 0) {
                printf("case %d: %s differs (%td x %td crops, dtype %d)\n", k, set->name, h, w, dtype);
                return 1;
            }
            checked += (long)values;
            if (strcmp(set->name, "scalar") != 0) {
                simd++;
                exact += iqa_formula_is_exact(set, &output);
            }
        }
        free(out);
        free(expected);
        free(block);
    }
    for (int s = 0; iqa_instruction_sets[s]; s++)
        if (iqa_instruction_sets[s]->supported()) printf("%s ", iqa_instruction_sets[s]->name);
    printf("agree on %ld values; formula used in %ld of %ld SIMD calls\n", checked, exact, simd);
    return 0;
}
