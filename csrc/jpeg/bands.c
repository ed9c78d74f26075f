#include "bands.h"

#include <setjmp.h>
#include <stdio.h>
#include <jpeglib.h>

#ifndef LIBJPEG_TURBO_VERSION_NUMBER
#error "this is another libjpeg: jpeg_skip_scanlines is of libjpeg-turbo alone"
#elif LIBJPEG_TURBO_VERSION_NUMBER < 2001005
#error "libjpeg-turbo is older than 2.1.5: its skipped rows were not compared with whole pictures"
#endif

#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)

const char *iqa_jpeg_version(void) { return TEXT(LIBJPEG_TURBO_VERSION); }

typedef struct {
    struct jpeg_error_mgr manager; /* first: libjpeg knows nothing else */
    jmp_buf back;
} complaint;

static void leave(j_common_ptr jpeg) { longjmp(((complaint *)jpeg->err)->back, 1); }

/* What is below 0 is a warning: the decoder goes on, with pixels that it makes up. */
static void hear(j_common_ptr jpeg, int level) {
    if (level < 0) leave(jpeg);
}

static void read_rows(j_decompress_ptr jpeg, int64_t end, uint8_t *out, ptrdiff_t stride) {
    while (jpeg->output_scanline < end) {
        JSAMPROW row = out;
        out += jpeg_read_scanlines(jpeg, &row, 1) * (size_t)stride;
    }
}

static void skip_rows(j_decompress_ptr jpeg, int64_t end) {
    if (jpeg->output_scanline < end) jpeg_skip_scanlines(jpeg, (JDIMENSION)(end - jpeg->output_scanline));
}

/* A function of its own: nothing that changes here is looked at after a jump back. */
static void decode(j_decompress_ptr jpeg, const int64_t *bands, ptrdiff_t count, uint8_t *out) {
    const ptrdiff_t stride = 3 * (ptrdiff_t)jpeg->image_width, height = jpeg->image_height;
    jpeg_start_decompress(jpeg);
    for (ptrdiff_t i = 0; i < count; i++) {
        skip_rows(jpeg, bands[2 * i]);
        read_rows(jpeg, bands[2 * i + 1], out, stride);
        out += (bands[2 * i + 1] - bands[2 * i]) * stride;
    }
    /* Skipped up to its end, the rest of the data would not be looked at. */
    JSAMPARRAY last = (*jpeg->mem->alloc_sarray)((j_common_ptr)jpeg, JPOOL_IMAGE, (JDIMENSION)stride, 1);
    skip_rows(jpeg, height - 1);
    read_rows(jpeg, height, last[0], stride);
    jpeg_finish_decompress(jpeg);
}

int iqa_jpeg_bands(const uint8_t *data, size_t size, ptrdiff_t height, ptrdiff_t width, const int64_t *bands,
                   ptrdiff_t count, uint8_t *out) {
    struct jpeg_decompress_struct jpeg;
    complaint heard;
    jpeg.err = jpeg_std_error(&heard.manager);
    heard.manager.error_exit = leave;
    heard.manager.emit_message = hear;
    jpeg.mem = NULL; /* where even this memory is missing, nothing has been made that could be freed */
    if (setjmp(heard.back)) {
        jpeg_destroy_decompress(&jpeg);
        return 0;
    }
    jpeg_create_decompress(&jpeg);
    jpeg_mem_src(&jpeg, data, (unsigned long)size);
    jpeg_read_header(&jpeg, TRUE);
    const int fits = jpeg.image_height == (JDIMENSION)height && jpeg.image_width == (JDIMENSION)width &&
                     width >= IQA_JPEG_LEAST_WIDTH && (jpeg.num_components > 1 || jpeg.comp_info->v_samp_factor == 1);
    jpeg.out_color_space = JCS_RGB;
    /* As TurboJPEG decodes: with the exact transform, and chrominances interpolated. */
    jpeg.dct_method = JDCT_ISLOW;
    jpeg.do_fancy_upsampling = TRUE;
    if (fits) decode(&jpeg, bands, count, out);
    jpeg_destroy_decompress(&jpeg);
    return fits;
}
