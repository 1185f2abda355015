/*
 * Commits: the whole state of training in non-volatile memory, so that no loss of power loses more than the steps since
 * the last one. Two slots are written in turn (dt_slot.h); a slot is valid from its very last program on. Built in with
 * DT_STORE alone.
 */
#ifndef DT_STORE_H
#define DT_STORE_H

#include <stdint.h>

#include "drnn.h"
#include "dt_protocol.h"
#include "dt_slot.h"

/* What is known of the slots. `state`, `commits` and `step` are for the hello. */
typedef struct {
    uint16_t state;                   /* enum dt_store */
    uint16_t next;                    /* the slot that is written next, never the one last committed */
    uint32_t commits;                 /* number of the commit that holds; 0: none */
    uint32_t step;                    /* training steps that it holds */
    uint32_t number;                  /* the last that was given away, also to a commit that was cut off */
    uint32_t erases[DT_SLOTS];
} dt_store_t;

/* Find the newest whole commit of the network's model, and continue from it. The network is initialised. */
void dt_store_load(dt_store_t *store, drnn_t *net);

/*
 * Commit the network's trained tensors and configuration. Returns 0, or DT_ERR_STORE: then what was committed before is
 * still whole.
 */
int dt_store_commit(dt_store_t *store, const drnn_t *net, dt_commit_reply_t *reply);

/* Erase both slots. Returns 0, or DT_ERR_STORE. */
int dt_store_forget(dt_store_t *store);

#endif
