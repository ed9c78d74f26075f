/* The constants of the formula, reflection, threads, and the scalar rows. */
#include "patches.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#ifndef _WIN32
#include <pthread.h>
#define IQA_THREADS 1
#endif
#if defined(__GNUC__) || defined(__clang__)
#define PREFETCH(address) __builtin_prefetch(address)
#else
#define PREFETCH(address) ((void)(address))
#endif

static iqa_row *const scalar_rows[2] = {iqa_row_scalar_f32, iqa_row_scalar_f16};

void iqa_row_scalar_f32(const iqa_normalisation *n, const uint8_t *pixels, ptrdiff_t width, void *const planes[3]) {
    for (int c = 0; c < 3; c++) {
        const float *table = n->table[c];
        float *out = planes[c];
        for (ptrdiff_t x = 0; x < width; x++) out[x] = table[pixels[3 * x + c]];
    }
}

void iqa_row_scalar_f16(const iqa_normalisation *n, const uint8_t *pixels, ptrdiff_t width, void *const planes[3]) {
    for (int c = 0; c < 3; c++) {
        const uint16_t *table = n->table[c];
        uint16_t *out = planes[c];
        for (ptrdiff_t x = 0; x < width; x++) out[x] = table[pixels[3 * x + c]];
    }
}

static size_t item_size(int dtype) { return dtype == IQA_FLOAT16 ? sizeof(uint16_t) : sizeof(float); }

/* The constants of one channel. `nudge` moves scale by so many half units in its last place. */
static void set_formula(iqa_normalisation *n, int c, double mean, double std, int nudge) {
    const double centre = 255.0 * mean, exact_scale = 1.0 / (255.0 * std);
    const double scale = exact_scale * (1.0 + nudge * 0x1p-24);
    /* The largest |pixel - centre| is below 2^exponent; multiples of 2^(exponent - 24) below that are floats. */
    int exponent;
    frexp(fmax(fabs(centre), fabs(255.0 - centre)), &exponent);
    const double short_centre = ldexp(rint(ldexp(centre, 24 - exponent)), exponent - 24);
    n->centre[c] = (float)short_centre;
    n->scale[c] = (float)scale;
    n->scale_low[c] = (float)(scale - (double)n->scale[c]);
    n->bias[c] = (float)((short_centre - centre) * scale);
}

static int channel_is_exact(const iqa_normalisation *n, iqa_row *row, int c, int dtype) {
    const size_t bytes = 256 * item_size(dtype);
    uint8_t pixels[3 * 256];
    union {
        float f32[256];
        uint16_t f16[256];
    } values[3];
    void *const planes[3] = {&values[0], &values[1], &values[2]};
    for (int i = 0; i < 3 * 256; i++) pixels[i] = (uint8_t)(i / 3);
    row(n, pixels, 256, planes);
    return memcmp(&values[c], n->table[c], bytes) == 0;
}

/* A half is rounded twice by the formula, first to float: where the first rounding meets the middle between two halves
 * the second goes astray. That is one set of means and standard deviations in twenty; moving the scale by a last place
 * or two, which is 2^-13 of a half's, moves the value off the middle. */
static int fit_formula(iqa_normalisation *n, iqa_row *row, const double mean[3], const double std[3], int dtype) {
    static const int nudges[] = {0, 2, -2, 4, -4};
    const int tries = dtype == IQA_FLOAT16 ? 5 : 1;
    for (int c = 0; c < 3; c++) set_formula(n, c, mean[c], std[c], 0);
    for (int c = 0; c < 3; c++) {
        int i = 0;
        while (!channel_is_exact(n, row, c, dtype)) {
            if (++i == tries) return 0;
            set_formula(n, c, mean[c], std[c], nudges[i]);
        }
    }
    return 1;
}

/* Fills in the normalisation, in the image's channel order, and returns the row routine that reproduces the table. */
static iqa_row *prepare(iqa_normalisation *n, const iqa_instruction_set *instruction_set, const iqa_output *output) {
    double mean[3], std[3];
    for (int c = 0; c < 3; c++) {
        const int plane = output->swap_channels ? 2 - c : c;
        n->table[c] = (const char *)output->table + 256 * item_size(output->dtype) * (size_t)plane;
        mean[c] = output->mean[plane];
        std[c] = output->std[plane];
    }
    iqa_row *row = instruction_set->rows[output->dtype];
    return fit_formula(n, row, mean, std, output->dtype) ? row : scalar_rows[output->dtype];
}

int iqa_formula_is_exact(const iqa_instruction_set *instruction_set, const iqa_output *output) {
    iqa_normalisation normalisation;
    return prepare(&normalisation, instruction_set, output) != scalar_rows[output->dtype];
}

/* The row or column of an image side that position `first + step` shows, 0 <= step. Reducing `first` before the sum
 * keeps every int64 position from overflowing. */
