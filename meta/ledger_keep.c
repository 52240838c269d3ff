// SPDX-License-Identifier: BSD-3-Clause
// ledger_keep: the keeper's thread: writes usage down every `checkpoint`, takes marks away from owners that are idle,
// counts again what is to be counted.
//
//     owner:  idle (no mark) ─ first change: mark on the disk ─▶ marked ─▶ written down, and again, while it changes
//                ▲                                                  │
//                └── idle_ns without a change, the files synced, written down without the mark
//
// 1. A mark is taken away in the map first, then in the store, both under `writer`: who changes the owner between
//    waits for `writer` and marks it again. A death between leaves a mark too many.
// 2. What stands in the store without a mark is what is on the disk: files are synced between the last change and that, and
//    none of it is without a name: who has that open may be gone without a word (an aborted mount).
#include <errno.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/metric.h"
#include "base/queue.h"
#include "meta/ledger_local.h"

#define COUNT_AGAIN_NS (60 * NS_PER_S) // after a count that failed

void local_wake_keeper(struct ledger_local *l)
{
    check(lock_is_held(&l->lock));
    l->is_woken = true;
    pthread_cond_signal(&l->wake);
}

static struct ledger_checkpoint checkpoint_of(const struct map_entry *e)
{
    return (struct ledger_checkpoint){(enum ledger_kind)(e->kind - 1), e->id, e->sums.used_bytes, e->sums.used_files,
                                      {e->over_unix_ns[0], e->over_unix_ns[1]},
                                      e->flags & (ENTRY_MARKED | ENTRY_RECOUNT)};
}

static void append(struct buffer *b, const struct map_entry *e)
{
    struct ledger_checkpoint c = checkpoint_of(e);
    buffer_append(b, &c, sizeof(c));
}

static int write_down(struct ledger_local *l, const struct buffer *b)
{
    if (!l->store)
        return 0;
    return ledger_store_write(l->store, (const void *)b->data, b->size_bytes / sizeof(struct ledger_checkpoint));
}

// ---- idle owners -------------------------------------------------------------------------------------------

struct idle {
    struct ledger_id id;
    uint32_t changed_tick;
};

// An owner of a change in work isn't idle, however long that takes.
static void touch_busy(struct ledger_local *l)
{
    for (uint32_t i = 0; i < l->map.slot_count; i++) {
        const struct map_slot *s = &l->map.slots[i];
        for (int kind = 0; s->state == SLOT_BUSY && kind < LEDGER_KINDS; kind++) {
            struct map_entry *a = map_find(&l->map, (enum ledger_kind)kind, ledger_id_of(&s->before.owner, kind));
            struct map_entry *b = map_find(&l->map, (enum ledger_kind)kind, ledger_id_of(&s->after.owner, kind));
            if (a)
                a->changed_tick = l->tick;
            if (b)
                b->changed_tick = l->tick;
        }
    }
}

static bool is_idle(const struct ledger_local *l, const struct map_entry *e)
{
    uint32_t idle_ticks = (uint32_t)(l->options.idle_ns / l->options.checkpoint_ns) + 1;
    return e->kind && (e->flags & (ENTRY_MARKED | ENTRY_RECOUNT)) == ENTRY_MARKED && e->sums.orphan_files == 0 &&
           l->tick - e->changed_tick >= idle_ticks;
}

static void find_idle(struct ledger_local *l, struct buffer *ret_idle)
{
    lock_scope(&l->lock);
    if (l->is_uncounted)
        return;
    touch_busy(l);
    for (uint32_t i = 0; i < l->map.entry_room; i++) {
        const struct map_entry *e = &l->map.entries[i];
        if (is_idle(l, e))
            buffer_append(ret_idle, &(struct idle){{(enum ledger_kind)(e->kind - 1), e->id}, e->changed_tick},
                          sizeof(struct idle));
    }
}

// Invariants 1 and 2.
static int release_idle(struct ledger_local *l)
{
    BUFFER_CLEANUP idle = {0}, all = {0};
    find_idle(l, &idle);
    if (idle.size_bytes == 0)
        return 0;
    int r = l->options.sync ? l->options.sync(l->options.context) : 0;
    if (r < 0)
        return r;
    pthread_mutex_lock(&l->writer);
    lock_acquire(&l->lock);
    for (size_t i = 0; i < idle.size_bytes / sizeof(struct idle); i++) {
        const struct idle *was = &((struct idle *)idle.data)[i];
        struct map_entry *e = map_find(&l->map, was->id.kind, was->id.id);
        if (!e || e->changed_tick != was->changed_tick || !is_idle(l, e))
            continue;
        e->flags &= ~(uint32_t)ENTRY_MARKED;
        e->written_tick = l->tick;
        append(&all, e);
    }
    lock_release(&l->lock);
    r = write_down(l, &all);
    pthread_mutex_unlock(&l->writer);
    return r;
}

