// SPDX-License-Identifier: BSD-3-Clause
// listing: a folder's entries, in an order that cookies can go on in.
//   1 .. 2^62 - 2   parts of collections' names and dataset types: hash of the name. So an entry
//                   that comes or goes between two calls moves no other.
//   2^62 - 1, 2^62  @latest and @members, each at its place whether the other is there or not.
//   2^62 + 1 ..     entries of the key set, counted in key order. They are of one generation,
//                   which never changes.
// 1. A key set's entries follow all others, whatever the hashes are.
// 2. The hint only ever saves counting: without it (another life, another offset) entries are
//    counted from the start.
// 3. Pins are taken by place_list_open and listing_reopen and given back by listing_close, nowhere
//    else; a generation that turns out to be gone is replaced for one call, with a pin of its own.
#include <stdlib.h>

#include "base/hash.h"
#include "base/log.h"
#include "meta/name.h"
#include "meta/place.h"

#define SET_COOKIE (UINT64_C(1) << 62)
#define VIEW_COOKIE (SET_COOKIE - PLACE_VIEW_COUNT) // after all names

static bool names_are_known(const struct place *p, const struct collection *c)
{
    uint32_t count;
    const uint32_t *types = snapshot_types(p->snapshot, c, &count);
    for (uint32_t i = 0; i < count; i++) {
        const struct dataset_type *t = &p->snapshot->types[types[i]];
        if (t->is_readable && place_presence(p, c, t) == PRESENCE_UNKNOWN)
            return false;
    }
    return true;
}

int place_list_open(struct place *p, struct listing *ret_listing, struct want *want)
{
    const struct collection *c = place_collection(p);
    struct set_state state = {0};
    if (p->kind == PLACE_COLLECTIONS && c && !names_are_known(p, c))
        return place_want_types(p, c, NULL, want);
    if (p->kind == PLACE_COLLECTIONS && place_has_set(p) && !p->is_components) {
        int r = place_pin_listing(p, &state, want);
        if (r < 0)
            return r;
    }
    *ret_listing = (struct listing){.generation = state.generation, .epoch = state.epoch};
    return 0;
}

void listing_reopen(struct repository *r, struct listing *l, uint64_t generation)
{
    *l = (struct listing){.generation = generation};
    if (generation)
        catalogue_pin(r->catalogue, generation);
}

void listing_close(struct repository *r, struct listing *l)
{
    if (l->generation)
        catalogue_unpin(r->catalogue, l->generation);
    l->generation = 0;
}

// The root.

static int list_root(uint64_t cookie, place_each *each, void *context)
{
    struct entry e;
    for (uint64_t i = cookie; place_root_entry(i, &e); i++) {
        int r = each(&e, i + 1, context);
        if (r)
            return r;
    }
    return 0;
}

// Names: children of the branch and dataset types of its collection, merged by (hash, name).

struct named {
    uint64_t hash;
    struct text name;
};

static uint64_t cookie_of(uint64_t hash)
{
    return !hash ? 1 : hash > VIEW_COOKIE ? VIEW_COOKIE : hash;
}

static int compare_named(const void *a, const void *b)
{
    const struct named *x = a, *y = b;
    if (x->hash != y->hash)
        return x->hash < y->hash ? -1 : 1;
    return text_compare(x->name, y->name);
}

struct names {
    struct named *types;
    uint32_t type_count;
    struct buffer *written; // of names that aren't the type's own
};

static void names_release(struct names *n)
{
    for (uint32_t i = 0; i < n->type_count; i++)
        buffer_release(&n->written[i]);
    free(n->written);
    free(n->types);
}

static void name_type(struct names *n, const struct dataset_type *t)
{
    struct buffer *b = &n->written[n->type_count];
    place_write_type(t, b);
    struct text name = buffer_text(b);
    n->types[n->type_count++] = (struct named){hash64(name.data, name.size_bytes) >> 2, name};
}

// The types that are present, after `cookie`. -EINPROGRESS.
static int gather_types(const struct place *p, uint64_t cookie, struct names *n, struct want *want)
{
    const struct collection *c = place_collection(p);
    uint32_t count;
    if (!c)
        return 0;
    const uint32_t *types = snapshot_types(p->snapshot, c, &count);
    n->types = memory_new((count + 1) * sizeof(*n->types));
    n->written = memory_new((count + 1) * sizeof(*n->written));
    for (uint32_t i = 0; i < count; i++) {
        const struct dataset_type *t = &p->snapshot->types[types[i]];
        enum presence presence = t->is_readable ? place_presence(p, c, t) : PRESENCE_ABSENT;
        if (presence == PRESENCE_UNKNOWN)
            return place_want_types(p, c, NULL, want);
        if (presence == PRESENCE_ABSENT)
            continue;
        name_type(n, t);
        if (cookie_of(n->types[n->type_count - 1].hash) <= cookie)
            buffer_release(&n->written[--n->type_count]);
    }
    qsort(n->types, n->type_count, sizeof(*n->types), compare_named);
    return 0;
}

