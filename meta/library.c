// SPDX-License-Identifier: BSD-3-Clause
// library: jobs, their waiters, and the threads.
// 1. A waiter's `job` is set (under `library`) as long as it stands in a job's list; whoever takes
//    it out clears it: the job's end, which then calls it without the lock, or repository_cancel,
//    which then answers true. So it is called once or never, and never both.
// 2. Equal wants are one job, queued or running. One that joins a running job may find that the
//    job's answer is older than it needs; then it asks again, and that job begins after it: so a
//    request waits for two jobs of a kind at most, however often the registry changes.
// 3. A queued job without waiters is dropped when its turn comes. A running one ends: its answer is
//    kept.
// 4. Long jobs (sets) never occupy the last librarian where there is more than one.
// 5. No lock is held while the registry is asked, a waiter is called or `changed` is.
// 6. An epoch is only ever made for a mark that was not seen lately: a librarian that comes late
//    with the mark of before doesn't turn the clock.
#include "meta/library.h"

#include <stdio.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/metric.h"
#include "base/queue.h"

#define TIDY_BLOCKS 2000

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
    return hash64_seed(w->uuid.bytes, sizeof(w->uuid.bytes), h);
}

static bool want_same(uint64_t value, const void *key, void *context)
{
    const struct want *a = &((struct job *)(uintptr_t)value)->want, *b = key;
    return a->kind == b->kind && a->collection_id == b->collection_id && a->type_id == b->type_id &&
           a->depth == b->depth && memcmp(a->uuid.bytes, b->uuid.bytes, 16) == 0 &&
           text_equal(key_text(&a->key), key_text(&b->key));
}

// Queues; all under `library`.

static void queue_push(struct job_queue *q, struct job *j)
{
    j->next = NULL;
    *q->last = j;
    q->last = &j->next;
    q->count++;
}

static struct job *queue_pop(struct job_queue *q)
{
    struct job *j = q->first;
    if (!j)
        return NULL;
    q->first = j->next;
    if (!q->first)
        q->last = &q->first;
    q->count--;
    return j;
}

static bool is_long(const struct job *j)
{
    return j->want.kind == WANT_SET;
}

void repository_ask(struct repository *r, const struct want *w, struct waiter *waiter)
{
    uint64_t hash = want_hash(w);
    lock_scope(&r->library);
    struct job *j = (struct job *)(uintptr_t)table_find(&r->jobs, hash, want_same, w, NULL);
    if (!j) {
        j = new_struct(struct job);
        want_copy(&j->want, w);
        j->hash = hash;
        table_add(&r->jobs, hash, (uint64_t)(uintptr_t)j);
        queue_push(is_long(j) ? &r->long_jobs : &r->short_jobs, j);
        // All: the one that is woken might not be allowed to take a long one.
        pthread_cond_broadcast(&r->wanted);
    }
    if (!j->is_running && w->fresh > j->want.fresh)
        j->want.fresh = w->fresh;
    waiter->job = j;
    waiter->next = j->first;
    j->first = waiter;
}

bool repository_cancel(struct repository *r, struct waiter *waiter)
{
    lock_scope(&r->library);
    struct job *j = waiter->job;
    if (!j)
        return false;
    struct waiter **at = &j->first;
    while (*at != waiter)
        at = &(*at)->next;
    *at = waiter->next;
    waiter->job = NULL;
    return true;
}

static void job_forget(struct repository *r, struct job *j)
{
    check(lock_is_held(&r->library));
    check(table_remove(&r->jobs, j->hash, (uint64_t)(uintptr_t)j));
}

static void job_free(struct job *j)
{
    want_release(&j->want);
    free(j);
}

