// SPDX-License-Identifier: BSD-3-Clause
// place_part: a folder whose set isn't there as a whole. Where the registry finds what is in it by indexes, that
// alone is asked, and kept as a set of its own: of a folder of files its rows, of one of folders a row for each. In a
// registry of millions every folder is there at once, and is renewed at once. Who goes through many of them gets
// the whole set besides (library_part.c).
// A listing that is old goes on being shown while it is renewed (library_verify.c, invariant 3), and a folder that is in
// one may be entered; single names of files are as new as who asks wants them, and so is that something isn't there.
#include "base/hash.h"
#include "base/metric.h"
#include "meta/place.h"

bool place_part_id(const struct place *p, uint32_t depth, struct set_id *ret_id)
{
    const struct dataset_type *t = p->type;
    int prefix = key_values_size(key_text(&p->key), depth);
    bool may_have_ranges = t->calibs_table.size_bytes && p->holder->kind != COLLECTION_RUN &&
                           p->holder->kind != COLLECTION_TAGGED;
    if (!atomic_load(&p->repository->asks_folders) || depth >= t->level_count || prefix < 0 ||
        may_have_ranges || registry_folder_columns(p->snapshot, t, depth) == 0)
        return false;
    *ret_id = place_set_id(p);
    ret_id->part = hash64(p->key.bytes, (size_t)prefix);
    return true;
}

static int want_part(const struct place *p, struct want *want)
{
    enum row_kind kind;
    BUFFER_CLEANUP record = {0};
    place_want_point(p, WANT_PART, want);
    if (answers_get(&p->repository->answers, want, &kind, &record))
        return place_want_set(p, want); // that is all it says
    place_want_texts(p, want);
    return -EINPROGRESS;
}

int place_pin_set(const struct place *p, struct set_state *ret_state, struct want *want)
{
    struct repository *repository = p->repository;
    struct set_id id = place_set_id(p), part;
    int r = library_pin_set(repository, &id, p->fresh, ret_state);
    if (r != -ENOENT)
        return r;
    library_verify_ahead(repository, &id, p->fresh);
    if (!place_part_id(p, p->depth, &part))
        return place_want_set(p, want);
    r = catalogue_pin_set(repository->catalogue, &part, p->fresh, ret_state);
    return r == -ENOENT ? want_part(p, want) : r;
}

// Of what is old, but not too old, the newest: the whole set, or the part that the folder of the first `depth` levels is.
static bool find_old(const struct place *p, uint32_t depth, struct old_set *ret_set)
{
    struct set_id id = place_set_id(p), part;
    struct old_set of_part;
    bool has_whole = library_old_set(p->repository, &id, p->fresh, ret_set);
    if (!place_part_id(p, depth, &part) || !library_old_set(p->repository, &part, p->fresh, &of_part))
        return has_whole;
    if (!has_whole || of_part.known_epoch > ret_set->known_epoch)
        *ret_set = of_part;
    return true;
}

// Whether it is to be asked for again, with nobody waiting, before it is too old: a part by a statement; a whole set is
// compared, where it can be.
static bool is_due(const struct place *p, const struct old_set *old)
{
    struct repository *r = p->repository;
    bool is_compared = !old->id.part && library_is_compared(r, &old->id);
    return !is_compared && library_old_left(r, &old->id, old->known_epoch, p->fresh) <= r->stale_ns / 2;
}

static void renew(const struct place *p, const struct old_set *old)
{
    struct repository *r = p->repository;
    struct set_id part;
    struct want want = {0};
    struct place parent = *p; // for its want only
    if (!is_due(p, old) || !place_part_id(p, p->depth - 1, &part))
        return;
    parent.depth--;
    parent.key.size_bytes = (size_t)key_values_size(key_text(&p->key), parent.depth);
    want_part(&parent, &want);
    if (want.kind == WANT_PART)
        library_ask_ahead(r, &want);
    want_release(&want);
}

int place_find_old_folder(const struct place *p, int64_t *ret_left_ns)
{
    struct repository *r = p->repository;
    struct old_set old;
    enum row_kind kind;
    if (!find_old(p, p->depth - 1, &old) ||
        catalogue_find_folder(r->catalogue, &old.id, old.set_epoch, &p->key, &kind) < 0 || kind != ROW_ENTERED)
        return -ENOENT;
    renew(p, &old);
    int64_t left = library_old_left(r, &old.id, old.known_epoch, p->fresh);
    *ret_left_ns = left ? left : 1;
    return 0;
}

// Somebody goes through a large set.
static bool is_walked(const struct place *p)
{
    struct repository *r = p->repository;
    struct set_id id = place_set_id(p);
    struct set_state whole;
    return library_is_walked(r, &id) && catalogue_set(r->catalogue, &id, &whole) == 0 && whole.row_count > r->large_rows;
}

int place_pin_listing(const struct place *p, struct set_state *ret_state, struct want *want)
{
    struct repository *repository = p->repository;
    struct old_set old;
    int r = place_pin_set(p, ret_state, want);
    if (r != -EINPROGRESS || !find_old(p, p->depth, &old))
        return r;
    bool asks = !is_walked(p);
    if (asks && !p->may_be_old && !library_is_slow(repository, want)) {
        want->has_old = true;
        return r;
    }
    if (catalogue_pin_set(repository->catalogue, &old.id, old.set_epoch, ret_state) < 0)
        return r; // gone since
    if (ret_state->epoch < old.known_epoch)
        ret_state->epoch = old.known_epoch;
    if (asks || is_due(p, &old))
        library_ask_ahead(repository, want);
    want_release(want);
    *want = (struct want){0};
    metric_add(METRIC_SETS_OLD, 1);
    return 0;
}

int64_t place_left_ns(const struct place *p, const struct listing *l)
{
    int64_t left = INT64_MAX, old = INT64_MAX;
    if (!place_has_set(p))
        return left;
    struct set_id id = place_set_id(p);
    uint64_t good = library_good_epoch(p->repository, &id, p->fresh, &left);
    if (l && l->generation)
        old = library_old_left(p->repository, &id, l->epoch, good);
    return old < left ? old : left;
}

bool place_has_generation(const struct place *p, uint64_t generation)
{
    struct catalogue *c = p->repository->catalogue;
    struct set_id id = place_set_id(p), part;
    return catalogue_has_generation(c, &id, generation) ||
           (place_part_id(p, p->depth, &part) && catalogue_has_generation(c, &part, generation));
}
