// SPDX-License-Identifier: BSD-3-Clause
// flight_data.c: the callbacks of a flight's request. They run on a fetcher's thread, one at a time for a flight; what
// becomes of its blocks on the disk, and its end, on the thread that writes.
// 1. A block is given to who waits for it before it is written to the disk (storing.h): he needn't wait for that.
// 2. The disk is optional: whatever it says, the bytes go on to the readers.
// 3. A cancelled flight's callbacks change nothing: it has left its entry.
#include "cache/flight_data.h"

#include <errno.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/metric.h"
#include "cache/store.h"
#include "cache/whole.h"

#define STANDS_NS (NS_PER_S / 2)

static void flight_finish(struct flight *f);

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
    e->confirmed_unix_ns = clock_steady_unix_ns() - (clock_ns() - f->started_ns);
    e->nearline_said = a->nearline;
    e->nearline_said_ns = clock_ns();
    if (f->count)
        e->nearline_ns = 0; // here they are
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

// The writer, at the run's beginning; false: the store doesn't take it.
static bool flight_may_store(struct flight *f, uint32_t first)
{
    if (atomic_load(&f->is_unstored))
        return false;
    if (f->is_writing)
        return true;
    struct stored *s = entry_stored(f->entry);
    atomic_store(&f->is_unstored, !s);
    if (!s)
        return false;
    stored_write_begin(s, first, &f->writer);
    stored_unref(s);
    f->is_writing = true;
    return true;
}

