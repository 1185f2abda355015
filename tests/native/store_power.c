/*
 * The store on this PC, over a flash that loses its power. It behaves as flash does, and complains of whoever programs a
 * unit twice or one that was not erased; the power goes before or inside any operation, and what was cut off reads
 * differently after each start. Prints what it did as JSON, or what went wrong and aborts.
 */
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "drnn.h"
#include "dt_flash.h"
#include "dt_model.h"
#include "dt_store.h"

#define FLASH_BYTES (DT_FLASH_PAGES * DT_FLASH_PAGE_BYTES)
#define SLOT_BYTES (FLASH_BYTES / DT_SLOTS)
#define MAX_PAGES (DT_FLASH_PAGES)
#define CHECK(condition)                                                                         \
    do {                                                                                         \
        if (!(condition)) {                                                                      \
            printf("line %d, phase %d, step %ld: %s\n", __LINE__, phase, cut_at, #condition);    \
            fflush(stdout);                                                                      \
            abort();                                                                             \
        }                                                                                        \
    } while (0)

static int phase;
static long cut_at = -1;

/* ---- a generator of our own: the same numbers everywhere */

static uint64_t random_state = 1;

static uint32_t random_word(void)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 32);
}

/* ---- flash */

_Alignas(8) uint8_t dt_flash[FLASH_BYTES];    /* as it reads now */
typedef struct {
    uint8_t bits[FLASH_BYTES];                /* what is sure of it */
    uint8_t unsure[FLASH_BYTES];              /* bits that may read either way */
    uint8_t programmed[FLASH_BYTES];          /* since the last erase */
    uint8_t torn[MAX_PAGES];                  /* an erase was cut off: erase again before programming */
    uint32_t erases[MAX_PAGES];
} cells_t;
static cells_t cells;

static long steps_left = -1;                  /* until the power goes; -1: it stays */
static jmp_buf power_off;
static long fail_in = -1, spoil_in = -1;      /* operations until one is refused, or programs something else */
static int is_absent;

/* Each operation is two steps: the power may go before it, or inside. Returns whether it goes inside. */
static int goes_inside(void)
{
    if (steps_left < 0) {
        return 0;
    }
    if (steps_left == 0) {
        longjmp(power_off, 1);
    }
    steps_left -= 2;
    return steps_left < 0;
}

static void show(uint32_t at, uint32_t n)
{
    for (uint32_t i = at; i < at + n; i++) {
        dt_flash[i] = (uint8_t)((cells.bits[i] & ~cells.unsure[i]) | (random_word() & cells.unsure[i]));
    }
}

int dt_flash_open(void)
{
    return is_absent ? -1 : 0;
}

int dt_flash_erase(uint32_t page)
{
    CHECK(page < DT_FLASH_PAGES);
    if (fail_in >= 0 && fail_in-- == 0) {
        return -1;
    }
    const uint32_t at = page * DT_FLASH_PAGE_BYTES;
    cells.erases[page]++;
    if (goes_inside()) {
        cells.torn[page] = 1;
        for (uint32_t i = at; i < at + DT_FLASH_PAGE_BYTES; i++) {
            const uint32_t fate = random_word() % 4u; /* as it was, erased, or in between */
            cells.bits[i] = fate == 1 ? 0xFF : cells.bits[i];
            cells.unsure[i] |= fate > 1 ? (uint8_t)~cells.bits[i] : 0;
        }
        longjmp(power_off, 1);
    }
    memset(cells.bits + at, 0xFF, DT_FLASH_PAGE_BYTES);
    memset(cells.unsure + at, 0, DT_FLASH_PAGE_BYTES);
    memset(cells.programmed + at, 0, DT_FLASH_PAGE_BYTES);
    cells.torn[page] = 0;
    show(at, DT_FLASH_PAGE_BYTES);
    return 0;
}

