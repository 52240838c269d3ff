// SPDX-License-Identifier: BSD-3-Clause
// storing.c
// 1. Runs are written one after the other, in the order in which they came: those of a flight in the order of its blocks.
// 2. What waits is bounded, as it can't be evicted from memory.
// 3. The thread waits for the disk only: never for who fetches, who may be waiting for it.
// 4. A disk that hangs costs who fetches a second, once: it is stuck until the next run was written.
#include "cache/storing.h"

#include <errno.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/queue.h"
#include "cache/flight_data.h"

#define STUCK_AFTER_NS NS_PER_S

struct storing {
    struct lock lock;
    uint32_t limit; // blocks
    pthread_t thread;
    // under lock
    STAILQ_HEAD(, storing_run) runs;
    uint32_t waiting;  // blocks
    uint32_t gathered; // blocks, in runs that weren't given yet
    uint64_t written;  // runs
    bool is_stuck;
    bool is_closing;
    pthread_cond_t given;
    pthread_cond_t taken;
};

static struct storing_run *storing_take(struct storing *s)
{
    lock_scope(&s->lock);
    struct storing_run *run;
    while (!(run = STAILQ_FIRST(&s->runs)) && !s->is_closing)
        condition_wait(&s->given, &s->lock, INT64_MAX);
    if (run)
        STAILQ_REMOVE_HEAD(&s->runs, link);
    return run;
}

static void storing_written(struct storing *s, uint32_t blocks)
{
    lock_scope(&s->lock);
    s->waiting -= blocks;
    s->is_stuck = false;
    s->written++;
    pthread_cond_broadcast(&s->taken);
}

static void *storing_thread(void *argument)
{
    struct storing *s = argument;
    struct storing_run *run;
    while ((run = storing_take(s))) {
        uint32_t blocks = run->count;
        flight_store_run(run);
        free(run);
        storing_written(s, blocks);
    }
    return NULL;
}

static bool is_full_for(const struct storing *s, const struct storing_run *run)
{
    return s->waiting && s->waiting + run->count > s->limit;
}

bool storing_put(struct storing *s, struct storing_run *run)
{
    lock_scope(&s->lock);
    s->gathered -= run->count;
    while (is_full_for(s, run) && !s->is_stuck) {
        uint64_t written = s->written;
        bool is_late = condition_wait(&s->taken, &s->lock, clock_ns() + STUCK_AFTER_NS) == -ETIMEDOUT;
        s->is_stuck = is_late && s->written == written;
    }
    if (is_full_for(s, run))
        return false;
    s->waiting += run->count;
    STAILQ_INSERT_TAIL(&s->runs, run, link);
    pthread_cond_signal(&s->given);
    return true;
}

bool storing_gathered(struct storing *s)
{
    lock_scope(&s->lock);
    return ++s->gathered + s->waiting > s->limit;
}

struct storing *storing_new(uint64_t limit_bytes)
{
    struct storing *s = new_struct(struct storing);
    s->limit = (uint32_t)(limit_bytes / CACHE_BLOCK_BYTES);
    lock_init(&s->lock, LOCK_RANK_LEAF, "storing");
    condition_init(&s->given);
    condition_init(&s->taken);
    STAILQ_INIT(&s->runs);
    if (thread_start(&s->thread, "store-writer", storing_thread, s) < 0)
        log_check_failed("the thread that writes to the disk can't be started", __FILE__, __LINE__);
    return s;
}

void storing_free(struct storing *s)
{
    if (!s)
        return;
    lock_acquire(&s->lock);
    check(STAILQ_EMPTY(&s->runs));
    s->is_closing = true;
    pthread_cond_signal(&s->given);
    lock_release(&s->lock);
    pthread_join(s->thread, NULL);
    pthread_cond_destroy(&s->given);
    pthread_cond_destroy(&s->taken);
    lock_release_memory(&s->lock);
    free(s);
}
