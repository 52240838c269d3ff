// SPDX-License-Identifier: BSD-3-Clause
// recall.c: one record an object that is being brought back, and a thread that asks for what is due.
// 1. A record is the only one of its entry, and holds a reference to it. All of it is under the recalls' lock, but for the
//    request while that is with the origin. Only the thread frees one.
// 2. A restore is asked for only after a HEAD (or a GET that was refused) has said that none goes on.
// 3. READY is said only after the origin has given a byte.
// 4. Records are bounded. What was asked for by name and nobody waits for may be forgotten: the origin knows it.
// 5. Who waits is told within recall_wait_ns of its beginning, and none can wait after that.
#include "cache/recalls.h"

#include <errno.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/metric.h"
#include "base/queue.h"
#include "cache/flight.h"

#define RECALLS_MAX 4096u
#define AT_ONCE 8u                            // requests to origins
#define POLL_FIRST_NS NS_PER_S
#define POLL_LAST_NS (300 * NS_PER_S)
#define POLL_FOR_NS (3 * 86400 * NS_PER_S)    // bulk recalls of deep archives take two days
#define UNSEEN_NS (600 * NS_PER_S)            // a HEAD may not show at once what was asked for
#define REFUSAL_HOLDS_NS (60 * NS_PER_S)
#define TROUBLE_HOLDS_NS (5 * NS_PER_S)
#define NEARLINE_HOLDS_NS (5 * NS_PER_S)      // then a read asks for the bytes again: others may have recalled them
#define SAID_HOLDS_NS (60 * NS_PER_S)         // of locality
#define FULL_LOG_NS (60 * NS_PER_S)

enum recall_step { STEP_LOOK, STEP_PROBE, STEP_RESTORE };

struct recall {
    struct recalls *all;
    struct cache_entry *entry; // a reference
    TAILQ_ENTRY(recall) of_all;
    enum recall_state state;
    struct recall_terms terms;
    enum recall_step step;     // the next request, or the one on its way
    bool is_busy;              // one is
    bool is_awaited;           // somebody waits
    bool is_overdue;           // nobody does any more, nor can
    bool has_asked;            // in this life
    bool was_coming;           // the origin has said so
    bool is_restored;          // likewise, and still refuses the bytes
    bool needs_none;           // likewise: there is nothing to restore
    bool stays;                // its copies have no end, and no days
    int64_t begun_ns, asked_ns, settled_ns;
    int64_t due_ns;            // of the next request
    int64_t until_unix_ns;
    int error;
    char *why;
    struct origin_request request; // the origin's while is_busy
};

struct recalls {
    struct cache *cache;
    struct lock lock;
    pthread_cond_t changed;
    pthread_t thread;
    // under lock
    TAILQ_HEAD(recall_list, recall) list;
    uint32_t count, readers; // readers: ASKING and UNDER_WAY for readers
    uint32_t flying;
    uint32_t calls;          // of `done` that have not returned
    bool is_ending;
    uint32_t random;
    int64_t full_log_ns;
};

// ---- states

static bool is_settled(enum recall_state s)
{
    return s == RECALL_READY || s == RECALL_FAILED;
}

static void recall_move(struct recall *r, enum recall_state to)
{
    static const bool is_legal[4][4] = {
        [RECALL_ASKING] = {[RECALL_UNDER_WAY] = true, [RECALL_READY] = true, [RECALL_FAILED] = true},
        [RECALL_UNDER_WAY] = {[RECALL_READY] = true, [RECALL_FAILED] = true},
        [RECALL_READY] = {[RECALL_ASKING] = true},
        [RECALL_FAILED] = {[RECALL_ASKING] = true},
    };
    check(lock_is_held(&r->all->lock) && is_legal[r->state][to]);
    if (r->terms.is_for_reader && is_settled(to))
        r->all->readers--;
    metric_add(METRIC_RECALLS, is_settled(to) ? -1 : is_settled(r->state));
    r->state = to;
}

