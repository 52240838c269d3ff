// SPDX-License-Identifier: BSD-3-Clause
// asking: calls of repository.h made to wait, as tests want them: what the file system's parked
// requests do, in one thread.
#pragma once
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>

#include "base/log.h"
#include "meta/repository.h"

struct asking {
    struct waiter waiter; // first
    pthread_mutex_t mutex;
    pthread_cond_t called;
    bool is_called;
    int error;
};

static inline void asking_ready(struct waiter *w, int error)
{
    struct asking *a = (struct asking *)w;
    pthread_mutex_lock(&a->mutex);
    check(!a->is_called); // exactly once
    a->is_called = true;
    a->error = error;
    pthread_cond_signal(&a->called);
    pthread_mutex_unlock(&a->mutex);
}

// Asks and waits. 0: make the call again.
static inline int ask(struct repository *r, struct want *w)
{
    struct asking a = {.waiter.ready = asking_ready,
                       .mutex = PTHREAD_MUTEX_INITIALIZER,
                       .called = PTHREAD_COND_INITIALIZER};
    repository_ask(r, w, &a.waiter);
    want_release(w);
    pthread_mutex_lock(&a.mutex);
    while (!a.is_called)
        pthread_cond_wait(&a.called, &a.mutex);
    pthread_mutex_unlock(&a.mutex);
    return a.error;
}

#define ASKS_MAX 1000 // asking for ever is a bug

// Runs `call`, which may use `want_`, until it doesn't need to ask any more; its answer.
#define asking(repository, call)                                                                   \
    ({                                                                                             \
        int r_ = -EINPROGRESS;                                                                     \
        for (int asks_ = 0; r_ == -EINPROGRESS; asks_++) {                                         \
            struct want want_ = {0};                                                               \
            check(asks_ < ASKS_MAX);                                                               \
            r_ = (call);                                                                           \
            if (r_ == -EINPROGRESS && (r_ = ask((repository), &want_)) == 0)                       \
                r_ = -EINPROGRESS;                                                                 \
        }                                                                                          \
        r_;                                                                                        \
    })

// The place that `path` ("collections/a/b", "" for the root) is, for a request that arrives now.
static inline int place_at(struct repository *r, const char *path, struct place *ret_place)
{
    uint64_t fresh = repository_epoch(r);
    ret_place->snapshot = NULL;
    int e = asking(r, place_root(r, fresh, ret_place, &want_));
    for (const char *at = path; e == 0 && *at;) {
        size_t size = strcspn(at, "/");
        e = asking(r, place_enter(ret_place, ((struct text){at, size}), &want_));
        at += size + (at[size] == '/');
    }
    if (e < 0 && ret_place->snapshot)
        place_release(ret_place);
    return e;
}
