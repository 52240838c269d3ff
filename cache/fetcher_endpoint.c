// SPDX-License-Identifier: BSD-3-Clause
// fetcher_endpoint: who waits for which server, who may fly, and on which thread. All under the lock.
// 1. A fetch that is QUEUED is in its endpoint's list of its priority, and `all->queued` counts it.
// 2. flying <= slots: those that have begun and neither ended nor gone to sleep. Background ones are at most half
//    of them, and those that nobody waits for leave an eighth to readers.
// 3. A thread is chosen by its load, the first among equals: few fetches share few connections.
#include "cache/fetcher_internal.h"

#include <errno.h>

#include "base/clock.h"
#include "base/metric.h"
#include "cache/fetcher_url.h"

void fetch_list_append(struct fetch_list *l, struct fetch *f)
{
    f->next = NULL;
    f->previous = l->last;
    *(l->last ? &l->last->next : &l->first) = f;
    l->last = f;
    l->count++;
}

void fetch_list_prepend(struct fetch_list *l, struct fetch *f)
{
    f->previous = NULL;
    f->next = l->first;
    *(l->first ? &l->first->previous : &l->last) = f;
    l->first = f;
    l->count++;
}

void fetch_list_remove(struct fetch_list *l, struct fetch *f)
{
    *(f->previous ? &f->previous->next : &l->first) = f->next;
    *(f->next ? &f->next->previous : &l->last) = f->previous;
    f->next = f->previous = NULL;
    l->count--;
}

// ---- who may fly

static uint32_t endpoint_share(const struct endpoint *e, int priority)
{
    uint32_t slots = e->health.slots;
    if (priority == 0 || slots == 1)
        return slots;
    if (priority == FETCH_PRIORITIES - 1)
        return slots / 2;
    return slots - (slots + 7) / 8;
}

static uint32_t endpoint_flying_behind(const struct endpoint *e, int priority)
{
    uint32_t flying = 0;
    for (int p = priority; p < FETCH_PRIORITIES; p++)
        flying += e->flying_of[p];
    return flying;
}

static struct fetch *endpoint_next(struct endpoint *e)
{
    for (int p = 0; p < FETCH_PRIORITIES; p++) {
        if (e->queued[p].first && endpoint_flying_behind(e, p) < endpoint_share(e, p))
            return e->queued[p].first;
    }
    return NULL;
}

static struct fetcher_thread *thread_of_least_load(struct fetchers *all)
{
    struct fetcher_thread *best = &all->threads[0];
    for (uint32_t i = 1; i < all->options.threads; i++) {
        if (all->threads[i].load < best->load)
            best = &all->threads[i];
    }
    return best;
}

static void endpoint_launch(struct endpoint *e, struct fetch *f)
{
    endpoint_unqueue(f);
    f->is_try = health_began(&e->health);
    f->state = FETCH_FLYING;
    f->has_slot = true;
    f->slot_priority = f->priority;
    e->flying++;
    e->flying_of[f->priority]++;
    metric_add(METRIC_FETCHES_FLYING, 1);
    struct fetcher_thread *t = thread_of_least_load(e->all);
    t->load++;
    f->thread = t->number;
    f->is_new = true;
    thread_tell(f);
}

void endpoint_dispatch(struct endpoint *e)
{
    struct fetch *f;
    while (health_may_begin(&e->health, e->flying, clock_ns()) && (f = endpoint_next(e)))
        endpoint_launch(e, f);
}

int endpoint_queue(struct fetch *f, bool in_front)
{
    struct endpoint *e = f->endpoint;
    if (e->all->is_ending) {
        f->is_cancelled = true;
        thread_end(f);
        return 0;
    }
    uint32_t waiting = 0;
    for (int p = 0; p < FETCH_PRIORITIES; p++)
        waiting += e->queued[p].count;
    if (!in_front && waiting >= e->all->options.waiting)
        return -EBUSY;
    f->state = FETCH_QUEUED;
    f->thread = -1;
    (in_front ? fetch_list_prepend : fetch_list_append)(&e->queued[f->priority], f);
    e->all->queued++;
    metric_add(METRIC_FETCHES_WAITING, 1);
    endpoint_dispatch(e);
    if (f->state == FETCH_QUEUED)
        fetchers_keep_time(e->all);
    return 0;
}

void endpoint_unqueue(struct fetch *f)
{
    fetch_list_remove(&f->endpoint->queued[f->priority], f);
    f->endpoint->all->queued--;
    metric_add(METRIC_FETCHES_WAITING, -1);
}

void endpoint_land(struct fetch *f)
{
    struct endpoint *e = f->endpoint;
    if (!f->has_slot)
        return;
    if (f->is_try)
        health_given_up(&e->health, clock_ns()); // no effect where its fate was told
    f->is_try = false;
    f->has_slot = false;
    e->flying--;
    e->flying_of[f->slot_priority]--;
    metric_add(METRIC_FETCHES_FLYING, -1);
}

bool endpoint_may_race(struct endpoint *e)
{
    return e->health.state == HEALTH_OPEN && e->racing < (e->health.slots + 3) / 4;
}

void endpoint_trouble(struct endpoint *e, const char *why)
{
    free(e->trouble);
    e->trouble = memory_copy(why, strlen(why));
    e->trouble_unix_ns = clock_unix_ns();
}

// ---- the endpoints there are

static bool is_same(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

static struct endpoint *endpoint_find(struct fetchers *all, const char *name,
                                      const struct endpoint_options *options)
{
    for (struct endpoint *e = all->endpoints; e; e = e->next) {
        if (is_same(e->name, name) && is_same(e->ca_bundle, options->ca_bundle) &&
            is_same(e->proxy, options->proxy) && e->is_plain == options->is_plain)
            return e;
    }
    return NULL;
}

static char *copy_or_null(const char *s)
{
    return s ? memory_copy(s, strlen(s)) : NULL;
}

static struct endpoint *endpoint_new(struct fetchers *all, const char *name,
                                     const struct endpoint_options *options)
{
    struct endpoint *e = new_struct(struct endpoint);
    *e = (struct endpoint){
        .all = all,
        .next = all->endpoints,
        .name = memory_copy(name, strlen(name)),
        .ca_bundle = copy_or_null(options->ca_bundle),
        .proxy = copy_or_null(options->proxy),
        .is_plain = options->is_plain,
        .slots = options->connections ? options->connections : all->options.connections,
    };
    health_init(&e->health, e->slots);
    all->endpoints = e;
    all->endpoint_count++;
    return e;
}

int endpoint_get(struct fetchers *all, const char *url, const struct endpoint_options *options,
                 struct endpoint **ret_endpoint)
{
    BUFFER_CLEANUP name = {0};
    if (options->is_plain)
        buffer_append_string(&name, url);
    else if (url_endpoint(text_of(url), &name) < 0)
        return -EINVAL;
    lock_scope(&all->lock);
    struct endpoint *e = endpoint_find(all, name.data, options);
    if (!e) {
        if (all->endpoint_count >= ENDPOINTS_MAX)
            return -EMFILE;
        e = endpoint_new(all, name.data, options);
    }
    *ret_endpoint = e;
    return 0;
}

struct text endpoint_name(const struct endpoint *e)
{
    return text_of(e->name);
}

int64_t endpoint_latency_ns(const struct endpoint *e)
{
    return atomic_load(&e->latency_ns);
}

void endpoints_free(struct fetchers *all)
{
    while (all->endpoints) {
        struct endpoint *e = all->endpoints;
        all->endpoints = e->next;
        free(e->name);
        free(e->ca_bundle);
        free(e->proxy);
        free(e->trouble);
        free(e);
    }
}