static void recall_settle(struct recall *r, enum recall_state to, int error, const char *why)
{
    recall_move(r, to);
    r->settled_ns = clock_ns();
    r->is_awaited = false;
    r->error = error;
    free(take(r->why));
    struct text origin = origin_identity(r->entry->origin), key = r->entry->key_text;
    if (!error) {
        metric_add(METRIC_RECALLS_READY, 1);
        log_info("%.*s/%.*s: can be read", (int)origin.size_bytes, origin.data, (int)key.size_bytes, key.data);
        return;
    }
    r->why = memory_copy(why, strlen(why));
    metric_add(METRIC_RECALLS_FAILED, 1);
    log_warn("%.*s/%.*s: could not be recalled: %s (%s)", (int)origin.size_bytes, origin.data, (int)key.size_bytes,
             key.data, strerror(-error), why);
}

static void recall_next(struct recall *r, enum recall_step step)
{
    r->step = step;
    r->due_ns = clock_ns();
}

// A quarter of its age: a tape robot's minutes and an archive's hours are both asked after some dozen times.
static void recall_later(struct recall *r)
{
    struct recalls *all = r->all;
    int64_t now = clock_ns(), pause = (now - r->begun_ns) / 4;
    if (r->state == RECALL_ASKING)
        recall_move(r, RECALL_UNDER_WAY);
    if (now - r->begun_ns > POLL_FOR_NS) {
        recall_settle(r, RECALL_FAILED, -EAGAIN, "it isn't there after three days");
        return;
    }
    pause = pause < POLL_FIRST_NS ? POLL_FIRST_NS : pause > POLL_LAST_NS ? POLL_LAST_NS : pause;
    all->random = all->random * 1664525 + 1013904223;
    r->step = STEP_LOOK;
    r->due_ns = now + pause - pause / 5 + pause / 5 * 2 * (all->random >> 24) / 256;
}

// ---- what the origin says

// Of a question about it, not of the restore itself.
static void heard_trouble(struct recall *r, const struct origin_answer *a)
{
    if (r->state == RECALL_UNDER_WAY && a->error != -ENOENT)
        recall_later(r);
    else
        recall_settle(r, RECALL_FAILED, a->error, a->why);
}

static bool wants_longer(const struct recall *r)
{
    return r->terms.is_longer && !r->has_asked && !r->stays && r->until_unix_ns != ORIGIN_TIME_UNKNOWN &&
           r->until_unix_ns < clock_unix_ns() + (int64_t)r->terms.days * 86400 * NS_PER_S;
}

static void heard_away(struct recall *r)
{
    if (r->state == RECALL_ASKING && !r->has_asked)
        recall_next(r, STEP_RESTORE);
    else if (r->was_coming || clock_ns() - r->asked_ns > UNSEEN_NS)
        recall_settle(r, RECALL_FAILED, -EAGAIN, "it was being restored, and is not any more");
    else
        recall_later(r);
}

static void heard_look(struct recall *r, const struct origin_answer *a)
{
    if (a->error && !a->is_archived) {
        heard_trouble(r, a);
        return;
    }
    r->stays = text_equal(a->storage_class, TEXT("INTELLIGENT_TIERING"));
    r->until_unix_ns = a->restored_until_unix_ns;
    r->is_restored = false;
    switch (a->is_archived ? ORIGIN_NEARLINE_AWAY : a->nearline) {
    case ORIGIN_NEARLINE_AWAY:
        heard_away(r);
        return;
    case ORIGIN_NEARLINE_COMING:
        r->was_coming = true;
        recall_later(r);
        return;
    case ORIGIN_NEARLINE_RESTORED:
        r->is_restored = true;
        recall_next(r, wants_longer(r) ? STEP_RESTORE : STEP_PROBE);
        return;
    case ORIGIN_NEARLINE_UNSAID:
        recall_next(r, STEP_PROBE);
        return;
    }
}

static void heard_probe(struct recall *r, const struct origin_answer *a)
{
    if (a->error == 0)
        recall_settle(r, RECALL_READY, 0, NULL);
    else if (!a->is_archived)
        heard_trouble(r, a);
    else if (r->needs_none)
        recall_settle(r, RECALL_FAILED, -EREMOTEIO, "the origin neither gives nor restores it");
    else if (r->state == RECALL_ASKING && !r->has_asked && !r->is_restored)
        recall_next(r, STEP_RESTORE);
    else
        recall_later(r);
}

