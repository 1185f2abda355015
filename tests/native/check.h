/* A claim of a test on this PC: where it does not hold, its line is told and the program ends with status 1. */
#ifndef CHECK_H
#define CHECK_H

#include <stdio.h>
#include <stdlib.h>

#define CHECK(condition)                                       \
    do {                                                       \
        if (!(condition)) {                                    \
            printf("line %d: %s\n", __LINE__, #condition);     \
            exit(1);                                           \
        }                                                      \
    } while (0)

#endif
