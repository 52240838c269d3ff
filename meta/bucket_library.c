// SPDX-License-Identifier: BSD-3-Clause
// bucket_library: what is asked for, the threads, and what is remembered of folders.
// 1. Long jobs (listings, walks) leave two librarians for single names; copies of what is large leave half of the others for
//    listings.
// 2. No lock is held while the origin is asked.
// 3. Notes are hints: losing them costs requests, nothing else.
#include "meta/bucket_library.h"

#include <stdio.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/queue.h"
#include "cache/origin/origin.h"

#define TIDY_BLOCKS 2000
#define NOTES_MAX 100000
#define WALK_FROM 3          // folders of a row that make a walk
#define WALK_AHEAD_PAGES 32
#define WALK_WAIT_NS (20 * NS_PER_MS)

// ---- jobs

static void want_copy(struct bucket_want *to, const struct bucket_want *from)
{
    *to = (struct bucket_want){
        .kind = from->kind, .fresh = from->fresh, .may_replace = from->may_replace, .is_slow = from->is_slow};
    buffer_append_text(&to->prefix, buffer_text(&from->prefix));
    buffer_append_text(&to->name, buffer_text(&from->name));
    buffer_append_text(&to->to, buffer_text(&from->to));
}

static uint64_t want_hash(const struct bucket_want *w, bool is_walk)
{
    uint64_t h = hash64_seed(w->prefix.data ? w->prefix.data : "", w->prefix.size_bytes, w->kind * 2u + is_walk);
    return hash64_seed(w->name.data ? w->name.data : "", w->name.size_bytes, h);
}

static bool job_same(uint64_t value, const void *key, void *context)
{
    const struct bucket_job *a = (struct bucket_job *)(uintptr_t)value, *b = key;
    (void)context;
    return a->is_walk == b->is_walk && a->want.kind == b->want.kind &&
           text_equal(buffer_text(&a->want.prefix), buffer_text(&b->want.prefix)) &&
           text_equal(buffer_text(&a->want.name), buffer_text(&b->want.name)) &&
           text_equal(buffer_text(&a->want.to), buffer_text(&b->want.to));
}

// Under `library`: the job of that want, a new one queued where there is none.
static struct bucket_job *job_of(struct bucket *b, const struct bucket_want *w, bool is_walk)
{
    struct bucket_job like = {.want = *w, .is_walk = is_walk};
    uint64_t hash = want_hash(w, is_walk);
    struct bucket_job *j = (struct bucket_job *)jobs_find(&b->jobs, hash, job_same, &like);
    if (j)
        return j;
    j = new_struct(struct bucket_job);
    want_copy(&j->want, w);
    j->is_walk = is_walk;
    j->job.hash = hash;
    j->job.is_slow = w->is_slow;
    j->job.is_long = is_walk || w->kind == BUCKET_FOLDER || w->is_slow;
    jobs_add(&b->jobs, &j->job);
    return j;
}

static void job_own(struct bucket *b, struct text prefix, bool is_walk)
{
    struct bucket_want w = {.kind = BUCKET_FOLDER};
    buffer_append_text(&w.prefix, prefix);
    job_of(b, &w, is_walk)->job.is_own = true;
    bucket_want_release(&w);
}

void bucket_job_free(struct job *j)
{
    struct bucket_job *own = (struct bucket_job *)j; // job is the first field
    bucket_want_release(&own->want);
    free(own);
}

void bucket_ask(struct bucket *b, const struct bucket_want *w, struct waiter *waiter)
{
    lock_scope(&b->library);
    struct bucket_job *j = job_of(b, w, false);
    if (!j->job.is_running && w->fresh > j->want.fresh)
        j->want.fresh = w->fresh;
    jobs_wait(&j->job, waiter);
}

bool bucket_cancel(struct bucket *b, struct waiter *waiter)
{
    return jobs_cancel(&b->jobs, waiter);
}

// ---- notes

// Those of folders that are just being listed stay: others wait for their end.
static void notes_clear(struct bucket *b)
{
    struct table kept = {0};
    size_t position = 0;
    for (uint64_t value; (value = table_next(&b->notes, &position));) {
        struct bucket_note *n = (struct bucket_note *)(uintptr_t)value;
        if (n->is_loading)
            table_add(&kept, n->hash, value);
        else
            free(n);
    }
    table_release(&b->notes);
    b->notes = kept;
}

struct bucket_note *bucket_note(struct bucket *b, struct text prefix)
{
    check(lock_is_held(&b->library));
    uint64_t hash = hash64(prefix.data, prefix.size_bytes);
    struct bucket_note *n = (struct bucket_note *)(uintptr_t)table_find(&b->notes, hash, NULL, NULL, NULL);
    if (n)
        return n;
    if (b->notes.count >= NOTES_MAX) {
        // Doubts are in it: what they were about counts as old with all the rest.
        atomic_store(&b->refreshed_ns, (uint64_t)clock_steady_unix_ns());
        notes_clear(b);
    }
    n = new_struct(struct bucket_note);
    n->hash = hash;
    table_add(&b->notes, hash, (uint64_t)(uintptr_t)n);
    return n;
}

