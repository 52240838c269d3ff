// SPDX-License-Identifier: BSD-3-Clause
// library_part: what is in one folder, as a set of its own; and what is asked with nobody waiting.
// 1. A part is of the epoch that was current before the registry was asked.
// 2. Of a chain, all members are asked in one statement, and the first that has a data ID wins.
// 3. Who has one folder after the other of a set read gets all of the set, in the background: then nothing
//    needs to be asked any more, until the registry changes. Each further time takes twice as many folders: a
//    large set of a registry that always changes isn't read over and over.
// 4. What is too much for one answer, or too little for a question of its own, is read by pages, and not here: this is a
//    short job (jobs.h, 3). That is kept as an answer, ROW_REFUSED; who gets it asks for the set (place_part.c).
// 5. Of a large set that is known as a whole no more than WALKED folders are asked for within `stale` because they are
//    old: who goes through so many gets what was known (place_part.c), or each commit would cost a statement a folder.
#include <stdlib.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/metric.h"
#include "meta/library.h"

#define ASKED_AHEAD_MAX 64
#define PART_ROWS_MAX 20000
#define PARTS_BEFORE_ALL 64
#define WALKED 16
#define LEVEL_MEMBERS_MAX 16 // of a chain, whose folders' names are asked: each is another probe for each of them

struct ask_ahead {
    struct waiter waiter; // first
    struct repository *repository;
};

static void asked_ahead(struct waiter *w, int error)
{
    struct ask_ahead *a = (struct ask_ahead *)w;
    (void)error;
    atomic_fetch_sub(&a->repository->asked_ahead, 1);
    free(a);
}

void library_ask_ahead(struct repository *r, const struct want *want)
{
    if (atomic_fetch_add(&r->asked_ahead, 1) >= ASKED_AHEAD_MAX) {
        atomic_fetch_sub(&r->asked_ahead, 1);
        return;
    }
    struct ask_ahead *a = new_struct(struct ask_ahead);
    *a = (struct ask_ahead){{.ready = asked_ahead}, r};
    repository_ask(r, want, &a->waiter);
}

// Invariant 3.
static void note_part(struct repository *r, const struct want *w)
{
    bool is_next = atomic_exchange(&r->parts_of[0], w->collection_id) == w->collection_id;
    is_next = (atomic_exchange(&r->parts_of[1], w->type_id) == w->type_id) && is_next;
    if (!is_next) {
        atomic_store(&r->parts_read, 1);
        atomic_store(&r->parts_before_all, PARTS_BEFORE_ALL);
        return;
    }
    if (atomic_fetch_add(&r->parts_read, 1) + 1 < atomic_load(&r->parts_before_all))
        return;
    atomic_store(&r->parts_read, 0);
    atomic_store(&r->parts_before_all, 2 * atomic_load(&r->parts_before_all));
    struct want all = {.kind = WANT_SET, .fresh = w->fresh, .collection_id = w->collection_id, .type_id = w->type_id};
    library_ask_ahead(r, &all);
}

// The one of this set; NULL.
static struct walk *find_walk(struct repository *r, int64_t collection_id, int64_t type_id)
{
    check(lock_is_held(&r->verified_lock));
    for (struct walk *w = r->walks; w < r->walks + WALKS_KEPT; w++)
        if (w->count && w->collection_id == collection_id && w->type_id == type_id)
            return w;
    return NULL;
}

// Instead of the one that began first.
static struct walk *oldest_walk(struct repository *r)
{
    struct walk *oldest = r->walks;
    for (struct walk *w = r->walks; w < r->walks + WALKS_KEPT; w++)
        oldest = w->since_ns < oldest->since_ns ? w : oldest;
    return oldest;
}