static void heard_restore(struct recall *r, const struct origin_answer *a)
{
    struct text origin = origin_identity(r->entry->origin), key = r->entry->key_text;
    if (a->error) {
        recall_settle(r, RECALL_FAILED, a->error, a->why);
        return;
    }
    r->has_asked = true;
    r->asked_ns = clock_ns();
    if (a->nearline == ORIGIN_NEARLINE_COMING) {
        log_info("%.*s/%.*s: is being recalled, for %u days", (int)origin.size_bytes, origin.data,
                 (int)key.size_bytes, key.data, r->terms.days);
        recall_later(r);
        return;
    }
    r->needs_none = a->nearline == ORIGIN_NEARLINE_UNSAID;
    recall_next(r, r->needs_none ? STEP_PROBE : STEP_LOOK); // until when?
}

// With the entry's lock held.
static void note_back(struct cache_entry *e)
{
    e->nearline_ns = 0;
    e->nearline_said = ORIGIN_NEARLINE_RESTORED;
    e->nearline_said_ns = clock_ns();
}

// Those who wait run again: the bytes are there, or won't be. Without any lock.
static void tell_waiters(struct cache_entry *e, int error)
{
    struct wake_list to = {0};
    lock_acquire(&e->lock);
    if (!error)
        note_back(e);
    entry_take_waiters(e, CACHE_WANT_RECALL, 0, UINT32_MAX, &to);
    lock_release(&e->lock);
    wake(&to, error);
}

static void recall_heard(struct origin_request *q, const struct origin_answer *a)
{
    static void (*const heard[])(struct recall *r, const struct origin_answer *a) = {
        [STEP_LOOK] = heard_look, [STEP_PROBE] = heard_probe, [STEP_RESTORE] = heard_restore};
    struct recall *r = q->context;
    struct recalls *all = r->all;
    lock_acquire(&all->lock);
    struct cache_entry *e = entry_ref(r->entry);
    r->is_busy = false;
    all->flying--;
    if (!all->is_ending)
        heard[r->step](r, a);
    bool has_settled = is_settled(r->state);
    int error = r->error;
    pthread_cond_broadcast(&all->changed);
    lock_release(&all->lock); // the record may be gone from here on
    if (has_settled)
        tell_waiters(e, error);
    entry_unref(e);
    lock_acquire(&all->lock);
    all->calls--;
    pthread_cond_broadcast(&all->changed);
    lock_release(&all->lock); // and the cache
}

static int take_byte(struct origin_request *q, const void *data, size_t size_bytes)
{
    return 0;
}

// ---- the thread

static void recall_start(struct recall *r)
{
    static const enum origin_verb verbs[] = {
        [STEP_LOOK] = ORIGIN_HEAD, [STEP_PROBE] = ORIGIN_GET, [STEP_RESTORE] = ORIGIN_RESTORE};
    bool is_urgent = r->state == RECALL_ASKING && r->terms.is_for_reader;
    r->request = (struct origin_request){
        .verb = verbs[r->step],
        .priority = is_urgent ? ORIGIN_READER_WAITS : ORIGIN_BACKGROUND,
        .key = r->entry->key_text,
        .version = r->entry->version_id_text,
        .size_bytes = r->step == STEP_PROBE,
        .days = r->stays ? 0 : r->terms.days,
        .tier = r->terms.tier,
        .deadline_ns = clock_ns() + r->all->cache->options.limit_ns,
        .sink = take_byte,
        .done = recall_heard,
        .context = r,
    };
    r->is_busy = true;
    r->all->flying++;
    r->all->calls++;
    metric_add(METRIC_RECALLS_ASKED, r->step == STEP_RESTORE);
    origin_start(r->entry->origin, &r->request);
}

static int64_t settled_until(const struct recall *r)
{
    bool is_refusal = r->error == -EACCES || r->error == -EREMOTEIO || r->error == 0;
    return r->settled_ns + (is_refusal ? REFUSAL_HOLDS_NS : TROUBLE_HOLDS_NS);
}

static int64_t overdue_ns(const struct recall *r)
{
    return r->begun_ns + r->all->cache->options.recall_wait_ns;
}

