// SPDX-License-Identifier: BSD-3-Clause
// lock: mutexes that know their place.
// 1. Without NDEBUG each thread keeps the list of locks it holds; a lock is only taken when its
//    rank is above that of each of them (equal is an error too: two of a class have no order).
// 2. Locks may be released in any order.
// 3. A failing pthread call is a programming error: with locks that are initialised and owned there
//    is nothing else that it could be.
#include "base/lock.h"

#include <errno.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"

#ifndef NDEBUG
#define LOCK_HELD_MAX 16 // more than there are ranks

static _Thread_local struct {
    const struct lock *locks[LOCK_HELD_MAX];
    int count;
} lock_held;

static void lock_note_acquire(const struct lock *l)
{
    for (int i = 0; i < lock_held.count; i++) {
        const struct lock *held = lock_held.locks[i];
        if (held->rank >= l->rank) {
            log_error("lock %s (rank %d) wanted while %s (rank %d) is held", l->name, l->rank,
                      held->name, held->rank);
            check(held->rank < l->rank);
        }
    }
    check(lock_held.count < LOCK_HELD_MAX);
    lock_held.locks[lock_held.count++] = l;
}

static void lock_note_release(const struct lock *l)
{
    int i = lock_held.count - 1;
    while (i >= 0 && lock_held.locks[i] != l)
        i--;
    check(i >= 0); // released by a thread that doesn't hold it
    lock_held.count--;
    for (; i < lock_held.count; i++)
        lock_held.locks[i] = lock_held.locks[i + 1];
}

bool lock_is_held(const struct lock *l)
{
    for (int i = 0; i < lock_held.count; i++)
        if (lock_held.locks[i] == l)
            return true;
    return false;
}
#else
static void lock_note_acquire(const struct lock *l)
{
    (void)l;
}

static void lock_note_release(const struct lock *l)
{
    (void)l;
}

bool lock_is_held(const struct lock *l)
{
    (void)l;
    return true;
}
#endif

void lock_init(struct lock *l, enum lock_rank rank, const char *name)
{
    check(rank > LOCK_RANK_NONE && rank <= LOCK_RANK_LEAF);
    l->rank = rank;
    l->name = name;
    int error = pthread_mutex_init(&l->mutex, NULL);
    check(error == 0);
}

void lock_release_memory(struct lock *l)
{
    int error = pthread_mutex_destroy(&l->mutex);
    check(error == 0); // EBUSY: somebody holds it
    l->rank = LOCK_RANK_NONE;
}

void lock_acquire(struct lock *l)
{
    lock_note_acquire(l); // before waiting: a wrong order is told even where it happens to pass
    int error = pthread_mutex_lock(&l->mutex);
    check(error == 0);
}

void lock_release(struct lock *l)
{
    lock_note_release(l);
    int error = pthread_mutex_unlock(&l->mutex);
    check(error == 0);
}

void condition_init(pthread_cond_t *c)
{
    pthread_condattr_t attributes;
    int error = pthread_condattr_init(&attributes);
    check(error == 0);
    error = pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    check(error == 0);
    error = pthread_cond_init(c, &attributes);
    check(error == 0);
    pthread_condattr_destroy(&attributes);
}

int condition_wait(pthread_cond_t *c, struct lock *l, int64_t deadline_ns)
{
    check(lock_is_held(l));
    int error;
    if (deadline_ns == INT64_MAX) {
        error = pthread_cond_wait(c, &l->mutex);
    } else {
        int64_t deadline = deadline_ns > 0 ? deadline_ns : 0;
        struct timespec until = {.tv_sec = deadline / NS_PER_S, .tv_nsec = deadline % NS_PER_S};
        error = pthread_cond_timedwait(c, &l->mutex, &until);
    }
    check(error == 0 || error == ETIMEDOUT);
    return -error;
}
