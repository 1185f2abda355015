/* What the C files of this board share. */
#ifndef RISCV_H
#define RISCV_H

#include <stdint.h>

#define REG(address) (*(volatile uint32_t *)(address))

/* Before instructions on control registers: -march does not name Zicsr, lest the compiler not find its library. */
#define ZICSR ".option arch, +zicsr\n"

#endif
