/* Which instruction sets there are, and what each kernel has for them. */
#include "instruction_sets.h"

#include "color.h"
#include "patches.h"
#include "resize.h"

#ifdef IQA_X86
#include <cpuid.h>
#endif

static int always(void) { return 1; }
static const iqa_instruction_set scalar = {
    "scalar", always, {iqa_row_scalar_f32, iqa_row_scalar_f16}, &iqa_resizing_scalar, iqa_color_row_scalar};

#ifdef IQA_X86
static int has_avx2(void) {
    /* Not every compiler's __builtin_cpu_supports knows F16C; that the system saves the registers comes with AVX2. */
    unsigned int eax, ebx, ecx, edx;
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __get_cpuid(1, &eax, &ebx, &ecx, &edx) &&
           (ecx & bit_F16C);
}
static int has_avx512(void) {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw");
}
static const iqa_instruction_set avx2 = {
    "avx2", has_avx2, {iqa_row_avx2_f32, iqa_row_avx2_f16}, &iqa_resizing_avx2, iqa_color_row_avx2};
static const iqa_instruction_set avx512 = {
    "avx512", has_avx512, {iqa_row_avx512_f32, iqa_row_avx512_f16}, &iqa_resizing_avx512, iqa_color_row_avx512};
#endif
#ifdef IQA_NEON
static const iqa_instruction_set neon = {
    "neon", always, {iqa_row_neon_f32, iqa_row_neon_f16}, &iqa_resizing_scalar, iqa_color_row_scalar};
#endif

const iqa_instruction_set *const iqa_instruction_sets[] = {
#ifdef IQA_X86
    &avx512, &avx2,
#endif
#ifdef IQA_NEON
    &neon,
#endif
    &scalar, NULL};
