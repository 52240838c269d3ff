// SPDX-License-Identifier: BSD-3-Clause
// library_sets: reading whole key sets.
// 1. A set is of the epoch that its first page's mark belongs to. If the registry changes between
//    pages it is read again, as long as that is cheap; then it is taken as it is: each row was true
//    when it was read, and the next who needs it newer reads it again.
// 2. A set is read by one librarian at a time; who waits for it looks first whether it is there
//    then.
// 3. A chain's set is the merge of its members' sets; what is found at a time, in a chain or not, is
//    resolved from them. They are pinned until it is written. It is
//    as old as the oldest of them, or the snapshot that said which they are.
// 4. A set that is old is compared with the registry, where it can be (library_verify.c), before it is read again.
#include "meta/library.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/metric.h"

#define PAGE_ROWS 20000
#define READ_AGAIN_MAX 2
#define READ_AGAIN_NS NS_PER_S // a read that took longer is not thrown away
#define STALE_MAX 3

// Which collections may hold it: neighbours with the same summary share it.
typedef bool each_member(const struct collection *c, void *context);

static void members_each(struct snapshot *s, const struct collection *c,
                         const struct dataset_type *t, each_member *each, void *context)
{
    const struct index_set *last = NULL;
    bool last_may = false;
    uint32_t count;
    const uint32_t *path = snapshot_search_path(s, c, &count);
    for (uint32_t i = 0; i < count; i++) {
        const struct collection *m = &s->collections[path[i]];
        if (m->kind == COLLECTION_CALIBRATION && t->calibs_table.size_bytes == 0)
            continue;
        if (m->own_types != last)
            last_may = snapshot_may_hold(s, m, t);
        last = m->own_types;
        if (last_may && !each(m, context))
            return;
    }
}

struct holders {
    const struct collection *first;
    bool has_more, is_timed;
};

static bool note_holder(const struct collection *c, void *context)
{
    struct holders *h = context;
    h->has_more = h->first;
    h->first = h->first ? h->first : c;
    h->is_timed = h->is_timed || c->kind == COLLECTION_CALIBRATION;
    return !h->has_more || !h->is_timed;
}

const struct collection *set_collection(struct snapshot *s, const struct collection *c,
                                        const struct dataset_type *t, bool *ret_is_timed)
{
    struct holders h = {.is_timed = t->calibs_table.size_bytes == 0};
    members_each(s, c, t, note_holder, &h);
    if (ret_is_timed)
        *ret_is_timed = h.is_timed && t->calibs_table.size_bytes;
    return h.has_more ? c : h.first;
}

struct member_list {
    const struct collection **all;
    uint32_t count, room;
};

static bool list_member(const struct collection *c, void *context)
{
    struct member_list *list = context;
    if (list->count == list->room) {
        list->room = list->room ? 2 * list->room : 8;
        list->all = memory_grow(list->all, list->room, sizeof(*list->all));
    }
    list->all[list->count++] = c;
    return true;
}

uint32_t set_members(struct snapshot *s, const struct collection *c, const struct dataset_type *t,
                     const struct collection ***ret_members)
{
    struct member_list list = {0};
    members_each(s, c, t, list_member, &list);
    *ret_members = list.all;
    return list.count;
}

// Reading one.

struct reading {
    struct librarian *librarian;
    struct snapshot *snapshot;
    const struct collection *collection;
    const struct dataset_type *type;
    struct set_id id;
    struct catalogue_load *load;
    struct buffer store;
    uint64_t rows, hidden; // of them not stored
};

static int load_row(const struct registry_row *in, void *context)
{
    struct reading *g = context;
    struct row row;
    struct key key;
    enum row_kind kind;
    buffer_clear(&g->store);
    int r = library_row(g->librarian->repository, g->type, in, &row, &key, &kind, &g->store);
    if (r == 0)
        r = catalogue_load_row(g->load, &key, kind, &row);
    if (r == -EBADMSG || r == -EMSGSIZE) {
        metric_add(METRIC_ROWS_REFUSED, 1);
        return 0;
    }
    g->rows++;
    g->hidden += kind != ROW_VISIBLE;
    return r;
}

