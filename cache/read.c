// SPDX-License-Identifier: BSD-3-Clause
// read.c: bytes of a handle, from memory, from the disk, or wanted.
// 1. A view holds blocks of the pool, so what it shows doesn't change until it is released.
// 2. Blocks come into memory from the disk whole, with their checksums compared (store.h).
// 3. What is missing is in a flight when -EINPROGRESS is answered, and so is what comes next for this reader.
#include <errno.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/metric.h"
#include "cache/flight.h"
#include "cache/recalls.h"
#include "cache/store.h"
#include "cache/whole.h"

#define BLOCK ((int64_t)CACHE_BLOCK_BYTES)
#define PART_BYTES (INT64_C(8) << 20)
#define WINDOW_LEAST (INT64_C(16) << 20)
#define READERS_LOOKED_AT 64
#define LINE_BYTES_PER_US INT64_C(3125) // 25 Gbit/s: a window is what comes over such a line within its latency

struct span { // of a read
    int64_t begin, end;    // bytes
    uint32_t first, count; // blocks
};

static struct span span_of(const struct cache_entry *e, int64_t offset, size_t size_bytes)
{
    int64_t left = e->version.size_bytes - offset;
    if (left <= 0 || !size_bytes)
        return (struct span){0};
    struct span s = {.begin = offset};
    s.end = offset + ((int64_t)size_bytes < left ? (int64_t)size_bytes : left);
    s.first = (uint32_t)(s.begin / BLOCK);
    s.count = (uint32_t)((s.end - 1) / BLOCK) - s.first + 1;
    return s;
}

// ---- what is here

// Reads a block from the disk into memory. NULL: it isn't there (any more).
static struct pool_block *block_load(struct cache_entry *e, struct stored *s, uint64_t serial,
                                     uint32_t number)
{
    struct pool *pool = e->cache->pool;
    struct pool_block *b = pool_take(pool);
    uint32_t size = entry_block_bytes(e, number);
    ssize_t n = stored_read(s, b->data, size, (uint64_t)number * CACHE_BLOCK_BYTES, NULL);
    if (n != (ssize_t)size) {
        pool_drop(pool, b, true);
        return NULL;
    }
    pool_publish(pool, b, serial, number, size);
    metric_add(METRIC_BLOCKS_FROM_DISK, 1);
    return b;
}

// Fills the view until the first block that is missing. false: one is.
static bool view_fill(struct cache_entry *e, const struct span *s, struct cached_view *v)
{
    struct pool *pool = e->cache->pool;
    cleanup(cleanup_stored_unref) struct stored *stored = NULL;
    bool has_looked = false;
    uint64_t serial = atomic_load(&e->serial); // before `stored`: see whole_mismatched
    v->owner = pool;
    for (uint32_t i = 0; i < s->count; i++) {
        uint32_t number = s->first + i;
        struct pool_block *b = pool_find(pool, serial, number);
        if (b) {
            metric_add(METRIC_BLOCKS_FROM_MEMORY, 1);
        } else {
            if (!has_looked) {
                lock_acquire(&e->lock);
                stored = e->stored ? stored_ref(e->stored) : NULL;
                lock_release(&e->lock);
                has_looked = true;
            }
            if (!stored || !stored_has(stored, number) || !(b = block_load(e, stored, serial, number)))
                return false;
        }
        int64_t from = (int64_t)number * BLOCK, begin = s->begin > from ? s->begin - from : 0;
        int64_t end = s->end < from + BLOCK ? s->end - from : BLOCK;
        v->holds[i] = b;
        v->pieces[i] = (struct iovec){b->data + begin, (size_t)(end - begin)};
        v->size_bytes += (size_t)(end - begin);
        v->count = i + 1;
    }
    return true;
}

void cached_view_release(struct cached_view *v)
{
    for (uint32_t i = 0; i < v->count; i++)
        pool_drop(v->owner, v->holds[i], true);
    *v = (struct cached_view){0};
}

// ---- what is not

static struct reading_limits limits_of(const struct cache_entry *e)
{
    const struct cache *c = e->cache;
    int64_t latency = e->latency_ns ? e->latency_ns : atomic_load(&c->latency_ns);
    int64_t window = latency / 1000 * LINE_BYTES_PER_US, most = (int64_t)c->options.window_bytes;
    if (window < WINDOW_LEAST)
        window = WINDOW_LEAST;
    if (window > most)
        window = most;
    return (struct reading_limits){
        .object_bytes = e->version.size_bytes,
        .first_window = window / 2,
        .window = window,
        .part = PART_BYTES,
    };
}

