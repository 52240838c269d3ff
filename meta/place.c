// SPDX-License-Identifier: BSD-3-Clause
// place: what a folder means, and what a name in it does.
// 1. A name is looked up by reading it strictly and, for a file, by writing the name that the row
//    found would have and comparing: what lists one way is found only that way.
// 2. Of what may stand in a folder (collections' parts, dataset types, `key=value`, files) no two
//    kinds can share a name but a part and a dataset type, which are then one folder that is both.
// 3. From a whole set that is new enough everything is answered; else single names are asked. Only
//    a shortened name, which can't be read, needs the whole set.
// 4. Nothing here waits.
#include "meta/place.h"

#include "base/log.h"
#include "meta/catalogue_block.h"
#include "meta/name.h"

int place_root(struct repository *r, uint64_t fresh, struct place *ret_place, struct want *want)
{
    struct snapshot *s = library_snapshot(r, fresh);
    if (!s) {
        *want = (struct want){.kind = WANT_SNAPSHOT, .fresh = fresh};
        return -EINPROGRESS;
    }
    memset(ret_place, 0, sizeof(*ret_place));
    ret_place->repository = r;
    ret_place->snapshot = s;
    ret_place->fresh = fresh;
    ret_place->kind = PLACE_ROOT;
    return 0;
}

void place_release(struct place *p)
{
    snapshot_unref(p->snapshot);
    buffer_release(&p->texts);
    p->snapshot = NULL;
}

// Levels.

bool place_has_set(const struct place *p)
{
    return p->type && p->holder;
}

bool place_is_last(const struct place *p)
{
    return p->depth + 1 >= p->type->level_count;
}

const struct element *place_level(const struct place *p)
{
    return &p->snapshot->elements[p->type->levels[p->depth].element];
}

struct text place_level_name(const struct place *p)
{
    return place_level(p)->name;
}

uint32_t place_required(const struct dataset_type *t, const struct value *values, uint32_t count,
                        struct value ret_values[LEVELS_MAX])
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < count; i++)
        if (!t->levels[i].is_implied)
            ret_values[n++] = values[i];
    return n;
}

// Adds a level's value; its text is copied, and the texts that are there stay where values point.
void place_push(struct place *p, const struct value *v)
{
    size_t offsets[LEVELS_MAX], from = p->texts.size_bytes;
    for (uint32_t i = 0; i < p->depth; i++)
        offsets[i] =
            p->values[i].kind == VALUE_TEXT ? (size_t)(p->values[i].text.data - p->texts.data) : 0;
    if (v->kind == VALUE_TEXT) {
        buffer_append_text(&p->texts, v->text);
        buffer_append_byte(&p->texts, 0); // so that data is never NULL
    }
    for (uint32_t i = 0; i < p->depth; i++)
        if (p->values[i].kind == VALUE_TEXT)
            p->values[i].text.data = p->texts.data + offsets[i];
    struct value *own = &p->values[p->depth];
    *own = *v;
    if (v->kind == VALUE_TEXT)
        own->text.data = p->texts.data + from;
    p->cut |= (uint32_t)key_append(&p->key, v, p->type->level_count) << p->depth;
    p->depth++;
}

void place_copy(const struct place *p, struct place *ret_place)
{
    *ret_place = *p;
    ret_place->texts = (struct buffer){0};
    ret_place->depth = 0;
    ret_place->cut = 0;
    ret_place->key.size_bytes = 0;
    for (uint32_t i = 0; i < p->depth; i++)
        place_push(ret_place, &p->values[i]);
}

// Wants about the set.

void place_want_texts(const struct place *p, struct want *want)
{
    for (uint32_t i = 0; i < p->depth; i++) {
        if (!(p->cut >> i & 1))
            continue;
        uint32_t size = (uint32_t)p->values[i].text.size_bytes;
        buffer_append(&want->texts, &size, sizeof(size));
        buffer_append_text(&want->texts, p->values[i].text);
    }
}

int place_want_set(const struct place *p, struct want *want)
{
    *want = (struct want){.kind = WANT_SET,
                          .fresh = p->fresh,
                          .collection_id = p->holder->id,
                          .type_id = p->type->id,
                          .at = place_set_id(p).at};
    return -EINPROGRESS;
}

void place_want_point(const struct place *p, enum want_kind kind, struct want *want)
{
    *want = (struct want){.kind = kind,
                          .fresh = p->fresh,
                          .collection_id = p->holder->id,
                          .type_id = p->type->id,
                          .depth = p->depth,
                          .key = p->key};
}

