// SPDX-License-Identifier: BSD-3-Clause
// cache.c: the door: opening, waiting, the operator's hand. Reading is in read.c.
// 1. A handle is of an entry whose version is known; it is in the entry's list of handles.
// 2. What an origin refused is refused for a moment without asking it: who asks in a loop makes no storm.
#include "cache/cache.h"

#include <errno.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/metric.h"
#include "cache/ahead.h"
#include "cache/flight.h"
#include "cache/recalls.h"
#include "cache/store.h"
#include "cache/storing.h"
#include "cache/whole.h"

#define CACHE_MEMORY_LEAST (UINT64_C(4) << 20)

// ---- the cache

static struct block_store *store_open(const struct cache_options *o, bool *ret_has_store)
{
    *ret_has_store = false;
    if (!o->folder)
        return block_store_open_none();
    const struct block_store_options options = {
        .folder = o->folder,
        .limit_bytes = o->limit_bytes,
        .limit_objects = o->limit_objects,
        .reserve_bytes = o->reserve_bytes,
        .pin_limit_bytes = o->pin_limit_bytes,
        .scrub_bytes_per_s = o->scrub_bytes_per_s,
    };
    struct block_store *store;
    char *why = NULL;
    int r = block_store_open(&options, &store, &why);
    if (r < 0) {
        log_error("cache folder %s can't be used, everything is fetched anew: %s", o->folder,
                  why ? why : strerror(-r));
        free(why);
        return block_store_open_none();
    }
    *ret_has_store = true;
    return store;
}

struct cache *cache_new(const struct cache_options *options)
{
    struct cache *c = new_struct(struct cache);
    c->options = *options;
    c->options.folder = NULL; // the caller's text
    if (c->options.memory_bytes < CACHE_MEMORY_LEAST)
        c->options.memory_bytes = CACHE_MEMORY_LEAST;
    c->store = store_open(options, &c->has_store);
    // Without a disk what is read ahead must stay in memory until it is read.
    if (!c->has_store && c->options.window_bytes > c->options.memory_bytes / 2)
        c->options.window_bytes = c->options.memory_bytes / 2;
    if (!c->has_store && c->options.folder_bytes > c->options.memory_bytes / 2)
        c->options.folder_bytes = c->options.memory_bytes / 2;
    c->pool = pool_new(c->options.memory_bytes, !c->has_store);
    c->flights = flights_new(c->options.flights);
    lock_init(&c->lock, LOCK_RANK_CACHE, "cache");
    TAILQ_INIT(&c->idle);
    LIST_INIT(&c->checkings);
    condition_init(&c->checked);
    c->storing = c->has_store ? storing_new(c->options.memory_bytes / 4) : NULL;
    c->recalls = recalls_new(c);
    c->ahead = ahead_new(c);
    return c;
}

static void cancel_everything(struct cache *c)
{
    size_t position = 0;
    uint64_t value;
    for (;;) {
        struct flight_list gone = {0};
        lock_acquire(&c->lock);
        value = table_next(&c->entries, &position);
        struct cache_entry *e = (struct cache_entry *)(uintptr_t)value;
        // It has a reference at least as long as it has a flight.
        bool is_flying = e && atomic_load(&e->references) > 0;
        if (is_flying)
            entry_ref(e);
        lock_release(&c->lock);
        if (!value)
            return;
        if (!is_flying)
            continue;
        lock_acquire(&e->lock);
        e->wanted_bytes = 0;
        if (e->asking)
            e->asking->is_of_whole = false; // nobody will compare any more
        flights_review(e, &gone);
        lock_release(&e->lock);
        flights_free_gone(&gone);
        entry_unref(e);
    }
}

void cache_free(struct cache *c)
{
    ahead_free(c->ahead);
    recalls_free(c->recalls);
    cancel_everything(c);
    flights_drain(c->flights);
    storing_free(c->storing);
    whole_end(c);
    entries_release(c);
    flights_free(c->flights);
    pool_free(c->pool);
    block_store_close(c->store);
    pthread_cond_destroy(&c->checked);
    lock_release_memory(&c->lock);
    free(c);
}

struct block_store *cache_store(struct cache *c)
{
    return c->store;
}

// ---- opening