static bool may_be_forgotten(const struct recall *r)
{
    return !r->is_busy && (is_settled(r->state) ? clock_ns() >= settled_until(r)
                                                : r->all->count > RECALLS_MAX / 2 && r->state == RECALL_UNDER_WAY &&
                                                      !r->terms.is_for_reader && !r->is_awaited);
}

// When something is to be done about it.
static int64_t turn_ns(const struct recall *r)
{
    int64_t at = INT64_MAX;
    if (may_be_forgotten(r))
        return 0;
    if (is_settled(r->state))
        return settled_until(r);
    if (!r->is_busy && r->all->flying < AT_ONCE)
        at = r->due_ns;
    if (!r->is_overdue && overdue_ns(r) < at)
        at = overdue_ns(r);
    return at;
}

static struct recall *recall_due(struct recalls *all, int64_t *ret_ns)
{
    struct recall *r, *first = NULL;
    *ret_ns = INT64_MAX;
    TAILQ_FOREACH(r, &all->list, of_all) {
        int64_t at = turn_ns(r);
        if (at < *ret_ns) {
            *ret_ns = at;
            first = r;
        }
    }
    return first;
}

// Out of the list. Under the lock; returns the entry, to be let go of without it.
static struct cache_entry *recall_take(struct recalls *all, struct recall *r)
{
    struct cache_entry *e = r->entry;
    e->recall = NULL;
    TAILQ_REMOVE(&all->list, r, of_all);
    all->count--;
    if (!is_settled(r->state)) {
        metric_add(METRIC_RECALLS, -1);
        all->readers -= r->terms.is_for_reader;
    }
    free(r->why);
    free(r);
    return e;
}

// Under the lock, which is let go of where others are called.
static void recall_turn(struct recalls *all, struct recall *r)
{
    if (may_be_forgotten(r)) {
        struct cache_entry *e = recall_take(all, r);
        lock_release(&all->lock);
        entry_unref(e);
        lock_acquire(&all->lock);
    } else if (!r->is_overdue && clock_ns() >= overdue_ns(r)) {
        struct cache_entry *e = entry_ref(r->entry);
        r->is_overdue = true;
        r->is_awaited = false;
        lock_release(&all->lock);
        tell_waiters(e, -EAGAIN);
        entry_unref(e);
        lock_acquire(&all->lock);
    } else {
        recall_start(r);
    }
}

static void *recaller_run(void *argument)
{
    struct recalls *all = argument;
    lock_acquire(&all->lock);
    while (!all->is_ending) {
        int64_t at;
        struct recall *r = recall_due(all, &at);
        if (r && at <= clock_ns())
            recall_turn(all, r);
        else
            condition_wait(&all->changed, &all->lock, at);
    }
    lock_release(&all->lock);
    return NULL;
}

struct recalls *recalls_new(struct cache *c)
{
    struct recalls *all = new_struct(struct recalls);
    all->cache = c;
    all->random = (uint32_t)clock_unix_ns();
    TAILQ_INIT(&all->list);
    lock_init(&all->lock, LOCK_RANK_RECALLS, "recalls");
    condition_init(&all->changed);
    if (thread_start(&all->thread, "recaller", recaller_run, all) < 0)
        log_check_failed("the thread that recalls can't be started", __FILE__, __LINE__);
    return all;
}

void recalls_free(struct recalls *all)
{
    struct recall *r;
    lock_acquire(&all->lock);
    all->is_ending = true;
    TAILQ_FOREACH(r, &all->list, of_all)
        if (r->is_busy)
            origin_cancel(&r->request);
    pthread_cond_broadcast(&all->changed);
    lock_release(&all->lock);
    pthread_join(all->thread, NULL);
    lock_acquire(&all->lock);
    while (all->calls)
        condition_wait(&all->changed, &all->lock, INT64_MAX);
    while ((r = TAILQ_FIRST(&all->list))) {
        struct cache_entry *e = recall_take(all, r);
        lock_release(&all->lock);
        entry_unref(e);
        lock_acquire(&all->lock);
    }
    lock_release(&all->lock);
    pthread_cond_destroy(&all->changed);
    lock_release_memory(&all->lock);
    free(all);
}

// ---- asking

