// SPDX-License-Identifier: BSD-3-Clause
// library_jobs: what a librarian does for each kind of want but sets and single names.
// 1. An answer is kept with an epoch that was current before the registry was asked: it is true at
//    some moment not before that epoch was noticed.
// 2. An answer that the catalogue can't keep goes to the table of recent answers instead, so that
//    it reaches who asked; that is no error of the job.
// 3. "There is none" is an answer, not an error.
#include "meta/library.h"

#include "base/hash.h"
#include "base/log.h"
#include "base/metric.h"
#include "meta/account.h"

// The snapshot.

static int snapshot_read(struct librarian *l, struct snapshot **ret_snapshot)
{
    struct repository *r = l->repository;
    cleanup(cleanup_free) char *why = NULL;
    struct registry *registry;
    struct snapshot *s;
    uint64_t mark;
    bool changed;
    int e = librarian_registry(l, &registry);
    if (e == 0)
        e = registry_mark(registry, &mark);
    if (e < 0)
        return e;
    // A mark that can't be told is no news: the poll makes the epochs then.
    uint64_t epoch = mark ? library_note_mark(r, mark, &changed) : repository_epoch(r), digest;
    e = registry_digest(registry, NULL, NULL, NULL, 0, &digest);
    if (e < 0)
        return e;
    s = library_snapshot(r, 0);
    if (digest && s && s->digest == digest) { // most commits are about datasets
        snapshot_renew(s, epoch);
        *ret_snapshot = s;
        return 0;
    }
    snapshot_unref(s);
    e = registry_snapshot(registry, &s, &why);
    if (e < 0) {
        if (why && said_is_news(&r->said_of_snapshot, hash64(why, strlen(why)), NS_PER_S))
            log_error("%s: %s", r->config->source, why);
        return e;
    }
    s->epoch = epoch;
    s->digest = digest;
    library_set_snapshot(r, snapshot_ref(s));
    *ret_snapshot = s;
    return 0;
}

int librarian_snapshot(struct librarian *l, uint64_t fresh, struct snapshot **ret_snapshot)
{
    *ret_snapshot = library_snapshot(l->repository, fresh);
    if (*ret_snapshot)
        return 0;
    struct errand e = {0};
    errand_begin(l->repository, &e);
    int r = 0;
    *ret_snapshot = library_snapshot(l->repository, fresh);
    if (!*ret_snapshot)
        r = snapshot_read(l, ret_snapshot);
    errand_end(l->repository, &e);
    return r;
}

void subject_release(struct subject *s)
{
    snapshot_unref(s->snapshot);
}

int subject_find(struct librarian *l, const struct want *w, struct subject *s)
{
    int r = librarian_registry(l, &s->registry);
    if (r == 0)
        r = librarian_snapshot(l, w->fresh, &s->snapshot);
    if (r < 0)
        return r;
    s->epoch = repository_epoch(l->repository); // invariant 1
    s->snapshot_epoch = snapshot_epoch(s->snapshot);
    s->collection = snapshot_collection_by_id(s->snapshot, w->collection_id);
    s->type = w->type_id ? snapshot_type_by_id(s->snapshot, w->type_id) : NULL;
    if (!s->collection || (w->type_id && (!s->type || !s->type->is_readable)))
        return -ENOENT;
    return 0;
}

// Presence.

// Of the snapshot's epoch: some of it may have been found out long before this job.
static void put_presence(struct librarian *l, const struct subject *s, const struct dataset_type *t, bool is_present)
{
    struct presence_answer a = {
        .collection_id = s->collection->id, .type_id = t->id, .epoch = s->snapshot_epoch, .is_present = is_present};
    answers_put_presence(&l->repository->answers, &a);
}

// Asks member by member until one has it: 1; 0: none has.
static int probe_members(struct librarian *l, struct subject *s, const struct dataset_type *t)
{
    uint32_t count;
    const uint32_t *path = snapshot_search_path(s->snapshot, s->collection, &count);
    for (uint32_t i = 0; i < count; i++) {
        const struct collection *c = &s->snapshot->collections[path[i]];
        if (snapshot_presence(s->snapshot, c, t) != PRESENCE_UNKNOWN)
            continue;
        if (atomic_load(&l->repository->is_closing))
            return -ECANCELED;
        int present = registry_enter(s->registry, s->snapshot, t, &c->id, 1, NULL, 0);
        if (present < 0)
            return present;
        snapshot_set_presence(s->snapshot, c, t, s->snapshot_epoch, present > 0);
        if (present > 0)
            return 1;
    }
    return 0;
}

