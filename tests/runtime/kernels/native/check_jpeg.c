/* Compares rows of JPEG files with those of the whole picture, and damaged files with what libjpeg says of all of them:
 * whatever it warns of there must be refused here. File and rows lie in blocks of their size, for sanitizers.
 * Usage: check_jpeg [CASES [SEED]] */
#include "bands.h"
#include "drawing.h"

#include <setjmp.h>
#include <stdio.h>
#include <string.h>
#include <jpeglib.h>

enum { DAMAGES = 8 };

typedef struct {
    struct jpeg_error_mgr manager;
    jmp_buf back;
} complaint;

static void leave(j_common_ptr jpeg) { longjmp(((complaint *)jpeg->err)->back, 1); }
static void keep_quiet(j_common_ptr jpeg) { (void)jpeg; }

static uint8_t *compressed(ptrdiff_t height, ptrdiff_t width, size_t *size) {
    struct jpeg_compress_struct jpeg;
    struct jpeg_error_mgr manager;
    unsigned char *made = NULL;
    unsigned long length = 0;
    const int components = draw() % 5 ? 3 : 1;
    jpeg.err = jpeg_std_error(&manager);
    jpeg_create_compress(&jpeg);
    jpeg_mem_dest(&jpeg, &made, &length);
    jpeg.image_height = (JDIMENSION)height;
    jpeg.image_width = (JDIMENSION)width;
    jpeg.input_components = components;
    jpeg.in_color_space = components == 3 ? JCS_RGB : JCS_GRAYSCALE;
    jpeg_set_defaults(&jpeg);
    jpeg_set_quality(&jpeg, (int)between(5, 100), TRUE);
    if (draw() % 3 == 0) jpeg_simple_progression(&jpeg);
    jpeg.optimize_coding = draw() % 2;
    jpeg.restart_interval = draw() % 2 ? (unsigned)between(1, 9) : 0;
    jpeg.comp_info[0].h_samp_factor = draw() % 4 ? (int)between(1, 2) : 4;
    jpeg.comp_info[0].v_samp_factor = jpeg.comp_info[0].h_samp_factor < 4 ? (int)between(1, 2) : 1;
    jpeg_start_compress(&jpeg, TRUE);
    uint8_t *const row = malloc((size_t)(components * width));
    while (jpeg.next_scanline < jpeg.image_height) {
        for (ptrdiff_t i = 0; i < components * width; i++) row[i] = (uint8_t)(i + jpeg.next_scanline + draw() % 32);
        JSAMPROW rows = row;
        jpeg_write_scanlines(&jpeg, &rows, 1);
    }
    free(row);
    jpeg_finish_compress(&jpeg);
    jpeg_destroy_compress(&jpeg);
    uint8_t *const data = malloc(length);
    memcpy(data, made, length);
    free(made);
    *size = length;
    return data;
}

/* All rows; returns 0 if anything was said, 2 of gray with a sampling factor, else 1. */
static int whole(const uint8_t *data, size_t size, ptrdiff_t height, ptrdiff_t width, uint8_t *out) {
    struct jpeg_decompress_struct jpeg;
    complaint heard;
    jpeg.err = jpeg_std_error(&heard.manager);
    heard.manager.error_exit = leave;
    heard.manager.output_message = keep_quiet;
    if (setjmp(heard.back)) {
        jpeg_destroy_decompress(&jpeg);
        return 0;
    }
    jpeg_create_decompress(&jpeg);
    jpeg_mem_src(&jpeg, data, (unsigned long)size);
    jpeg_read_header(&jpeg, TRUE);
    if (jpeg.image_height != (JDIMENSION)height || jpeg.image_width != (JDIMENSION)width) leave((j_common_ptr)&jpeg);
    const int plain = jpeg.num_components > 1 || jpeg.comp_info->v_samp_factor == 1;
    jpeg.out_color_space = JCS_RGB;
    jpeg_start_decompress(&jpeg);
    while (jpeg.output_scanline < jpeg.output_height) {
        JSAMPROW row = out + 3 * width * (ptrdiff_t)jpeg.output_scanline;
        jpeg_read_scanlines(&jpeg, &row, 1);
    }
    jpeg_finish_decompress(&jpeg);
    const int clean = heard.manager.num_warnings == 0;
    jpeg_destroy_decompress(&jpeg);
    return clean ? 2 - plain : 0;
}

static ptrdiff_t draw_bands(int64_t *bands, ptrdiff_t height, ptrdiff_t *rows) {
    ptrdiff_t count = 0, row = 0;
    *rows = 0;
    while (count < 3 && row < height) {
        const ptrdiff_t top = between(row, height - 1), bottom = between(top + 1, height);
        bands[2 * count] = top;
        bands[2 * count + 1] = bottom;
        *rows += bottom - top;
        row = bottom;
        count++;
    }
    return count;
}

int main(int argc, char **argv) {
    const int cases = read_arguments(argc, argv, 1000);
    long refused = 0;
    for (int k = 0; k < cases; k++) {
        const ptrdiff_t height = between(1, 90), width = between(IQA_JPEG_LEAST_WIDTH, 80), stride = 3 * width;
        size_t size;
        uint8_t *data = compressed(height, width, &size), *const all = malloc((size_t)(height * stride));
        for (int damage = 0; damage < DAMAGES; damage++) {
            int64_t bands[6];
            ptrdiff_t rows, shown = 0;
            const ptrdiff_t count = draw_bands(bands, height, &rows);
            uint8_t *const out = malloc((size_t)(rows * stride));
            const int clean = whole(data, size, height, width, all);
            int same = iqa_jpeg_bands(data, size, height, width, bands, count, out) == (clean == 1);
            for (ptrdiff_t i = 0; same && clean == 1 && i < count; i++) {
                const ptrdiff_t part = bands[2 * i + 1] - bands[2 * i];
                same = memcmp(out + shown * stride, all + bands[2 * i] * stride, (size_t)(part * stride)) == 0;
                shown += part;
            }
            free(out);
            if (!same || (damage == 0 && !clean)) {
                printf("case %d, damage %d: differs (%td x %td)\n", k, damage, height, width);
                return 1;
            }
            refused += !clean;
            data[between(0, (ptrdiff_t)size - 1)] = (uint8_t)draw();
            if (draw() % 4 == 0) data = realloc(data, size = (size_t)between(1, (ptrdiff_t)size));
        }
        free(all);
        free(data);
    }
    printf("rows agree: %d files, each damaged %d times, %ld refused\n", cases, DAMAGES - 1, refused);
    return 0;
}