// One time through all pages. 1: the registry changed meanwhile; *ret_epoch: of the first page.
static int read_pages(struct reading *g, uint64_t *ret_epoch)
{
    struct repository *r = g->librarian->repository;
    BUFFER_CLEANUP cursor = {0};
    struct registry *registry;
    uint64_t first = 0, mark = 0, before = repository_epoch(r);
    bool is_end = false, is_first = true, has_moved = false, changed;
    int e = librarian_registry(g->librarian, &registry);
    while (e == 0 && !is_end) {
        if (atomic_load(&r->is_closing))
            return -ECANCELED;
        e = registry_page(registry, g->snapshot, g->type, g->collection->id, &cursor, PAGE_ROWS,
                          load_row, g, &is_end, &mark);
        if (is_first && e == 0) {
            first = mark;
            *ret_epoch = mark ? library_note_mark(r, mark, &changed) : before;
        }
        has_moved = has_moved || mark != first;
        is_first = false;
    }
    return e < 0 ? e : has_moved;
}

static int read_once(struct reading *g, bool again_if_moved, struct set_state *ret_state)
{
    int64_t begin = clock_ns();
    uint64_t epoch = 0;
    cleanup(cleanup_catalogue_load_free) struct catalogue_load *load =
        catalogue_load_new(g->librarian->repository->catalogue);
    g->load = load;
    g->rows = g->hidden = 0;
    metric_add(METRIC_SET_LOADS, 1);
    int r = read_pages(g, &epoch);
    metric_add(METRIC_SET_ROWS, (int64_t)g->rows);
    if (r < 0)
        return r;
    if (r == 1 && again_if_moved && clock_ns() - begin < READ_AGAIN_NS)
        return 1;
    return catalogue_load_finish(load, &g->id, epoch, ret_state);
}

// What a set that may turn out to be large is compared by later.
static int ask_digest(struct reading *g, uint64_t *ret_digest)
{
    struct repository *r = g->librarian->repository;
    struct set_state old;
    struct registry *registry;
    *ret_digest = 0;
    bool is_small = catalogue_set(r->catalogue, &g->id, &old) == 0 && old.row_count <= r->large_rows;
    if (is_small || r->stale_ns == 0)
        return 0;
    int e = librarian_registry(g->librarian, &registry);
    return e < 0 ? e : registry_digest(registry, g->snapshot, g->type, &g->collection->id, 1, ret_digest);
}

static int read_set(struct reading *g)
{
    struct repository *r = g->librarian->repository;
    struct set_state state;
    uint64_t digest;
    int64_t begin = clock_ns();
    int moved = 0, stale = 0, e = ask_digest(g, &digest);
    int64_t cost = clock_ns() - begin;
    if (e < 0)
        return e;
    do {
        e = read_once(g, moved < READ_AGAIN_MAX, &state);
        moved += e == 1;
        stale += e == -ESTALE; // the catalogue moved or was emptied under it
    } while (e == 1 || (e == -ESTALE && stale < STALE_MAX));
    if (e == 0)
        library_note_read(r, &g->id, &state, g->hidden || state.row_count <= r->large_rows ? 0 : digest, cost);
    buffer_release(&g->store);
    return e;
}

// One that needn't be read. `exactly`: what counts for a while only won't do.
static int pin_compared(struct reading *g, uint64_t fresh, bool exactly, struct set_state *ret_state)
{
    struct catalogue *c = g->librarian->repository->catalogue;
    int64_t left;
    int e = catalogue_pin_set(c, &g->id, fresh, ret_state);
    if (e != -ENOENT)
        return e;
    e = library_verify(g->librarian, g->snapshot, g->collection, g->type, fresh, &left);
    if (e < 0 || left == 0 || (exactly && left != INT64_MAX))
        return e < 0 ? e : -ENOENT;
    e = library_pin_set(g->librarian->repository, &g->id, fresh, ret_state);
    if (e == 0 && ret_state->epoch < fresh)
        ret_state->epoch = fresh;
    return e;
}

