// SPDX-License-Identifier: BSD-3-Clause
// jobs: the queues and the waiters. Invariants stand in the header.
#include "meta/jobs.h"

#include "base/clock.h"
#include "base/log.h"

static struct job *job_of(uint64_t value)
{
    return (struct job *)(uintptr_t)value;
}

static void queue_push(struct job_queue *q, struct job *j)
{
    j->next = NULL;
    *q->last = j;
    q->last = &j->next;
    q->count++;
}

static struct job *queue_pop(struct job_queue *q)
{
    struct job *j = q->first;
    if (!j)
        return NULL;
    q->first = j->next;
    if (!q->first)
        q->last = &q->first;
    q->count--;
    return j;
}

struct idle_taker {
    struct idle_taker *next;
    pthread_cond_t woken;
    bool is_woken;
};

static void wake_one(struct jobs *all)
{
    struct idle_taker *t = all->idle;
    if (!t)
        return; // who is at work looks before it waits
    all->idle = t->next;
    t->is_woken = true;
    pthread_cond_signal(&t->woken);
}

static void wait_for_job(struct jobs *all)
{
    struct idle_taker own = {.next = all->idle};
    condition_init(&own.woken);
    all->idle = &own;
    while (!own.is_woken)
        condition_wait(&own.woken, all->lock, INT64_MAX);
    pthread_cond_destroy(&own.woken);
}

void jobs_init(struct jobs *all, struct lock *lock, void (*free)(struct job *j))
{
    *all = (struct jobs){.lock = lock, .free = free, .long_max = 1, .slow_max = 1};
    all->short_jobs.last = &all->short_jobs.first;
    all->long_jobs.last = &all->long_jobs.first;
    all->slow_jobs.last = &all->slow_jobs.first;
}

void jobs_release(struct jobs *all)
{
    check(all->by_hash.count == 0 && !all->idle);
    table_release(&all->by_hash);
}

struct job *jobs_find(const struct jobs *all, uint64_t hash, table_same *same, const void *want)
{
    return job_of(table_find(&all->by_hash, hash, same, want, NULL));
}

// A long one, or a slow one.
static bool may_take(const struct jobs *all, bool is_slow)
{
    return all->long_running < all->long_max && (!is_slow || all->slow_running < all->slow_max);
}

void jobs_add(struct jobs *all, struct job *j)
{
    check(lock_is_held(all->lock));
    table_add(&all->by_hash, j->hash, (uint64_t)(uintptr_t)j);
    queue_push(j->is_slow ? &all->slow_jobs : j->is_long ? &all->long_jobs : &all->short_jobs, j);
    if (!j->is_long || may_take(all, j->is_slow))
        wake_one(all);
}

void jobs_wait(struct job *j, struct waiter *w)
{
    w->job = j;
    w->next = j->first;
    j->first = w;
}

bool jobs_cancel(struct jobs *all, struct waiter *waiter)
{
    lock_scope(all->lock);
    struct job *j = waiter->job;
    if (!j)
        return false;
    struct waiter **at = &j->first;
    while (*at != waiter)
        at = &(*at)->next;
    *at = waiter->next;
    waiter->job = NULL;
    return true;
}

// Takes those out whose patience is over.
static struct waiter *take_impatient(struct jobs *all)
{
    struct waiter *out = NULL;
    int64_t now = clock_ns();
    size_t position = 0;
    lock_scope(all->lock);
    for (uint64_t value; (value = table_next(&all->by_hash, &position));) {
        struct waiter **at = &job_of(value)->first;
        while (*at) {
            struct waiter *w = *at;
            bool is_over = w->patience_ns && w->patience_ns <= now;
            if (!is_over) {
                at = &w->next;
                continue;
            }
            *at = w->next;
            w->job = NULL;
            w->next = out;
            out = w;
        }
    }
    return out;
}

// As long as it isn't called a waiter stays: who would cancel it is told that it is.
static void call_all(struct waiter *first, int error)
{
    for (struct waiter *w = first, *next; w; w = next) {
        next = w->next; // the waiter may be gone once it was called
        w->ready(w, error);
    }
}

void jobs_hurry(struct jobs *all)
{
    call_all(take_impatient(all), -EAGAIN);
}

static void job_forget(struct jobs *all, const struct job *j)
{
    check(lock_is_held(all->lock));
    check(table_remove(&all->by_hash, j->hash, (uint64_t)(uintptr_t)j));
}

struct job *jobs_take(struct jobs *all)
{
    lock_scope(all->lock);
    while (!all->is_closing) {
        struct job *j = queue_pop(&all->short_jobs);
        if (!j && may_take(all, false))
            j = queue_pop(&all->long_jobs);
        if (!j && may_take(all, true))
            j = queue_pop(&all->slow_jobs);
        if (j && !j->first && !j->is_own) {
            job_forget(all, j);
            all->free(j);
        } else if (j) {
            j->is_running = true;
            all->long_running += j->is_long;
            all->slow_running += j->is_slow;
            return j;
        } else {
            wait_for_job(all);
        }
    }
    return NULL;
}

void jobs_end(struct jobs *all, struct job *j, int error)
{
    struct waiter *w;
    {
        lock_scope(all->lock);
        job_forget(all, j);
        if (j->is_long && j->is_running) {
            all->long_running--;
            all->slow_running -= j->is_slow;
            if (all->long_jobs.first || all->slow_jobs.first)
                wake_one(all);
        }
        for (w = j->first; w; w = w->next)
            w->job = NULL;
        w = j->first;
    }
    call_all(w, error);
    all->free(j);
}

void jobs_close(struct jobs *all)
{
    check(lock_is_held(all->lock));
    all->is_closing = true;
    while (all->idle)
        wake_one(all);
}

void jobs_end_all(struct jobs *all, int error)
{
    for (struct job *j; (j = queue_pop(&all->short_jobs)) || (j = queue_pop(&all->long_jobs)) ||
                        (j = queue_pop(&all->slow_jobs));)
        jobs_end(all, j, error);
}
