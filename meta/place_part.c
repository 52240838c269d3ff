// SPDX-License-Identifier: BSD-3-Clause
// place_part: a folder whose set isn't there as a whole. Where the registry finds what is in it by indexes, that
// alone is asked, and kept as a set of its own: of a folder of files its rows, of one of folders a row for each. In a
// registry of millions every folder is there at once, and is renewed at once. Who goes through many of them gets
// the whole set besides (library_part.c).
#include "base/hash.h"
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
    struct catalogue *c = p->repository->catalogue;
    struct set_id id = place_set_id(p), part;
    int r = catalogue_pin_set(c, &id, p->fresh, ret_state);
    if (r != -ENOENT)
        return r;
    if (!place_part_id(p, p->depth, &part))
        return place_want_set(p, want);
    r = catalogue_pin_set(c, &part, p->fresh, ret_state);
    return r == -ENOENT ? want_part(p, want) : r;
}

bool place_has_generation(const struct place *p, uint64_t generation)
{
    struct catalogue *c = p->repository->catalogue;
    struct set_id id = place_set_id(p), part;
    return catalogue_has_generation(c, &id, generation) ||
           (place_part_id(p, p->depth, &part) && catalogue_has_generation(c, &part, generation));
}
