// SPDX-License-Identifier: BSD-3-Clause
// whole.c
// 1. A wish for an entry's first wanted_bytes is flown for once, from its beginning on: `pumped` blocks of it were
//    asked for. It ends when the last of them landed, or the first failed.
// 2. An object whose whole isn't what its checksum says is fetched once more. If that is the same it is given
//    without that checksum (two datasets may have come to share a file), or refused, as configured.
// 3. Of an object that became whole without a checksum the origin is asked for one, once, if it is likely to have it. Its
//    bytes are given out meanwhile, as they were before.
#include "cache/whole.h"

#include <errno.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/log.h"
#include "cache/flight.h"
#include "cache/store.h"

#define PARTS_AT_ONCE 4
#define NEAR_PART_BLOCKS UINT32_C(512) // 64 MiB a flight, where more of them would only cost

// ---- bringing it in

static uint32_t flights_of(const struct cache_entry *e)
{
    uint32_t count = 0;
    const struct flight *f;
    TAILQ_FOREACH(f, &e->flights, of_entry)
        count++;
    return count;
}

static uint32_t wanted_blocks(const struct cache_entry *e)
{
    uint64_t blocks = ((uint64_t)e->wanted_bytes + CACHE_BLOCK_BYTES - 1) / CACHE_BLOCK_BYTES;
    return blocks < entry_block_count(e) ? (uint32_t)blocks : entry_block_count(e);
}

static enum origin_priority wish_priority(const struct cache_entry *e)
{
    return e->is_warming ? ORIGIN_BACKGROUND : ORIGIN_AHEAD;
}

// All of them landed. Whether some are to be asked for once more: those that came from a flight that was writing
// to a file that isn't the entry's any more.
static bool pump_again(struct cache_entry *e, uint32_t end)
{
    if (!e->stored || e->has_pumped_twice || stored_next_missing(e->stored, 0, end) == end)
        return false;
    e->has_pumped_twice = true;
    e->pumped = 0;
    return true;
}

// Asks for parts that are missing. false: all of them were asked for, and have landed.
static bool pump_parts(struct cache_entry *e)
{
    uint32_t end = wanted_blocks(e), flying = flights_of(e);
    if (e->pumped >= end && !flying && !pump_again(e, end))
        return false;
    while (e->pumped < end && flying < PARTS_AT_ONCE) {
        uint32_t part = end - e->pumped, most = entry_is_near(e) ? NEAR_PART_BLOCKS : WHOLE_PART_BLOCKS;
        if (part > most)
            part = most;
        flight_want_stored(e, e->pumped, part, part, wish_priority(e));
        e->pumped += part;
        flying = flights_of(e);
    }
    return e->pumped < end || flying > 0;
}

void entry_wish(struct cache_entry *e, int64_t bytes)
{
    check(lock_is_held(&e->lock));
    e->wanted_bytes = bytes;
    e->pumped = 0;
    e->has_pumped_twice = false;
}

void entry_pump(struct cache_entry *e)
{
    struct wake_list ended = {0};
    int error = 0;
    lock_acquire(&e->lock);
    if (e->wanted_bytes && e->state == ENTRY_ABSENT) {
        uint64_t blocks = ((uint64_t)e->wanted_bytes + CACHE_BLOCK_BYTES - 1) / CACHE_BLOCK_BYTES;
        flight_ask(e, blocks < WHOLE_PART_BLOCKS ? (uint32_t)blocks : WHOLE_PART_BLOCKS,
                   wish_priority(e));
    } else if (e->wanted_bytes && e->state != ENTRY_DYING) {
        bool is_refused = e->is_warming && e->store_refused_ns > e->warm_ns;
        if (is_refused || !pump_parts(e)) {
            error = is_refused ? -ENOSPC : 0;
            e->wanted_bytes = 0;
            e->is_warming = false;
            entry_take_waiters(e, CACHE_WANT_WHOLE, 0, UINT32_MAX, &ended);
        }
    }
    lock_release(&e->lock);
    wake(&ended, error);
    flights_launch(e->cache);
}

// ---- all of it is there

struct checking {
    struct stored_waiter waiter;
    struct cache_entry *entry; // a reference
    struct stored *stored;     // likewise
    LIST_ENTRY(checking) all;  // under the cache's lock
};

static void checksum_log(const struct cache_entry *e, const char *what)
{
    struct text origin = origin_identity(e->origin);
    log_warn("%.*s/%.*s: its bytes are not what its checksum %s says: %s", (int)origin.size_bytes,
             origin.data, (int)e->key_text.size_bytes, e->key_text.data,
             e->checksum ? e->checksum : "(unknown)", what);
}

