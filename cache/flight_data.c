// SPDX-License-Identifier: BSD-3-Clause
// flight_data.c: the callbacks of a flight's request. They run on a fetcher's thread, one at a time for a flight.
// 1. A block is given to who waits for it before it is written to the disk: he needn't wait for that.
// 2. The disk is optional: whatever it says, the bytes go on to the readers.
// 3. A cancelled flight's callbacks change nothing: it has left its entry.
#include "cache/flight_data.h"

#include <errno.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/metric.h"
#include "cache/store.h"
#include "cache/whole.h"

#define STANDS_NS (NS_PER_S / 2)

static struct flight *flight_of_request(struct origin_request *r)
{
    return r->context;
}

// ---- the version

static struct version version_of_answer(const struct origin_answer *a)
{
    return (struct version){
        .size_bytes = a->size_bytes,
        .mtime_unix_ns = a->mtime_unix_ns == ORIGIN_TIME_UNKNOWN ? 0 : a->mtime_unix_ns,
        .validator = a->validator,
    };
}

// Half of what is new, half of what was: the first byte's time, in which the wire could have carried other bytes.
static void latency_note(struct flight *f)
{
    struct cache *c = f->entry->cache;
    int64_t took = clock_ns() - f->started_ns, before = f->entry->latency_ns;
    f->entry->latency_ns = before ? (before + took) / 2 : took;
    before = atomic_load(&c->latency_ns);
    atomic_store(&c->latency_ns, before ? (before * 7 + took) / 8 : took);
}

// The origin said what it has: 0, or -errno if that is of no use. With the entry's lock held.
static int flight_learn(struct flight *f, const struct origin_answer *a, struct wake_list *to)
{
    struct cache_entry *e = f->entry;
    const struct version said = version_of_answer(a);
    if (said.size_bytes < 0 || (uint64_t)said.size_bytes > STORED_SIZE_MAX)
        return -EREMOTEIO;
    if (!entry_learn(e, &said))
        return -ESTALE;
    e->confirmed_ns = f->started_ns;
    e->confirmed_unix_ns = clock_unix_ns() - (clock_ns() - f->started_ns);
    latency_note(f);
    if (a->checksum.size_bytes && !e->checksum && !e->mismatches)
        e->checksum = memory_copy(a->checksum.data, a->checksum.size_bytes);
    uint32_t blocks = entry_block_count(e);
    if (f->count > blocks - f->first)
        f->count = blocks - f->first;
    if (f->promised > blocks - f->first)
        f->promised = blocks - f->first;
    f->begun_ns = clock_ns();
    if (f->is_question) {
        f->is_question = false;
        e->asking = NULL;
        entry_take_waiters(e, CACHE_WANT_VERSION, 0, UINT32_MAX, to);
    }
    return 0;
}

static int flight_begin(struct origin_request *r, const struct origin_answer *a)
{
    struct flight *f = flight_of_request(r);
    struct cache_entry *e = f->entry;
    struct wake_list versions = {0};
    lock_acquire(&e->lock);
    int error = f->state == FLIGHT_FLYING ? flight_learn(f, a, &versions) : -ECANCELED;
    f->is_past_memory = e->cache->has_store && f->priority != ORIGIN_READER_WAITS &&
                        LIST_EMPTY(&e->handles) && !versions.first &&
                        !entry_is_waited_for(e, f->first, f->count);
    lock_release(&e->lock);
    wake(&versions, 0);
    return error;
}

// ---- bytes

// The disk: the next bytes, of this block.
static void flight_store(struct flight *f, uint32_t number, const void *data, size_t size_bytes)
{
    if (f->is_unstored)
        return;
    if (!f->is_writing) {
        struct stored *s = entry_stored(f->entry);
        f->is_unstored = !s;
        if (!s)
            return;
        stored_write_begin(s, number, &f->writer);
        stored_unref(s);
        f->is_writing = true;
    }
    if (stored_write(&f->writer, data, size_bytes) >= 0)
        return;
    stored_write_end(&f->writer);
    f->is_writing = false;
    f->is_unstored = true;
    lock_scope(&f->entry->lock);
    f->entry->store_refused_ns = clock_ns();
}

