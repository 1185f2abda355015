/*
 * A commit as it lies in non-volatile memory: docs/POWER_LOSS.md. The firmware compiles this file and the host reads it,
 * like dt_protocol.h. A slot is the head, the trained tensors in the order of their ids, and two marks; each of these
 * begins at a multiple of DT_SLOT_ALIGN bytes, and what lies between is left erased.
 */
#ifndef DT_SLOT_H
#define DT_SLOT_H

#include <stdint.h>

#include "drnn_types.h"

#define DT_SLOTS 2
#define DT_SLOT_MAGIC 0x31536C44      /* of this layout */
#define DT_SLOT_ALIGN 16              /* a multiple of every board's write_bytes */
#define DT_SLOT_FRONT_BYTES 16        /* the part of the head that is programmed right after erasing */
#define DT_SLOT_MARKS 2               /* each a word: CRC-32 of all before the marks, without its highest bit */
#define DT_SLOT_MARK_MASK 0x7FFFFFFF  /* so that erased memory is never a mark */

typedef struct {
    uint32_t magic;                   /* DT_SLOT_MAGIC */
    uint32_t number;                  /* of the commit, counting up by 1, without 0; compared modulo 2^32 */
    uint32_t erases;                  /* times that the slot has been erased */
    uint32_t check;                   /* CRC-32 of the 12 bytes before */
    uint8_t hash[DRNN_HASH_BYTES];    /* the model's */
    drnn_config_t config;
} dt_slot_t;

#endif