static bool is_fresh(const struct cache_entry *e, const struct object *object, int64_t fresh_ns)
{
    if (object->fresh_for_ns == INT64_MAX || object->is_exact)
        return true;
    return e->confirmed_ns && (e->confirmed_ns >= fresh_ns ||
                               clock_ns() - e->confirmed_ns <= object->fresh_for_ns);
}

// Sees to it that the entry's version is known and fresh; `first_blocks`: by asking for so many. With the entry's
// lock held. -EINPROGRESS with the want; -EAGAIN: it is dying, get another.
static int entry_know(struct cache_entry *e, const struct object *object, int64_t fresh_ns,
                      uint32_t first_blocks, struct cache_want *want, char **ret_why)
{
    if (e->state == ENTRY_DYING)
        return object->is_exact ? 0 : -EAGAIN;
    if (e->is_refused)
        return -EREMOTEIO;
    if (e->state != ENTRY_ABSENT && is_fresh(e, object, fresh_ns))
        return 0;
    if (!e->asking && entry_is_failing(e)) {
        if (ret_why)
            *ret_why = e->why ? memory_copy(e->why, strlen(e->why)) : NULL;
        return e->error;
    }
    flight_ask(e, e->state == ENTRY_ABSENT ? first_blocks : 0, ORIGIN_READER_WAITS);
    want_fill(want, e, CACHE_WANT_VERSION, 0, 0);
    return -EINPROGRESS;
}

static struct cached *handle_new(struct cache_entry *e)
{
    struct cached *h = new_struct(struct cached);
    h->entry = entry_ref(e);
    LIST_INSERT_HEAD(&e->handles, h, of_entry);
    return h;
}

int cache_open(struct cache *c, const struct object *object, int64_t fresh_ns,
               struct cached **ret_cached, struct cache_want *want, char **ret_why)
{
    cleanup(cleanup_entry_unref) struct cache_entry *before = want_take(want);
    struct cached *h = NULL;
    int r;
    do {
        cleanup(cleanup_entry_unref) struct cache_entry *e = entry_get(c, object);
        lock_acquire(&e->lock);
        r = entry_know(e, object, fresh_ns, 1, want, ret_why);
        if (r == 0)
            h = handle_new(e);
        struct stored *s = h && e->stored ? stored_ref(e->stored) : NULL;
        lock_release(&e->lock);
        if (s) {
            stored_touch(s);
            stored_unref(s);
        }
    } while (r == -EAGAIN);
    flights_launch(c);
    if (r < 0)
        return r;
    metric_add(METRIC_OPEN_OBJECTS, 1);
    *ret_cached = h;
    return 0;
}

void cached_close(struct cached *h)
{
    struct cache_entry *e = h->entry;
    struct flight_list gone = {0};
    ahead_closed(e->cache->ahead, h);
    lock_acquire(&e->lock);
    LIST_REMOVE(h, of_entry);
    flights_review(e, &gone);
    bool wants_check = h->wants_check && LIST_EMPTY(&e->handles);
    lock_release(&e->lock);
    flights_free_gone(&gone);
    if (wants_check)
        whole_check(e); // nobody reads it now: what was not read is checked for the next one
    metric_add(METRIC_OPEN_OBJECTS, -1);
    free(h);
    entry_unref(e);
}

// ---- attributes

// With the entry's lock held.
static void attr_fill(const struct cache_entry *e, struct cache_attr *ret_attr)
{
    struct cache_attr a = {
        .size_bytes = e->version.size_bytes,
        .mtime_unix_ns = e->version.mtime_unix_ns,
        .is_complete = e->state == ENTRY_COMPLETE || e->version.size_bytes == 0,
        .is_stale = e->state == ENTRY_DYING,
    };
    size_t n = e->version.validator.size_bytes;
    if (n >= sizeof(a.validator))
        n = sizeof(a.validator) - 1;
    if (n)
        memcpy(a.validator, e->version.validator.data, n);
    if (e->stored) {
        a.present_bytes = (uint64_t)stored_blocks_present(e->stored) * CACHE_BLOCK_BYTES;
        if (a.present_bytes > (uint64_t)a.size_bytes)
            a.present_bytes = (uint64_t)a.size_bytes;
        a.is_pinned = stored_is_pinned(e->stored);
    }
    *ret_attr = a;
}

