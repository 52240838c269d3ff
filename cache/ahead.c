// SPDX-License-Identifier: BSD-3-Clause
// ahead.c
// 1. What is decided is series.c's; here it is remembered for the last SERIES_KEPT series, and done by the thread.
// 2. Entries that are being fetched for a series are referred to until the reader is past them; if he goes another
//    way they are not wanted any more.
// 3. `neighbours` are called without the lock; cache_forget waits for a call that is running.
#include "cache/ahead.h"

#include <errno.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/metric.h"
#include "base/queue.h"
#include "cache/flight.h"
#include "cache/series.h"
#include "cache/whole.h"

#define SERIES_KEPT 64
#define PLANNED_MAX 64

struct planned {
    struct cache_entry *entry; // a reference; NULL: free
    int64_t position;
};

struct ahead_series {
    struct series series;
    uint64_t used; // when, by the count of all opens
    const struct cached *last; // open; its extent and size
    int64_t last_extent;       // when it was closed
    int64_t last_size;
    const struct cache_neighbours *neighbours;
    struct series_plan plan;   // to be done; count 0: nothing
    struct planned planned[PLANNED_MAX];
};

struct ahead {
    struct cache *cache;
    struct lock lock;
    pthread_cond_t changed;
    pthread_t thread;
    // under lock
    struct ahead_series kept[SERIES_KEPT];
    uint64_t opens;
    const struct cache_neighbours *asking; // whose `at` is running
    bool is_closing;
};

// ---- what was planned

// Not wanted any more, as far as the folder goes.
static void planned_drop(struct cache_entry *e, bool is_wanted)
{
    struct flight_list gone = {0};
    lock_acquire(&e->lock);
    if (!is_wanted && !e->is_warming && e->wanted_bytes) {
        e->wanted_bytes = 0;
        flights_review(e, &gone);
    }
    lock_release(&e->lock);
    flights_free_gone(&gone);
    entry_unref(e);
}

// Takes out those the reader is past (`is_all`: everything), to be dropped without the lock.
static uint32_t planned_take(struct ahead_series *s, bool is_all,
                             struct cache_entry *ret_entries[PLANNED_MAX])
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < PLANNED_MAX; i++) {
        struct planned *p = &s->planned[i];
        int64_t left = s->series.step >= 0 ? p->position - s->series.position
                                           : s->series.position - p->position;
        if (p->entry && (is_all || left <= 0))
            ret_entries[count++] = take(p->entry);
    }
    return count;
}

static void planned_put(struct ahead_series *s, struct cache_entry *e, int64_t position)
{
    for (uint32_t i = 0; i < PLANNED_MAX; i++)
        if (s->planned[i].entry == e)
            return;
    for (uint32_t i = 0; i < PLANNED_MAX; i++)
        if (!s->planned[i].entry) {
            s->planned[i] = (struct planned){entry_ref(e), position};
            return;
        }
}

// ---- the thread

struct giving {
    struct cache *cache;
    int64_t extent;
    struct cache_entry *entry; // what was begun; a reference
};

static void object_given(void *context, const struct object *object)
{
    struct giving *g = context;
    struct cache_entry *e = entry_get(g->cache, object);
    bool is_begun = false;
    lock_acquire(&e->lock);
    if (e->state == ENTRY_ABSENT || e->state == ENTRY_PARTIAL) {
        if (e->wanted_bytes < g->extent && !e->is_warming)
            entry_wish(e, g->extent);
        is_begun = true;
    }
    bool is_complete = e->state == ENTRY_COMPLETE;
    lock_release(&e->lock);
    metric_add(METRIC_OBJECTS_AHEAD, is_begun);
    if (is_begun)
        entry_pump(e);
    else if (is_complete && g->extent == INT64_MAX)
        whole_check(e); // so that it may be given to passthrough when it is opened
    if (g->entry)
        entry_unref(g->entry);
    g->entry = e;
}

static struct ahead_series *series_with_plan(struct ahead *a)
{
    struct ahead_series *next = NULL;
    for (uint32_t i = 0; i < SERIES_KEPT; i++) {
        struct ahead_series *s = &a->kept[i];
        if (s->plan.count && (!next || s->used < next->used))
            next = s;
    }
    return next;
}

// One file of a plan. With the lock held; lets go of it.
static void ahead_step(struct ahead *a, struct ahead_series *s)
{
    struct giving giving = {.cache = a->cache, .extent = s->plan.extent};
    const struct cache_neighbours *neighbours = s->neighbours;
    uint64_t id = s->series.id;
    int64_t position = s->plan.first, step = s->plan.step;
    s->plan.first += s->plan.step;
    s->plan.count--;
    a->asking = neighbours;
    lock_release(&a->lock);
    int r = neighbours->at(neighbours->context, id, position, object_given, &giving);
    lock_acquire(&a->lock);
    a->asking = NULL;
    pthread_cond_broadcast(&a->changed);
    if (s->series.id == id) {
        if (r == -ENOENT)
            s->plan.count = 0; // the end of the series
        if (r == -EINPROGRESS)
            series_not_yet(&s->series, position, step);
        if (giving.entry)
            planned_put(s, giving.entry, position);
    }
    if (!giving.entry)
        return;
    lock_release(&a->lock);
    entry_unref(giving.entry);
    lock_acquire(&a->lock);
}

