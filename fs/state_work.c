// SPDX-License-Identifier: BSD-3-Clause
// state_work.c: which requests are in work, and which were at crashes (state.h). What is in work is written
// without a lock: each thread, and each request that waits, has a slot of its own.
#include "fs/state_internal.h"

#include "base/log.h"

// 1 + index; 0: none yet. Changes have slots of their own, as many as there may be workers, who alone make them: what two
// threads wrote into one would be taken for what the other did.
static _Thread_local uint32_t work_slot, change_slot;

static uint32_t slot_of_thread(struct state *s)
{
    if (work_slot == 0)
        work_slot = 1 + atomic_fetch_add(&s->threads, 1) % STATE_THREADS_MAX;
    return work_slot - 1;
}

static struct change *change_of_thread(struct state *s)
{
    if (change_slot == 0)
        change_slot = 1 + atomic_fetch_add(&s->changers, 1);
    check(change_slot <= STATE_THREADS_MAX);
    return &s->header->changes[change_slot - 1];
}

static _Atomic uint64_t *work_of_thread(struct state *s)
{
    return &s->header->work[slot_of_thread(s)];
}

void state_work_begin(struct state *s, uint64_t unique)
{
    atomic_store_explicit(work_of_thread(s), unique, memory_order_relaxed);
}

void state_work_end(struct state *s)
{
    atomic_store_explicit(work_of_thread(s), 0, memory_order_relaxed);
}

uint32_t state_wait_begin(struct state *s, uint64_t unique)
{
    _Atomic uint64_t *waits = s->header->work + STATE_THREADS_MAX;
    uint32_t start = (uint32_t)(unique / 2); // the kernel's numbers are even
    for (uint32_t i = 0; i < STATE_WAITS_MAX; i++) {
        uint64_t free_slot = 0;
        uint32_t slot = (start + i) % STATE_WAITS_MAX;
        if (atomic_compare_exchange_strong(&waits[slot], &free_slot, unique))
            return slot;
    }
    return STATE_WAITS_MAX;
}

void state_wait_end(struct state *s, uint32_t slot)
{
    if (slot < STATE_WAITS_MAX)
        atomic_store(&s->header->work[STATE_THREADS_MAX + slot], 0);
}

static void suspect_add(struct state_header *h, uint64_t unique)
{
    struct suspect *oldest = &h->suspects[0];
    for (int i = 0; i < WORK_SLOTS; i++) {
        if (h->suspects[i].unique == unique) {
            h->suspects[i].deaths++;
            return;
        }
        if (h->suspects[i].unique < oldest->unique)
            oldest = &h->suspects[i];
    }
    *oldest = (struct suspect){.unique = unique, .deaths = 1};
}

void state_suspect(struct state *s, bool was_crash)
{
    _Atomic uint64_t *work = s->header->work;
    for (int i = 0; i < WORK_SLOTS; i++) {
        uint64_t unique = atomic_exchange(&work[i], 0);
        if (!unique || !was_crash)
            continue;
        suspect_add(s->header, unique);
        for (int j = i + 1; j < WORK_SLOTS; j++) // it may have waited and been run again: one death
            atomic_compare_exchange_strong(&work[j], &(uint64_t){unique}, 0);
    }
}

uint32_t state_deaths(const struct state *s, uint64_t unique)
{
    for (int i = 0; i < WORK_SLOTS; i++)
        if (s->header->suspects[i].unique == unique)
            return s->header->suspects[i].deaths;
    return 0;
}

// ---- changes --------------------------------------------------------------------------------

// The order of the stores is what a kill leaves behind (state_map.c's invariant 1): `unique` is 0 while the
// rest of a slot is not its own.
void state_change_begin(struct state *s, uint64_t unique, uint64_t detail)
{
    struct change *c = change_of_thread(s);
    c->unique = 0;
    atomic_signal_fence(memory_order_seq_cst);
    c->detail = detail;
    c->node = 0;
    c->result = 0;
    c->phase = CHANGE_BEGUN;
    atomic_signal_fence(memory_order_seq_cst);
    c->unique = unique;
}

void state_change_end(struct state *s, int result, uint64_t node)
{
    struct change *c = change_of_thread(s);
    c->node = node;
    c->result = result;
    atomic_signal_fence(memory_order_seq_cst);
    c->phase = CHANGE_DONE;
}

// Into the place of an older word on the same request, a free one, or the oldest's.
static void change_keep(struct state_header *h, const struct change *c)
{
    struct change *to = &h->left[0];
    for (int i = 0; i < CHANGES_LEFT_MAX; i++) {
        if (h->left[i].unique == c->unique) {
            to = &h->left[i];
            break;
        }
        if (h->left[i].unique < to->unique)
            to = &h->left[i];
    }
    uint64_t unique = c->unique;
    to->unique = 0;
    atomic_signal_fence(memory_order_seq_cst);
    *to = (struct change){.detail = c->detail, .node = c->node, .result = c->result, .phase = c->phase};
    atomic_signal_fence(memory_order_seq_cst);
    to->unique = unique;
}

void state_changes_keep(struct state *s)
{
    for (int i = 0; i < STATE_THREADS_MAX; i++) {
        struct change *c = &s->header->changes[i];
        if (c->unique)
            change_keep(s->header, c);
        c->unique = 0;
    }
}

enum change_phase state_change_find(const struct state *s, uint64_t unique, struct change *ret_change)
{
    for (int i = 0; i < CHANGES_LEFT_MAX; i++) {
        const struct change *c = &s->header->left[i];
        if (c->unique != unique || c->phase > CHANGE_DONE)
            continue;
        *ret_change = *c;
        return (enum change_phase)c->phase;
    }
    return CHANGE_NONE;
}