// Fetches what a plan says; `missing`: what is read now, or NULL when it is all here. With the entry's lock held.
static void plan_follow(struct cache_entry *e, const struct reading_plan *plan, const struct span *missing)
{
    if (plan->count == 1 && plan->goes_on && entry_is_near(e)) {
        uint32_t first = (uint32_t)(plan->ranges[0].begin / BLOCK);
        uint32_t end = (uint32_t)((plan->ranges[0].end - 1) / BLOCK) + 1;
        if (missing && missing->first < first && missing->first + missing->count >= first)
            first = missing->first;
        flight_want_on(e, first, end - first, ORIGIN_AHEAD);
        return;
    }
    for (uint32_t i = 0; i < plan->count; i++) {
        const struct reading_range *r = &plan->ranges[i];
        uint32_t first = (uint32_t)(r->begin / BLOCK);
        uint32_t last = (uint32_t)((r->end - 1) / BLOCK);
        flight_want(e, first, last - first + 1, (uint32_t)(plan->part / BLOCK), ORIGIN_AHEAD);
    }
}

// Many who read one file at once share the kernel's cache of it: what one of them misses is asked for in his name, and
// each handle sees some of what is one stream. So a read goes to the handle whose stream it continues. With the entry's lock held.
static struct reading *reading_of(struct cached *h, const struct span *s)
{
    struct cached *other;
    int looked_at = 0;
    if (reading_continues(&h->reading, s->begin, s->end))
        return &h->reading;
    LIST_FOREACH(other, &h->entry->handles, of_entry)
        if (looked_at++ < READERS_LOOKED_AT && reading_continues(&other->reading, s->begin, s->end))
            return &other->reading;
    return &h->reading;
}

// With the entry's lock held.
static void handle_note(struct cached *h, const struct span *s, bool had_to_wait,
                        struct flight_list *gone)
{
    struct cache_entry *e = h->entry;
    struct reading_limits limits = limits_of(e);
    struct reading_plan plan;
    reading_note(reading_of(h, s), s->begin, s->end, had_to_wait, &limits, &plan);
    if (s->end > atomic_load(&h->extent))
        atomic_store(&h->extent, s->end);
    if (e->state == ENTRY_PARTIAL)
        plan_follow(e, &plan, had_to_wait ? s : NULL);
    if (plan.is_abandoned)
        flights_review(e, gone);
}

// Whether what is missing can be had. With the entry's lock held.
static int entry_may_want(struct cache_entry *e)
{
    if (e->state == ENTRY_DYING)
        return -ESTALE;
    if (e->is_refused)
        return -EREMOTEIO;
    if (entry_is_failing(e) && (e->error == -EACCES || e->error == -ENOENT))
        return e->error;
    if (entry_is_nearline(e))
        return -EAGAIN;
    if (e->state == ENTRY_COMPLETE)
        entry_move(e, ENTRY_PARTIAL); // a block was bad
    return 0;
}

static int read_span(struct cached *h, const struct span *s, bool is_noted,
                     struct cached_view *ret_view, struct cache_want *want)
{
    cleanup(cleanup_entry_unref) struct cache_entry *before = want_take(want);
    struct cache_entry *e = h->entry;
    struct cached_view v = {0};
    struct flight_list gone = {0};
    int r = 0;
    bool is_here = view_fill(e, s, &v);
    lock_acquire(&e->lock);
    if (!is_here)
        r = entry_may_want(e);
    if (is_noted && r == 0)
        handle_note(h, s, !is_here, &gone); // first: one flight may bring this and what comes next
    if (!is_here && r == 0) {
        flight_want(e, s->first, s->count, s->count, ORIGIN_READER_WAITS);
        want_fill(want, e, CACHE_WANT_BLOCKS, s->first, s->count);
        r = -EINPROGRESS;
    }
    lock_release(&e->lock);
    flights_free_gone(&gone);
    flights_launch(e->cache);
    if (r == 0) {
        *ret_view = v;
        return 0;
    }
    metric_add(METRIC_BLOCKS_WAITED, r == -EINPROGRESS);
    cached_view_release(&v);
    return r;
}

int cached_read(struct cached *h, int64_t offset, size_t size_bytes, struct cached_view *ret_view,
                struct cache_want *want)
{
    check(offset >= 0 && size_bytes <= CACHED_READ_MAX);
    struct span s = span_of(h->entry, offset, size_bytes);
    if (s.count)
        return read_span(h, &s, true, ret_view, want);
    *ret_view = (struct cached_view){0};
    return 0;
}

ssize_t cached_copy(struct cached *h, int64_t offset, void *buffer, size_t size_bytes,
                    struct cache_want *want)
{
    check(offset >= 0);
    size_t done = 0;
    while (done < size_bytes) {
        size_t n = size_bytes - done < CACHED_READ_MAX ? size_bytes - done : CACHED_READ_MAX;
        struct span s = span_of(h->entry, offset + (int64_t)done, n);
        if (!s.count)
            break;
        struct cached_view v;
        int r = read_span(h, &s, false, &v, want);
        if (r < 0)
            return r;
        for (uint32_t i = 0; i < v.count; i++) {
            memcpy((char *)buffer + done, v.pieces[i].iov_base, v.pieces[i].iov_len);
            done += v.pieces[i].iov_len;
        }
        cached_view_release(&v);
    }
    return (ssize_t)done;
}
