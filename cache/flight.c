// SPDX-License-Identifier: BSD-3-Clause
// flight.c: making flights, their turns, their ends. What happens while one flies: flight_data.c.
// 1. Each endpoint has a lane of its own: flights that wait for one that doesn't answer are in nobody else's way.
#include "cache/flight.h"

#include <errno.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/metric.h"
#include "cache/flight_data.h"
#include "cache/store.h"

#define NEAR_NS (5 * NS_PER_MS)         // until an answer begins
#define LONG_BLOCKS UINT32_C(8192)      // 1 GiB
#define REACH_BLOCKS UINT32_C(256)      // 32 MiB: who wants something farther ahead doesn't wait for a long flight
#define NARROW_AFTER_NS (100 * NS_PER_MS)
#define NARROW_BYTES_PER_S INT64_C(250000000) // below this, more connections are tried

TAILQ_HEAD(flight_queue, flight);

// Those to one endpoint.
struct flight_lane {
    const struct endpoint *endpoint;
    struct flight_lane *next;
    // under the flights' lock
    uint32_t flying;
    struct flight_queue queues[ORIGIN_PRIORITIES];
};

struct flights {
    struct lock lock;
    uint32_t limit; // of a lane
    // under lock
    struct flight_lane *lanes;
    uint32_t flying;
    uint32_t landing; // their requests are over, what they brought isn't written yet
    uint32_t queued;
    pthread_cond_t landed;
};

struct flights *flights_new(uint32_t limit)
{
    struct flights *f = new_struct(struct flights);
    lock_init(&f->lock, LOCK_RANK_FLIGHTS, "flights");
    condition_init(&f->landed);
    f->limit = limit ? limit : 1;
    return f;
}

void flights_free(struct flights *f)
{
    check(f->flying == 0 && f->queued == 0);
    while (f->lanes) {
        struct flight_lane *lane = f->lanes;
        f->lanes = lane->next;
        free(lane);
    }
    pthread_cond_destroy(&f->landed);
    lock_release_memory(&f->lock);
    free(f);
}

void flights_status(struct flights *f, uint32_t *ret_flying, uint32_t *ret_queued)
{
    lock_scope(&f->lock);
    *ret_flying = f->flying;
    *ret_queued = f->queued;
}

void flights_drain(struct flights *f)
{
    lock_scope(&f->lock);
    while (f->flying || f->landing || f->queued)
        condition_wait(&f->landed, &f->lock, INT64_MAX);
}

// ---- states

static void flight_move(struct flight *f, enum flight_state to)
{
    static const bool is_legal[4][4] = {
        [FLIGHT_QUEUED] = {[FLIGHT_FLYING] = true, [FLIGHT_FAILED] = true},
        [FLIGHT_FLYING] = {[FLIGHT_DONE] = true, [FLIGHT_FAILED] = true},
    };
    check(is_legal[f->state][to]);
    f->state = to;
}

// Out of the entry's sight: nobody can join it any more. With the entry's lock held.
static void flight_leave(struct flight *f, enum flight_state to)
{
    struct cache_entry *e = f->entry;
    flight_move(f, to);
    TAILQ_REMOVE(&e->flights, f, of_entry);
    if (e->asking == f)
        e->asking = NULL;
}

static void flight_free(struct flight *f)
{
    check(!f->filling && !f->is_writing && !f->run && f->state != FLIGHT_QUEUED && f->state != FLIGHT_FLYING);
    entry_unref(f->entry);
    free(f->why);
    free(f);
}

// ---- the queue

static struct flight_lane *lane_of(struct flights *all, const struct endpoint *endpoint)
{
    for (struct flight_lane *lane = all->lanes; lane; lane = lane->next)
        if (lane->endpoint == endpoint)
            return lane;
    struct flight_lane *lane = new_struct(struct flight_lane);
    *lane = (struct flight_lane){.endpoint = endpoint, .next = all->lanes};
    for (int i = 0; i < ORIGIN_PRIORITIES; i++)
        TAILQ_INIT(&lane->queues[i]);
    return all->lanes = lane;
}