// Invariant 5.
static void note_step(struct repository *r, const struct want *want)
{
    int64_t now = clock_ns();
    lock_scope(&r->verified_lock);
    struct walk *w = find_walk(r, want->collection_id, want->type_id);
    bool goes_on = w && now < w->since_ns + r->stale_ns;
    w = w ? w : oldest_walk(r);
    *w = (struct walk){.collection_id = want->collection_id,
                       .type_id = want->type_id,
                       .since_ns = goes_on ? w->since_ns : now,
                       .count = goes_on ? w->count + 1 : 1};
}

bool library_is_walked(struct repository *r, const struct set_id *id)
{
    lock_scope(&r->verified_lock);
    const struct walk *w = find_walk(r, id->collection_id, id->type_id);
    return w && w->count >= WALKED && clock_ns() < w->since_ns + r->stale_ns;
}

struct part_load {
    struct repository *repository;
    const struct dataset_type *type;
    struct catalogue_load *load;
    bool is_level; // its entries are folders
    struct buffer store;
};

static int load_row(const struct registry_row *in, void *context)
{
    struct part_load *g = context;
    struct row row;
    struct key key;
    enum row_kind kind;
    buffer_clear(&g->store);
    int r = library_row(g->repository, g->type, in, &row, &key, &kind, &g->store);
    if (r == 0 && g->is_level && kind != ROW_VISIBLE)
        r = -E2BIG; // it stands for a folder, in which there may be a good one
    if (r == 0)
        r = catalogue_load_row(g->load, &key, kind, &row);
    if (r != -EBADMSG && r != -EMSGSIZE)
        return r;
    metric_add(METRIC_ROWS_REFUSED, 1);
    return g->is_level ? -E2BIG : 0;
}

static int load_part(struct librarian *l, const struct want *w, struct subject *s, const struct value *values,
                     const int64_t *ids, uint32_t count)
{
    struct repository *r = l->repository;
    struct set_id id = set_id_of(r, w->collection_id, w->type_id);
    struct set_state state;
    bool is_level = registry_wanted_column(s->type, w->depth) != INDEX_NONE;
    int e = is_level && count > LEVEL_MEMBERS_MAX ? -E2BIG : 0;
    id.part = hash64(w->key.bytes, w->key.size_bytes);
    for (int tries = 0; e == 0 && tries < 3; tries++) {
        cleanup(cleanup_catalogue_load_free) struct catalogue_load *load = catalogue_load_new(r->catalogue);
        struct part_load part = {.repository = r, .type = s->type, .load = load, .is_level = is_level};
        metric_add(METRIC_POINT_QUERIES, 1);
        e = registry_folder(s->registry, s->snapshot, s->type, ids, count, values, w->depth, PART_ROWS_MAX,
                            load_row, &part);
        buffer_release(&part.store);
        if (e == 0)
            e = catalogue_load_finish(load, &id, s->epoch, &state);
        if (e != -ESTALE)
            return e;
        e = 0; // the catalogue moved or was emptied under it
    }
    return e == 0 ? -ESTALE : e;
}

int job_part(struct librarian *l, const struct want *w)
{
    cleanup(subject_release) struct subject s = {0};
    const struct collection **members = NULL;
    struct value values[LEVELS_MAX];
    BUFFER_CLEANUP store = {0};
    int r = subject_find(l, w, &s);
    if (r == 0)
        r = want_values(w, s.snapshot, s.type, values, &store);
    if (r == 0 && (!s.registry->ops->folder || !registry_folder_columns(s.snapshot, s.type, w->depth)))
        r = -ENOENT; // of another dataset type or registry by now
    if (r < 0)
        return r;
    uint32_t count = set_members(s.snapshot, s.collection, s.type, &members);
    int64_t *ids = memory_new((count + 1) * sizeof(*ids));
    for (uint32_t i = 0; i < count; i++)
        ids[i] = members[i]->id;
    note_part(l->repository, w);
    note_step(l->repository, w);
    r = load_part(l, w, &s, values, ids, count);
    free(ids);
    free(members);
    if (r == -E2BIG) // invariant 4
        answers_put(&l->repository->answers, w, s.epoch, ROW_REFUSED, (struct text){0});
    return r == -E2BIG ? 0 : r;
}
