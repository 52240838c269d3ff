// SPDX-License-Identifier: BSD-3-Clause
// wait: a request for those who may wait for it.
#include <errno.h>

#include "base/clock.h"
#include "base/lock.h"
#include "cache/origin/origin.h"

struct wait {
    struct origin_request request; // the first: the callbacks' `r` is the wait
    void (*done)(struct origin_request *r, const struct origin_answer *answer);
    struct lock lock;
    pthread_cond_t ended;
    bool is_ended;   // under lock, as the rest
    int error;
    char *why;
};

static void wait_done(struct origin_request *r, const struct origin_answer *a)
{
    struct wait *w = (struct wait *)r;
    if (w->done)
        w->done(r, a);
    lock_scope(&w->lock);
    w->error = a->error;
    w->why = a->why ? memory_copy(a->why, strlen(a->why)) : NULL;
    w->is_ended = true;
    pthread_cond_broadcast(&w->ended);
}

static void wait_for(struct wait *w)
{
    lock_scope(&w->lock);
    while (!w->is_ended)
        condition_wait(&w->ended, &w->lock, INT64_MAX); // the request has a deadline
}

int origin_wait(struct origin *o, struct origin_request *r, char **ret_why)
{
    struct wait w = {.request = *r, .done = r->done};
    w.request.done = wait_done;
    lock_init(&w.lock, LOCK_RANK_LEAF, "origin wait");
    condition_init(&w.ended);
    origin_start(o, &w.request);
    wait_for(&w);
    pthread_cond_destroy(&w.ended);
    lock_release_memory(&w.lock);
    if (w.error && ret_why)
        *ret_why = take(w.why);
    free(w.why);
    return w.error;
}

struct whole {
    struct buffer *to;
    size_t max_bytes;
    size_t got_bytes;
};

static int whole_begin(struct origin_request *r, const struct origin_answer *a)
{
    const struct whole *w = r->context;
    return a->size_bytes > 0 && (uint64_t)a->size_bytes > w->max_bytes ? -EFBIG : 0;
}

static int whole_sink(struct origin_request *r, const void *data, size_t size_bytes)
{
    struct whole *w = r->context;
    if (size_bytes > w->max_bytes - w->got_bytes)
        return -EFBIG;
    w->got_bytes += size_bytes;
    buffer_append(w->to, data, size_bytes);
    return 0;
}

int origin_read_whole(struct origin *o, struct text key, size_t max_bytes, int64_t deadline_ns,
                      struct buffer *to, char **ret_why)
{
    struct whole whole = {.to = to, .max_bytes = max_bytes};
    struct origin_request r = {
        .verb = ORIGIN_GET,
        .key = key,
        .size_bytes = ORIGIN_TO_THE_END,
        .deadline_ns = deadline_ns,
        .begin = whole_begin,
        .sink = whole_sink,
        .context = &whole,
    };
    size_t before = to->size_bytes;
    int error = origin_wait(o, &r, ret_why);
    if (error)
        buffer_truncate(to, before);
    return error;
}