static void log_full(struct recalls *all)
{
    int64_t now = clock_ns();
    if (all->full_log_ns && now - all->full_log_ns < FULL_LOG_NS)
        return;
    all->full_log_ns = now;
    log_warn("%u objects are being recalled for readers (recall_limit): who reads others that are nearline gets EAGAIN",
             all->readers);
}

// From the start, or from the start again.
static void recall_begin(struct recall *r, const struct recall_terms *terms)
{
    r->terms = *terms;
    r->is_overdue = r->is_awaited = r->has_asked = r->was_coming = r->is_restored = r->needs_none = r->stays = false;
    r->begun_ns = clock_ns();
    r->until_unix_ns = ORIGIN_TIME_UNKNOWN;
    r->error = 0;
    r->all->readers += terms->is_for_reader;
    recall_next(r, STEP_LOOK);
    pthread_cond_broadcast(&r->all->changed);
}

static int recall_make(struct recalls *all, struct cache_entry *e, const struct recall_terms *terms)
{
    struct recall *r = e->recall;
    if (terms->only_joins)
        return -ENODATA;
    if (terms->is_for_reader && all->readers >= all->cache->options.recalls) {
        log_full(all);
        return -EBUSY;
    }
    if (r) {
        recall_move(r, RECALL_ASKING);
        recall_begin(r, terms);
        return -EINPROGRESS;
    }
    if (all->count >= RECALLS_MAX)
        return -EBUSY;
    r = new_struct(struct recall);
    r->all = all;
    r->entry = entry_ref(e);
    e->recall = r;
    TAILQ_INSERT_TAIL(&all->list, r, of_all);
    all->count++;
    metric_add(METRIC_RECALLS, 1);
    recall_begin(r, terms);
    return -EINPROGRESS;
}

// Who asks by name takes over what is under way for a reader.
static int recall_join(struct recall *r, const struct recall_terms *terms)
{
    if (r->terms.is_for_reader && !terms->is_for_reader) {
        r->terms.is_for_reader = false;
        r->all->readers--;
    }
    return r->is_overdue ? -EAGAIN : -EINPROGRESS;
}

// With the entry's lock held, and the recalls'.
static int recall_ask(struct cache_entry *e, const struct recall_terms *terms)
{
    struct recalls *all = e->cache->recalls;
    struct recall *r = e->recall;
    if (!r)
        return recall_make(all, e, terms);
    bool is_longer = terms->is_longer && terms->days > r->terms.days;
    switch (r->state) {
    case RECALL_ASKING:
    case RECALL_UNDER_WAY:
        return recall_join(r, terms);
    case RECALL_READY:
        if (e->nearline_ns > r->settled_ns || is_longer)
            return recall_make(all, e, terms);
        return 0;
    case RECALL_FAILED:
        return clock_ns() < settled_until(r) ? r->error : recall_make(all, e, terms);
    }
    return 0;
}

int cached_recall(struct cached *h, const struct recall_terms *terms, struct cache_want *want)
{
    cleanup(cleanup_entry_unref) struct cache_entry *before = want ? want_take(want) : NULL;
    struct cache_entry *e = h->entry;
    struct recalls *all = e->cache->recalls;
    lock_scope(&e->lock);
    if (!entry_is_nearline(e))
        return 0;
    lock_acquire(&all->lock);
    int r = recall_ask(e, terms);
    if (r == -EINPROGRESS && want)
        e->recall->is_awaited = true;
    lock_release(&all->lock);
    if (r == 0)
        note_back(e);
    else if (r == -EINPROGRESS && want)
        want_fill(want, e, CACHE_WANT_RECALL, 0, 0);
    return r == -EINPROGRESS && !want ? -EAGAIN : r;
}

int cache_recall(struct cache *c, const struct object *object, const struct recall_terms *terms,
                 struct recall_report *ret_report)
{
    cleanup(cleanup_entry_unref) struct cache_entry *e = entry_get(c, object);
    struct recall_report report = {.state = RECALL_READY, .until_unix_ns = ORIGIN_TIME_UNKNOWN};
    lock_scope(&e->lock);
    report.is_cached = e->state == ENTRY_COMPLETE;
    if (!report.is_cached && origin_can_restore(e->origin)) {
        lock_scope(&c->recalls->lock);
        if (recall_ask(e, terms) == -EBUSY)
            return -EBUSY;
        const struct recall *r = e->recall;
        report.state = r->state;
        report.until_unix_ns = r->until_unix_ns;
        report.error = r->error;
        if (r->why)
            snprintf(report.why, sizeof report.why, "%s", r->why);
    }
    *ret_report = report;
    return 0;
}