// The next job, waiting for it; NULL: closing.
static struct job *job_take(struct repository *r)
{
    lock_scope(&r->library);
    unsigned workers = r->librarian_count - 1;
    while (!atomic_load(&r->is_closing)) {
        struct job *j = queue_pop(&r->short_jobs);
        if (!j && (r->long_running == 0 || r->long_running + 1 < workers))
            j = queue_pop(&r->long_jobs);
        if (j && !j->first) {
            job_forget(r, j);
            job_free(j);
        } else if (j) {
            j->is_running = true;
            r->long_running += is_long(j);
            return j;
        } else {
            condition_wait(&r->wanted, &r->library, INT64_MAX);
        }
    }
    return NULL;
}

static void job_end(struct repository *r, struct job *j, int error)
{
    struct waiter *w, *next;
    {
        lock_scope(&r->library);
        job_forget(r, j);
        if (is_long(j) && j->is_running) {
            r->long_running--;
            pthread_cond_broadcast(&r->wanted);
        }
        for (w = j->first; w; w = w->next)
            w->job = NULL;
        w = j->first;
    }
    for (; w; w = next) {
        next = w->next; // the waiter may be gone once it was called
        w->ready(w, error);
    }
    job_free(j);
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

// What is no trouble of the database and no answer either. A second apart: it may come with every
// request.
static void note_failure(struct repository *r, const struct want *w, int error)
{
    if (error >= 0 || is_trouble(error) || error == -ENOENT || error == -ECANCELED)
        return;
    {
        lock_scope(&r->lock);
        if (clock_ns() < r->said_ns + NS_PER_S)
            return;
        r->said_ns = clock_ns();
    }
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
    return r->snapshot && r->snapshot->epoch >= fresh ? snapshot_ref(r->snapshot) : NULL;
}

void library_set_snapshot(struct repository *r, struct snapshot *s)
{
    struct snapshot *old = s;
    {
        lock_scope(&r->lock);
        if (!r->snapshot || r->snapshot->epoch <= s->epoch) {
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
            log_debug("librarian/%u: %s", l->number, why ? why : strerror(-r));
            return is_trouble(r) ? r : -EIO;
        }
    }
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

static void *work(void *argument)
{
    struct librarian *l = argument;
    struct repository *r = l->repository;
    struct job *j;
    while ((j = job_take(r))) {
        int error = job_run(l, &j->want);
        note_result(r, error);
        note_failure(r, &j->want, error);
        registry_drop(l, error);
        job_end(r, j, error);
    }
    return NULL;
}

static void poll_once(struct librarian *l)
{
    struct registry *registry;
    uint64_t mark;
    bool changed;
    int r = librarian_registry(l, &registry);
    if (r == 0)
        r = registry_mark(registry, &mark);
    if (r == 0)
        library_note_mark(l->repository, mark, &changed);
    note_result(l->repository, r);
    registry_drop(l, r);
}

static void *poll(void *argument)
{
    struct librarian *l = argument;
    struct repository *r = l->repository;
    while (!atomic_load(&r->is_closing)) {
        {
            lock_scope(&r->library);
            int64_t deadline = clock_ns() + r->refresh_ns;
            while (!r->refresh_wanted && !atomic_load(&r->is_closing) &&
                   condition_wait(&r->poll, &r->library, deadline) == 0)
                ;
            r->refresh_wanted = false;
        }
        if (!atomic_load(&r->is_closing))
            poll_once(l);
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
    lock_scope(&r->library);
    r->refresh_wanted = true;
    pthread_cond_signal(&r->poll);
}

int library_start(struct repository *r)
{
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
        pthread_cond_broadcast(&r->wanted);
        pthread_cond_broadcast(&r->poll);
    }
    for (unsigned i = 0; i < r->librarian_count; i++) {
        struct librarian *l = &r->librarians[i];
        pthread_join(l->thread, NULL);
        registry_close(l->registry);
        l->registry = NULL;
    }
    // What nobody waited for, or (if somebody does after all) is not to be had any more.
    for (struct job *j; (j = queue_pop(&r->short_jobs)) || (j = queue_pop(&r->long_jobs));)
        job_end(r, j, -ESHUTDOWN);
    table_release(&r->jobs);
}