struct text bucket_parent(const struct bucket *b, struct text prefix)
{
    size_t own = strlen(b->prefix), at = prefix.size_bytes;
    if (at <= own)
        return (struct text){0};
    for (at--; at > own && prefix.data[at - 1] != '/'; at--)
        ;
    return text_slice(prefix, 0, at);
}

static bool walk_covers(const struct bucket *b, struct text prefix)
{
    return b->walk && text_begins(prefix, buffer_text(&b->walk->prefix));
}

static void walk_follow(struct bucket *b)
{
    b->walk->wanted_ns = (uint64_t)clock_ns();
    b->walk->allowed_pages = b->walk->pages + WALK_AHEAD_PAGES;
    pthread_cond_broadcast(&b->moved);
}

void bucket_note_known(struct bucket *b, struct text prefix)
{
    lock_scope(&b->library);
    if (walk_covers(b, prefix))
        walk_follow(b);
}

void bucket_note_open(struct bucket *b, struct text prefix)
{
    struct text parent = bucket_parent(b, prefix);
    lock_scope(&b->library);
    if (walk_covers(b, prefix)) {
        walk_follow(b);
        return;
    }
    if (!parent.data || b->walk || atomic_load(&b->has_no_order))
        return;
    struct bucket_note *n = bucket_note(b, parent);
    if (++n->opened_below < WALK_FROM)
        return;
    n->opened_below = 0;
    job_own(b, parent, true);
}

void bucket_note_disorder(struct bucket *b)
{
    if (atomic_exchange(&b->has_no_order, true))
        return;
    bucket_refresh(b);
    log_warn("%s lists keys in no order: each folder is listed by itself, and as a whole", origin_identity(b->origin).data);
}

void bucket_list_later(struct bucket *b, struct text prefix)
{
    lock_scope(&b->library);
    job_own(b, prefix, false);
}

static bool part_has(const struct bucket_walk_part *p, struct text prefix)
{
    struct text end = buffer_text(&p->end);
    return p->is_open && text_compare(prefix, buffer_text(&p->begin)) >= 0 &&
           (end.size_bytes == 0 || text_compare(prefix, end) < 0);
}

// Whether all that the walk will store of this folder is stored.
static bool walk_is_past(const struct bucket_walk *w, struct text prefix)
{
    for (int i = 0; i < BUCKET_WALK_LANES; i++) {
        struct text reached = buffer_text(&w->parts[i].reached);
        if (part_has(&w->parts[i], prefix))
            return text_compare(reached, prefix) > 0 && !text_begins(reached, prefix);
    }
    return !w->has_next || text_compare(prefix, buffer_text(&w->next)) < 0;
}

bool bucket_walk_wait(struct bucket *b, struct text prefix, int64_t limit_ns)
{
    int64_t deadline_ns = clock_ns() + limit_ns;
    lock_scope(&b->library);
    while (walk_covers(b, prefix) && !atomic_load(&b->is_closing)) {
        if (walk_is_past(b->walk, prefix))
            return true;
        walk_follow(b);
        int64_t until = clock_ns() + WALK_WAIT_NS * 10;
        if (until >= deadline_ns)
            return false;
        condition_wait(&b->moved, &b->library, until);
    }
    return true; // it ended: it may have been stored, or not
}

// ---- freshness

uint64_t bucket_fresh(const struct bucket *b)
{
    int64_t old = clock_steady_unix_ns() - b->list_ns;
    uint64_t refreshed = atomic_load(&b->refreshed_ns);
    return old > 0 && (uint64_t)old > refreshed ? (uint64_t)old : refreshed;
}

uint64_t bucket_fresh_in(struct bucket *b, struct text prefix, uint64_t fresh)
{
    uint64_t hash = hash64(prefix.data, prefix.size_bytes);
    lock_scope(&b->library);
    const struct bucket_note *n =
        (struct bucket_note *)(uintptr_t)table_find(&b->notes, hash, NULL, NULL, NULL);
    return n && n->doubted_ns > fresh ? n->doubted_ns : fresh;
}

void bucket_refresh(struct bucket *b)
{
    atomic_store(&b->refreshed_ns, (uint64_t)clock_steady_unix_ns());
}

void bucket_doubt(struct bucket *b, struct text prefix)
{
    lock_scope(&b->library);
    bucket_note(b, prefix)->doubted_ns = (uint64_t)clock_steady_unix_ns();
}

