// SPDX-License-Identifier: BSD-3-Clause
// library: what is asked for, the state of the database, and the threads.
// 1. Equal wants are one job (jobs.h), queued or running. One that joins a running job may find that the
//    job's answer is older than it needs; then it asks again, and that job begins after it: so a
//    request waits for two jobs of a kind at most, however often the registry changes.
// 2. Long jobs (sets, finds) never occupy the last librarian where there is more than one.
// 3. No lock is held while the registry is asked or `changed` is called.
// 4. An epoch is only ever made for a mark that was not seen lately: a librarian that comes late
//    with the mark of before doesn't turn the clock.
// 5. While the database is away nobody but librarian/0 waits for it: what has to be asked is -ETIMEDOUT at
//    once. (Each who waits would else cost a librarian the limit.) It looks less and less often.
// 6. A login that was refused isn't tried for each who asks: a librarian without a connection answers -EACCES for a while, which
//    doubles each time.
#include "meta/library.h"

#include <stdio.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/metric.h"
#include "base/queue.h"

#define TIDY_BLOCKS 2000
#define REFUSED_FIRST_NS NS_PER_S
#define REFUSED_DOUBLED_MAX 3 // 8 s

// Wants.

void want_release(struct want *w)
{
    buffer_release(&w->texts);
}

void want_copy(struct want *to, const struct want *from)
{
    *to = *from;
    to->texts = (struct buffer){0};
    buffer_append_text(&to->texts, buffer_text(&from->texts));
}

static uint64_t want_hash(const struct want *w)
{
    uint64_t h = hash64_seed(w->key.bytes, w->key.size_bytes, w->kind * 31u + w->depth);
    h = hash64_seed(&w->collection_id, sizeof(w->collection_id), h);
    h = hash64_seed(&w->type_id, sizeof(w->type_id), h);
    h = hash64_seed(&w->at, sizeof(w->at), h);
    return hash64_seed(w->uuid.bytes, sizeof(w->uuid.bytes), h);
}

static bool want_same(uint64_t value, const void *key, void *context)
{
    const struct want *a = &((struct library_job *)(uintptr_t)value)->want, *b = key;
    (void)context;
    return a->kind == b->kind && a->collection_id == b->collection_id && a->type_id == b->type_id &&
           a->depth == b->depth && timespan_equal(&a->at, &b->at) && memcmp(a->uuid.bytes, b->uuid.bytes, 16) == 0 &&
           text_equal(key_text(&a->key), key_text(&b->key));
}

static struct library_job *job_new(const struct want *w, uint64_t hash)
{
    struct library_job *j = new_struct(struct library_job);
    want_copy(&j->want, w);
    j->job.hash = hash;
    j->job.is_long = w->kind == WANT_SET || w->kind == WANT_FIND || w->kind == WANT_VERIFY;
    j->job.asked_ns = clock_ns();
    return j;
}

void library_job_free(struct job *j)
{
    struct library_job *own = (struct library_job *)j; // job is the first field
    want_release(&own->want);
    free(own);
}

void repository_ask(struct repository *r, const struct want *w, struct waiter *waiter)
{
    uint64_t hash = want_hash(w);
    lock_scope(&r->library);
    struct library_job *j = (struct library_job *)jobs_find(&r->jobs, hash, want_same, w);
    if (!j) {
        j = job_new(w, hash);
        jobs_add(&r->jobs, &j->job);
    }
    if (!j->job.is_running && w->fresh > j->want.fresh)
        j->want.fresh = w->fresh;
    jobs_wait(&j->job, waiter);
}

bool repository_cancel(struct repository *r, struct waiter *waiter)
{
    return jobs_cancel(&r->jobs, waiter);
}

void repository_hurry(struct repository *r)
{
    jobs_hurry(&r->jobs);
}

bool library_is_slow(struct repository *r, const struct want *w)
{
    lock_scope(&r->library);
    const struct job *j = jobs_find(&r->jobs, want_hash(w), want_same, w);
    return j && clock_ns() >= j->asked_ns + PATIENCE_NS;
}

void errand_begin(struct repository *r, struct errand *e)
{
    lock_scope(&r->library);
    for (struct errand *o = r->errands; o;) {
        bool is_same = o->collection_id == e->collection_id && o->type_id == e->type_id;
        if (is_same)
            condition_wait(&r->ended, &r->library, INT64_MAX);
        o = is_same ? r->errands : o->next;
    }
    e->next = r->errands;
    r->errands = e;
}