int dt_flash_program(uint32_t at, const uint32_t *unit)
{
    CHECK(at % DT_FLASH_WRITE_BYTES == 0 && at <= FLASH_BYTES - DT_FLASH_WRITE_BYTES);
    CHECK(!cells.torn[at / DT_FLASH_PAGE_BYTES]);
    if (fail_in >= 0 && fail_in-- == 0) {
        return -1;
    }
    const uint8_t *bytes = (const uint8_t *)unit;
    const int inside = goes_inside();
    const int spoil = spoil_in >= 0 && spoil_in-- == 0;
    for (uint32_t i = 0; i < DT_FLASH_WRITE_BYTES; i++) {
        /* Only a unit whose programming was cut off may be programmed again, when it reads as erased. */
        CHECK(!cells.programmed[at + i] || cells.unsure[at + i] != 0 || cells.bits[at + i] == 0xFF);
        CHECK(dt_flash[at + i] == 0xFF);
    }
    const uint32_t last = random_word() % DT_FLASH_WRITE_BYTES, nearly = random_word() % 2u;
    for (uint32_t i = 0; i < DT_FLASH_WRITE_BYTES; i++) {
        const uint8_t to_do = (uint8_t)~bytes[i];
        cells.programmed[at + i] = 1;
        if (inside && nearly) { /* a bit is left that reads either way */
            const uint8_t unsure = i == last ? (uint8_t)(to_do & -to_do) : 0;
            cells.bits[at + i] &= (uint8_t)~(to_do & ~unsure);
            cells.unsure[at + i] |= unsure;
        } else if (inside) {
            const uint8_t done = (uint8_t)(random_word() & to_do);
            cells.bits[at + i] &= (uint8_t)~done;
            cells.unsure[at + i] |= (uint8_t)(random_word() & to_do & (uint8_t)~done);
        } else {
            cells.bits[at + i] &= bytes[i];
            cells.unsure[at + i] &= bytes[i];
        }
    }
    if (spoil) {
        cells.bits[at + random_word() % DT_FLASH_WRITE_BYTES] ^= (uint8_t)(1u << random_word() % 8u);
    }
    if (inside) {
        longjmp(power_off, 1);
    }
    show(at, DT_FLASH_WRITE_BYTES);
    return 0;
}

/* Whatever a new device's flash may hold. */
static void fill(int how)
{
    memset(&cells, 0, sizeof cells);
    for (uint32_t i = 0; i < FLASH_BYTES; i++) {
        cells.bits[i] = how == 0 ? 0 : how == 1 ? 0xFF : (uint8_t)random_word();
        cells.programmed[i] = cells.bits[i] != 0xFF;
    }
}

/* ---- the device */

static drnn_model_t model;
static drnn_t net;
static dt_store_t store;
static uint64_t arena[DT_ARENA_BYTES / 8u];
static long n_boots, n_cuts, n_commits;

/* All that must survive. */
typedef struct {
    drnn_config_t config;
    uint32_t n_bytes;
    uint8_t tensors[4096];
} state_t;

static void keep(state_t *state)
{
    drnn_tensor_t tensor;
    memset(state, 0, sizeof *state);
    state->config = net.config;
    for (int id = 0; id < DRNN_T_PER_LAYER * model.n_layers; id++) {
        if (drnn_tensor(&net, id, &tensor) == DRNN_OK && tensor.writable) {
            CHECK(state->n_bytes + tensor.count * tensor.item_bytes <= sizeof state->tensors);
            memcpy(state->tensors + state->n_bytes, tensor.data, tensor.count * tensor.item_bytes);
            state->n_bytes += tensor.count * tensor.item_bytes;
        }
    }
}

static int is_at(const state_t *state)
{
    state_t now;
    keep(&now);
    return memcmp(&now, state, sizeof now) == 0;
}

static void boot(void)
{
    n_boots++;
    show(0, FLASH_BYTES);
    memset(arena, 0xA5, sizeof arena);
    memset(&store, 0xA5, sizeof store);
    CHECK(drnn_init(&net, &model, arena, sizeof arena) == DRNN_OK);
    dt_store_load(&store, &net);
    CHECK(store.state != DT_STORE_LOADED || (store.step == net.config.step && store.commits != 0));
    CHECK(store.state == DT_STORE_LOADED || (store.step == 0 && store.commits == 0));
}