static void *ahead_run(void *argument)
{
    struct ahead *a = argument;
    lock_acquire(&a->lock);
    while (!a->is_closing) {
        struct ahead_series *s = series_with_plan(a);
        if (s)
            ahead_step(a, s);
        else
            condition_wait(&a->changed, &a->lock, INT64_MAX);
    }
    lock_release(&a->lock);
    return NULL;
}

// ---- opens and closes

static struct ahead_series *series_of(struct ahead *a, uint64_t id)
{
    for (uint32_t i = 0; i < SERIES_KEPT; i++)
        if (a->kept[i].used && a->kept[i].series.id == id)
            return &a->kept[i];
    return NULL;
}

static struct ahead_series *series_oldest(struct ahead *a)
{
    struct ahead_series *oldest = &a->kept[0];
    for (uint32_t i = 1; i < SERIES_KEPT; i++)
        if (a->kept[i].used < oldest->used)
            oldest = &a->kept[i];
    return oldest;
}

// With the lock held. Returns how many entries are to be dropped.
static uint32_t series_opened(struct ahead *a, struct cached *h, const struct cache_series *at,
                              const struct cache_neighbours *neighbours, bool *ret_is_planned,
                              bool *ret_is_wanted, struct cache_entry *ret_gone[PLANNED_MAX])
{
    struct ahead_series *s = series_of(a, at->id);
    uint32_t count = 0;
    if (!s) {
        s = series_oldest(a);
        count = planned_take(s, true, ret_gone);
        *ret_is_wanted = true; // by whom isn't known any more: let it come
        *s = (struct ahead_series){.series.id = at->id};
    }
    int64_t extent = s->last ? atomic_load(&s->last->extent) : s->last_extent;
    int64_t step = s->series.step;
    struct series_plan plan;
    series_note(&s->series, at->position, extent, s->last_size,
                (int64_t)a->cache->options.folder_bytes, &plan);
    s->used = ++a->opens;
    s->last = h;
    s->last_extent = 0;
    s->last_size = h->entry->version.size_bytes;
    s->neighbours = neighbours;
    if (!count) {
        bool is_another_way = s->series.step != step;
        *ret_is_wanted = !is_another_way;
        count = planned_take(s, is_another_way, ret_gone);
        if (is_another_way)
            s->plan.count = 0;
    }
    if (plan.count && !*ret_is_planned) {
        // What was left of an older plan comes right before the new one.
        if (s->plan.count && s->plan.step == plan.step) {
            plan.count += s->plan.count;
            plan.first = s->plan.first;
        }
        s->plan = plan;
        *ret_is_planned = true;
        pthread_cond_broadcast(&a->changed);
    }
    return count;
}

void cached_opened_in(struct cached *h, const struct cache_series *series, uint32_t count,
                      const struct cache_neighbours *neighbours)
{
    struct ahead *a = h->entry->cache->ahead;
    if (!h->entry->cache->options.folder_bytes)
        return;
    bool is_planned = false;
    for (uint32_t i = 0; i < count && h->series_count < CACHE_SERIES_MAX; i++) {
        struct cache_entry *gone[PLANNED_MAX];
        bool is_wanted = true;
        lock_acquire(&a->lock);
        uint32_t gone_count =
            series_opened(a, h, &series[i], neighbours, &is_planned, &is_wanted, gone);
        h->series[h->series_count++] = series[i].id;
        lock_release(&a->lock);
        for (uint32_t k = 0; k < gone_count; k++)
            planned_drop(gone[k], is_wanted);
    }
}

void ahead_closed(struct ahead *a, const struct cached *h)
{
    lock_scope(&a->lock);
    for (uint32_t i = 0; i < h->series_count; i++) {
        struct ahead_series *s = series_of(a, h->series[i]);
        if (!s || s->last != h)
            continue;
        s->last_extent = atomic_load(&h->extent);
        s->last = NULL;
    }
}

static void series_forget(struct ahead *a, struct ahead_series *s)
{
    struct cache_entry *gone[PLANNED_MAX];
    uint32_t count = planned_take(s, true, gone);
    *s = (struct ahead_series){0};
    lock_release(&a->lock);
    for (uint32_t i = 0; i < count; i++)
        planned_drop(gone[i], false);
    lock_acquire(&a->lock);
}

void cache_forget(struct cache *c, const struct cache_neighbours *neighbours)
{
    struct ahead *a = c->ahead;
    lock_scope(&a->lock);
    for (uint32_t i = 0; i < SERIES_KEPT; i++)
        if (a->kept[i].neighbours == neighbours)
            series_forget(a, &a->kept[i]);
    while (a->asking == neighbours)
        condition_wait(&a->changed, &a->lock, INT64_MAX);
}

struct ahead *ahead_new(struct cache *c)
{
    struct ahead *a = new_struct(struct ahead);
    a->cache = c;
    lock_init(&a->lock, LOCK_RANK_CACHE, "ahead");
    condition_init(&a->changed);
    if (thread_start(&a->thread, "ahead", ahead_run, a) < 0)
        log_check_failed("the thread that fetches ahead can't be started", __FILE__, __LINE__);
    return a;
}

void ahead_free(struct ahead *a)
{
    lock_acquire(&a->lock);
    a->is_closing = true;
    pthread_cond_broadcast(&a->changed);
    lock_release(&a->lock);
    pthread_join(a->thread, NULL);
    lock_acquire(&a->lock);
    for (uint32_t i = 0; i < SERIES_KEPT; i++)
        series_forget(a, &a->kept[i]);
    lock_release(&a->lock);
    pthread_cond_destroy(&a->changed);
    lock_release_memory(&a->lock);
    free(a);
}