void errand_end(struct repository *r, struct errand *e)
{
    lock_scope(&r->library);
    struct errand **at = &r->errands;
    while (*at != e)
        at = &(*at)->next;
    *at = e->next;
    pthread_cond_broadcast(&r->ended);
}

// The database's state, for the log and status.

static bool is_trouble(int error)
{
    return error == -ETIMEDOUT || error == -EIO || error == -EACCES;
}

static void note_result(struct repository *r, int error)
{
    int before;
    int64_t since;
    if (error < 0 && !is_trouble(error))
        return; // says nothing of the database
    {
        lock_scope(&r->lock);
        before = r->trouble;
        since = r->trouble_since_ns;
        r->trouble = error < 0 ? error : 0;
        if (error < 0 && !before)
            r->trouble_since_ns = clock_ns();
        if (error < 0) {
            free(r->last_error);
            r->last_error = memory_copy(strerror(-error), strlen(strerror(-error)));
        }
    }
    if (error < 0 && !before)
        log_error(
            "%s: the registry can't be asked: %s; what is known goes on to be shown, trying again",
            r->config->source, strerror(-error));
    else if (error >= 0 && before)
        log_info("%s: the registry answers again after %lld s", r->config->source,
                 (long long)((clock_ns() - since) / NS_PER_S));
}

// What is no trouble of the database and no answer either. It may come with every request.
static void note_failure(struct repository *r, const struct want *w, int error)
{
    if (error >= 0 || is_trouble(error) || error == -ENOENT || error == -ECANCELED)
        return;
    const int64_t what[] = {w->collection_id, w->type_id, error};
    if (!said_is_news(&r->said, hash64(what, sizeof(what)), NS_PER_S))
        return;
    struct snapshot *s = library_snapshot(r, 0);
    const struct collection *c = s ? snapshot_collection_by_id(s, w->collection_id) : NULL;
    const struct dataset_type *t = s ? snapshot_type_by_id(s, w->type_id) : NULL;
    struct text collection = c ? c->name : TEXT("-"), type = t ? t->name : TEXT("-");
    log_error("%s: can't know of collection %.*s, dataset type %.*s: %s", r->config->source,
              (int)collection.size_bytes, collection.data, (int)type.size_bytes, type.data,
              error == -ENOSPC ? "the catalogue has no room for it (see catalogue_size)"
                               : strerror(-error));
    snapshot_unref(s);
}

// Snapshots and epochs.

struct snapshot *library_snapshot(struct repository *r, uint64_t fresh)
{
    lock_scope(&r->lock);
    return r->snapshot && snapshot_epoch(r->snapshot) >= fresh ? snapshot_ref(r->snapshot) : NULL;
}

void library_set_snapshot(struct repository *r, struct snapshot *s)
{
    struct snapshot *old = s;
    {
        lock_scope(&r->lock);
        if (!r->snapshot || snapshot_epoch(r->snapshot) <= s->epoch) {
            old = r->snapshot;
            r->snapshot = s;
        }
    }
    snapshot_unref(old);
}

static uint64_t mark_find(struct repository *r, uint64_t mark)
{
    lock_scope(&r->lock);
    unsigned kept = r->mark_count < MARKS_KEPT ? r->mark_count : MARKS_KEPT;
    for (unsigned i = 0; mark && i < kept; i++)
        if (r->marks[i].mark == mark)
            return r->marks[i].epoch;
    return 0;
}

uint64_t library_note_mark(struct repository *r, uint64_t mark, bool *ret_changed)
{
    *ret_changed = false;
    uint64_t epoch = mark_find(r, mark);
    if (epoch)
        return epoch;
    pthread_mutex_lock(&r->noting);
    epoch = mark_find(r, mark); // another may have noted it while we waited
    if (!epoch) {
        int64_t since;
        epoch = catalogue_epoch(r->catalogue, r->number, mark, &since);
        lock_scope(&r->lock);
        r->marks[r->mark_count++ % MARKS_KEPT] = (struct mark_seen){mark, epoch};
        r->since_unix_ns = since;
        uint64_t was = atomic_exchange(&r->epoch, epoch);
        if (was != epoch)
            library_note_epoch(r, epoch);
        *ret_changed = was && was != epoch;
    }
    pthread_mutex_unlock(&r->noting);
    if (*ret_changed) {
        metric_add(METRIC_REGISTRY_CHANGES, 1);
        if (r->changed)
            r->changed(r->context);
    }
    return epoch;
}

