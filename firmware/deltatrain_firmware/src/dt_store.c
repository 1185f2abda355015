#include "dt_store.h"

#ifdef DT_STORE

#include <string.h>

#include "dt_flash.h"
#include "dt_frame.h"

#define SLOT_PAGES ((uint32_t)DT_FLASH_PAGES / DT_SLOTS)
#define SLOT_BYTES (SLOT_PAGES * (uint32_t)DT_FLASH_PAGE_BYTES)
#define UNIT_WORDS (DT_FLASH_WRITE_BYTES / 4u)
#define ERASED 0xFFu
#define BEFORE_CHECK 12u

_Static_assert(sizeof(dt_slot_t) == 80 && sizeof(dt_slot_t) % DT_SLOT_ALIGN == 0, "the head of a slot has no holes");
_Static_assert(DT_FLASH_WRITE_BYTES % 4u == 0 && DT_SLOT_ALIGN % DT_FLASH_WRITE_BYTES == 0,
               "parts of a slot begin at a unit of the flash");

static uint32_t aligned(uint32_t n)
{
    return (n + DT_SLOT_ALIGN - 1u) / DT_SLOT_ALIGN * DT_SLOT_ALIGN;
}

/* The next trained tensor with an id of *id or above; 0 when there is none. */
static int next_tensor(const drnn_t *net, int *id, drnn_tensor_t *tensor)
{
    while (*id < DRNN_T_PER_LAYER * net->model->n_layers) {
        if (drnn_tensor(net, (*id)++, tensor) == DRNN_OK && tensor->writable) {
            return 1;
        }
    }
    return 0;
}

/* Bytes of a slot before its marks. */
static uint32_t marks_at(const drnn_t *net)
{
    uint32_t at = sizeof(dt_slot_t);
    drnn_tensor_t tensor;
    for (int id = 0; next_tensor(net, &id, &tensor);) {
        at += aligned(tensor.count * tensor.item_bytes);
    }
    return at;
}

static uint32_t word_at(uint32_t at)
{
    uint32_t word;
    memcpy(&word, dt_flash + at, sizeof word);
    return word;
}

/* What a mark says of the slot's content. */
static uint32_t mark_of(uint32_t start, uint32_t end)
{
    return dt_crc32(dt_flash + start, end - start) & DT_SLOT_MARK_MASK;
}

/* Whether the second of two numbers was given away before the first. */
static int is_later(uint32_t a, uint32_t b)
{
    return a - b - 1u < UINT32_MAX / 2u;
}

/* Program bytes[n], what is left of the last unit as if erased, and see that they read back. */
static int put(uint32_t at, const void *bytes, uint32_t n)
{
    const uint8_t *from = bytes;
    for (uint32_t done = 0; done < n; done += DT_FLASH_WRITE_BYTES) {
        uint32_t unit[UNIT_WORDS];
        const uint32_t left = n - done;
        memset(unit, ERASED, sizeof unit);
        memcpy(unit, from + done, left < sizeof unit ? left : sizeof unit);
        if (dt_flash_program(at + done, unit) < 0) {
            return DT_ERR_STORE;
        }
        for (uint32_t i = 0; i < UNIT_WORDS; i++) {
            if (word_at(at + done + 4u * i) != unit[i]) {
                return DT_ERR_STORE;
            }
        }
    }
    return 0;
}

/*
 * Erase the first `n_pages` of a slot and write its front. Backwards, so that the front, which holds the count of
 * erases, is missing for as short as may be.
 */
static int renew(dt_store_t *store, uint32_t slot, uint32_t n_pages)
{
    dt_slot_t head;
    head.magic = DT_SLOT_MAGIC;
    head.number = store->number;
    head.erases = ++store->erases[slot];
    head.check = dt_crc32((const uint8_t *)&head, BEFORE_CHECK);
    for (uint32_t page = slot * SLOT_PAGES + n_pages; page-- > slot * SLOT_PAGES;) {
        if (dt_flash_erase(page) < 0) {
            return DT_ERR_STORE;
        }
    }
    return put(slot * SLOT_BYTES, &head, DT_SLOT_FRONT_BYTES);
}

/* The front and, in *is_whole, whether the slot is a whole commit of this model. Returns 0 where there is no front. */
static int look(const drnn_t *net, uint32_t slot, uint32_t n, dt_slot_t *head, int *is_whole)
{
    const uint32_t start = slot * SLOT_BYTES, end = start + n;
    memcpy(head, dt_flash + start, sizeof *head);
    if (head->magic != DT_SLOT_MAGIC || head->check != dt_crc32((const uint8_t *)head, BEFORE_CHECK)) {
        return 0;
    }
    *is_whole = 1;
    for (uint32_t i = 0; i < DRNN_HASH_BYTES; i++) {
        *is_whole &= head->hash[i] == net->model->hash[i];
    }
    if (*is_whole) {
        const uint32_t mark = mark_of(start, end);
        *is_whole = word_at(end) == mark || word_at(end + DT_SLOT_ALIGN) == mark;
    }
    return 1;
}