static void train(void)
{
    drnn_result_t result;
    int16_t frame[DT_N_IN];
    CHECK(drnn_begin(&net) == DRNN_OK);
    for (int t = 0; t < DT_MAX_STEPS; t++) {
        for (int i = 0; i < DT_N_IN; i++) {
            frame[i] = (int16_t)((int32_t)(random_word() % 8001u) - 4000);
        }
        CHECK(drnn_push(&net, frame) > 0);
    }
    CHECK(drnn_train(&net, (uint16_t)(random_word() % DT_N_OUTPUTS), &result) == DRNN_OK);
}

static dt_commit_reply_t reply;

static void commit(void)
{
    CHECK(dt_store_commit(&store, &net, &reply) == 0);
    CHECK(reply.step == net.config.step && reply.commits == store.commits && store.state == DT_STORE_LOADED);
    n_commits++;
}

/* Run something with the power gone after `steps`; returns whether it was cut off. */
static int cut(void (*what)(void), long steps)
{
    steps_left = steps;
    if (setjmp(power_off) == 0) {
        what();
        const int still = steps_left >= 0;
        steps_left = -1;
        return !still;
    }
    steps_left = -1;
    n_cuts++;
    return 1;
}

static void forget(void)
{
    CHECK(dt_store_forget(&store) == 0);
}

/* ---- what is tried; the store holds `a` (or nothing: then `a` is the model as exported) */

static state_t a, b, c, fresh, before_a;

/* After a cut, starts give the old state until they give the new one for good. Returns whether that is the new one. */
static int old_or_new(void)
{
    int is_new = 0;
    for (int start = 0; start < 3; start++) {
        boot();
        CHECK(is_at(&a) || is_at(&b));
        CHECK(!is_new || is_at(&b));
        is_new = is_at(&b);
    }
    return is_new;
}

/* Cut a commit after every number of steps; each time go on, and commit again with a cut somewhere and without. */
static void cut_commits_everywhere(int is_first)
{
    static cells_t start;
    start = cells;
    uint32_t last = 0;
    long n_old = 0, n_new = 0;
    for (cut_at = 0;; cut_at++) {
        cells = start;
        boot();
        CHECK(is_at(&a) && (store.state == DT_STORE_EMPTY) == is_first);
        train();
        keep(&b);
        const uint32_t committed = store.commits, number = store.number;
        if (!cut(commit, cut_at)) {
            CHECK(store.commits == number + 1u || (number == UINT32_MAX && store.commits == 1u));
            break;
        }
        const int is_new = old_or_new();
        n_old += !is_new;
        n_new += is_new;
        CHECK(is_new ? store.commits != committed : store.commits == committed);
        last = store.commits;
        const state_t reached = is_new ? b : a;
        /* Once more, cut somewhere: never behind what was reached. */
        train();
        keep(&c);
        if (cut(commit, (long)(random_word() % (2u * (uint32_t)cut_at + 2u)))) {
            boot();
            CHECK(is_at(&reached) || is_at(&c));
            train();
            keep(&c);
            commit();
        }
        CHECK(store.commits - last - 1u < 16u);
        boot();
        CHECK(is_at(&c));
    }
    CHECK(cut_at > 40 && n_old > 40 && n_new > 0); /* the last mark is written when the commit is valid already */
    cut_at = -1;
}

/*
 * The worst place: inside a commit's first mark. When it reads well, the start writes the second, during which the power may
 * go as well; and when it does not, the commit that follows, cut wherever it may be, must find a slot that holds for good.
 */
