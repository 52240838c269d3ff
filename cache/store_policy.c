// SPDX-License-Identifier: BSD-3-Clause
// store_policy: which object goes when room is needed: S3-FIFO (Yang et al., SOSP 2023), by bytes.
//
//    new ──▶ SMALL (a tenth) ──used again──▶ MAIN ──▶ its oldest: used again? once more round : gone
//                 │ not                        ▲
//                 ▼                            │
//               gone, remembered as a ghost ───┘ comes back while remembered
//
// One pass over everything, however large, moves through SMALL and leaves MAIN as it was. Uses are a
// user's opens; several within a short while (`window_s`) are one, as a program that opens a file
// three times uses it once.
// 1. Pinned entries are in a queue of their own, which nothing is taken from.
// 2. Open entries are passed over: to the newest end of their queue.
// 3. Finding a victim ends: each step lowers a hit, moves an entry from SMALL to MAIN, or passes an
//    open one; when a queue's open ones were all passed in a row, the queue has no victim.
#include <string.h>

#include "base/buffer.h"
#include "base/log.h"
#include "cache/store_index.h"

#define HITS_TO_STAY 1         // in SMALL: used again at least so often
#define GHOSTS_MIN 64
#define GHOSTS_MAX (1u << 20)

// ---- queues

static void put_newest(struct store_index *ix, uint32_t slot, enum store_queue to)
{
    struct store_entry *e = store_index_entry(ix, slot);
    struct store_queue_ends *q = &ix->queues[to];
    e->queue = (uint8_t)to;
    e->newer = 0;
    e->older = q->newest;
    if (q->newest)
        store_index_entry(ix, q->newest)->newer = slot;
    else
        q->oldest = slot;
    q->newest = slot;
    q->count++;
    q->disk_bytes += e->disk_bytes;
    q->blocks += e->block_count;
}

void store_policy_forget(struct store_index *ix, uint32_t slot)
{
    struct store_entry *e = store_index_entry(ix, slot);
    struct store_queue_ends *q = &ix->queues[e->queue];
    if (e->newer)
        store_index_entry(ix, e->newer)->older = e->older;
    else
        q->newest = e->older;
    if (e->older)
        store_index_entry(ix, e->older)->newer = e->newer;
    else
        q->oldest = e->newer;
    q->count--;
    q->disk_bytes -= e->disk_bytes;
    q->blocks -= e->block_count;
}

void store_policy_move(struct store_index *ix, uint32_t slot, enum store_queue to)
{
    store_policy_forget(ix, slot);
    put_newest(ix, slot, to);
}

// ---- ghosts

static uint64_t ghost_of(const uint8_t identity[16])
{
    uint64_t ghost;
    memcpy(&ghost, identity + 8, sizeof(ghost)); // not what the entries' table hashes by
    return ghost;
}

void store_ring_release(struct store_ring *r)
{
    free(r->items);
    table_release(&r->positions);
}

// Positions stand in the table + 1. A ghost that came back leaves a 0 in the ring.
static void drop_oldest_ghost(struct store_ring *r)
{
    uint64_t ghost = r->items[r->first];
    if (ghost)
        table_remove(&r->positions, ghost, r->first + 1);
    r->first = (r->first + 1) & (r->room - 1);
    r->count--;
}

static void grow_ring(struct store_ring *r)
{
    uint32_t room = r->room ? r->room * 2 : GHOSTS_MIN;
    uint64_t *items = memory_new(room * sizeof(*items));
    struct table positions = {0};
    for (uint32_t i = 0; i < r->count; i++) {
        items[i] = r->items[(r->first + i) & (r->room - 1)];
        if (items[i])
            table_add(&positions, items[i], i + 1);
    }
    store_ring_release(r);
    *r = (struct store_ring){items, room, 0, r->count, positions};
}

static void remember(struct store_index *ix, const uint8_t identity[16])
{
    struct store_ring *r = &ix->ghosts;
    uint32_t limit = ix->queues[STORE_QUEUE_MAIN].count;
    limit = limit < GHOSTS_MIN ? GHOSTS_MIN : limit > GHOSTS_MAX ? GHOSTS_MAX : limit;
    while (r->count >= limit)
        drop_oldest_ghost(r);
    uint64_t ghost = ghost_of(identity);
    if (ghost == 0 || table_find(&r->positions, ghost, NULL, NULL, NULL))
        return;
    if (r->count == r->room)
        grow_ring(r);
    uint32_t at = (r->first + r->count++) & (r->room - 1);
    r->items[at] = ghost;
    table_add(&r->positions, ghost, at + 1);
}