// The first child after the cookie.
static uint32_t child_after(const struct place *p, uint64_t cookie)
{
    uint32_t low = 0, high = p->branch->child_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (cookie_of(p->snapshot->branches[p->branch->children[middle]].name_hash) <= cookie)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static int list_names(const struct place *p, uint64_t cookie, place_each *each, void *context,
                      struct want *want)
{
    cleanup(names_release) struct names n = {0};
    int r = gather_types(p, cookie, &n, want);
    if (r < 0)
        return r;
    uint32_t child = child_after(p, cookie), type = 0;
    while (r == 0 && (child < p->branch->child_count || type < n.type_count)) {
        struct named at = {.hash = UINT64_MAX};
        if (child < p->branch->child_count) {
            const struct branch *b = &p->snapshot->branches[p->branch->children[child]];
            at = (struct named){b->name_hash, b->name};
        }
        int order = type < n.type_count ? compare_named(&at, &n.types[type]) : -1;
        struct named *next = order <= 0 ? &at : &n.types[type];
        struct entry e = {.kind = ENTRY_FOLDER, .name = next->name};
        r = each(&e, cookie_of(next->hash), context);
        child += order <= 0;
        type += order >= 0 && type < n.type_count; // equal: one folder that is both
    }
    return r;
}

static int list_views(const struct place *p, uint64_t cookie, place_each *each, void *context)
{
    struct entry e;
    int r = 0;
    for (uint64_t i = cookie > VIEW_COOKIE ? cookie - VIEW_COOKIE : 0; r == 0 && i < PLACE_VIEW_COUNT; i++)
        if (place_view_entry(p, i, &e))
            r = each(&e, VIEW_COOKIE + i + 1, context);
    return r;
}

// The key set.

struct set_walk {
    const struct place *place;
    place_each *each;
    void *context;
    uint64_t ordinal; // entries before the next one
    uint64_t skip;    // of them, still to be counted
    struct buffer name;
    int answer; // of each
};

// How much of the key all rows of one entry share.
static size_t entry_bytes(const struct set_walk *w, const struct key *k)
{
    int size = key_value_size(key_text(k), w->place->key.size_bytes);
    return w->place->key.size_bytes + (size_t)(size < 0 ? 0 : size);
}

static void write_entry(struct set_walk *w, const struct row *row, bool is_file, struct entry *e)
{
    const struct place *p = w->place;
    buffer_clear(&w->name);
    if (is_file) {
        place_write_file(p->type, row, &w->name);
        place_file_entry(row, buffer_text(&w->name), e);
    } else {
        name_write_level(place_level_name(p), &row->values[p->depth], &w->name);
        *e = (struct entry){.kind = ENTRY_FOLDER, .name = buffer_text(&w->name)};
    }
}

static int list_row(const struct row *row, const struct key *k, size_t *skip_bytes, void *context)
{
    struct set_walk *w = context;
    bool is_file = place_is_last(w->place);
    if (row->value_count != w->place->type->level_count)
        return -EBADMSG;
    if (!is_file)
        *skip_bytes = entry_bytes(w, k);
    if (w->skip) {
        w->skip--;
        return ROW_GO_ON;
    }
    struct entry e;
    write_entry(w, row, is_file, &e);
    w->answer = w->each(&e, SET_COOKIE + w->ordinal + 1, w->context);
    if (w->answer) {
        *skip_bytes = 0;
        return w->answer < 0 ? w->answer : ROW_STOP_BEFORE;
    }
    w->ordinal++;
    return ROW_GO_ON;
}

static int list_generation(const struct place *p, uint64_t generation, struct listing *l,
                           uint64_t cookie, struct set_walk *w)
{
    struct row_cursor cursor = {0};
    w->ordinal = cookie > SET_COOKIE ? cookie - SET_COOKIE : 0;
    w->skip = w->ordinal;
    if (l->hint_cookie == cookie && cookie > SET_COOKIE) {
        cursor = l->hint;
        w->skip = 0;
    }
    int r = catalogue_scan(p->repository->catalogue, generation, &p->key, &cursor, list_row, w);
    if (r < 0)
        return r;
    l->hint = cursor;
    l->hint_cookie = SET_COOKIE + w->ordinal;
    return r;
}

// A generation of the set that is there, pinned: the listing's own, or for this call another.
static int usable_generation(const struct place *p, struct listing *l, uint64_t *ret_generation,
                             struct want *want)
{
    struct catalogue *c = p->repository->catalogue;
    struct set_state state;
    if (l->generation && place_has_generation(p, l->generation)) {
        catalogue_pin(c, l->generation);
        *ret_generation = l->generation;
        return 0;
    }
    int r = place_pin_set(p, &state, want);
    if (r < 0)
        return r;
    l->hint_cookie = 0; // it is the other's
    *ret_generation = state.generation;
    return 0;
}

static int list_set(const struct place *p, struct listing *l, uint64_t cookie, place_each *each,
                    void *context, struct want *want)
{
    struct set_walk w = {.place = p, .each = each, .context = context};
    uint64_t generation = 0;
    int r = usable_generation(p, l, &generation, want);
    if (r < 0)
        return r;
    bool is_own = generation == l->generation;
    r = list_generation(p, generation, l, cookie, &w);
    catalogue_unpin(p->repository->catalogue, generation);
    buffer_release(&w.name);
    if (!is_own)
        l->hint_cookie = 0;
    // Damaged: it is distrusted by now, and read again. What was given out is given out again by
    // the caller's second call.
    return r == -EBADMSG ? place_want_set(p, want) : r;
}

int place_list(struct place *p, struct listing *l, uint64_t cookie, place_each *each, void *context,
               struct want *want)
{
    if (p->kind == PLACE_ROOT)
        return list_root(cookie, each, context);
    if (p->kind == PLACE_BY_UUID || p->kind == PLACE_CALIBS_AT)
        return 0;
    if (p->kind == PLACE_MEMBERS)
        return place_list_members(p, cookie, each, context);
    if (p->is_components)
        return place_list_components(p, cookie, each, context, want);
    if (p->branch && cookie < SET_COOKIE) {
        int r = list_names(p, cookie, each, context, want);
        if (r == 0)
            r = list_views(p, cookie, each, context);
        if (r)
            return r;
    }
    return place_has_set(p) ? list_set(p, l, cookie, each, context, want) : 0;
}
