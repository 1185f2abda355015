/* The random generator of the nRF51 and the nRF52: 32 bits for challenges that never come twice. */
#include "dt_board.h"

#define RNG_START (*(volatile uint32_t *)0x4000D000)
#define RNG_STOP (*(volatile uint32_t *)0x4000D004)
#define RNG_READY (*(volatile uint32_t *)0x4000D100)  /* a byte is there */
#define RNG_CONFIG (*(volatile uint32_t *)0x4000D504)
#define RNG_VALUE (*(volatile uint32_t *)0x4000D508)
#define UNBIASED 1u
#define MOST_LOOKS 200000u  /* a byte takes less than a millisecond; where the generator is not modelled, none comes */

uint32_t dt_board_entropy(void)
{
    uint32_t bits = 0;
    RNG_CONFIG = UNBIASED;
    RNG_READY = 0;
    RNG_START = 1;
    for (uint32_t n = 0; n < sizeof bits; n++) {
        for (uint32_t looks = 0; RNG_READY == 0 && looks < MOST_LOOKS; looks++) {
        }
        RNG_READY = 0;
        bits = bits << 8 | (RNG_VALUE & 0xFFu);
    }
    RNG_STOP = 1;
    return bits;
}
