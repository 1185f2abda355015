/* What the C files of this board share. */
#ifndef RISCV_H
#define RISCV_H

#include <stdint.h>

#define REG(address) (*(volatile uint32_t *)(address))

/* Before instructions on control registers: -march does not name Zicsr, lest the compiler not find its library. */
#define ZICSR ".option arch, +zicsr\n"

/* Bits of mie. */
#define MIE_TIMER 0x80u
#define MIE_EXTERNAL 0x800u

#endif
