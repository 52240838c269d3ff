// SPDX-License-Identifier: BSD-3-Clause
// store_index: entries in chunks that never move, a table from identity to slot, sums.
// 1. Every used entry is in exactly one queue; a queue's sums are those of its entries.
// 2. Identities are hashes: their first 8 bytes are a table's hash, all 16 are compared.
#include "cache/store_index.h"

#include <string.h>

#include "base/buffer.h"
#include "base/log.h"

#define CHUNK 4096

static uint64_t hash_of(const uint8_t identity[16])
{
    uint64_t hash;
    memcpy(&hash, identity, sizeof(hash));
    return hash;
}

void store_index_init(struct store_index *ix, uint64_t limit_bytes, uint32_t window_s)
{
    *ix = (struct store_index){
        .slot_end = 1,
        .small_bytes = limit_bytes / 10,
        .window_s = window_s,
    };
}

void store_index_release(struct store_index *ix)
{
    for (uint32_t i = 0; i < ix->chunk_count; i++)
        free(ix->chunks[i]);
    free(ix->chunks);
    table_release(&ix->by_identity);
    store_ring_release(&ix->ghosts);
}

struct store_entry *store_index_entry(const struct store_index *ix, uint32_t slot)
{
    check(slot > 0 && slot < ix->slot_end);
    return &ix->chunks[slot / CHUNK][slot % CHUNK];
}

static bool is_of_identity(uint64_t value, const void *key, void *context)
{
    const struct store_entry *e = store_index_entry(context, (uint32_t)value);
    return memcmp(e->identity, key, sizeof(e->identity)) == 0;
}

uint32_t store_index_find(const struct store_index *ix, const uint8_t identity[16])
{
    return (uint32_t)table_find(&ix->by_identity, hash_of(identity), is_of_identity, identity,
                                (void *)(uintptr_t)ix);
}

static uint32_t take_slot(struct store_index *ix)
{
    uint32_t slot = ix->free_slot;
    if (slot) {
        ix->free_slot = store_index_entry(ix, slot)->older;
        return slot;
    }
    slot = ix->slot_end++;
    if (slot / CHUNK == ix->chunk_count) {
        ix->chunks = memory_grow(ix->chunks, ix->chunk_count + 1, sizeof(*ix->chunks));
        ix->chunks[ix->chunk_count++] = memory_new(CHUNK * sizeof(struct store_entry));
    }
    return slot;
}

uint32_t store_index_add(struct store_index *ix, const uint8_t identity[16], uint32_t block_count,
                         uint32_t now_s)
{
    check(store_index_find(ix, identity) == 0);
    uint32_t slot = take_slot(ix);
    struct store_entry *e = store_index_entry(ix, slot);
    *e = (struct store_entry){
        .block_count = block_count,
        .used_s = now_s,
        .flags = STORE_ENTRY_USED,
    };
    memcpy(e->identity, identity, sizeof(e->identity));
    table_add(&ix->by_identity, hash_of(identity), slot);
    ix->count++;
    store_policy_place(ix, slot);
    return slot;
}

void store_index_remove(struct store_index *ix, uint32_t slot)
{
    struct store_entry *e = store_index_entry(ix, slot);
    check(e->flags & STORE_ENTRY_USED);
    store_policy_forget(ix, slot);
    bool is_removed = table_remove(&ix->by_identity, hash_of(e->identity), slot);
    check(is_removed);
    *e = (struct store_entry){.older = ix->free_slot};
    ix->free_slot = slot;
    ix->count--;
}

void store_index_resize(struct store_index *ix, uint32_t slot, uint64_t disk_bytes)
{
    struct store_entry *e = store_index_entry(ix, slot);
    struct store_queue_ends *q = &ix->queues[e->queue];
    q->disk_bytes = q->disk_bytes - e->disk_bytes + disk_bytes;
    e->disk_bytes = disk_bytes;
}

uint64_t store_index_bytes(const struct store_index *ix)
{
    uint64_t sum = 0;
    for (int i = 0; i < STORE_QUEUE_COUNT; i++)
        sum += ix->queues[i].disk_bytes;
    return sum;
}

uint32_t store_index_next(const struct store_index *ix, uint32_t slot)
{
    for (slot = slot ? slot : 1; slot < ix->slot_end; slot++)
        if (store_index_entry(ix, slot)->flags & STORE_ENTRY_USED)
            return slot;
    return 0;
}