void cached_attr(struct cached *h, struct cache_attr *ret_attr)
{
    whole_look(h->entry);
    lock_scope(&h->entry->lock);
    attr_fill(h->entry, ret_attr);
}

int cache_attr(struct cache *c, const struct object *object, int64_t fresh_ns,
               struct cache_attr *ret_attr, struct cache_want *want, char **ret_why)
{
    cleanup(cleanup_entry_unref) struct cache_entry *before = want_take(want);
    int r;
    do {
        cleanup(cleanup_entry_unref) struct cache_entry *e = entry_get(c, object);
        lock_acquire(&e->lock);
        r = entry_know(e, object, fresh_ns, 0, want, ret_why);
        if (r == 0)
            attr_fill(e, ret_attr);
        lock_release(&e->lock);
    } while (r == -EAGAIN);
    flights_launch(c);
    return r;
}

int cache_peek(struct cache *c, const struct object *object, struct cache_attr *ret_attr)
{
    cleanup(cleanup_entry_unref) struct cache_entry *e = entry_get(c, object);
    lock_scope(&e->lock);
    if (e->state == ENTRY_ABSENT || (!e->stored && LIST_EMPTY(&e->handles)))
        return -ENOENT;
    attr_fill(e, ret_attr);
    return 0;
}

// ---- waiting

void cache_want_release(struct cache_want *w)
{
    if (w->entry)
        entry_unref(w->entry);
    *w = (struct cache_want){0};
}

// How many of the blocks are missing; *ret_flying: whether all of those are on their way.
static uint32_t blocks_missing(struct cache_entry *e, const struct cache_want *want,
                               bool *ret_flying)
{
    uint32_t missing = 0;
    *ret_flying = true;
    for (uint32_t i = 0; i < want->count; i++) {
        bool is_flying = flight_covers(e, want->first + i);
        if (!is_flying && entry_has(e, want->first + i))
            continue;
        missing++;
        *ret_flying &= is_flying;
    }
    return missing;
}

int cache_ask(struct cache *c, struct cache_want *want, struct cache_waiter *waiter)
{
    struct cache_entry *e = want->entry;
    bool is_coming = false;
    lock_scope(&e->lock);
    if (e->state == ENTRY_DYING)
        return 0; // the call says what that means for it
    switch ((enum want_kind)want->kind) {
    case CACHE_WANT_VERSION:
        is_coming = e->asking != NULL;
        break;
    case CACHE_WANT_BLOCKS:
        want->missing = blocks_missing(e, want, &is_coming);
        if (!want->missing)
            return 0;
        break;
    case CACHE_WANT_WHOLE:
        is_coming = e->wanted_bytes > 0 || e->is_checking;
        break;
    case CACHE_WANT_RECALL:
        is_coming = recall_is_awaited(e);
        break;
    }
    if (!is_coming) // it came, or failed, since it was wanted
        return want->serial != e->failures ? e->error : 0;
    waiter->want = want;
    entry_wait(e, waiter);
    return -EINPROGRESS;
}

bool cache_cancel(struct cache *c, struct cache_want *want, struct cache_waiter *waiter)
{
    struct cache_entry *e = want->entry;
    struct flight_list gone = {0};
    lock_acquire(&e->lock);
    bool was_waiting = entry_unwait(e, waiter);
    if (was_waiting)
        flights_review(e, &gone);
    lock_release(&e->lock);
    flights_free_gone(&gone);
    return was_waiting;
}

// ---- the operator's hand

// Begins to bring it in, unless that is going on. With the entry's lock held.
static void warm_begin(struct cache_entry *e)
{
    if (e->is_warming)
        return;
    e->is_warming = true;
    e->warm_ns = clock_ns();
    entry_wish(e, e->version.size_bytes);
}

// Whether it could be given to passthrough.
static bool stored_is_checked(struct stored *s)
{
    cleanup(cleanup_close) int fd = -1;
    return stored_passthrough_fd(s, &fd) == 0;
}