static void cut_marks(void)
{
    static cells_t start;
    start = cells;
    train();
    steps_left = 1L << 30;
    commit();
    const long inside_mark = (1L << 30) - steps_left - 2 * DT_SLOT_MARKS + 1;
    steps_left = -1;
    long n_new = 0;
    for (cut_at = 0; cut_at < inside_mark; cut_at++) {
        cells = start;
        boot();
        train();
        keep(&b);
        CHECK(cut(commit, inside_mark));
        if (cut_at < 64) {
            cut(boot, cut_at % 2);
            boot(); /* two cuts in two marks: neither is sure, but the next commit will be */
            CHECK(is_at(&a) || is_at(&b));
            train();
            keep(&c);
            commit();
        } else {
            const int is_new = old_or_new();
            n_new += is_new;
            const state_t reached = is_new ? b : a;
            train();
            keep(&c);
            CHECK(cut(commit, cut_at));
            for (int i = 0; i < 8; i++) {
                boot();
                CHECK(is_at(&reached) || is_at(&c));
            }
            train();
            keep(&c);
            commit();
        }
        boot();
        CHECK(is_at(&c));
    }
    CHECK(n_new > 4);
    cut_at = -1;
    cells = start;
    boot();
}

static void cut_forgetting_everywhere(void)
{
    static cells_t start;
    start = cells;
    for (cut_at = 0;; cut_at++) {
        cells = start;
        boot();
        CHECK(is_at(&a));
        if (!cut(forget, cut_at)) {
            break;
        }
        boot();
        CHECK(is_at(&a) || is_at(&fresh)); /* but never what was committed before */
    }
    cut_at = -1;
    const uint32_t number = store.number;
    boot();
    CHECK(is_at(&fresh) && store.state == DT_STORE_EMPTY && store.number == number);
    for (uint32_t i = 0; i < FLASH_BYTES; i++) {
        CHECK(i % SLOT_BYTES < DT_SLOT_FRONT_BYTES || dt_flash[i] == 0xFF);
    }
    train();
    keep(&b);
    commit();
    CHECK(reply.commits == number + 1u);
    boot();
    CHECK(is_at(&b));
    cells = start;
    boot();
}

/* Flash that refuses, or holds something else than it was given: the command fails, and what was committed stays. */
static void fail_everywhere(long *fails)
{
    static cells_t start;
    start = cells;
    for (long spoil = 0; spoil < 2; spoil++) {
        for (cut_at = 0;; cut_at++) {
            cells = start;
            boot();
            train();
            keep(&b);
            *(spoil ? &spoil_in : &fail_in) = cut_at;
            const int error = dt_store_commit(&store, &net, &reply);
            if (error == 0) {
                CHECK(spoil_in >= 0 || fail_in >= 0);
                break;
            }
            CHECK(error == DT_ERR_STORE && fail_in < 0 && spoil_in < 0);
            *fails += 1;
            const state_t held = b;
            boot();
            CHECK(is_at(&a) || is_at(&held));
            train();
            keep(&c);
            commit();
            boot();
            CHECK(is_at(&c));
        }
        fail_in = spoil_in = -1;
    }
    cut_at = -1;
    cells = start;
    boot();
}

static void flip(uint32_t at)
{
    cells.bits[at] ^= (uint8_t)(1u << random_word() % 8u);
}

/* A flipped bit anywhere in one slot, or in both. */
static void rot_everywhere(uint32_t n_content, long *flips)
{
    static cells_t start;
    start = cells;
    boot();
    CHECK(is_at(&a));
    const uint32_t older = store.next * SLOT_BYTES, newer = SLOT_BYTES - older;
    for (uint32_t i = 0; i < n_content; i++) {
        *flips += 1;
        cells = start;
        flip(newer + i);
        boot();
        CHECK(is_at(&before_a) && store.state == DT_STORE_LOADED);
        flip(older + random_word() % n_content);
        boot();
        CHECK(is_at(&fresh) && store.state == DT_STORE_EMPTY);
        train();
        keep(&b);
        commit();
        boot();
        CHECK(is_at(&b));
        cells = start;
        flip(older + i);
        boot();
        CHECK(is_at(&a));
        /* Some bytes of rubbish. */
        cells = start;
        const uint32_t n = 1u + random_word() % 32u;
        for (uint32_t k = 0; k < n; k++) {
            cells.bits[newer + (i + k) % n_content] = (uint8_t)random_word();
        }
        boot();
        CHECK(is_at(&before_a) || (n <= 2 && is_at(&a))); /* few bytes may be the same by chance */
    }
    for (uint32_t i = 0; i < DT_SLOT_MARKS; i++) { /* one mark is enough */
        cells = start;
        flip(newer + n_content + i * DT_SLOT_ALIGN + random_word() % 4u);
        boot();
        CHECK(is_at(&a));
    }
    cells = start;
    boot();
}

