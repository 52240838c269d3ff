// SPDX-License-Identifier: BSD-3-Clause
// library_points: what a librarian does for single names: a row, a folder, a data ID's members.
// 1. An answer is kept as in library_jobs.c: with an epoch of before, and if the catalogue can't keep it
//    with the recent answers.
#include "base/metric.h"
#include "meta/account.h"
#include "meta/catalogue_block.h"
#include "meta/library.h"

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
    uint32_t count;        // of those that are what was wanted
    enum row_kind kind;    // of the first of these
    struct buffer record;  // of the first of these, found at a time
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

// An entry of a CALIBRATION collection: of those with its range, the first with its name.
static int keep_entry(const struct registry_row *in, void *context)
{
    struct found_row *f = context;
    struct row row;
    struct key key;
    enum row_kind kind;
    BUFFER_CLEANUP store = {0};
    int r = library_row(f->repository, f->subject->type, in, &row, &key, &kind, &store);
    if (r < 0 || f->count || !text_equal(key_text(&key), key_text(&f->want->key)))
        return r;
    f->count = 1;
    keep(f->repository, f->want, f->subject->epoch, &key, kind, &row);
    return 0;
}

static int note_valid(const struct registry_row *in, void *context)
{
    struct found_row *f = context;
    struct row row;
    struct key key;
    enum row_kind kind;
    BUFFER_CLEANUP store = {0};
    struct registry_row plain = *in;
    plain.has_range = plain.has_twin = plain.is_double = false;
    int r = library_row(f->repository, f->subject->type, &plain, &row, &key, &kind, &store);
    if (r < 0 || f->count++)
        return r;
    f->kind = text_equal(key_text(&key), key_text(&f->want->key)) ? kind : ROW_HIDDEN;
    return f->kind == ROW_VISIBLE ? row_pack(&key, kind, &row, &f->record) : 0;
}

static int find_rows(struct point *p, const struct registry_search *how, registry_each *each,
                     struct found_row *found)
{
    struct registry_search search = *how;
    search.collections = p->ids;
    search.count = p->count;
    search.values = p->values;
    metric_add(METRIC_POINT_QUERIES, 1);
    int r = p->count ? registry_row(p->subject.registry, p->subject.snapshot, p->subject.type, &search,
                                    each, found)
                     : -ENOENT;
    return r == -ENOENT ? 0 : r < 0 ? r : 1;
}

// What is found at a time is kept with the recent answers only.
static int find_valid(struct point *p, const struct want *w, struct found_row *found)
{
    struct registry_search search = {.how = SEARCH_AT, .span = w->at};
    int r = find_rows(p, &search, note_valid, found);
    if (r < 0)
        return r;
    enum row_kind kind = found->count > 1 ? ROW_AMBIGUOUS : found->count ? found->kind : ROW_HIDDEN;
    answers_put(&found->repository->answers, w, p->subject.epoch, kind, buffer_text(&found->record));
    return 0;
}

static int find_by_name(struct point *p, const struct want *w, struct found_row *found)
{
    struct registry_search search = {.how = SEARCH_FIRST};
    struct key_range range;
    int size = key_values_size(key_text(&w->key), w->depth), r;
    if (size >= 0 && key_read_range(key_text(&w->key), (size_t)size, &range) == 0) {
        search = (struct registry_search){.how = SEARCH_RANGE, .span = range.span};
        r = find_rows(p, &search, keep_entry, found);
        r = r > 0 ? found->count > 0 : r;
    } else {
        r = find_rows(p, &search, keep_found, found);
    }
    if (r == 0)
        keep(found->repository, w, p->subject.epoch, &w->key, ROW_HIDDEN, NULL);
    return r < 0 ? r : 0;
}

int job_row(struct librarian *l, const struct want *w)
{
    cleanup(point_release) struct point p = {0};
    int r = point_find(l, w, &p);
    if (r == 0 && w->depth != p.subject.type->level_count)
        r = -ENOENT;
    if (r < 0)
        return r;
    struct found_row found = {.repository = l->repository, .want = w, .subject = &p.subject};
    r = timespan_is_none(&w->at) ? find_by_name(&p, w, &found) : find_valid(&p, w, &found);
    buffer_release(&found.record);
    return r;
}

// Members, one by one.

struct found_member {
    const struct subject *subject;
    struct buffer records;
};

static int keep_member(const struct registry_row *in, void *context)
{
    struct found_member *f = context;
    struct member_record m = {.collection_id = in->collection_id,
                              .run_id = in->run_id,
                              .uuid = in->uuid,
                              .file_count = library_files(in->files, in->file_count),
                              .has_range = in->has_range,
                              .range = in->range};
    for (uint32_t i = 0; i < in->value_count; i++)
        key_append(&m.key, &in->values[i], f->subject->type->level_count);
    buffer_append(&f->records, &m, sizeof(m));
    return 0;
}

// All that the i-th collection has of the data ID: at a time what is valid then, else in each range.
static int ask_member(struct point *p, const struct want *w, uint32_t i, struct found_member *found)
{
    const struct subject *s = &p->subject;
    const struct collection *c = snapshot_collection_by_id(s->snapshot, p->ids[i]);
    struct registry_search search = {
        .how = SEARCH_AT, .span = w->at, .collections = &p->ids[i], .count = 1, .values = p->values};
    if (timespan_is_none(&w->at))
        search.span = TIMESPAN_ALWAYS;
    if (timespan_is_none(&w->at) && c->kind != COLLECTION_CALIBRATION)
        search.how = SEARCH_FIRST;
    int r = registry_row(s->registry, s->snapshot, s->type, &search, keep_member, found);
    return r == -ENOENT ? 0 : r;
}

int job_members(struct librarian *l, const struct want *w)
{
    cleanup(point_release) struct point p = {0};
    struct found_member found = {.subject = &p.subject};
    int r = point_find(l, w, &p);
    if (r == 0 && w->depth != p.subject.type->level_count)
        r = -ENOENT;
    metric_add(METRIC_POINT_QUERIES, 1);
    for (uint32_t i = 0; r == 0 && i < p.count; i++)
        r = atomic_load(&l->repository->is_closing) ? -ECANCELED : ask_member(&p, w, i, &found);
    if (r == 0)
        answers_put(&l->repository->answers, w, p.subject.epoch, ROW_VISIBLE, buffer_text(&found.records));
    buffer_release(&found.records);
    return r;
}

int job_folder(struct librarian *l, const struct want *w)
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
