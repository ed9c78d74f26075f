/* Compares every compiled-in instruction set with a plain double-precision computation on random cases, bit for bit.
 *
 * Built for AArch64 and run under qemu-user, it tests NEON without such a machine; built for the host with sanitizers, it
 * catches any access beyond the image or the output, which lie in blocks of their size, undefined behaviour, and races
 * of the threads of one call and of several at once. Usage: check_patches [CASES [SEED]] */
#include "drawing.h"
#include "patches.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

typedef struct {
    const iqa_instruction_set *set;
    const iqa_image *image;
    const iqa_crops *crops;
    const iqa_output *output;
    const void *expected;
    size_t bytes;
    ptrdiff_t threads;
    int same, failed;
} call;

/* One call of the kernel into a block of its own, of exactly the size of the output. */
static void *make_call(void *argument) {
    call *const c = argument;
    void *const out = malloc(c->bytes ? c->bytes : 1);
    if (out) memset(out, 0xA5, c->bytes);
    c->failed = !out || iqa_extract(c->set, c->image, c->crops, c->output, out, c->threads) != 0;
    c->same = !c->failed && memcmp(out, c->expected, c->bytes) == 0;
    free(out);
    return NULL;
}

/* Calls the kernel in two threads at once, as the workers of a scorer do with one image. */
static int call_twice(const call *like) {
    call calls[2] = {*like, *like};
    pthread_t other;
    const int started = pthread_create(&other, NULL, make_call, &calls[1]) == 0;
    make_call(&calls[0]);
    if (started) pthread_join(other, NULL);
    if (calls[0].failed || (started && calls[1].failed)) return -1;
    return calls[0].same && (!started || calls[1].same);
}

int main(int argc, char **argv) {
    const int cases = read_arguments(argc, argv, 1000);
    long checked = 0, exact = 0, simd = 0;

    for (int k = 0; k < cases; k++) {
        const int large = draw() % 32 == 0;
        const ptrdiff_t height = between(1, large ? 400 : 90), width = between(1, large ? 700 : 90);
        const ptrdiff_t padding = between(0, 5), count = between(0, 3);
        const ptrdiff_t h = between(1, large ? 120 : 20), w = between(1, large ? 900 : 70);
        /* Rows one after the other, backwards, or all the same one. */
        const int one_row = draw() % 12 == 0, flipped = !one_row && draw() % 2;
        const ptrdiff_t stride = one_row ? 0 : 3 * width + padding, pixels = stride * (height - 1) + 3 * width;
        const int dtype = draw() % 2, swap = draw() % 2;
        const size_t item = dtype == IQA_FLOAT32 ? 4 : 2, values = (size_t)(count * 3 * h * w);

        uint8_t *const block = malloc((size_t)pixels);
        void *const expected = malloc(values * item + 1); /* malloc(0) may be NULL */
        for (ptrdiff_t i = 0; i < pixels; i++) block[i] = (uint8_t)(draw() >> 32);
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
            const call like = {.set = set, .image = &image, .crops = &crops, .output = &output,
                               .expected = expected, .bytes = values * item,
                               .threads = between(1, draw() % 16 ? 3 : IQA_MAX_THREADS + 16)};
            const int same = call_twice(&like);
            if (same < 0) return 2;
            if (!same) {
                printf("case %d: %s differs (%td x %td crops, dtype %d)\n", k, set->name, h, w, dtype);
                return 1;
            }
            checked += (long)values;
            if (strcmp(set->name, "scalar") != 0) {
                simd++;
                exact += iqa_formula_is_exact(set, &output);
            }
        }
        free(expected);
        free(block);
    }
    for (int s = 0; iqa_instruction_sets[s]; s++)
        if (iqa_instruction_sets[s]->supported()) printf("%s ", iqa_instruction_sets[s]->name);
    printf("agree on %ld values; formula used in %ld of %ld SIMD calls\n", checked, exact, simd);
    return 0;
}
