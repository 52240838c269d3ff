// SPDX-License-Identifier: BSD-3-Clause
// state_home.c: see state_home.h. state_map.c's invariants hold for this table, too.
#include "fs/state_home.h"

#include <errno.h>

#include "base/hash.h"
#include "base/log.h"
#include "base/metric.h"
#include "fs/state_internal.h"

struct home_key {
    uint16_t space;
    const struct home_handle *handle;
};

static uint64_t hash_home(const struct home_key *k)
{
    return hash64_seed(k->handle->data, k->handle->size_bytes, k->space);
}

static struct home_key key_of(const struct home_node *n)
{
    return (struct home_key){n->space, &n->handle};
}

struct home_node *state_home_at(const struct state *s, uint64_t id)
{
    uint32_t index = id & ID_INDEX_MASK;
    if (!(id & ID_HOME_BIT) || index == 0 || index >= s->header->high[TABLE_HOME])
        return NULL;
    struct home_node *n = state_slot_at(s, TABLE_HOME, index);
    if (n->kind != NODE_HOME || (n->sequence & ID_SEQUENCE_MASK) != id >> ID_SEQUENCE_SHIFT)
        return NULL;
    return n;
}

static bool same_home(uint64_t id, const void *key, void *context)
{
    const struct home_key *k = key;
    const struct home_node *n = state_home_at(context, id);
    return n && n->space == k->space && n->handle.type == k->handle->type &&
           n->handle.size_bytes == k->handle->size_bytes &&
           memcmp(n->handle.data, k->handle->data, k->handle->size_bytes) == 0;
}

// ---- repair ---------------------------------------------------------------------------------

void state_home_repair(struct state *s)
{
    for (uint32_t i = 1; i < s->header->high[TABLE_HOME]; i++) {
        struct home_node *n = state_slot_at(s, TABLE_HOME, i);
        if (n->kind != NODE_HOME || n->handle.size_bytes > HOME_HANDLE_MAX) {
            n->kind = NODE_FREE;
            state_slot_free(s, TABLE_HOME, i);
            continue;
        }
        n->opens = 0; // counted again from the handles, which also know the mode
        n->mode = OPEN_NONE;
        struct home_key k = key_of(n);
        table_add(&s->homes, hash_home(&k), state_id(TABLE_HOME, i, n->sequence));
        metric_add(METRIC_NODES, 1);
    }
}

bool state_home_repair_open(struct state *s, const struct handle *h)
{
    struct home_node *n = state_home_at(s, h->node);
    if (n) {
        n->opens++;
        n->mode = h->mode;
    }
    return n;
}

// ---- nodes ----------------------------------------------------------------------------------

static uint64_t home_make(struct state *s, const struct home_key *k, uint64_t ino, uint32_t type)
{
    uint32_t index = state_slot_take(s, TABLE_HOME);
    if (index == 0)
        return 0;
    struct home_node *n = state_slot_at(s, TABLE_HOME, index);
    *n = (struct home_node){.sequence = n->sequence, .space = k->space, .ino = ino, .type = type,
                             .reserved_bytes = -1};
    n->handle.type = k->handle->type;
    n->handle.size_bytes = k->handle->size_bytes;
    memcpy(n->handle.data, k->handle->data, k->handle->size_bytes);
    atomic_signal_fence(memory_order_seq_cst);
    n->kind = NODE_HOME;
    uint64_t id = state_id(TABLE_HOME, index, n->sequence);
    table_add(&s->homes, hash_home(k), id);
    metric_add(METRIC_NODES, 1);
    return id;
}

static void home_free(struct state *s, uint64_t id, struct home_node *n)
{
    struct home_key k = key_of(n);
    table_remove(&s->homes, hash_home(&k), id);
    n->kind = NODE_FREE;
    atomic_signal_fence(memory_order_seq_cst);
    n->sequence++;
    state_slot_free(s, TABLE_HOME, id & ID_INDEX_MASK);
    metric_add(METRIC_NODES, -1);
}