// Threads.

int librarian_registry(struct librarian *l, struct registry **ret_registry)
{
    if (!l->registry) {
        cleanup(cleanup_free) char *why = NULL;
        int r = l->repository->opener(l->repository->config, l->repository->limit_ns, &l->registry,
                                      &why);
        if (r < 0) {
            l->registry = NULL;
            // A file that another process has locked isn't away: it can be opened when that ends.
            l->is_away = r == -ETIMEDOUT && l->repository->config->database != DATABASE_SQLITE;
            l->is_refused = r == -EACCES && l->repository->config->database != DATABASE_SQLITE;
            log_debug("librarian/%u: %s", l->number, why ? why : strerror(-r));
            return r == -EUSERS ? -ETIMEDOUT : is_trouble(r) ? r : -EIO;
        }
    }
    l->registry->gives_up = &l->gives_up;
    atomic_store(&l->repository->asks_folders, l->registry->ops->folder != NULL);
    *ret_registry = l->registry;
    return 0;
}

// After an error that a new connection may cure.
static void registry_drop(struct librarian *l, int error)
{
    if (error != -EIO || !l->registry)
        return;
    registry_close(l->registry);
    l->registry = NULL;
}

static void look_now(struct repository *r, bool is_forced)
{
    lock_scope(&r->library);
    r->refresh_wanted = true;
    r->is_forced = r->is_forced || is_forced;
    pthread_cond_signal(&r->poll);
}

// Invariant 5.
static void note_away(struct librarian *l, int error)
{
    struct repository *r = l->repository;
    bool is_away = error == -ETIMEDOUT && (l->registry ? l->registry->is_away : l->is_away);
    if (is_away && !atomic_exchange(&r->is_away, true)) {
        metric_add(METRIC_REGISTRY_AWAY, 1);
        for (unsigned i = 1; i < r->librarian_count; i++)
            atomic_store(&r->librarians[i].gives_up, true);
        if (l->number)
            look_now(r, false); // who looks whether it is back may sleep for long yet
    } else if (error >= 0 && l->number == 0 && atomic_exchange(&r->is_away, false)) {
        metric_add(METRIC_REGISTRY_AWAY, -1);
        r->away_looks = 0;
    }
}

// Takes back that it gives up, before it is looked why it would: who changes these says so first and
// then makes everybody give up.
static void hope(struct librarian *l)
{
    atomic_store(&l->gives_up, false);
    if (atomic_load(&l->repository->is_closing))
        atomic_store(&l->gives_up, true);
}

// Invariant 6.
static void note_refused(struct librarian *l, int error)
{
    bool is_refused = error == -EACCES && (l->registry ? l->registry->is_refused : l->is_refused);
    l->refused_until_ns = is_refused ? clock_ns() + (REFUSED_FIRST_NS << l->refusals) : 0;
    l->refusals = !is_refused ? 0 : l->refusals < REFUSED_DOUBLED_MAX ? l->refusals + 1 : l->refusals;
}

static int run(struct librarian *l, const struct want *w)
{
    struct repository *r = l->repository;
    hope(l);
    int spared = atomic_load(&r->is_away) ? -ETIMEDOUT : clock_ns() < l->refused_until_ns ? -EACCES : 0;
    if (spared) {
        metric_add(METRIC_REGISTRY_SPARED, 1);
        return spared;
    }
    int error = job_run(l, w);
    note_away(l, error);
    note_refused(l, error);
    return error;
}

static void *work(void *argument)
{
    struct librarian *l = argument;
    struct repository *r = l->repository;
    struct registry *registry;
    struct library_job *j;
    if (l->number == 1) // so that who comes first needn't wait for a connection; it is the one that is woken first
        librarian_registry(l, &registry);
    while ((j = (struct library_job *)jobs_take(&r->jobs))) {
        int error = run(l, &j->want);
        note_result(r, error);
        note_failure(r, &j->want, error);
        registry_drop(l, error);
        jobs_end(&r->jobs, &j->job, error);
    }
    return NULL;
}

