// SPDX-License-Identifier: BSD-3-Clause
// stored: what a handle tells of its version, and pins.
#include "base/buffer.h"
#include "base/clock.h"
#include "base/log.h"
#include "cache/store_state.h"

const struct stored_version *stored_version(const struct stored *s)
{
    return &s->version;
}

enum stored_state stored_state(struct stored *s)
{
    lock_scope(&s->lock);
    return s->state;
}

uint32_t stored_block_count(const struct stored *s)
{
    return s->block_count;
}

uint32_t stored_blocks_present(struct stored *s)
{
    lock_scope(&s->lock);
    return s->present.set;
}

bool stored_has(struct stored *s, uint32_t block)
{
    lock_scope(&s->lock);
    return block < s->block_count && store_bits_get(&s->present, block);
}

static uint32_t next_block(struct stored *s, uint32_t from, uint32_t to, bool is_present)
{
    lock_scope(&s->lock);
    uint32_t end = to < s->block_count ? to : s->block_count;
    uint32_t found = store_bits_next(&s->present, from, end, is_present);
    return found < end ? found : to;
}

uint32_t stored_next_missing(struct stored *s, uint32_t from, uint32_t to)
{
    return next_block(s, from, to, false);
}

uint32_t stored_next_present(struct stored *s, uint32_t from, uint32_t to)
{
    return next_block(s, from, to, true);
}

void stored_touch(struct stored *s)
{
    uint32_t now_s = (uint32_t)(clock_unix_ns() / NS_PER_S);
    struct block_store *b = s->store;
    lock_scope(&b->lock);
    s->is_touched = true;
    if (s->slot)
        store_policy_touch(&b->index, s->slot, now_s);
}

// The header first: a pin that is not on disk would not survive.
int stored_pin(struct stored *s, bool is_pinned)
{
    struct block_store *b = s->store;
    lock_scope(&s->lock);
    if (s->state == STORED_DYING)
        return -ESTALE;
    if (s->is_pinned == is_pinned)
        return 0;
    {
        lock_scope(&b->lock);
        uint64_t blocks = b->index.queues[STORE_QUEUE_PINNED].blocks + s->block_count;
        if (is_pinned && blocks * CACHE_BLOCK_BYTES > b->options.pin_limit_bytes)
            return -EDQUOT;
        store_policy_pin(&b->index, s->slot, is_pinned);
    }
    s->is_pinned = is_pinned;
    int r = stored_write_header(s, s->map_fd);
    if (r < 0) {
        lock_scope(&b->lock);
        s->is_pinned = !is_pinned;
        store_policy_pin(&b->index, s->slot, !is_pinned);
    }
    return r;
}

bool stored_is_pinned(struct stored *s)
{
    lock_scope(&s->lock);
    return s->is_pinned;
}

bool stored_is_wrong(struct stored *s)
{
    lock_scope(&s->lock);
    return s->is_wrong;
}