// The set, of `fresh` or later, pinned.
static int member_pin(struct librarian *l, struct snapshot *s, const struct collection *c,
                      const struct dataset_type *t, uint64_t fresh, bool exactly, struct set_state *ret_state)
{
    struct repository *r = l->repository;
    struct reading g = {.librarian = l,
                        .snapshot = s,
                        .collection = c,
                        .type = t,
                        .id = set_id_of(r, c->id, t->id)};
    if (catalogue_pin_set(r->catalogue, &g.id, fresh, ret_state) == 0)
        return 0;
    struct errand errand = {.collection_id = c->id, .type_id = t->id};
    errand_begin(r, &errand);
    int e = pin_compared(&g, fresh, exactly, ret_state);
    for (int i = 0; e == -ENOENT && i < STALE_MAX; i++) {
        e = read_set(&g);
        if (e == 0)
            e = catalogue_pin_set(r->catalogue, &g.id, fresh, ret_state);
    }
    errand_end(r, &errand);
    return e == -ENOENT ? -EAGAIN : e; // emptied faster than it is read
}

static int merge_members(struct librarian *l, struct snapshot *s, const struct collection **members,
                         uint32_t count, const struct dataset_type *t, uint64_t fresh,
                         const struct set_id *id)
{
    struct catalogue *c = l->repository->catalogue;
    cleanup(cleanup_free) uint64_t *generations = memory_new((count + 1) * sizeof(*generations));
    struct set_state state;
    uint64_t epoch = snapshot_epoch(s);
    uint32_t pinned = 0;
    int r = 0;
    for (; pinned < count; pinned++) {
        r = member_pin(l, s, members[pinned], t, fresh, true, &state);
        if (r < 0)
            break;
        generations[pinned] = state.generation;
        epoch = state.epoch < epoch ? state.epoch : epoch;
    }
    if (r == 0 && timespan_is_none(&id->at))
        r = catalogue_merge(c, generations, count, id, epoch, &state);
    else if (r == 0)
        r = catalogue_resolve(c, generations, count, t->level_count, id, epoch, &state);
    for (uint32_t i = 0; i < pinned; i++)
        catalogue_unpin(c, generations[i]);
    return r;
}

// The set of a chain, or of what is found at a time.
static int merged_load(struct librarian *l, struct snapshot *s, const struct collection *c,
                       const struct dataset_type *t, uint64_t fresh, const struct set_id *id)
{
    const struct collection **members;
    uint32_t count = set_members(s, c, t, &members);
    int r = -ESTALE;
    for (int i = 0; r == -ESTALE || r == -EBADMSG; i++) {
        if (i == STALE_MAX)
            break;
        r = merge_members(l, s, members, count, t, fresh, id);
    }
    free(members);
    return r;
}

int job_set(struct librarian *l, const struct want *w)
{
    struct snapshot *s;
    int r = librarian_snapshot(l, w->fresh, &s);
    if (r < 0)
        return r;
    const struct collection *c = snapshot_collection_by_id(s, w->collection_id);
    const struct dataset_type *t = snapshot_type_by_id(s, w->type_id);
    struct set_state state;
    struct set_id id = set_id_of(l->repository, w->collection_id, w->type_id);
    id.at = w->at;
    if (!c || !t || !t->is_readable) {
        r = -ENOENT;
    } else if (catalogue_pin_set(l->repository->catalogue, &id, w->fresh, &state) == 0) {
        catalogue_unpin(l->repository->catalogue, state.generation);
    } else if (c->kind == COLLECTION_CHAINED || !timespan_is_none(&w->at)) {
        r = merged_load(l, s, c, t, w->fresh, &id);
    } else {
        r = member_pin(l, s, c, t, w->fresh, false, &state);
        if (r == 0)
            catalogue_unpin(l->repository->catalogue, state.generation);
    }
    snapshot_unref(s);
    return r;
}
