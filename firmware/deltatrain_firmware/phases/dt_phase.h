/*
 * Hooks for `deltatrain bench`, put before every file of the core: the time of a training step by phase. Without this
 * header DRNN_PHASE says nothing and costs nothing.
 */
#ifndef DT_PHASE_H
#define DT_PHASE_H

#include <stdint.h>

enum dt_phase {
    DT_PHASE_OTHER = 0,
    DT_PHASE_ENCODE,
    DT_PHASE_FORWARD,
    DT_PHASE_ACTIVATIONS,
    DT_PHASE_READOUT,
    DT_PHASE_CELL_GRADIENT,
    DT_PHASE_BACKWARD,
    DT_PHASE_GRADIENT,
    DT_PHASE_UPDATE,
    DT_N_PHASES
};

/* Ticks so far, modulo 2^32. */
extern uint32_t dt_phase_ticks[DT_N_PHASES];

/* From here on time counts as `phase`'s. */
void dt_phase(enum dt_phase phase);

#define DRNN_PHASE(name) dt_phase(DT_PHASE_##name)

#endif