struct set_id place_set_id(const struct place *p)
{
    struct set_id id = set_id_of(p->repository, p->holder->id, p->type->id);
    if (p->is_timed)
        id.at = p->at;
    return id;
}

// Whether the folder that `p` now is exists: >0, 0, -EINPROGRESS. *ret_left_ns as an entry's.
static int find_folder(const struct place *p, int64_t *ret_left_ns, struct want *want)
{
    struct set_id id = place_set_id(p), part;
    enum row_kind kind;
    BUFFER_CLEANUP record = {0};
    uint64_t good = library_good_epoch(p->repository, &id, p->fresh, NULL);
    int r = catalogue_find_folder(p->repository->catalogue, &id, good, &p->key, &kind);
    if (r == -ENOENT)
        library_verify_ahead(p->repository, &id, p->fresh);
    if (r == -ENOENT && place_part_id(p, p->depth - 1, &part))
        r = catalogue_find_folder(p->repository->catalogue, &part, p->fresh, &p->key, &kind);
    if (r == -ENOENT && p->is_timed) { // what is in no range is there at no time
        id.at = TIMESPAN_NONE;
        r = catalogue_find_folder(p->repository->catalogue, &id, p->fresh, &p->key, &kind);
    }
    if (r != -ENOENT)
        return r < 0 ? r : kind == ROW_ENTERED;
    if (place_find_old_folder(p, ret_left_ns) == 0)
        return 1;
    place_want_point(p, WANT_FOLDER, want);
    if (answers_get(&p->repository->answers, want, &kind, &record))
        return kind == ROW_ENTERED;
    place_want_texts(p, want);
    return -EINPROGRESS;
}

// Shortened names: looked for among the names of the folder.

struct level_search {
    const struct place *place;
    struct text name;
    struct buffer written;
    struct value found; // its text is in `store`
    struct buffer *store;
};

static int search_level(const struct row *row, const struct key *k, size_t *skip_bytes,
                        void *context)
{
    struct level_search *s = context;
    const struct place *p = s->place;
    const struct value *v = &row->values[p->depth];
    buffer_clear(&s->written);
    name_write_level(place_level_name(p), v, &s->written);
    if (!text_equal(buffer_text(&s->written), s->name)) {
        int size = key_value_size(key_text(k), p->key.size_bytes);
        *skip_bytes = p->key.size_bytes + (size_t)(size < 0 ? 0 : size);
        return ROW_GO_ON;
    }
    s->found = *v;
    buffer_clear(s->store);
    if (v->kind == VALUE_TEXT) {
        buffer_append_text(s->store, v->text);
        s->found.text = buffer_text(s->store);
    }
    return ROW_STOP_AFTER;
}

int place_search(const struct place *p, row_each *each, void *context, struct want *want)
{
    struct catalogue *c = p->repository->catalogue;
    struct row_cursor cursor = {0};
    struct set_state state;
    int r = place_pin_set(p, &state, want);
    if (r < 0)
        return r;
    r = catalogue_scan(c, state.generation, &p->key, &cursor, each, context);
    catalogue_unpin(c, state.generation);
    return r == 1 ? 0 : r == 0 ? -ENOENT : r == -EBADMSG ? place_want_set(p, want) : r;
}

// Reads `name` as the folder of the next level and goes there. -ENOENT, -EINPROGRESS.
static int enter_level(struct place *p, struct text name, struct want *want)
{
    const struct element *e = place_level(p);
    BUFFER_CLEANUP store = {0};
    struct value v;
    int r = name_read_level(name, e->name, e->kind, &v, &store);
    if (r == -E2BIG) {
        struct level_search s = {.place = p, .name = name, .store = &store};
        r = place_search(p, search_level, &s, want);
        buffer_release(&s.written);
        v = s.found;
    }
    if (r < 0)
        return r;
    place_push(p, &v);
    return 0;
}

static int look_up_level(struct place *p, struct text name, struct entry *ret_entry,
                         struct want *want)
{
    int r = enter_level(p, name, want);
    if (r < 0)
        return r;
    *ret_entry = (struct entry){.kind = ENTRY_FOLDER, .name = name};
    r = find_folder(p, &ret_entry->left_ns, want);
    if (r <= 0)
        return r < 0 ? r : -ENOENT;
    return 0;
}

// The part of names, and dataset types.

const struct collection *place_collection(const struct place *p)
{
    if (!p->branch || p->branch->collection == INDEX_NONE)
        return NULL;
    return &p->snapshot->collections[p->branch->collection];
}