static void queue_add(struct flights *all, struct flight *f)
{
    lock_scope(&all->lock);
    if (!f->lane)
        f->lane = lane_of(all, origin_endpoint(f->entry->origin));
    TAILQ_INSERT_TAIL(&f->lane->queues[f->priority], f, queued);
    f->is_queued = true;
    all->queued++;
}

// false: it is just being started.
static bool queue_remove(struct flights *all, struct flight *f)
{
    lock_scope(&all->lock);
    if (!f->is_queued)
        return false;
    TAILQ_REMOVE(&f->lane->queues[f->priority], f, queued);
    f->is_queued = false;
    all->queued--;
    pthread_cond_signal(&all->landed);
    return true;
}

// The next one whose turn it is; it counts as flying.
static struct flight *queue_take(struct flights *all)
{
    lock_scope(&all->lock);
    struct flight *f = NULL;
    for (struct flight_lane *lane = all->lanes; lane && !f; lane = lane->next)
        for (int i = 0; i < ORIGIN_PRIORITIES && !f && lane->flying < all->limit; i++)
            f = TAILQ_FIRST(&lane->queues[i]);
    if (!f)
        return NULL;
    TAILQ_REMOVE(&f->lane->queues[f->priority], f, queued);
    f->is_queued = false;
    all->queued--;
    all->flying++;
    f->lane->flying++;
    metric_add(METRIC_FLIGHTS, 1);
    return f;
}

static void flying_ended(struct flights *all, struct flight_lane *lane)
{
    metric_add(METRIC_FLIGHTS, -1);
    lock_scope(&all->lock);
    all->flying--;
    lane->flying--;
    all->landing++;
}

static void landing_ended(struct flights *all)
{
    lock_scope(&all->lock);
    all->landing--;
    pthread_cond_signal(&all->landed);
}

// ---- making and joining

static struct flight *flight_new(struct cache_entry *e, uint32_t first, uint32_t count, bool is_question,
                                 enum origin_priority priority)
{
    struct flight *f = aligned_alloc(_Alignof(struct flight), sizeof(struct flight));
    check(f); // as everywhere: memory does not fail
    memset(f, 0, sizeof(*f));
    atomic_init(&f->holds, 1);
    atomic_init(&f->is_unstored, !e->cache->has_store);
    f->entry = entry_ref(e);
    f->first = first;
    f->count = count;
    f->asked_end = first + count;
    f->priority = priority;
    f->is_question = is_question;
    TAILQ_INSERT_TAIL(&e->flights, f, of_entry);
    if (is_question)
        e->asking = f;
    queue_add(e->cache->flights, f);
    return f;
}

static void flight_raise(struct flight *f, enum origin_priority priority)
{
    if (priority >= f->priority)
        return;
    struct flights *all = f->entry->cache->flights;
    bool was_queued = queue_remove(all, f);
    f->priority = priority;
    if (was_queued)
        queue_add(all, f);
    else if (f->state == FLIGHT_FLYING && !f->is_over)
        origin_raise(&f->request, priority);
}

// Who brings this block to readers, or to the disk.
static struct flight *flight_of(const struct cache_entry *e, uint32_t block, bool to_disk)
{
    struct flight *f;
    TAILQ_FOREACH(f, &e->flights, of_entry) {
        uint32_t behind = to_disk ? f->stored : f->arrived;
        if (block >= f->first + behind && block - f->first < f->count)
            return f;
    }
    return NULL;
}

bool flight_covers(const struct cache_entry *e, uint32_t block)
{
    return flight_of(e, block, false) != NULL;
}

// Whether a flight must bring it. What is in memory only doesn't do for who wants it on the disk.
static bool block_is_missing(struct cache_entry *e, uint32_t block, bool to_disk)
{
    if (flight_of(e, block, to_disk))
        return false;
    return to_disk && e->cache->has_store ? !e->stored || !stored_has(e->stored, block)
                                          : !entry_has(e, block);
}

// ---- long ones

bool entry_is_near(const struct cache_entry *e)
{
    int64_t of_origin = origin_latency_ns(e->origin), latency = of_origin ? of_origin : e->latency_ns;
    return latency && latency < NEAR_NS && !e->is_narrow;
}