static void flight_store(struct flight *f, const struct storing_run *run)
{
    struct iovec blocks[STORING_RUN_BLOCKS];
    for (uint32_t i = 0; i < run->count; i++)
        blocks[i] = (struct iovec){run->blocks[i]->data, entry_block_bytes(f->entry, run->first + i)};
    if (!flight_may_store(f, run->first) ||
        stored_write_blocks(&f->writer, blocks, run->hashes, run->count, !f->is_past_memory) >= 0)
        return;
    stored_write_end(&f->writer);
    f->is_writing = false;
    atomic_store(&f->is_unstored, true);
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

// The run is on the disk, or won't be. What nobody was reading needn't stay in memory beside it.
static void flight_stored(struct flight *f, const struct storing_run *run)
{
    for (uint32_t i = 0; i < run->count; i++)
        pool_drop(f->entry->cache->pool, run->blocks[i], f->is_past_memory);
    lock_scope(&f->entry->lock);
    f->stored = run->first + run->count - f->first;
}

static void flight_let_go(struct flight *f)
{
    if (atomic_fetch_sub(&f->holds, 1) == 1)
        flight_finish(f);
}

void flight_store_run(struct storing_run *run)
{
    struct flight *f = run->flight;
    flight_store(f, run);
    flight_stored(f, run);
    flight_let_go(f);
}

// What was gathered goes to who writes.
static void flight_give_run(struct flight *f)
{
    struct storing_run *run = take(f->run);
    if (!run)
        return;
    atomic_fetch_add(&f->holds, 1);
    if (storing_put(f->entry->cache->storing, run))
        return;
    atomic_fetch_sub(&f->holds, 1); // its request still has one
    atomic_store(&f->is_unstored, true);
    for (uint32_t i = 0; i < run->count; i++)
        pool_drop(f->entry->cache->pool, run->blocks[i], false);
    free(run);
    lock_scope(&f->entry->lock);
    f->entry->store_refused_ns = clock_ns();
}

// A whole block for the disk. Its hold is taken over.
static void flight_gather(struct flight *f, struct pool_block *block, uint32_t number)
{
    struct cache *c = f->entry->cache;
    if (!f->run) {
        f->run = new_struct(struct storing_run);
        f->run->flight = f;
        f->run->first = number;
    }
    f->run->hashes[f->run->count] = hash64(block->data, entry_block_bytes(f->entry, number));
    f->run->blocks[f->run->count++] = block;
    bool is_enough = storing_gathered(c->storing) || f->run->count == STORING_RUN_BLOCKS;
    if (is_enough || number + 1 == f->first + f->promised)
        flight_give_run(f);
}

// A whole block came. -errno, ORIGIN_ENOUGH: nobody wants what comes next.
static int flight_take_block(struct flight *f, struct pool_block *block, uint32_t number, uint32_t whole)
{
    struct pool *pool = f->entry->cache->pool;
    bool is_unstored = atomic_load(&f->is_unstored);
    int r = -ENOSPC; // without the disk it would be for nothing
    if (!f->is_past_memory || !is_unstored) {
        pool_publish(pool, block, atomic_load(&f->entry->serial), number, whole);
        r = flight_block_came(f);
    }
    if (r == 0 && !is_unstored)
        flight_gather(f, block, number);
    else
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
    return flight_take_block(f, block, number, whole);
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

// All of it came, as far as it is wanted. With the entry's lock held.
static int flight_judge(struct flight *f)
{
    if (f->result < 0 || f->arrived >= f->count)
        return f->result;
    f->why = memory_copy("the answer ended before its end", strlen("the answer ended before its end"));
    return -EREMOTEIO;
}

static void flight_log(struct flight *f, int error, const char *why)
{
    const struct cache_entry *e = f->entry;
    struct text origin = origin_identity(e->origin);
    // -ENOSPC is our own: what was fetched ahead for the disk only, which the store has complained of.
    enum log_level level = error == -ENOENT || error == -ENOSPC ? LOG_LEVEL_DEBUG
                           : error == -ESTALE || error == -EAGAIN ? LOG_LEVEL_INFO : LOG_LEVEL_WARN;
    log_write(level, "%.*s/%.*s: %s (%s)", (int)origin.size_bytes, origin.data,
              (int)e->key_text.size_bytes, e->key_text.data,
              error == -ESTALE ? "it was replaced" : strerror(-error), why ? why : "no reason given");
}

// A first block that is nearline says nothing of the version; a HEAD does.
static bool flight_asks_on(const struct flight *f, int error)
{
    return error == -EAGAIN && f->is_question && f->count;
}

// Those who wait for what it won't bring.
static void flight_fail(struct flight *f, int error, const char *why, struct wake_list *to)
{
    struct cache_entry *e = f->entry;
    bool asks_on = flight_asks_on(f, error);
    if (error != -EAGAIN) // that is no failure: entry_is_nearline
        entry_failed(e, error, why);
    if (f->is_question && error != -ESTALE && !asks_on) // else they ask again, and learn the new one
        entry_take_waiters(e, CACHE_WANT_VERSION, 0, UINT32_MAX, to);
    if (f->count > f->arrived)
        entry_take_waiters(e, CACHE_WANT_BLOCKS, f->first + f->arrived, f->count - f->arrived, to);
    if (e->wanted_bytes && f->priority != ORIGIN_READER_WAITS) {
        e->wanted_bytes = 0;
        e->is_warming = false;
        entry_take_waiters(e, CACHE_WANT_WHOLE, 0, UINT32_MAX, to);
    }
}

// Its request is over, and what it brought is where it is to be. No other thread has it.
static void flight_finish(struct flight *f)
{
    struct cache_entry *e = f->entry;
    struct wake_list failed = {0};
    if (f->is_writing)
        stored_write_end(&f->writer);
    f->is_writing = false;
    lock_acquire(&e->lock);
    bool is_cancelled = f->state == FLIGHT_FAILED, is_of_whole = f->is_of_whole;
    int error = is_cancelled ? -ECANCELED : flight_judge(f);
    bool is_gone = error == -ESTALE || (error == -ENOENT && e->state != ENTRY_ABSENT);
    if (error < 0 && !is_cancelled)
        flight_fail(f, error, f->why, &failed);
    bool asks_on = !is_cancelled && flight_asks_on(f, error);
    if (!is_cancelled)
        flight_end(f, error == 0);
    if (asks_on)
        flight_ask(e, 0, f->priority);
    if (is_gone)
        entry_doom(e, true);
    lock_release(&e->lock);
    if (error < 0 && !is_cancelled) {
        metric_add(METRIC_FLIGHTS_FAILED, 1);
        flight_log(f, error, f->why);
    }
    if (is_gone)
        entry_die(e, true);
    wake(&failed, error);
    if (is_of_whole && !error)
        whole_told(e);
    whole_look(e);
    entry_pump(e);
    flight_landed(f);
}

// What the answer comes to, so far.
static void flight_done(struct origin_request *r, const struct origin_answer *a)
{
    struct flight *f = flight_of_request(r);
    struct cache_entry *e = f->entry;
    struct wake_list versions = {0};
    if (f->filling)
        pool_drop(e->cache->pool, take(f->filling), false);
    flight_give_run(f);
    lock_acquire(&e->lock);
    f->is_over = true;
    f->result = a->error;
    f->why = a->why ? memory_copy(a->why, strlen(a->why)) : NULL;
    if (f->state == FLIGHT_FLYING && a->error == 0 && f->is_question)
        f->result = flight_learn(f, a, &versions);
    if (a->is_archived) {
        e->nearline_ns = clock_ns();
        f->result = f->count ? -EAGAIN : f->result; // a HEAD that is refused so is just refused
    }
    if (f->result == -ERANGE) // inside the version that we know: there is a shorter one by now
        f->result = -ESTALE;
    lock_release(&e->lock);
    wake(&versions, 0);
    flight_is_over(f);
    flight_let_go(f);
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