/* The commits' number over its end, in both slots, and with cuts. */
static void wrap_around(void)
{
    const cells_t start = cells;
    for (uint32_t i = 1; i < 8; i++) { /* there in leaps of less than half the numbers */
        store.number = i << 29;
        train();
        commit();
        boot();
    }
    store.number = UINT32_MAX - 4u;
    for (int i = 0; i < 10; i++) {
        train();
        keep(&b);
        commit();
        CHECK(reply.commits != 0);
        boot();
        CHECK(is_at(&b) && store.commits == reply.commits);
        train();
        CHECK(cut(commit, 60));
        boot();
        CHECK(is_at(&b));
    }
    CHECK(store.commits < 100);
    cells = start;
    boot();
}

/* Another model's commits are not taken, and the newer of them is overwritten last. */
static void change_the_model(void)
{
    const cells_t start = cells;
    model.hash[DRNN_HASH_BYTES - 1] ^= 1u;
    boot();
    CHECK(is_at(&fresh) && store.state == DT_STORE_EMPTY);
    train();
    keep(&b);
    commit();
    boot();
    CHECK(is_at(&b));
    model.hash[DRNN_HASH_BYTES - 1] ^= 1u;
    boot();
    CHECK(is_at(&a) && store.state == DT_STORE_LOADED);
    cells = start;
    boot();
}

static void count_erases(void)
{
    for (int i = 0; i < 9; i++) {
        train();
        const uint32_t slot = store.next;
        const uint32_t before = store.erases[slot];
        commit();
        CHECK(reply.slot_erases == before + 1u);
        CHECK(reply.slot_erases == cells.erases[slot * (DT_FLASH_PAGES / DT_SLOTS)]);
        boot();
        CHECK(store.erases[slot] == reply.slot_erases && store.next == (slot ^ 1u));
    }
}

/* Where there is no flash, or it is too small. */
static void without(void)
{
    CHECK(store.state == DT_STORE_NONE && is_at(&fresh));
    CHECK(dt_store_commit(&store, &net, &reply) == DT_ERR_STORE);
    CHECK(dt_store_forget(&store) == DT_ERR_STORE);
}

int main(int argc, char **argv)
{
    const int n_seeds = argc > 1 ? atoi(argv[1]) : 1;
    long fails = 0, flips = 0;
    uint32_t n_bytes = 0;
    model = dt_model;
    for (int seed = 0; seed < n_seeds; seed++) {
        random_state = (uint64_t)seed + 1u;
        fill(seed % 3);
        boot();
        keep(&fresh);
        if (store.state == DT_STORE_NONE) {
            without();
            break;
        }
        a = fresh;
        for (phase = 0; phase < 4; phase++) {
            cut_commits_everywhere(phase == 0);
            boot();
            if (phase == 0) {
                fill(seed % 3);
                boot();
                train();
                commit();
                CHECK(reply.slot_erases == 1);
                n_bytes = reply.bytes;
                count_erases();
            }
            keep(&before_a);
            train();
            keep(&a);
            commit();
        }
        cut_marks();
        cut_forgetting_everywhere();
        fail_everywhere(&fails);
        rot_everywhere(n_bytes - DT_SLOT_MARKS * DT_SLOT_ALIGN, &flips);
        wrap_around();
        change_the_model();
        is_absent = 1;
        boot();
        without();
        is_absent = 0;
    }
    printf("{\"bytes\": %u, \"starts\": %ld, \"cuts\": %ld, \"commits\": %ld, \"fails\": %ld, \"flips\": %ld}\n", n_bytes,
           n_boots, n_cuts, n_commits, fails, flips);
    return 0;
}