// Goes on, if it stands.
static void flight_go_on(struct flight *f)
{
    if (!f->stopped_ns || f->is_over)
        return;
    f->stood_ns += clock_ns() - f->stopped_ns;
    f->stopped_ns = 0;
    origin_unpause(&f->request);
}

// It ends where nobody has asked for more.
static void flight_shorten(struct flight *f)
{
    uint32_t asked = f->asked_end - f->first;
    f->count = asked > f->arrived ? asked : f->arrived;
    flight_go_on(f);
}

// A server that gives little on each connection.
static bool flight_is_narrow(const struct flight *f)
{
    if (!f->begun_ns || f->stopped_ns)
        return false;
    int64_t took = clock_ns() - f->begun_ns - f->stood_ns;
    int64_t came = (int64_t)f->arrived * (int64_t)CACHE_BLOCK_BYTES;
    return took > NARROW_AFTER_NS && came < took / NS_PER_MS * (NARROW_BYTES_PER_S / 1000);
}

// Whether a long flight is of use to who wants that block and those up to `end`: then it goes there. Else it ends before.
static bool flight_takes_on(struct flight *f, uint32_t block, uint32_t end, enum origin_priority priority)
{
    uint32_t at = f->first + f->arrived;
    bool is_waiting = priority == ORIGIN_READER_WAITS;
    bool is_old = f->begun_ns && clock_ns() - f->begun_ns > f->entry->cache->options.limit_ns / 2;
    bool is_narrow = is_waiting && flight_is_narrow(f);
    f->entry->is_narrow |= is_narrow;
    if (is_old || is_narrow || block > at + REACH_BLOCKS)
        flight_shorten(f);
    if (block >= f->first + f->count)
        return false;
    if (end > f->first + f->count)
        end = f->first + f->count;
    if (end > f->asked_end)
        f->asked_end = end;
    if (at < f->asked_end)
        flight_go_on(f);
    return true;
}

// ---- what is wanted

struct wanted {
    uint32_t first, end; // blocks
    uint32_t part;       // the most for a flight
    uint32_t reach;      // how far flights may go on behind the end
    enum origin_priority priority;
    bool is_for_disk;
};

static uint32_t run_of(struct cache_entry *e, const struct wanted *w, uint32_t block)
{
    uint32_t run = 0;
    while (run < w->part && block + run < w->reach && block_is_missing(e, block + run, w->is_for_disk))
        run++;
    return run;
}

static void flights_make(struct cache_entry *e, const struct wanted *w)
{
    check(lock_is_held(&e->lock) && w->part > 0);
    for (uint32_t b = w->first; b < w->end;) {
        struct flight *f = flight_of(e, b, w->is_for_disk);
        if (f && f->is_long && !flight_takes_on(f, b, w->end, w->priority))
            f = NULL;
        if (f) {
            flight_raise(f, w->priority);
            b = f->first + f->count;
            continue;
        }
        uint32_t run = run_of(e, w, b);
        if (run) {
            f = flight_new(e, b, run, false, w->priority);
            f->is_long = b + run > w->end;
            f->asked_end = f->is_long ? w->end : b + run;
        }
        b += run ? run : 1;
    }
}

void flight_want(struct cache_entry *e, uint32_t first, uint32_t count, uint32_t part,
                 enum origin_priority priority)
{
    flights_make(e, &(struct wanted){.first = first, .end = first + count, .part = part, .reach = first + count,
                                     .priority = priority});
}

void flight_want_stored(struct cache_entry *e, uint32_t first, uint32_t count, uint32_t part,
                        enum origin_priority priority)
{
    flights_make(e, &(struct wanted){.first = first, .end = first + count, .part = part, .reach = first + count,
                                     .priority = priority, .is_for_disk = true});
}

void flight_want_on(struct cache_entry *e, uint32_t first, uint32_t count, enum origin_priority priority)
{
    flights_make(e, &(struct wanted){.first = first, .end = first + count, .part = LONG_BLOCKS,
                                     .reach = entry_block_count(e), .priority = priority});
}