// ---- what is known

static bool is_under_way(const struct cache_entry *e)
{
    lock_scope(&e->cache->recalls->lock);
    return e->recall && !is_settled(e->recall->state);
}

bool recall_is_awaited(const struct cache_entry *e)
{
    lock_scope(&e->cache->recalls->lock);
    return e->recall && !is_settled(e->recall->state) && !e->recall->is_overdue;
}

bool entry_is_nearline(const struct cache_entry *e)
{
    check(lock_is_held(&e->lock));
    return e->nearline_ns && (clock_ns() - e->nearline_ns < NEARLINE_HOLDS_NS || is_under_way(e));
}

bool cached_is_nearline(struct cached *h)
{
    lock_scope(&h->entry->lock);
    return entry_is_nearline(h->entry);
}

// -EAGAIN: it must be asked for.
static int locality_known(const struct cache_entry *e, enum cache_locality *ret_locality)
{
    int64_t now = clock_ns();
    bool is_refused = e->nearline_ns && now - e->nearline_ns < SAID_HOLDS_NS;
    bool is_said = e->nearline_said_ns && now - e->nearline_said_ns < SAID_HOLDS_NS;
    if (e->state == ENTRY_COMPLETE)
        *ret_locality = CACHE_CACHED;
    else if (!origin_can_restore(e->origin))
        *ret_locality = CACHE_ONLINE;
    else if (is_under_way(e))
        *ret_locality = CACHE_COMING;
    else if (is_said && e->nearline_said_ns >= e->nearline_ns && e->nearline_said != ORIGIN_NEARLINE_UNSAID)
        *ret_locality = e->nearline_said == ORIGIN_NEARLINE_AWAY     ? CACHE_AWAY
                        : e->nearline_said == ORIGIN_NEARLINE_COMING ? CACHE_COMING : CACHE_ONLINE;
    else if (is_refused)
        *ret_locality = CACHE_AWAY;
    else if (is_said)
        *ret_locality = CACHE_ONLINE;
    else
        return -EAGAIN;
    return 0;
}

int cache_locality(struct cache *c, const struct object *object, enum cache_locality *ret_locality,
                   struct cache_want *want, char **ret_why)
{
    cleanup(cleanup_entry_unref) struct cache_entry *before = want_take(want);
    cleanup(cleanup_entry_unref) struct cache_entry *e = entry_get(c, object);
    lock_acquire(&e->lock);
    int r = locality_known(e, ret_locality);
    if (r == -EAGAIN && !e->asking && entry_is_failing(e)) {
        *ret_why = e->why ? memory_copy(e->why, strlen(e->why)) : NULL;
        r = e->error;
    } else if (r == -EAGAIN) {
        flight_ask(e, 0, ORIGIN_READER_WAITS);
        want_fill(want, e, CACHE_WANT_VERSION, 0, 0);
        r = -EINPROGRESS;
    }
    lock_release(&e->lock);
    flights_launch(c);
    return r;
}

void recalls_status(struct recalls *all, struct doc *map)
{
    uint32_t of[4] = {0};
    const struct recall *r;
    lock_scope(&all->lock);
    TAILQ_FOREACH(r, &all->list, of_all)
        of[r->state]++;
    doc_put_integer(map, "asking", of[RECALL_ASKING]);
    doc_put_integer(map, "under_way", of[RECALL_UNDER_WAY]);
    doc_put_integer(map, "ready_lately", of[RECALL_READY]);
    doc_put_integer(map, "failed_lately", of[RECALL_FAILED]);
    doc_put_integer(map, "for_readers", all->readers);
    doc_put_integer(map, "for_readers_limit", all->cache->options.recalls);
    doc_put_integer(map, "limit", RECALLS_MAX);
}