enum presence place_presence(const struct place *p, const struct collection *c,
                             const struct dataset_type *t)
{
    enum presence own = snapshot_presence(p->snapshot, c, t);
    if (own != PRESENCE_UNKNOWN)
        return own;
    // A librarian finds it out in the snapshot of the moment, which may not be this one.
    struct answers *a = &p->repository->answers;
    bool is_present;
    if (answers_get_presence(a, c->id, t->id, p->fresh, &is_present))
        return is_present ? PRESENCE_PRESENT : PRESENCE_ABSENT;
    if (answers_get_presence(a, c->id, ANSWERS_ALL_TYPES, p->fresh, &is_present))
        return PRESENCE_ABSENT;
    return own;
}

int place_want_types(const struct place *p, const struct collection *c,
                     const struct dataset_type *t, struct want *want)
{
    *want = (struct want){
        .kind = WANT_TYPES, .fresh = p->fresh, .collection_id = c->id, .type_id = t ? t->id : 0};
    return -EINPROGRESS;
}

void place_write_type(const struct dataset_type *t, struct buffer *to)
{
    size_t from = to->size_bytes;
    name_escape(NAME_VALUE, t->name, to);
    name_shorten(to, from, (struct text){0});
}

// A dataset type's name may be longer than a folder's can be.
static const struct dataset_type *find_shortened_type(const struct place *p,
                                                      const struct collection *c, struct text name)
{
    BUFFER_CLEANUP written = {0};
    uint32_t count;
    const uint32_t *types = snapshot_types(p->snapshot, c, &count);
    for (uint32_t i = 0; i < count; i++) {
        buffer_clear(&written);
        place_write_type(&p->snapshot->types[types[i]], &written);
        if (text_equal(buffer_text(&written), name))
            return &p->snapshot->types[types[i]];
    }
    return NULL;
}

// The dataset type that `name` is in the collection that the folder is, if it may be there.
static const struct dataset_type *find_type(const struct place *p, struct text name,
                                            const struct collection **ret_holder,
                                            bool *ret_is_timed)
{
    const struct collection *c = place_collection(p);
    const struct dataset_type *t = c ? snapshot_type_by_name(p->snapshot, name) : NULL;
    if (c && !t && name_is_shortened(name))
        t = find_shortened_type(p, c, name);
    if (!t || !t->is_readable)
        return NULL;
    *ret_holder = set_collection(p->snapshot, c, t, ret_is_timed);
    return *ret_holder ? t : NULL;
}

static bool is_view(const struct place *p, struct text name)
{
    return p->branch && text_begins(name, TEXT("@"));
}

static int enter_collections(struct place *p, struct text name, struct want *want)
{
    const struct collection *holder = NULL;
    bool is_timed = false;
    if (is_view(p, name))
        return place_enter_view(p, name);
    if (place_has_set(p) && !place_is_last(p)) {
        int r = enter_level(p, name, want);
        if (r == 0)
            p->branch = NULL;
        if (r != -ENOENT)
            return r;
    }
    const struct dataset_type *t = find_type(p, name, &holder, &is_timed);
    const struct branch *child = p->branch ? snapshot_child(p->snapshot, p->branch, name) : NULL;
    if (!t && !child)
        return place_has_set(p) && place_is_last(p) ? place_enter_file(p, name, want) : -ENOENT;
    p->collection = t ? place_collection(p) : NULL;
    p->type = t;
    p->holder = holder;
    p->is_timed = is_timed && !timespan_is_none(&p->at);
    p->branch = child;
    p->depth = 0;
    p->key.size_bytes = 0;
    p->cut = 0;
    buffer_clear(&p->texts);
    return 0;
}

// Of a composite's folder nothing is a folder.
static int enter_components(struct text name)
{
    return memchr(name.data, '.', name.size_bytes) ? -ENOTDIR : -ENOENT;
}