// Answers to single names share a generation as long as they are of one epoch: so epochs of answers
// are rounded, down, to a quarter of the time they live.
uint64_t bucket_epoch_of_answer(const struct bucket *b, uint64_t now_ns)
{
    uint64_t quarter = (uint64_t)b->list_ns / 4;
    uint64_t rounded = quarter ? now_ns - now_ns % quarter : now_ns;
    uint64_t refreshed = atomic_load(&b->refreshed_ns);
    return rounded < refreshed ? refreshed : rounded;
}

// ---- threads

static bool is_answer(int error)
{
    return error == -ENOENT || error == -EACCES || error == -ECANCELED;
}

void bucket_note_error(struct bucket *b, struct text key, int error, char *why)
{
    uint64_t hash = hash64_seed(key.data ? key.data : "", key.size_bytes, hash64(why, strlen(why)));
    BUFFER_CLEANUP line = {0};
    buffer_append_string(&line, why);
    bool is_trouble = !is_answer(error), is_said;
    {
        lock_scope(&b->library);
        free(b->last_error);
        b->last_error = why;
        bool is_new = is_trouble && error != b->trouble;
        is_said = error != -ENOENT && error != -ECANCELED && (said_is_news(&b->said, hash, NS_PER_S) || is_new);
        b->trouble = is_trouble ? error : b->trouble;
    }
    if (is_said)
        log_write(is_trouble ? LOG_LEVEL_ERROR : LOG_LEVEL_WARN, "%s/%.*s: %s (%s)%s", origin_identity(b->origin).data,
                  (int)key.size_bytes, key.data ? key.data : "", strerror(-error), line.data,
                  is_trouble ? "; what is known goes on to be shown" : "");
}

// What the origin said of it has been noted; the rest is of this side.
static void note_result(struct bucket *b, int error, const struct bucket_want *w)
{
    int before;
    {
        lock_scope(&b->library);
        before = b->trouble;
        b->trouble = is_answer(error) ? 0 : error;
    }
    if (is_answer(error))
        error = 0;
    if (error < 0 && error != before)
        log_error("listing %.*s: %s; what is known goes on to be shown", (int)w->prefix.size_bytes,
                  w->prefix.data ? w->prefix.data : "", strerror(-error));
    else if (error == 0 && before)
        log_info("%s answers again", origin_identity(b->origin).data);
}

static int job_run(struct bucket *b, const struct bucket_job *j, struct bucket_keep *ret_keep)
{
    if (j->is_walk)
        return bucket_job_walk(b, buffer_text(&j->want.prefix));
    switch (j->want.kind) {
    case BUCKET_FOLDER:
        return bucket_job_folder(b, &j->want);
    case BUCKET_NAME:
        return bucket_job_name(b, &j->want);
    case BUCKET_HEAD:
        return bucket_job_head(b, &j->want);
    case BUCKET_DELETE:
    case BUCKET_MAKE_FOLDER:
    case BUCKET_REMOVE_FOLDER:
    case BUCKET_RENAME:
        return bucket_job_change(b, &j->want, ret_keep);
    }
    return -EINVAL;
}

static void *work(void *argument)
{
    struct bucket *b = argument;
    struct bucket_job *j;
    while ((j = (struct bucket_job *)jobs_take(&b->jobs))) {
        struct bucket_keep keep = {0};
        int error = job_run(b, j, &keep);
        bool is_folder = j->job.is_long;
        if (!bucket_want_changes(&j->want))
            note_result(b, error, &j->want);
        jobs_end(&b->jobs, &j->job, error);
        bucket_keep_end(b, &keep);
        if (is_folder)
            catalogue_tidy(b->catalogue, TIDY_BLOCKS);
    }
    return NULL;
}

int bucket_library_start(struct bucket *b)
{
    b->jobs.long_max = b->librarian_count > 3 ? b->librarian_count - 2 : 1;
    b->jobs.slow_max = b->jobs.long_max > 3 ? b->jobs.long_max / 2 : 1;
    for (uint32_t i = 0; i < b->librarian_count; i++) {
        char name[16];
        snprintf(name, sizeof name, "librarian/%hhu", (unsigned char)i);
        int r = thread_start(&b->librarians[i], name, work, b);
        if (r < 0) {
            b->librarian_count = i;
            bucket_library_stop(b);
            return r;
        }
    }
    return 0;
}

void bucket_library_stop(struct bucket *b)
{
    {
        lock_scope(&b->library);
        atomic_store(&b->is_closing, true);
        jobs_close(&b->jobs);
        pthread_cond_broadcast(&b->moved);
    }
    for (uint32_t i = 0; i < b->librarian_count; i++)
        pthread_join(b->librarians[i], NULL);
    jobs_end_all(&b->jobs, -ESHUTDOWN);
    notes_clear(b);
}
