/* Random numbers for the programs here: the same cases on every machine. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

static uint64_t state = 0x9E3779B97F4A7C15u;

/* xorshift64* */
static uint64_t draw(void) {
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return state * 0x2545F4914F6CDD1Du;
}

static ptrdiff_t between(ptrdiff_t low, ptrdiff_t high) {
    return low + (ptrdiff_t)(draw() % (uint64_t)(high - low + 1));
}

/* Begins anew from the seed in the second argument of a program, if it has one; returns the number in the first. */
static int read_arguments(int argc, char **argv, int cases) {
    if (argc > 2) state ^= strtoull(argv[2], NULL, 10) * 0xD1342543DE82EF95u;
    if (state == 0) state = 1; /* xorshift would stay there */
    return argc > 1 ? atoi(argv[1]) : cases;
}