int place_enter(struct place *p, struct text name, struct want *want)
{
    struct uuid uuid;
    int r;
    switch (p->kind) {
    case PLACE_ROOT:
        if (text_equal(name, TEXT("README.txt")))
            return -ENOTDIR;
        if (text_equal(name, TEXT("by-uuid"))) {
            p->kind = PLACE_BY_UUID;
            return 0;
        }
        if (text_equal(name, TEXT("calibs-at"))) {
            p->kind = PLACE_CALIBS_AT;
            return 0;
        }
        if (!text_equal(name, TEXT("collections")))
            return -ENOENT;
        p->kind = PLACE_COLLECTIONS;
        p->branch = &p->snapshot->branches[0];
        return 0;
    case PLACE_CALIBS_AT:
        r = place_time(p, name, &p->at, want);
        if (r < 0)
            return r;
        p->kind = PLACE_COLLECTIONS;
        p->branch = &p->snapshot->branches[0];
        return 0;
    case PLACE_COLLECTIONS:
        return p->is_components ? enter_components(name) : enter_collections(p, name, want);
    case PLACE_MEMBERS: {
        struct entry e;
        return place_look_up_member(p, name, &e, NULL) == 0 ? -ENOTDIR : -ENOENT;
    }
    case PLACE_BY_UUID:
        return uuid_parse(name, true, &uuid) == 0 ? -ENOTDIR : -ENOENT;
    }
    return -ENOENT;
}

// A dataset type's folder may be entered for a while after its last dataset is gone: it is empty then.
static bool was_present(const struct place *p, const struct collection *c, const struct dataset_type *t)
{
    struct repository *r = p->repository;
    bool is_present = false;
    return answers_get_presence(&r->answers, c->id, t->id, library_oldest(r, p->fresh), &is_present) && is_present;
}

static int look_up_part(const struct place *p, struct text name, struct entry *ret_entry,
                        struct want *want)
{
    const struct collection *holder;
    *ret_entry = (struct entry){.kind = ENTRY_FOLDER, .name = name};
    if (p->branch && snapshot_child(p->snapshot, p->branch, name))
        return 0;
    const struct dataset_type *t = find_type(p, name, &holder, NULL);
    if (!t)
        return -ENOENT;
    switch (place_presence(p, place_collection(p), t)) {
    case PRESENCE_PRESENT:
        return 0;
    case PRESENCE_ABSENT:
        return -ENOENT;
    case PRESENCE_UNKNOWN:
        return was_present(p, place_collection(p), t) ? 0 : place_want_types(p, place_collection(p), t, want);
    }
    return -ENOENT;
}

static int look_up_collections(const struct place *p, struct text name, struct entry *ret_entry,
                               struct buffer *scratch, struct buffer *target, struct want *want)
{
    int r = -ENOENT;
    if (is_view(p, name))
        return place_look_up_view(p, name, ret_entry, target);
    if (p->is_components)
        return place_look_up_component(p, name, ret_entry, scratch, want);
    if (place_has_set(p)) {
        // The next level is entered on a copy: the place stays the folder's.
        struct place next;
        place_copy(p, &next);
        r = place_is_last(p) ? place_look_up_file(&next, name, ret_entry, scratch, want)
                             : look_up_level(&next, name, ret_entry, want);
        buffer_release(&next.texts);
    }
    return r == -ENOENT ? look_up_part(p, name, ret_entry, want) : r;
}

bool place_root_entry(uint64_t i, struct entry *ret_entry)
{
    static const struct entry all[] = {
        {.kind = ENTRY_README, .name = {"README.txt", 10}},
        {.kind = ENTRY_FOLDER, .name = {"collections", 11}},
        {.kind = ENTRY_FOLDER, .name = {"by-uuid", 7}},
        {.kind = ENTRY_FOLDER, .name = {"calibs-at", 9}},
    };
    if (i >= sizeof(all) / sizeof(all[0]))
        return false;
    *ret_entry = all[i];
    return true;
}

static int look_up_root(struct text name, struct entry *ret_entry)
{
    for (uint64_t i = 0; place_root_entry(i, ret_entry); i++)
        if (text_equal(name, ret_entry->name)) {
            ret_entry->name = name;
            return 0;
        }
    return -ENOENT;
}

int place_lookup(struct place *p, struct text name, struct entry *ret_entry, struct buffer *scratch,
                 struct buffer *target, struct want *want)
{
    if (name.size_bytes > NAME_BYTES_MAX)
        return -ENOENT;
    switch (p->kind) {
    case PLACE_ROOT:
        return look_up_root(name, ret_entry);
    case PLACE_COLLECTIONS:
        return look_up_collections(p, name, ret_entry, scratch, target, want);
    case PLACE_MEMBERS:
        return place_look_up_member(p, name, ret_entry, target);
    case PLACE_BY_UUID:
        return place_link(p, name, ret_entry, target, want);
    case PLACE_CALIBS_AT:
        *ret_entry = (struct entry){.kind = ENTRY_FOLDER, .name = name};
        return place_time(p, name, &(struct timespan){0}, want);
    }
    return -ENOENT;
}
