// SPDX-License-Identifier: BSD-3-Clause
// fetcher: the door: what others may ask of the fetchers, from any thread.
// 1. Nobody's callback is called here: what is to be done is told to a thread.
// 2. `fetches` counts those that were started and whose `done` has not returned, and those who hold; when it is 0
//    nobody looks at any fetch or endpoint.
#include "cache/fetcher_internal.h"

#include <errno.h>
#include <stdarg.h>

#include "base/clock.h"
#include "base/log.h"

// ---- making and ending all of it

static void fetchers_end_threads(struct fetchers *all)
{
    for (uint32_t i = 0; i < all->options.threads; i++)
        thread_close(&all->threads[i]);
}

int fetchers_new(const struct fetchers_options *options, struct fetchers **ret_fetchers)
{
    check(options->threads >= 1 && options->threads <= FETCHER_THREADS_MAX);
    check(options->connections >= 1 && options->waiting >= 1);
    struct fetchers *all = new_struct(struct fetchers);
    all->options = *options;
    lock_init(&all->lock, LOCK_RANK_FETCHERS, "fetchers");
    condition_init(&all->emptied);
    int error = 0;
    for (uint32_t i = 0; i < options->threads && !error; i++)
        error = thread_open(&all->threads[i], all, (int32_t)i);
    if (error) {
        fetchers_free(all);
        return error;
    }
    *ret_fetchers = all;
    return 0;
}

static void cancel_list(struct fetch_list *l)
{
    while (l->first)
        fetch_cancel_held(l->first);
}

// What flies its thread cancels.
static void fetchers_cancel_all(struct fetchers *all)
{
    lock_scope(&all->lock);
    all->is_ending = true;
    for (struct endpoint *e = all->endpoints; e; e = e->next) {
        for (int p = 0; p < FETCH_PRIORITIES; p++)
            cancel_list(&e->queued[p]);
    }
    cancel_list(&all->parked);
    for (uint32_t i = 0; i < all->options.threads; i++)
        thread_cancel_all(&all->threads[i]);
    while (all->fetches > 0)
        condition_wait(&all->emptied, &all->lock, INT64_MAX);
}

void fetchers_free(struct fetchers *all)
{
    if (!all)
        return;
    fetchers_cancel_all(all);
    fetchers_end_threads(all);
    endpoints_free(all);
    pthread_cond_destroy(&all->emptied);
    lock_release_memory(&all->lock);
    free(all);
}

void fetchers_hold(struct fetchers *all)
{
    lock_scope(&all->lock);
    all->fetches++;
}

void fetchers_let_go(struct fetchers *all)
{
    lock_scope(&all->lock);
    if (--all->fetches == 0)
        pthread_cond_broadcast(&all->emptied);
}

// ---- one fetch

void fetch_start(struct fetch *f)
{
    struct fetchers *all = f->endpoint->all;
    f->all = all;
    f->error = 0;
    f->elsewhere = NULL;
    buffer_clear(&f->why);
    f->is_unanswered = true;
    f->is_cancelled = f->is_woken = f->is_new = f->is_ended = f->is_in_inbox = f->is_given_up = false;
    f->has_slot = f->is_try = f->is_owned = f->is_later = false;
    f->failures = f->answers = f->detours = 0;
    f->transfers[0] = f->transfers[1] = NULL;
    lock_scope(&all->lock);
    all->fetches++;
    if (endpoint_queue(f, false) == -EBUSY) {
        fetch_fail(f, -EBUSY, "%s: too many requests wait already", f->endpoint->name);
        thread_end(f);
    }
}

void fetch_cancel_held(struct fetch *f)
{
    f->is_cancelled = true;
    switch (f->state) {
    case FETCH_QUEUED:
        endpoint_unqueue(f);
        thread_end(f);
        break;
    case FETCH_AWAITING:
    case FETCH_SLEEPING:
        fetch_list_remove(&f->all->parked, f);
        thread_end(f);
        break;
    case FETCH_FLYING:
        thread_tell(f);
        break;
    case FETCH_IDLE:
    case FETCH_DONE:
        break;
    }
}

void fetch_cancel(struct fetch *f)
{
    lock_scope(&f->all->lock);
    fetch_cancel_held(f);
}

void fetch_give_up(struct fetch *f)
{
    lock_scope(&f->all->lock);
    if (f->state == FETCH_FLYING)
        f->is_given_up = true;
    else
        fetch_cancel_held(f);
}

void fetch_raise(struct fetch *f, uint8_t priority)
{
    check(priority < FETCH_PRIORITIES);
    lock_scope(&f->all->lock);
    if (f->priority == priority)
        return;
    if (f->state != FETCH_QUEUED) {
        f->priority = priority; // for when it is queued again
        return;
    }
    endpoint_unqueue(f);
    f->priority = priority;
    endpoint_queue(f, true);
}

void fetch_wake(struct fetch *f)
{
    struct fetchers *all = f->all;
    lock_scope(&all->lock);
    switch (f->state) {
    case FETCH_AWAITING:
        fetch_list_remove(&all->parked, f);
        endpoint_queue(f, true);
        break;
    case FETCH_FLYING:
        f->is_woken = true;
        thread_tell(f);
        break;
    default:
        break;
    }
}

void fetch_release(struct fetch *f)
{
    buffer_release(&f->why);
}

void fetch_fail(struct fetch *f, int error, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    buffer_clear(&f->why);
    buffer_vformat(&f->why, format, args);
    va_end(args);
    f->error = error;
}

// ---- status

static const char *health_name(enum health_state state)
{
    switch (state) {
    case HEALTH_OPEN:
        return "open";
    case HEALTH_CLOSED:
        return "closed";
    case HEALTH_TRYING:
        return "trying";
    }
    return "";
}

static struct doc *endpoint_status(const struct endpoint *e)
{
    struct doc *map = doc_new(DOC_MAP);
    doc_put_text(map, "endpoint", e->name);
    doc_put_text(map, "state", health_name(e->health.state));
    doc_put_integer(map, "connections", e->health.slots);
    doc_put_integer(map, "connections_limit", e->slots);
    doc_put_integer(map, "flying", e->flying);
    int64_t waiting = 0;
    for (int p = 0; p < FETCH_PRIORITIES; p++)
        waiting += e->queued[p].count;
    doc_put_integer(map, "waiting", waiting);
    doc_put_integer(map, "waiting_limit", e->all->options.waiting);
    doc_put_integer(map, "answered", (int64_t)e->answered);
    doc_put_integer(map, "failed", (int64_t)e->failed);
    if (e->trouble) {
        char when[CLOCK_ISO_BYTES];
        clock_format_iso(e->trouble_unix_ns, when);
        doc_put_text(map, "trouble", e->trouble);
        doc_put_text(map, "trouble_at", when);
    }
    return map;
}

void fetchers_status(struct fetchers *all, struct doc *map)
{
    struct doc *endpoints = doc_new(DOC_LIST);
    lock_scope(&all->lock);
    for (struct endpoint *e = all->endpoints; e; e = e->next)
        doc_append(endpoints, endpoint_status(e));
    doc_put_integer(map, "threads", all->options.threads);
    doc_put_integer(map, "requests", all->fetches);
    doc_put_integer(map, "asleep", all->parked.count);
    doc_put(map, "endpoints", endpoints);
}