// The block at which it is came whole. -ECANCELED: nobody wants to know. ORIGIN_ENOUGH: nor what comes after it.
static int flight_block_came(struct flight *f)
{
    struct cache_entry *e = f->entry;
    struct wake_list ready = {0};
    lock_acquire(&e->lock);
    int r = f->state != FLIGHT_FLYING ? -ECANCELED : f->arrived == f->count ? ORIGIN_ENOUGH : 0;
    if (r == 0) {
        entry_block_came(e, f->first + f->arrived, &ready);
        f->arrived++;
    }
    lock_release(&e->lock);
    wake(&ready, 0);
    return r;
}

// A whole block of what nobody is reading: to the disk only.
static int flight_put_away(struct flight *f, struct pool_block *block, uint32_t number, uint32_t whole)
{
    flight_store(f, number, block->data, whole);
    int r = f->is_unstored ? -ENOSPC : flight_block_came(f); // without the disk it would be for nothing
    pool_drop(f->entry->cache->pool, block, false);
    return r;
}

// A whole block: published, told of, stored.
static int flight_publish(struct flight *f, struct pool_block *block, uint32_t number, uint32_t whole)
{
    struct pool *pool = f->entry->cache->pool;
    pool_publish(pool, block, atomic_load(&f->entry->serial), number, whole);
    int r = flight_block_came(f);
    if (r == 0)
        flight_store(f, number, block->data, whole);
    pool_drop(pool, block, false);
    return r;
}

// Bytes into the block that is being filled. They come in pieces of some KiB, which a disk is not to be bothered with.
static int flight_fill(struct flight *f, const unsigned char **data, size_t *size_bytes)
{
    uint32_t number = f->first + f->arrived, whole = entry_block_bytes(f->entry, number);
    if (!f->filling)
        f->filling = pool_take(f->entry->cache->pool);
    size_t n = whole - f->filled_bytes < *size_bytes ? whole - f->filled_bytes : *size_bytes;
    memcpy(f->filling->data + f->filled_bytes, *data, n);
    f->filled_bytes += (uint32_t)n;
    *data += n;
    *size_bytes -= n;
    if (f->filled_bytes < whole)
        return 0;
    struct pool_block *block = take(f->filling);
    f->filled_bytes = 0;
    return f->is_past_memory ? flight_put_away(f, block, number, whole) : flight_publish(f, block, number, whole);
}

// Whether a long flight stands: nobody asked for more, yet. It doesn't stand for long: that would cost a connection.
static int flight_may_stand(struct flight *f)
{
    struct cache_entry *e = f->entry;
    lock_scope(&e->lock);
    if (f->state != FLIGHT_FLYING)
        return -ECANCELED;
    int64_t now = clock_ns();
    if (f->stopped_ns && now - f->stopped_ns >= STANDS_NS)
        f->count = f->arrived;
    if (f->arrived == f->count)
        return ORIGIN_ENOUGH;
    if (f->first + f->arrived < f->asked_end)
        return 0;
    if (!f->stopped_ns)
        f->stopped_ns = now;
    return ORIGIN_PAUSE;
}

static int flight_sink(struct origin_request *r, const void *data, size_t size_bytes)
{
    struct flight *f = flight_of_request(r);
    const unsigned char *at = data;
    int error = f->is_long && f->filled_bytes == 0 ? flight_may_stand(f) : 0;
    while (error == 0 && size_bytes) {
        if (f->arrived == f->promised)
            return -EREMOTEIO; // more than was asked for
        error = flight_fill(f, &at, &size_bytes);
    }
    return error;
}

// ---- the end

static void flight_close(struct flight *f)
{
    if (f->is_writing)
        stored_write_end(&f->writer);
    f->is_writing = false;
    if (f->filling)
        pool_drop(f->entry->cache->pool, take(f->filling), false);
}