// ---- checkpoints -------------------------------------------------------------------------------------------

static void append_changed(struct ledger_local *l, bool is_last, struct buffer *all)
{
    lock_scope(&l->lock);
    l->tick++;
    for (uint32_t i = 0; i < l->map.entry_room; i++) {
        struct map_entry *e = &l->map.entries[i];
        if (!e->kind || (!is_last && !l->marks_are_lost && e->written_tick > e->changed_tick))
            continue;
        if (is_last && e->sums.orphan_files == 0)
            e->flags &= ~(uint32_t)ENTRY_MARKED;
        e->written_tick = l->tick;
        append(all, e);
    }
    l->marks_are_lost = false;
}

int keeper_checkpoint(struct ledger_local *l, bool is_last)
{
    BUFFER_CLEANUP all = {0};
    pthread_mutex_lock(&l->writer);
    append_changed(l, is_last, &all);
    int r = write_down(l, &all);
    if (r < 0) {
        lock_scope(&l->lock);
        l->marks_are_lost = true;
    }
    pthread_mutex_unlock(&l->writer);
    metric_add(METRIC_LEDGER_CHECKPOINTS, 1);
    return r;
}

// ---- the thread --------------------------------------------------------------------------------------------

static bool wants_count(struct ledger_local *l, bool *ret_all)
{
    lock_scope(&l->lock);
    *ret_all = l->is_uncounted;
    if (!l->options.walk || clock_ns() < l->next_count_ns)
        return false;
    for (uint32_t i = 0; !l->is_uncounted && i < l->map.entry_room; i++)
        if (l->map.entries[i].kind && l->map.entries[i].flags & ENTRY_RECOUNT)
            return true;
    return l->is_uncounted;
}

static void count_if_wanted(struct ledger_local *l)
{
    bool all;
    if (!wants_count(l, &all))
        return;
    int64_t begin_ns = clock_ns();
    int r = count_run(l, all ? COUNT_ALL : COUNT_FLAGGED, NULL, NULL);
    if (r == -EBUSY || r == -ECANCELED)
        return;
    if (r == -EAGAIN) { // a tree came or went meanwhile
        lock_scope(&l->lock);
        local_wake_keeper(l);
        return;
    }
    if (r < 0) {
        log_error("quota: usage can't be counted: %s; tried again in a minute", strerror(-r));
        lock_scope(&l->lock);
        l->next_count_ns = clock_ns() + COUNT_AGAIN_NS;
        return;
    }
    metric_add(METRIC_LEDGER_RECOUNTS, 1);
    log_info("quota: usage counted again in %.1f s", (double)(clock_ns() - begin_ns) / NS_PER_S);
}

// false: the ledger is being closed.
static bool wait(struct ledger_local *l, int64_t until_ns)
{
    lock_scope(&l->lock);
    while (!l->is_closing && !l->is_woken && condition_wait(&l->wake, &l->lock, until_ns) == 0)
        continue;
    l->is_woken = false;
    return !l->is_closing;
}

static void *keep(void *argument)
{
    struct ledger_local *l = argument;
    int64_t next_ns = 0;
    int last = 0;
    do {
        count_if_wanted(l);
        if (clock_ns() < next_ns)
            continue;
        int r = keeper_checkpoint(l, false);
        if (r == 0)
            r = release_idle(l);
        if (r < 0 && r != last)
            log_error("quota: the ledger can't be written: %s", strerror(-r));
        last = r;
        next_ns = clock_ns() + l->options.checkpoint_ns;
    } while (wait(l, next_ns));
    return NULL;
}

int keeper_start(struct ledger_local *l)
{
    int r = thread_start(&l->keeper, "keeper/ledger", keep, l);
    l->has_keeper = r == 0;
    return r;
}

void keeper_stop(struct ledger_local *l)
{
    if (!l->has_keeper)
        return;
    lock_acquire(&l->lock);
    l->is_closing = true;
    count_cancel(l);
    pthread_cond_signal(&l->wake);
    lock_release(&l->lock);
    pthread_join(l->keeper, NULL);
    l->has_keeper = false;
}
