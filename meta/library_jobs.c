// SPDX-License-Identifier: BSD-3-Clause
// library_jobs: what a librarian does for each kind of want but sets.
// 1. An answer is kept with an epoch that was current before the registry was asked: it is true at
//    some moment not before that epoch was noticed.
// 2. An answer that the catalogue can't keep goes to the table of recent answers instead, so that
//    it reaches who asked; that is no error of the job.
// 3. "There is none" is an answer, not an error.
#include "meta/library.h"

#include "base/log.h"
#include "base/metric.h"
#include "meta/catalogue_block.h"

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
    uint64_t epoch = mark ? library_note_mark(r, mark, &changed) : repository_epoch(r);
    e = registry_snapshot(registry, &s, &why);
    if (e < 0) {
        if (why)
            log_error("%s: %s", r->config->source, why);
        return e;
    }
    s->epoch = epoch;
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

// What a job about (collection, type) begins with.
struct subject {
    struct snapshot *snapshot;
    const struct collection *collection;
    const struct dataset_type *type;
    struct registry *registry;
    uint64_t epoch;
};

static void subject_release(struct subject *s)
{
    snapshot_unref(s->snapshot);
}

static int subject_find(struct librarian *l, const struct want *w, struct subject *s)
{
    int r = librarian_registry(l, &s->registry);
    if (r == 0)
        r = librarian_snapshot(l, w->fresh, &s->snapshot);
    if (r < 0)
        return r;
    s->epoch = repository_epoch(l->repository); // invariant 1
    s->collection = snapshot_collection_by_id(s->snapshot, w->collection_id);
    s->type = w->type_id ? snapshot_type_by_id(s->snapshot, w->type_id) : NULL;
    if (!s->collection || (w->type_id && (!s->type || !s->type->is_readable)))
        return -ENOENT;
    return 0;
}

// Presence.

// Asks member by member until one has it.
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
        int present =
            c->kind == COLLECTION_CALIBRATION ? 0 : registry_present(s->registry, t, c->id);
        if (present < 0)
            return present;
        snapshot_set_presence(s->snapshot, c, t, present > 0);
        if (present > 0)
            return 0;
    }
    return 0;
}

static int probe_type(struct librarian *l, struct subject *s, const struct dataset_type *t)
{
    int r = 0;
    if (snapshot_presence(s->snapshot, s->collection, t) == PRESENCE_UNKNOWN)
        r = probe_members(l, s, t);
    if (r < 0)
        return r;
    // Of the snapshot's epoch: some of it may have been found out long before this job.
    struct presence_answer a = {
        .collection_id = s->collection->id,
        .type_id = t->id,
        .epoch = s->snapshot->epoch,
        .is_present = snapshot_presence(s->snapshot, s->collection, t) == PRESENCE_PRESENT,
    };
    answers_put_presence(&l->repository->answers, &a);
    return 0;
}

static int job_types(struct librarian *l, const struct want *w)
{
    cleanup(subject_release) struct subject s = {0};
    int r = subject_find(l, w, &s);
    if (r < 0 || s.type)
        return r < 0 ? r : probe_type(l, &s, s.type);
    uint32_t count;
    const uint32_t *types = snapshot_types(s.snapshot, s.collection, &count);
    for (uint32_t i = 0; i < count && r == 0; i++)
        if (s.snapshot->types[types[i]].is_readable)
            r = probe_type(l, &s, &s.snapshot->types[types[i]]);
    if (r < 0)
        return r;
    // Who asked may know of types that it could hold once and can't any more.
    struct presence_answer all = {.collection_id = w->collection_id,
                                  .type_id = ANSWERS_ALL_TYPES,
                                  .epoch = s.snapshot->epoch,
                                  .is_present = true};
    answers_put_presence(&l->repository->answers, &all);
    return 0;
}

// Points.