/* Continue from a whole slot. */
static void take(dt_store_t *store, drnn_t *net, uint32_t slot)
{
    dt_slot_t head;
    uint32_t at = slot * SLOT_BYTES;
    memcpy(&head, dt_flash + at, sizeof head);
    if (drnn_configure(net, &head.config) < 0) {
        return; /* a version of the core that took what this one refuses */
    }
    at += (uint32_t)sizeof head;
    drnn_tensor_t tensor;
    for (int id = 0; next_tensor(net, &id, &tensor);) {
        const uint32_t n_bytes = tensor.count * tensor.item_bytes;
        memcpy(tensor.data, dt_flash + at, n_bytes);
        at += aligned(n_bytes);
    }
    /*
     * Without its second mark, the first may have been cut off while it was programmed: it reads well now, and perhaps
     * not next time, when the other slot is being overwritten. The second makes sure of it.
     */
    if (word_at(at + DT_SLOT_ALIGN) == UINT32_MAX) {
        (void)put(at + DT_SLOT_ALIGN, dt_flash + at, sizeof(uint32_t));
    }
    store->next = (uint16_t)(slot ^ 1u);
    store->state = DT_STORE_LOADED;
    store->commits = head.number;
    store->step = head.config.step;
}

void dt_store_load(dt_store_t *store, drnn_t *net)
{
    memset(store, 0, sizeof *store);
    const uint32_t n = marks_at(net);
    if (dt_flash_open() < 0 || n + DT_SLOT_MARKS * DT_SLOT_ALIGN > SLOT_BYTES) {
        return;
    }
    store->state = DT_STORE_EMPTY;
    uint32_t newest = DT_SLOTS, number = 0;
    for (uint32_t slot = 0; slot < DT_SLOTS; slot++) {
        dt_slot_t head;
        int is_whole;
        if (!look(net, slot, n, &head, &is_whole)) {
            continue;
        }
        store->erases[slot] = head.erases;
        if (store->number == 0 || is_later(head.number, store->number)) {
            store->number = head.number;
            store->next = (uint16_t)(slot ^ 1u);
        }
        if (is_whole && (newest == DT_SLOTS || is_later(head.number, number))) {
            newest = slot;
            number = head.number;
        }
    }
    for (uint32_t slot = 0; slot < DT_SLOTS; slot++) {
        if (store->erases[slot] == 0) {
            store->erases[slot] = store->erases[slot ^ 1u]; /* they are erased in turn */
        }
    }
    if (newest != DT_SLOTS) {
        take(store, net, newest);
    }
}

int dt_store_commit(dt_store_t *store, const drnn_t *net, dt_commit_reply_t *reply)
{
    if (store->state == DT_STORE_NONE) {
        return DT_ERR_STORE;
    }
    const uint32_t slot = store->next, start = slot * SLOT_BYTES, n = marks_at(net), end = start + n;
    const uint32_t n_bytes = n + DT_SLOT_MARKS * DT_SLOT_ALIGN;
    store->number += store->number == UINT32_MAX ? 2u : 1u;
    if (renew(store, slot, (n_bytes + DT_FLASH_PAGE_BYTES - 1u) / DT_FLASH_PAGE_BYTES) < 0
        || put(start + offsetof(dt_slot_t, hash), net->model->hash, DRNN_HASH_BYTES) < 0
        || put(start + offsetof(dt_slot_t, config), &net->config, sizeof net->config) < 0) {
        return DT_ERR_STORE;
    }
    uint32_t at = start + (uint32_t)sizeof(dt_slot_t);
    drnn_tensor_t tensor;
    for (int id = 0; next_tensor(net, &id, &tensor);) {
        const uint32_t n_tensor = tensor.count * tensor.item_bytes;
        if (put(at, tensor.data, n_tensor) < 0) {
            return DT_ERR_STORE;
        }
        at += aligned(n_tensor);
    }
    const uint32_t mark = mark_of(start, end);
    if (put(end, &mark, sizeof mark) < 0 || put(end + DT_SLOT_ALIGN, &mark, sizeof mark) < 0) {
        return DT_ERR_STORE;
    }
    store->next = (uint16_t)(slot ^ 1u);
    store->state = DT_STORE_LOADED;
    store->commits = store->number;
    store->step = net->config.step;
    reply->commits = store->number;
    reply->step = store->step;
    reply->slot_erases = store->erases[slot];
    reply->bytes = n_bytes;
    return 0;
}

int dt_store_forget(dt_store_t *store)
{
    if (store->state == DT_STORE_NONE) {
        return DT_ERR_STORE;
    }
    /* What was committed last goes last: when the power is cut, it is all there or nothing is. */
    if (renew(store, store->next, SLOT_PAGES) < 0) {
        return DT_ERR_STORE;
    }
    store->state = DT_STORE_EMPTY;
    store->commits = 0;
    store->step = 0;
    return renew(store, store->next ^ 1u, SLOT_PAGES);
}

#endif