static ptrdiff_t reflect(int64_t first, ptrdiff_t step, ptrdiff_t side) {
    if (first >= 0 && first < (int64_t)side - step) return (ptrdiff_t)first + step;
    if (side == 1) return 0;
    const int64_t period = 2 * ((int64_t)side - 1);
    int64_t phase = first % period;
    if (phase < 0) phase += period;
    phase = (phase + step % period) % period;
    return (ptrdiff_t)(phase < side ? phase : period - phase);
}

typedef struct {
    const iqa_image *image;
    const iqa_crops *crops;
    const iqa_normalisation *normalisation;
    iqa_row *row;
    size_t item_size;
    int swap_channels;
    char *out;
    ptrdiff_t begin, end; /* rows of all crops, numbered through */
    ptrdiff_t *columns;   /* scratch: (crops->width,) */
    uint8_t *gathered;    /* scratch: (crops->width, 3) */
} job;

static const uint8_t *image_row(const iqa_image *image, int64_t top, ptrdiff_t y) {
    return image->pixels + reflect(top, y, image->height) * image->row_stride;
}

static void *run(void *argument) {
    const job *const j = argument;
    const ptrdiff_t height = j->crops->height, width = j->crops->width;
    const size_t row_bytes = (size_t)width * j->item_size, plane_bytes = (size_t)height * row_bytes;
    ptrdiff_t crop_of_columns = -1;

    for (ptrdiff_t i = j->begin; i < j->end; i++) {
        const ptrdiff_t crop = i / height, y = i % height;
        const int64_t top = j->crops->positions[2 * crop], left = j->crops->positions[2 * crop + 1];
        const uint8_t *pixels = image_row(j->image, top, y);

        if (left >= 0 && left <= (int64_t)j->image->width - width) {
            pixels += 3 * (ptrdiff_t)left;
            /* The processor's own prefetching doesn't see the jump from row to row. */
            const uint8_t *const next = image_row(j->image, top, y + 1) + 3 * (ptrdiff_t)left;
            for (ptrdiff_t byte = 0; byte < 3 * width; byte += 64) PREFETCH(next + byte);
        } else {
            if (crop != crop_of_columns) {
                for (ptrdiff_t x = 0; x < width; x++) j->columns[x] = 3 * reflect(left, x, j->image->width);
                crop_of_columns = crop;
            }
            for (ptrdiff_t x = 0; x < width; x++) memcpy(j->gathered + 3 * x, pixels + j->columns[x], 3);
            pixels = j->gathered;
        }
        char *const first = j->out + 3 * plane_bytes * (size_t)crop + row_bytes * (size_t)y;
        void *const planes[3] = {first + (j->swap_channels ? 2 * plane_bytes : 0), first + plane_bytes,
                                 first + (j->swap_channels ? 0 : 2 * plane_bytes)};
        j->row(j->normalisation, pixels, width, planes);
    }
    return NULL;
}

int iqa_extract(const iqa_instruction_set *instruction_set, const iqa_image *image, const iqa_crops *crops,
                const iqa_output *output, void *out, ptrdiff_t threads) {
    const ptrdiff_t rows = crops->count * crops->height;
    if (rows == 0) return 0;
#ifndef IQA_THREADS
    threads = 1;
#endif
    if (threads > IQA_MAX_THREADS) threads = IQA_MAX_THREADS;
    if (threads > rows) threads = rows;

    const size_t width = (size_t)crops->width;
    ptrdiff_t *const columns = malloc((size_t)threads * width * sizeof *columns);
    uint8_t *const gathered = malloc((size_t)threads * width * 3);
    if (!columns || !gathered) {
        free(gathered);
        free(columns);
        return -1;
    }
    iqa_normalisation normalisation;
    iqa_row *const row = prepare(&normalisation, instruction_set, output);
    job jobs[IQA_MAX_THREADS];
    for (ptrdiff_t t = 0; t < threads; t++) {
        jobs[t] = (job){
            .image = image,
            .crops = crops,
            .normalisation = &normalisation,
            .row = row,
            .item_size = item_size(output->dtype),
            .swap_channels = output->swap_channels,
            .out = out,
            .begin = rows * t / threads,
            .end = rows * (t + 1) / threads,
            .columns = columns + (size_t)t * width,
            .gathered = gathered + (size_t)t * width * 3,
        };
    }
#ifdef IQA_THREADS
    pthread_t workers[IQA_MAX_THREADS];
    ptrdiff_t started = 1; /* job 0 is this thread's, and so are those that no thread could be started for */
    while (started < threads && pthread_create(&workers[started], NULL, run, &jobs[started]) == 0) started++;
    run(&jobs[0]);
    for (ptrdiff_t t = started; t < threads; t++) run(&jobs[t]);
    for (ptrdiff_t t = 1; t < started; t++) pthread_join(workers[t], NULL);
#else
    run(&jobs[0]);
#endif
    free(gathered);
    free(columns);
    return 0;
}