// What a point query is asked with.
struct point {
    struct subject subject;
    int64_t *ids; // of the collections that may hold it, in order
    uint32_t count;
    struct value values[LEVELS_MAX];
    struct buffer store; // of the values' texts
};

static void point_release(struct point *p)
{
    subject_release(&p->subject);
    buffer_release(&p->store);
    free(p->ids);
}

static int point_find(struct librarian *l, const struct want *w, struct point *p)
{
    struct subject *s = &p->subject;
    const struct collection **members;
    int r = subject_find(l, w, s);
    if (r == 0)
        r = want_values(w, s->snapshot, s->type, p->values, &p->store);
    if (r < 0)
        return r;
    p->count = set_members(s->snapshot, s->collection, s->type, &members);
    p->ids = memory_new((p->count + 1) * sizeof(*p->ids));
    for (uint32_t i = 0; i < p->count; i++)
        p->ids[i] = members[i]->id;
    free(members);
    return 0;
}

static void keep(struct repository *r, const struct want *w, uint64_t epoch, const struct key *k,
                 enum row_kind kind, const struct row *row)
{
    struct set_id id = set_id_of(r, w->collection_id, w->type_id);
    if (catalogue_put_answer(r->catalogue, &id, epoch, k, kind, row) == 0)
        return;
    if (!text_equal(key_text(k), key_text(&w->key)))
        return; // nobody asked for that one
    BUFFER_CLEANUP record = {0};
    if (kind == ROW_VISIBLE)
        row_pack(k, kind, row, &record);
    answers_put(&r->answers, w, epoch, kind, buffer_text(&record));
}

struct found_row {
    struct repository *repository;
    const struct want *want;
    const struct subject *subject;
};

static int keep_found(const struct registry_row *in, void *context)
{
    const struct found_row *f = context;
    struct row row;
    struct key key;
    enum row_kind kind;
    BUFFER_CLEANUP store = {0};
    int r = library_row(f->repository, f->subject->type, in, &row, &key, &kind, &store);
    if (r < 0)
        return r;
    // The row may stand under another day_obs than the path said: then there is no such path.
    if (!text_equal(key_text(&key), key_text(&f->want->key)))
        keep(f->repository, f->want, f->subject->epoch, &f->want->key, ROW_HIDDEN, NULL);
    keep(f->repository, f->want, f->subject->epoch, &key, kind, &row);
    return 0;
}

static int job_row(struct librarian *l, const struct want *w)
{
    cleanup(point_release) struct point p = {0};
    const struct subject *s = &p.subject;
    int r = point_find(l, w, &p);
    if (r == 0 && w->depth != s->type->level_count)
        r = -ENOENT;
    if (r < 0)
        return r;
    struct found_row found = {l->repository, w, s};
    metric_add(METRIC_POINT_QUERIES, 1);
    r = p.count ? registry_row(s->registry, s->snapshot, s->type, p.ids, p.count, p.values, keep_found,
                               &found)
                : -ENOENT;
    if (r != -ENOENT)
        return r;
    keep(l->repository, w, s->epoch, &w->key, ROW_HIDDEN, NULL);
    return 0;
}

static int job_folder(struct librarian *l, const struct want *w)
{
    cleanup(point_release) struct point p = {0};
    const struct subject *s = &p.subject;
    int r = point_find(l, w, &p);
    if (r < 0)
        return r;
    metric_add(METRIC_POINT_QUERIES, 1);
    r = p.count ? registry_enter(s->registry, s->snapshot, s->type, p.ids, p.count, p.values, w->depth) : 0;
    if (r < 0 && r != -ENOENT)
        return r;
    keep(l->repository, w, s->epoch, &w->key, r > 0 ? ROW_ENTERED : ROW_REFUSED, NULL);
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
    case WANT_ROW:
        return job_row(l, w);
    case WANT_FOLDER:
        return job_folder(l, w);
    case WANT_DATASET:
        return job_dataset(l, w);
    case WANT_DATA_ID:
        return job_data_id(l, w);
    }
    return -EINVAL;
}
