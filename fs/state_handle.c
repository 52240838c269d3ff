// SPDX-License-Identifier: BSD-3-Clause
// state_handle.c: what is open; the invariants are in state_map.c.
#include "fs/state_internal.h"

#include <errno.h>
#include <stdatomic.h>

#include "base/lock.h"
#include "base/metric.h"
#include "base/table.h"

static int file_open(struct state *s, struct handle *h, struct file_node *n, state_update *opening,
                     void *context)
{
    bool was_stale = n->is_stale;
    int r = opening(n, context);
    if (n->is_stale && !was_stale)
        state_file_unindex(s, h->node, n);
    if (r < 0)
        return r;
    h->mode = n->mode;
    n->opens++;
    return 0;
}

int state_open_handle(struct state *s, enum handle_kind kind, uint64_t node, uint64_t unique,
                      state_update *opening, void *context, uint64_t *ret_fh)
{
    lock_scope(&s->lock);
    struct file_node *n = kind == HANDLE_FILE ? state_file_at(s, node) : NULL;
    if (kind == HANDLE_FILE && !n)
        return -ESTALE;
    uint32_t index = state_slot_take(s, TABLE_HANDLE);
    if (index == 0)
        return -ENFILE;
    struct handle *h = state_slot_at(s, TABLE_HANDLE, index);
    *h = (struct handle){.sequence = h->sequence, .node = node, .unique = unique};
    int r = n ? file_open(s, h, n, opening, context) : 0;
    if (r < 0) {
        state_slot_free(s, TABLE_HANDLE, index);
        return r;
    }
    atomic_signal_fence(memory_order_seq_cst);
    h->kind = (uint8_t)kind;
    metric_add(kind == HANDLE_FILE ? METRIC_OPEN_FILES : METRIC_OPEN_FOLDERS, 1);
    *ret_fh = (uint64_t)h->sequence << 32 | index;
    return 0;
}

uint64_t state_find_handle(struct state *s, uint64_t unique)
{
    lock_scope(&s->lock);
    for (uint32_t i = 1; i < s->header->high[TABLE_HANDLE]; i++) {
        const struct handle *h = state_slot_at(s, TABLE_HANDLE, i);
        if (h->kind != HANDLE_FREE && h->unique == unique)
            return (uint64_t)h->sequence << 32 | i;
    }
    return 0;
}

bool state_get_handle(struct state *s, uint64_t fh, struct handle *ret_copy)
{
    lock_scope(&s->lock);
    const struct handle *h = state_handle_at(s, fh);
    if (h)
        *ret_copy = *h;
    return h;
}

void state_set_listing(struct state *s, uint64_t fh, uint64_t generation, uint64_t epoch)
{
    lock_scope(&s->lock);
    struct handle *h = state_handle_at(s, fh);
    if (h) {
        h->epoch = epoch;
        h->generation = generation;
    }
}

void state_set_flags(struct state *s, uint64_t fh, uint32_t flags)
{
    lock_scope(&s->lock);
    struct handle *h = state_handle_at(s, fh);
    if (h)
        h->flags = flags;
}

bool state_close_handle(struct state *s, uint64_t fh, struct handle *ret_was, state_update *last,
                        void *context)
{
    lock_scope(&s->lock);
    struct handle *h = state_handle_at(s, fh);
    if (!h)
        return false;
    *ret_was = *h;
    metric_add(h->kind == HANDLE_FILE ? METRIC_OPEN_FILES : METRIC_OPEN_FOLDERS, -1);
    struct file_node *n = h->kind == HANDLE_FILE ? state_file_at(s, h->node) : NULL;
    h->kind = HANDLE_FREE;
    atomic_signal_fence(memory_order_seq_cst);
    h->sequence++;
    state_slot_free(s, TABLE_HANDLE, fh & 0xffffffff);
    if (n && n->opens && --n->opens == 0) {
        last(n, context);
        if (n->lookups == 0) // its FORGET came first
            state_file_free(s, ret_was->node, n);
    }
    return true;
}

uint32_t state_handle_index(uint64_t fh)
{
    return fh & 0xffffffff;
}

void state_each_handle(struct state *s,
                       void (*each)(uint64_t fh, const struct handle *h, void *context),
                       void *context)
{
    lock_acquire(&s->lock);
    uint32_t high = s->header->high[TABLE_HANDLE];
    lock_release(&s->lock);
    for (uint32_t i = 1; i < high; i++) {
        struct handle copy = *(struct handle *)state_slot_at(s, TABLE_HANDLE, i);
        if (copy.kind != HANDLE_FREE)
            each((uint64_t)copy.sequence << 32 | i, &copy, context);
    }
}