// See 2. With the entry's lock held.
static void whole_mismatched(struct cache_entry *e)
{
    bool is_first = e->mismatches++ == 0;
    // Who is just reading a block from the file that was wrong puts it into memory under the old serial.
    uint64_t serial = atomic_fetch_add(&e->cache->serials, 1) + 1;
    pool_forget(e->cache->pool, atomic_exchange(&e->serial, serial));
    if (is_first) {
        checksum_log(e, "fetched once more");
        if (!LIST_EMPTY(&e->handles))
            entry_wish(e, e->version.size_bytes);
    } else if (e->cache->options.refuse_mismatch) {
        checksum_log(e, "twice; it is refused");
        e->is_refused = true;
    } else {
        checksum_log(e, "twice; it is given as it is");
        free(take(e->checksum));
    }
}

static void checking_free(struct checking *k)
{
    struct cache *c = k->entry->cache;
    stored_unref(k->stored);
    entry_unref(k->entry);
    lock_acquire(&c->lock);
    LIST_REMOVE(k, all);
    pthread_cond_broadcast(&c->checked);
    lock_release(&c->lock);
    free(k);
}

struct stored *whole_lost(struct cache_entry *e)
{
    check(lock_is_held(&e->lock));
    if (!e->stored || e->state == ENTRY_DYING || stored_state(e->stored) != STORED_DYING)
        return NULL;
    if (e->state == ENTRY_COMPLETE)
        entry_move(e, ENTRY_PARTIAL);
    if (e->checksum && stored_is_wrong(e->stored))
        whole_mismatched(e);
    return take(e->stored);
}

static void whole_checked(struct stored_waiter *w, int error)
{
    struct checking *k = (struct checking *)w;
    struct cache_entry *e = k->entry;
    struct wake_list ended = {0};
    lock_acquire(&e->lock);
    e->is_checking = false;
    struct stored *lost = whole_lost(e);
    if (error < 0 && e->stored == k->stored && e->state == ENTRY_COMPLETE)
        entry_move(e, ENTRY_PARTIAL);
    if (!e->wanted_bytes)
        entry_take_waiters(e, CACHE_WANT_WHOLE, 0, UINT32_MAX, &ended);
    lock_release(&e->lock);
    if (lost) {
        stored_unref(lost);
        entry_pump(e);
    }
    wake(&ended, 0);
    checking_free(k);
}

void whole_check(struct cache_entry *e)
{
    struct cache *c = e->cache;
    struct checking *k = NULL;
    lock_acquire(&e->lock);
    if (e->stored && e->state == ENTRY_COMPLETE && !e->is_checking) {
        e->is_checking = true;
        k = new_struct(struct checking);
        k->waiter.done = whole_checked;
        k->entry = entry_ref(e);
        k->stored = stored_ref(e->stored);
    }
    lock_release(&e->lock);
    if (!k)
        return;
    lock_acquire(&c->lock);
    LIST_INSERT_HEAD(&c->checkings, k, all);
    lock_release(&c->lock);
    stored_check(k->stored, &k->waiter);
}

void whole_told(struct cache_entry *e)
{
    BUFFER_CLEANUP checksum = {0};
    lock_acquire(&e->lock);
    struct stored *s = e->checksum && e->stored && e->state == ENTRY_COMPLETE ? stored_ref(e->stored) : NULL;
    if (s)
        buffer_append_string(&checksum, e->checksum);
    lock_release(&e->lock);
    if (!s)
        return;
    stored_expect(s, buffer_text(&checksum));
    stored_unref(s);
    whole_check(e);
}

// Whether the origin is asked now. With the entry's lock held.
static bool whole_ask(struct cache_entry *e)
{
    if (e->was_asked || e->mismatches || e->asking || !origin_may_tell_checksum(e->origin))
        return false;
    e->was_asked = true;
    flight_ask_checksum(e);
    return true;
}

void whole_end(struct cache *c)
{
    lock_acquire(&c->lock);
    struct checking *k;
    while ((k = LIST_FIRST(&c->checkings))) {
        // It can't be freed before it has left the list.
        if (stored_check_cancel(k->stored, &k->waiter)) {
            lock_release(&c->lock);
            checking_free(k);
            lock_acquire(&c->lock);
        } else {
            condition_wait(&c->checked, &c->lock, INT64_MAX);
        }
    }
    lock_release(&c->lock);
}

void whole_look(struct cache_entry *e)
{
    bool is_whole = false;
    lock_acquire(&e->lock);
    struct stored *lost = whole_lost(e);
    if (e->stored && e->state == ENTRY_PARTIAL) {
        uint32_t blocks = entry_block_count(e);
        is_whole = stored_next_missing(e->stored, 0, blocks) == blocks;
        if (is_whole)
            entry_move(e, ENTRY_COMPLETE);
    }
    bool is_asked = is_whole && !e->checksum && whole_ask(e);
    lock_release(&e->lock);
    if (lost) {
        stored_unref(lost);
        entry_pump(e);
    }
    if (is_whole)
        whole_told(e);
    if (is_asked)
        flights_launch(e->cache);
}