#define LOOK_LIMIT_NS (5 * NS_PER_S)
#define AWAY_LOOK_NS (5 * NS_PER_S)
#define AWAY_DOUBLED_MAX 6

// Its answer is small: who waits long for it waits for nothing. But connecting is part of it, and may take longer: each
// look that fails is followed by one that waits longer.
static int look(struct librarian *l, struct registry *registry, uint64_t *ret_mark)
{
    struct repository *r = l->repository;
    int64_t limit = LOOK_LIMIT_NS << r->away_looks;
    hope(l);
    if (atomic_load(&r->asks_folders))
        registry->limit_ns = limit < r->limit_ns ? limit : r->limit_ns;
    return registry_mark(registry, ret_mark);
}

static void poll_once(struct librarian *l)
{
    struct registry *registry;
    uint64_t mark;
    bool changed;
    int r = librarian_registry(l, &registry);
    if (r == 0)
        r = look(l, registry, &mark);
    if (r == 0)
        library_note_mark(l->repository, mark, &changed);
    note_away(l, r);
    note_result(l->repository, r);
    registry_drop(l, r);
}

// Until the next look: `refresh` at most (5 s, while it is away), and a random part of a quarter less, so that many daemons that
// began together don't ask together.
static int64_t until_next_look(struct repository *r)
{
    int64_t pause = r->refresh_ns, now = clock_ns();
    if (atomic_load(&r->is_away)) {
        unsigned doubled = r->away_looks;
        r->away_looks += doubled < AWAY_DOUBLED_MAX;
        pause = pause < AWAY_LOOK_NS >> doubled ? pause << doubled : AWAY_LOOK_NS;
    }
    uint64_t random = hash64_seed(&now, sizeof(now), (uint64_t)(uintptr_t)r ^ (uint64_t)getpid());
    return pause - (int64_t)(random % (uint64_t)(pause / 4 + 1));
}

static void *poll(void *argument)
{
    struct librarian *l = argument;
    struct repository *r = l->repository;
    while (!atomic_load(&r->is_closing)) {
        bool is_forced;
        {
            lock_scope(&r->library);
            int64_t deadline = clock_ns() + until_next_look(r);
            while (!r->refresh_wanted && !atomic_load(&r->is_closing) &&
                   condition_wait(&r->poll, &r->library, deadline) == 0)
                ;
            is_forced = r->is_forced;
            r->refresh_wanted = r->is_forced = false;
        }
        if (!atomic_load(&r->is_closing))
            poll_once(l);
        if (is_forced) {
            library_forget_verified(r);
            atomic_store(&r->forced_epoch, repository_epoch(r));
        }
        // As far as it goes before the next look.
        int64_t until = clock_ns() + r->refresh_ns / 2;
        while (!atomic_load(&r->is_closing) && catalogue_tidy(r->catalogue, TIDY_BLOCKS) == 1 &&
               clock_ns() < until)
            ;
    }
    return NULL;
}

void repository_refresh(struct repository *r)
{
    look_now(r, true);
}

int library_start(struct repository *r)
{
    unsigned workers = r->librarian_count - 1;
    r->jobs.long_max = workers > 1 ? workers - 1 : 1;
    for (unsigned i = 0; i < r->librarian_count; i++) {
        struct librarian *l = &r->librarians[i];
        char name[16];
        l->repository = r;
        l->number = i;
        snprintf(name, sizeof(name), "librarian/%hhu", (unsigned char)i);
        int e = thread_start(&l->thread, name, i == 0 ? poll : work, l);
        if (e < 0) {
            r->librarian_count = i;
            library_stop(r);
            return e;
        }
    }
    return 0;
}

void library_stop(struct repository *r)
{
    {
        lock_scope(&r->library);
        atomic_store(&r->is_closing, true);
        for (unsigned i = 0; i < r->librarian_count; i++)
            atomic_store(&r->librarians[i].gives_up, true);
        jobs_close(&r->jobs);
        pthread_cond_broadcast(&r->poll);
    }
    for (unsigned i = 0; i < r->librarian_count; i++) {
        struct librarian *l = &r->librarians[i];
        pthread_join(l->thread, NULL);
        registry_close(l->registry);
        l->registry = NULL;
    }
    // What nobody waited for, or (if somebody does after all) is not to be had any more.
    jobs_end_all(&r->jobs, -ESHUTDOWN);
}
