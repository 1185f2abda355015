/*
 * The three functions of the C library that the core, the server and the compiler itself call; so that no C library is
 * linked and instruction counts do not depend on one.
 */
#include <stddef.h>
#include <stdint.h>

void *memcpy(void *restrict to, const void *restrict from, size_t n);
void *memmove(void *to, const void *from, size_t n);
void *memset(void *to, int value, size_t n);

/* Keeps the compiler from turning a loop into a call of the very function that it is the body of. */
#define NO_IDIOM() __asm__ volatile("" ::: "memory")

/* Word accesses to memory of any type, which the language allows the implementation alone. */
typedef uint32_t __attribute__((may_alias)) word_t;

void *memcpy(void *restrict to, const void *restrict from, size_t n)
{
    uint8_t *out = to;
    const uint8_t *in = from;
    if ((((uintptr_t)out | (uintptr_t)in) & 3u) == 0) {
        word_t *out_word = to;
        const word_t *in_word = from;
        for (; n >= 16; n -= 16) {
            const uint32_t a = in_word[0], b = in_word[1], c = in_word[2], d = in_word[3];
            out_word[0] = a;
            out_word[1] = b;
            out_word[2] = c;
            out_word[3] = d;
            in_word += 4;
            out_word += 4;
            NO_IDIOM();
        }
        for (; n >= 4; n -= 4) {
            *out_word++ = *in_word++;
            NO_IDIOM();
        }
        out = (uint8_t *)out_word;
        in = (const uint8_t *)in_word;
    }
    for (; n != 0; n--) {
        *out++ = *in++;
        NO_IDIOM();
    }
    return to;
}

void *memmove(void *to, const void *from, size_t n)
{
    uint8_t *out = to;
    const uint8_t *in = from;
    if ((uintptr_t)out - (uintptr_t)in >= n) {
        return memcpy(to, from, n);  /* going forward, no byte is read after it was written */
    }
    while (n != 0) {
        n--;
        out[n] = in[n];
        NO_IDIOM();
    }
    return to;
}

void *memset(void *to, int value, size_t n)
{
    uint8_t *out = to;
    const uint8_t byte = (uint8_t)value;
    for (; n != 0 && ((uintptr_t)out & 3u) != 0; n--) {
        *out++ = byte;
        NO_IDIOM();
    }
    word_t *out_word = (word_t *)(void *)out;
    const uint32_t word = byte * 0x01010101u;
    for (; n >= 4; n -= 4) {
        *out_word++ = word;
        NO_IDIOM();
    }
    out = (uint8_t *)out_word;
    for (; n != 0; n--) {
        *out++ = byte;
        NO_IDIOM();
    }
    return to;
}