// What the answer comes to. With the entry's lock held, of a flight that flies.
static int flight_outcome(struct flight *f, const struct origin_answer *a, const char **ret_why,
                          struct wake_list *versions)
{
    int error = a->error;
    *ret_why = a->why;
    if (error == 0 && f->is_question)
        error = flight_learn(f, a, versions);
    if (error == -ERANGE) // inside the version that we know: there is a shorter one by now
        error = -ESTALE;
    if (error == 0 && f->arrived < f->count) {
        error = -EREMOTEIO;
        *ret_why = "the answer ended before its end";
    }
    return error;
}

static void flight_log(struct flight *f, int error, const char *why)
{
    const struct cache_entry *e = f->entry;
    struct text origin = origin_identity(e->origin);
    enum log_level level = error == -ENOENT ? LOG_LEVEL_DEBUG
                           : error == -ESTALE ? LOG_LEVEL_INFO : LOG_LEVEL_WARN;
    log_write(level, "%.*s/%.*s: %s (%s)", (int)origin.size_bytes, origin.data,
              (int)e->key_text.size_bytes, e->key_text.data,
              error == -ESTALE ? "it was replaced" : strerror(-error), why ? why : "no reason given");
}

// Those who wait for what it won't bring.
static void flight_fail(struct flight *f, int error, const char *why, struct wake_list *to)
{
    struct cache_entry *e = f->entry;
    entry_failed(e, error, why);
    if (f->is_question && error != -ESTALE) // else they ask again, and learn the new one
        entry_take_waiters(e, CACHE_WANT_VERSION, 0, UINT32_MAX, to);
    if (f->count > f->arrived)
        entry_take_waiters(e, CACHE_WANT_BLOCKS, f->first + f->arrived, f->count - f->arrived, to);
    if (e->wanted_bytes && f->priority != ORIGIN_READER_WAITS) {
        e->wanted_bytes = 0;
        e->is_warming = false;
        entry_take_waiters(e, CACHE_WANT_WHOLE, 0, UINT32_MAX, to);
    }
}

static void flight_done(struct origin_request *r, const struct origin_answer *a)
{
    struct flight *f = flight_of_request(r);
    struct cache_entry *e = f->entry;
    struct wake_list versions = {0}, failed = {0};
    const char *why = NULL;
    flight_close(f);
    lock_acquire(&e->lock);
    bool is_cancelled = f->state == FLIGHT_FAILED, is_of_whole = f->is_of_whole;
    int error = is_cancelled ? -ECANCELED : flight_outcome(f, a, &why, &versions);
    bool is_gone = error == -ESTALE || (error == -ENOENT && e->state != ENTRY_ABSENT);
    if (error < 0 && !is_cancelled)
        flight_fail(f, error, why, &failed);
    if (!is_cancelled)
        flight_end(f, error == 0);
    if (is_gone)
        entry_doom(e, true);
    lock_release(&e->lock);
    if (error < 0 && !is_cancelled) {
        metric_add(METRIC_FLIGHTS_FAILED, 1);
        flight_log(f, error, why);
    }
    if (is_gone)
        entry_die(e, true);
    wake(&versions, 0);
    wake(&failed, error);
    if (is_of_whole && !error)
        whole_told(e);
    whole_look(e);
    entry_pump(e);
    flight_landed(f);
}

void flight_request(struct flight *f, int64_t deadline_ns)
{
    struct cache_entry *e = f->entry;
    f->promised = f->count;
    f->request = (struct origin_request){
        .verb = f->count ? ORIGIN_GET : ORIGIN_HEAD,
        .priority = f->priority,
        .key = e->key_text,
        .version = e->version_id_text,
        .offset = (uint64_t)f->first * CACHE_BLOCK_BYTES,
        .size_bytes = (uint64_t)f->count * CACHE_BLOCK_BYTES,
        .is_all = e->state != ENTRY_ABSENT && f->first == 0 && f->count && f->count == entry_block_count(e),
        .deadline_ns = deadline_ns,
        .begin = flight_begin,
        .sink = flight_sink,
        .done = flight_done,
        .context = f,
    };
    // A question is about whatever version there is.
    if (!f->is_question && e->state != ENTRY_ABSENT)
        f->request.if_match = e->version.validator;
}