static bool recall(struct store_ring *r, const uint8_t identity[16])
{
    uint64_t ghost = ghost_of(identity);
    uint64_t position = ghost ? table_find(&r->positions, ghost, NULL, NULL, NULL) : 0;
    if (position == 0)
        return false;
    table_remove(&r->positions, ghost, position);
    r->items[position - 1] = 0;
    return true;
}

// ---- uses

void store_policy_place(struct store_index *ix, uint32_t slot)
{
    bool was_here = recall(&ix->ghosts, store_index_entry(ix, slot)->identity);
    put_newest(ix, slot, was_here ? STORE_QUEUE_MAIN : STORE_QUEUE_SMALL);
}

bool store_policy_touch(struct store_index *ix, uint32_t slot, uint32_t now_s)
{
    struct store_entry *e = store_index_entry(ix, slot);
    if (now_s >= e->used_s && now_s - e->used_s < ix->window_s)
        return false;
    e->used_s = now_s;
    if (e->hits < STORE_HITS_MAX)
        e->hits++;
    return true;
}

void store_policy_pin(struct store_index *ix, uint32_t slot, bool is_pinned)
{
    struct store_entry *e = store_index_entry(ix, slot);
    if (is_pinned != (e->queue == STORE_QUEUE_PINNED))
        store_policy_move(ix, slot, is_pinned ? STORE_QUEUE_PINNED : STORE_QUEUE_MAIN);
}

// ---- victims

// The oldest of SMALL goes on to MAIN, round again, or is the victim.
static uint32_t step_small(struct store_index *ix, uint32_t slot)
{
    struct store_entry *e = store_index_entry(ix, slot);
    if (e->flags & STORE_ENTRY_OPEN) {
        store_policy_move(ix, slot, STORE_QUEUE_SMALL);
        return 0;
    }
    if (e->hits >= HITS_TO_STAY) {
        e->hits = 0;
        store_policy_move(ix, slot, STORE_QUEUE_MAIN);
        return 0;
    }
    remember(ix, e->identity);
    return slot;
}

static uint32_t step_main(struct store_index *ix, uint32_t slot)
{
    struct store_entry *e = store_index_entry(ix, slot);
    if (!(e->flags & STORE_ENTRY_OPEN) && e->hits == 0)
        return slot;
    if (!(e->flags & STORE_ENTRY_OPEN))
        e->hits--;
    store_policy_move(ix, slot, STORE_QUEUE_MAIN);
    return 0;
}

uint32_t store_policy_victim(struct store_index *ix)
{
    const struct store_queue_ends *small = &ix->queues[STORE_QUEUE_SMALL];
    const struct store_queue_ends *rest = &ix->queues[STORE_QUEUE_MAIN];
    uint32_t passed_small = 0, passed_rest = 0; // open ones in a row
    for (;;) {
        bool has_small = passed_small < small->count, has_rest = passed_rest < rest->count;
        if (!has_small && !has_rest)
            return 0;
        bool is_small = has_small && (small->disk_bytes > ix->small_bytes || !has_rest);
        uint32_t slot = is_small ? small->oldest : rest->oldest;
        uint32_t *passed = is_small ? &passed_small : &passed_rest;
        *passed = store_index_entry(ix, slot)->flags & STORE_ENTRY_OPEN ? *passed + 1 : 0;
        uint32_t victim = is_small ? step_small(ix, slot) : step_main(ix, slot);
        if (victim)
            return victim;
        if (is_small && *passed == 0)
            passed_rest = 0; // MAIN has one more, which can go
    }
}

// ---- after a scan

struct used {
    uint32_t used_s;
    uint32_t slot;
};

static int compare_used(const void *a, const void *b)
{
    const struct used *x = a, *y = b;
    return x->used_s != y->used_s ? (x->used_s > y->used_s) - (x->used_s < y->used_s)
                                  : (x->slot > y->slot) - (x->slot < y->slot);
}

void store_policy_sort(struct store_index *ix)
{
    uint32_t count = ix->queues[STORE_QUEUE_MAIN].count, n = 0;
    if (count == 0)
        return;
    struct used *order = memory_grow(NULL, count, sizeof(*order));
    for (uint32_t slot = ix->queues[STORE_QUEUE_MAIN].oldest; slot && n < count; n++) {
        const struct store_entry *e = store_index_entry(ix, slot);
        order[n] = (struct used){e->used_s, slot};
        slot = e->newer;
    }
    qsort(order, n, sizeof(*order), compare_used);
    for (uint32_t i = 0; i < n; i++)
        store_policy_move(ix, order[i].slot, STORE_QUEUE_MAIN);
    free(order);
}