void flight_ask(struct cache_entry *e, uint32_t count, enum origin_priority priority)
{
    check(lock_is_held(&e->lock));
    if (e->asking)
        flight_raise(e->asking, priority);
    else
        flight_new(e, 0, count, true, priority);
}

void flight_ask_checksum(struct cache_entry *e)
{
    check(lock_is_held(&e->lock));
    if (!e->asking)
        flight_new(e, 0, 0, true, ORIGIN_BACKGROUND)->is_of_whole = true;
}

// ---- ending

static bool flight_is_wanted(const struct flight *f)
{
    const struct cache_entry *e = f->entry;
    if (f->is_of_whole)
        return true;
    if (f->is_question)
        for (const struct cache_waiter *w = e->waiters; w; w = w->next)
            if (w->want->kind == CACHE_WANT_VERSION)
                return true;
    // All of it came: there is nothing to cancel, and some may still be on its way to the disk.
    if (f->is_over || (!f->is_question && f->arrived == f->count))
        return true;
    uint32_t at = f->first + f->arrived, end = f->first + f->count;
    if (f->stopped_ns && f->arrived)
        at--; // who is at what was asked for last will ask for more
    return end > at && entry_is_wanted(e, at, end - at);
}

// It ends as failed, soon: the entry has forgotten it. With the entry's lock held.
static void flight_cancel(struct flight *f, struct flight_list *ret_gone)
{
    enum flight_state was = f->state;
    bool was_queued = was == FLIGHT_QUEUED && queue_remove(f->entry->cache->flights, f);
    flight_leave(f, FLIGHT_FAILED);
    metric_add(METRIC_FLIGHTS_CANCELLED, 1);
    if (was == FLIGHT_FLYING) {
        if (!f->is_over)
            origin_cancel(&f->request);
    } else if (was_queued) {
        f->next_gone = ret_gone->first;
        ret_gone->first = f;
    } // else who starts it sees that it has failed
}

void flights_review(struct cache_entry *e, struct flight_list *ret_gone)
{
    check(lock_is_held(&e->lock));
    struct flight *f = TAILQ_FIRST(&e->flights), *next;
    for (; f; f = next) {
        next = TAILQ_NEXT(f, of_entry);
        if (!flight_is_wanted(f))
            flight_cancel(f, ret_gone);
    }
}

void flights_cancel_all(struct cache_entry *e, struct flight_list *ret_gone)
{
    struct flight *f;
    while ((f = TAILQ_FIRST(&e->flights)))
        flight_cancel(f, ret_gone);
}

void flights_free_gone(struct flight_list *gone)
{
    struct flight *f;
    while ((f = gone->first)) {
        gone->first = f->next_gone;
        flight_free(f);
    }
}

// ---- starting

// Its turn has come. Returns whether it flies.
static bool flight_start(struct flight *f)
{
    struct cache_entry *e = f->entry;
    lock_scope(&e->lock);
    if (f->state == FLIGHT_FAILED)
        return false;
    flight_move(f, FLIGHT_FLYING);
    f->started_ns = clock_ns();
    flight_request(f, f->started_ns + e->cache->options.limit_ns);
    metric_add(METRIC_FLIGHTS_STARTED, 1);
    origin_start(e->origin, &f->request);
    return true;
}

void flights_launch(struct cache *c)
{
    struct flight *f;
    while ((f = queue_take(c->flights))) {
        if (flight_start(f))
            continue;
        struct flight_lane *lane = f->lane;
        flight_free(f);
        flying_ended(c->flights, lane);
        landing_ended(c->flights);
    }
}

void flight_end(struct flight *f, bool is_good)
{
    flight_leave(f, is_good ? FLIGHT_DONE : FLIGHT_FAILED);
}

void flight_is_over(struct flight *f)
{
    struct cache *c = f->entry->cache;
    flying_ended(c->flights, f->lane);
    flights_launch(c);
}

void flight_landed(struct flight *f)
{
    struct cache *c = f->entry->cache;
    flight_free(f);
    landing_ended(c->flights); // the cache may be gone from here on
}
