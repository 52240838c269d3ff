// SPDX-License-Identifier: BSD-3-Clause
// place_part: a folder whose set isn't there as a whole. Where the registry finds what is in it by indexes, that
// alone is asked, and kept as a set of its own: of a folder of files its rows, of one of folders a row for each. In a
// registry of millions every folder is there at once, and is renewed at once. Who goes through many of them gets
// the whole set besides (library_part.c).
// A listing that is old goes on being shown while it is renewed (library_verify.c, invariant 3); single names are as new as
// who asks wants them.
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

// Of those that are old, but not too old, the newest.
static int pin_old(const struct place *p, uint64_t oldest, struct set_state *ret_state)
{
    struct catalogue *c = p->repository->catalogue;
    struct set_id id = place_set_id(p), part;
    struct set_state other;
    int r = catalogue_pin_set(c, &id, oldest, ret_state);
    if (!place_part_id(p, p->depth, &part) || catalogue_pin_set(c, &part, oldest, &other) < 0)
        return r;
    bool is_newer = r < 0 || other.epoch > ret_state->epoch;
    if (r == 0)
        catalogue_unpin(c, is_newer ? ret_state->generation : other.generation);
    if (is_newer)
        *ret_state = other;
    return 0;
}

int place_pin_listing(const struct place *p, struct set_state *ret_state, struct want *want)
{
    struct repository *repository = p->repository;
    uint64_t oldest;
    int r = place_pin_set(p, ret_state, want);
    if (r != -EINPROGRESS || (oldest = library_oldest(repository, p->fresh)) == p->fresh)
        return r;
    if (pin_old(p, oldest, ret_state) < 0)
        return r;
    if (!p->may_be_old && !library_is_slow(repository, want)) {
        catalogue_unpin(repository->catalogue, ret_state->generation);
        want->has_old = true;
        return r;
    }
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
        old = library_old_left(p->repository, l->epoch, good);
    return old < left ? old : left;
}

bool place_has_generation(const struct place *p, uint64_t generation)
{
    struct catalogue *c = p->repository->catalogue;
    struct set_id id = place_set_id(p), part;
    return catalogue_has_generation(c, &id, generation) ||
           (place_part_id(p, p->depth, &part) && catalogue_has_generation(c, &part, generation));
}