static int probe_type(struct librarian *l, struct subject *s, const struct dataset_type *t)
{
    enum presence known = snapshot_presence(s->snapshot, s->collection, t);
    int r = known == PRESENCE_UNKNOWN ? probe_members(l, s, t) : known == PRESENCE_PRESENT;
    if (r >= 0)
        put_presence(l, s, t, r);
    return r < 0 ? r : 0;
}

// All that aren't known, in one question.
static int probe_types(struct librarian *l, struct subject *s, const uint32_t *types, uint32_t count)
{
    uint32_t path_count, asked = 0;
    const uint32_t *path = snapshot_search_path(s->snapshot, s->collection, &path_count);
    cleanup(cleanup_free) int64_t *ids = memory_new((path_count + 1) * sizeof(*ids));
    cleanup(cleanup_free) const struct dataset_type **unknown = memory_new((count + 1) * sizeof(*unknown));
    cleanup(cleanup_free) bool *is_present = memory_new((count + 1) * sizeof(*is_present));
    for (uint32_t i = 0; i < path_count; i++)
        ids[i] = s->snapshot->collections[path[i]].id;
    for (uint32_t i = 0; i < count; i++) {
        const struct dataset_type *t = &s->snapshot->types[types[i]];
        enum presence known = t->is_readable ? snapshot_presence(s->snapshot, s->collection, t) : PRESENCE_ABSENT;
        if (known == PRESENCE_UNKNOWN)
            unknown[asked++] = t;
        else // the snapshot may be renewed, and not know it any more
            put_presence(l, s, t, known == PRESENCE_PRESENT);
    }
    int r = asked ? registry_present(s->registry, s->snapshot, ids, path_count, unknown, asked, is_present) : 0;
    for (uint32_t i = 0; r == 0 && i < asked; i++) {
        if (path_count == 1)
            snapshot_set_presence(s->snapshot, &s->snapshot->collections[path[0]], unknown[i], s->snapshot_epoch, is_present[i]);
        put_presence(l, s, unknown[i], is_present[i]);
    }
    return r;
}

static int job_types(struct librarian *l, const struct want *w)
{
    cleanup(subject_release) struct subject s = {0};
    int r = subject_find(l, w, &s);
    if (r < 0 || s.type)
        return r < 0 ? r : probe_type(l, &s, s.type);
    uint32_t count;
    const uint32_t *types = snapshot_types(s.snapshot, s.collection, &count);
    bool one_by_one = !s.registry->ops->present;
    if (!one_by_one)
        r = probe_types(l, &s, types, count);
    for (uint32_t i = 0; one_by_one && i < count && r == 0; i++)
        if (s.snapshot->types[types[i]].is_readable)
            r = probe_type(l, &s, &s.snapshot->types[types[i]]);
    if (r < 0)
        return r;
    // Who asked may know of types that it could hold once and can't any more.
    struct presence_answer all = {.collection_id = w->collection_id,
                                  .type_id = ANSWERS_ALL_TYPES,
                                  .epoch = s.snapshot_epoch,
                                  .is_present = true};
    answers_put_presence(&l->repository->answers, &all);
    return 0;
}

// Datasets.

static void keep_dataset(struct repository *r, const struct want *w, enum dataset_record which,
                         uint64_t epoch, struct text record)
{
    if (catalogue_put_dataset(r->catalogue, r->number, &w->uuid, which, epoch, record) < 0)
        answers_put(&r->answers, w, epoch, ROW_VISIBLE, record);
}

struct found_dataset {
    struct snapshot *snapshot;
    struct buffer record;
    const struct dataset_type *type;
};

static int write_dataset(const struct registry_row *row, void *context)
{
    struct found_dataset *f = context;
    const struct collection *run = snapshot_collection_by_id(f->snapshot, row->run_id);
    f->type = snapshot_type_by_id(f->snapshot, row->type_id);
    if (!run || !f->type)
        return -ENOENT; // newer than the snapshot: not there yet
    dataset_write(f->snapshot, f->type, run->name, row, &f->record);
    return 0;
}