uint64_t state_home(struct state *s, uint16_t space, const struct home_handle *handle, uint64_t ino,
                    uint32_t type, struct home_where where)
{
    check(handle->size_bytes <= HOME_HANDLE_MAX);
    struct home_key k = {space, handle};
    lock_scope(&s->lock);
    uint64_t id = table_find(&s->homes, hash_home(&k), same_home, &k, s);
    if (!id)
        id = home_make(s, &k, ino, type);
    if (!id)
        return 0;
    struct home_node *n = state_home_at(s, id);
    n->lookups++;
    n->tree = where.tree;
    n->place = (uint8_t)where.place;
    return id;
}

uint64_t state_home_find(struct state *s, uint16_t space, const struct home_handle *handle)
{
    struct home_key k = {space, handle};
    lock_scope(&s->lock);
    return table_find(&s->homes, hash_home(&k), same_home, &k, s);
}

bool state_get_home(struct state *s, uint64_t node, struct home_node *ret_copy)
{
    lock_scope(&s->lock);
    const struct home_node *n = state_home_at(s, node);
    if (n)
        *ret_copy = *n;
    return n;
}

void state_home_forget(struct state *s, uint64_t id, uint64_t lookups)
{
    struct home_node *n = state_home_at(s, id);
    if (!n)
        return;
    n->lookups -= lookups < n->lookups ? lookups : n->lookups;
    if (n->lookups == 0 && n->opens == 0) // else its last release comes first
        home_free(s, id, n);
}

int state_update_home(struct state *s, uint64_t node, state_home_update *update, void *context)
{
    lock_scope(&s->lock);
    struct home_node *n = state_home_at(s, node);
    return n ? update(n, context) : -ESTALE;
}

void state_each_open_home(struct state *s, void (*each)(const struct home_node *n, void *context), void *context)
{
    lock_scope(&s->lock);
    for (uint32_t i = 1; i < s->header->high[TABLE_HOME]; i++) {
        const struct home_node *n = state_slot_at(s, TABLE_HOME, i);
        if (n->kind == NODE_HOME && n->opens > 0)
            each(n, context);
    }
}

void state_each_idle_home(struct state *s, state_home_update *each, void *context)
{
    lock_scope(&s->lock);
    for (uint32_t i = 1; i < s->header->high[TABLE_HOME]; i++) {
        struct home_node *n = state_slot_at(s, TABLE_HOME, i);
        if (n->kind == NODE_HOME && n->opens == 0)
            each(n, context);
    }
}

// ---- handles --------------------------------------------------------------------------------

int state_open_home(struct state *s, uint64_t node, uint64_t unique, uint32_t flags,
                    state_home_update *opening, void *context, uint64_t *ret_fh)
{
    lock_scope(&s->lock);
    struct home_node *n = state_home_at(s, node);
    if (!n)
        return -ESTALE;
    uint32_t index = state_slot_take(s, TABLE_HANDLE);
    if (index == 0)
        return -ENFILE;
    struct handle *h = state_slot_at(s, TABLE_HANDLE, index);
    *h = (struct handle){.sequence = h->sequence, .node = node, .unique = unique, .flags = flags};
    int r = opening(n, context);
    if (r < 0) {
        state_slot_free(s, TABLE_HANDLE, index);
        return r;
    }
    h->mode = n->mode;
    n->opens++;
    atomic_signal_fence(memory_order_seq_cst);
    h->kind = HANDLE_HOME;
    metric_add(METRIC_OPEN_FILES, 1);
    *ret_fh = (uint64_t)h->sequence << 32 | index;
    return 0;
}

bool state_close_home(struct state *s, uint64_t fh, struct handle *ret_was, state_home_update *last,
                      void *context)
{
    lock_scope(&s->lock);
    struct handle *h = state_handle_at(s, fh);
    if (!h || h->kind != HANDLE_HOME)
        return false;
    *ret_was = *h;
    metric_add(METRIC_OPEN_FILES, -1);
    struct home_node *n = state_home_at(s, h->node);
    h->kind = HANDLE_FREE;
    atomic_signal_fence(memory_order_seq_cst);
    h->sequence++;
    state_slot_free(s, TABLE_HANDLE, fh & ID_INDEX_MASK);
    if (n && n->opens && --n->opens == 0) {
        last(n, context);
        if (n->lookups == 0) // its FORGET came first
            home_free(s, ret_was->node, n);
    }
    return true;
}