int cached_warm(struct cached *h, bool pin, struct cache_want *want)
{
    cleanup(cleanup_entry_unref) struct cache_entry *before = want_take(want);
    struct cache_entry *e = h->entry;
    if (e->version.size_bytes == 0)
        return 0;
    cleanup(cleanup_stored_unref) struct stored *s = entry_stored(e);
    int r = pin && s ? stored_pin(s, true) : 0;
    if (r < 0)
        return r;
    whole_look(e);
    if (s && stored_is_checked(s))
        return 0;
    lock_acquire(&e->lock);
    bool is_complete = e->state == ENTRY_COMPLETE;
    if (e->state == ENTRY_DYING) {
        r = -ESTALE;
    } else if (e->is_refused) {
        r = -EREMOTEIO;
    } else if (!s) {
        r = -ENOSPC;
    } else if (!is_complete && entry_is_nearline(e)) {
        r = -EAGAIN;
    } else {
        if (!is_complete)
            warm_begin(e);
        want_fill(want, e, CACHE_WANT_WHOLE, 0, 0);
        r = -EINPROGRESS;
    }
    lock_release(&e->lock);
    if (r == -EINPROGRESS && is_complete)
        whole_check(e);
    else if (r == -EINPROGRESS)
        entry_pump(e);
    return r;
}

int cached_pin(struct cached *h, bool is_pinned)
{
    cleanup(cleanup_stored_unref) struct stored *s = entry_stored(h->entry);
    return s ? stored_pin(s, is_pinned) : -ENOSPC;
}

int cache_evict(struct cache *c, const struct object *object)
{
    uint8_t identity[16];
    object_identity(object, identity);
    cleanup(cleanup_entry_unref) struct cache_entry *e = entry_find(c, identity);
    bool was_there = false;
    if (e) {
        lock_acquire(&e->lock);
        was_there = e->state != ENTRY_ABSENT;
        lock_release(&e->lock);
        if (was_there)
            entry_die(e, false);
    }
    return block_store_drop(c->store, identity) == 0 || was_there ? 0 : -ENOENT;
}

int cached_descriptor(struct cached *h, int *ret_fd)
{
    struct cache_entry *e = h->entry;
    whole_look(e);
    lock_acquire(&e->lock);
    struct stored *s = e->stored && e->state == ENTRY_COMPLETE ? stored_ref(e->stored) : NULL;
    lock_release(&e->lock);
    if (!s)
        return -ENODATA;
    int r = stored_passthrough_fd(s, ret_fd);
    h->wants_check |= r == -EINPROGRESS;
    stored_unref(s);
    return r < 0 ? -ENODATA : 0;
}

void cache_status(struct cache *c, struct doc *map)
{
    uint64_t bytes, peak;
    uint32_t flying, queued;
    pool_status(c->pool, &bytes, &peak);
    flights_status(c->flights, &flying, &queued);
    doc_put_integer(map, "memory_bytes", (int64_t)bytes);
    doc_put_integer(map, "memory_peak_bytes", (int64_t)peak);
    doc_put_integer(map, "memory_limit_bytes", (int64_t)c->options.memory_bytes);
    doc_put_integer(map, "flights", flying);
    doc_put_integer(map, "flights_queued", queued);
    doc_put_integer(map, "flights_limit", c->options.flights);
    doc_put_integer(map, "latency_us", atomic_load(&c->latency_ns) / 1000);
    lock_acquire(&c->lock);
    doc_put_integer(map, "objects_known", c->entry_count);
    doc_put_integer(map, "objects_idle", c->idle_count);
    lock_release(&c->lock);
    struct block_store_status s;
    block_store_status(c->store, &s);
    struct doc *disk = doc_new(DOC_MAP);
    doc_put_text(disk, "folder", s.folder);
    doc_put_integer(disk, "limit_bytes", (int64_t)s.limit_bytes);
    doc_put_integer(disk, "used_bytes", (int64_t)s.used_bytes);
    doc_put_integer(disk, "dying_bytes", (int64_t)s.dying_bytes);
    doc_put_integer(disk, "pinned_bytes", (int64_t)s.pinned_bytes);
    doc_put_integer(disk, "free_bytes", (int64_t)s.free_bytes);
    doc_put_integer(disk, "objects", s.objects);
    doc_put_integer(disk, "limit_objects", s.limit_objects);
    doc_put_text(disk, "trouble", s.trouble ? strerror(-s.trouble) : NULL);
    doc_put(map, "disk", disk);
    struct doc *recalls = doc_new(DOC_MAP);
    recalls_status(c->recalls, recalls);
    doc_put(map, "recalls", recalls);
}