static int dataset_find(struct librarian *l, const struct want *w, struct registry **ret_registry,
                        struct found_dataset *f, uint64_t *ret_epoch)
{
    int r = librarian_registry(l, ret_registry);
    if (r == 0)
        r = librarian_snapshot(l, w->fresh, &f->snapshot);
    if (r < 0)
        return r;
    *ret_epoch = repository_epoch(l->repository);
    metric_add(METRIC_POINT_QUERIES, 1);
    r = registry_dataset(*ret_registry, f->snapshot, &w->uuid, write_dataset, f);
    if (r == -ENOENT)
        buffer_clear(&f->record);
    return r == -ENOENT ? 0 : r;
}

static void found_dataset_release(struct found_dataset *f)
{
    snapshot_unref(f->snapshot);
    buffer_release(&f->record);
}

static int job_dataset(struct librarian *l, const struct want *w)
{
    cleanup(found_dataset_release) struct found_dataset f = {0};
    struct registry *registry;
    uint64_t epoch;
    int r = dataset_find(l, w, &registry, &f, &epoch);
    if (r == 0)
        keep_dataset(l->repository, w, DATASET_FILES, epoch, buffer_text(&f.record));
    return r;
}

static int put_implied(const struct element *e, const struct value *v, void *context)
{
    data_id_add(context, e->name, v);
    return 0;
}

static int job_data_id(struct librarian *l, const struct want *w)
{
    cleanup(found_dataset_release) struct found_dataset f = {0};
    struct dataset *d;
    struct registry *registry;
    uint64_t epoch;
    BUFFER_CLEANUP json = {0};
    int r = dataset_find(l, w, &registry, &f, &epoch);
    if (r < 0)
        return r;
    if (f.record.size_bytes == 0) {
        keep_dataset(l->repository, w, DATASET_DATA_ID, epoch, (struct text){0});
        return 0;
    }
    r = dataset_read(buffer_text(&f.record), &d);
    if (r < 0)
        return r;
    struct data_id *id = data_id_new(d);
    r = registry_implied(registry, f.snapshot, f.type, d->values, put_implied, id);
    data_id_write(id, &json);
    data_id_free(id);
    dataset_free(d);
    if (r < 0 && r != -ENOENT)
        return r;
    keep_dataset(l->repository, w, DATASET_DATA_ID, epoch, buffer_text(&json));
    return 0;
}

// When a visit or an exposure was: 16 bytes, or none where that is not known.
static int job_timespan(struct librarian *l, const struct want *w)
{
    struct snapshot *s;
    struct registry *registry;
    struct moment m;
    struct timespan span;
    BUFFER_CLEANUP store = {0};
    int r = librarian_registry(l, &registry);
    if (r == 0)
        r = librarian_snapshot(l, w->fresh, &s);
    if (r < 0)
        return r;
    uint64_t epoch = repository_epoch(l->repository);
    r = moment_read(s, buffer_text(&w->texts), &m, &store);
    if (r == 0 && m.element)
        r = registry_timespan(registry, s, m.element, m.values, &span);
    snapshot_unref(s);
    if (r < 0 && r != -ENOENT)
        return r;
    struct text record = r == 0 ? (struct text){(const char *)&span, sizeof(span)} : (struct text){0};
    keep_dataset(l->repository, w, DATASET_TIMESPAN, epoch, record);
    return 0;
}

static int job_snapshot(struct librarian *l, const struct want *w)
{
    struct snapshot *s = NULL;
    int r = librarian_snapshot(l, w->fresh, &s);
    snapshot_unref(s);
    return r;
}

int job_run(struct librarian *l, const struct want *w)
{
    switch (w->kind) {
    case WANT_SNAPSHOT:
        return job_snapshot(l, w);
    case WANT_TYPES:
        return job_types(l, w);
    case WANT_SET:
        return job_set(l, w);
    case WANT_VERIFY:
        return job_verify(l, w);
    case WANT_PART:
        return job_part(l, w);
    case WANT_ROW:
        return job_row(l, w);
    case WANT_FOLDER:
        return job_folder(l, w);
    case WANT_DATASET:
        return job_dataset(l, w);
    case WANT_DATA_ID:
        return job_data_id(l, w);
    case WANT_TIMESPAN:
        return job_timespan(l, w);
    case WANT_MEMBERS:
        return job_members(l, w);
    case WANT_FIND:
        return job_find(l, w);
    }
    return -EINVAL;
}
