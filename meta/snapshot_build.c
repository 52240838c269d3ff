// SPDX-License-Identifier: BSD-3-Clause
// Building a snapshot: rows as a registry has them, each checked, come in; sealing sorts them, turns
// ids into indexes and derives the rest. Nothing of this is reachable by others before it is sealed.
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/log.h"
#include "meta/snapshot_internal.h"

// No path that a system call takes is that long; it bounds what one row can cost.
#define COLLECTION_NAME_BYTES_MAX 65535
#define TYPE_NAME_BYTES_MAX 255
#define DOC_BYTES_MAX (64 * 1024)

void snapshot_builder_free(struct snapshot_builder *b)
{
    if (!b)
        return;
    table_release(&b->collections_by_id);
    table_release(&b->collections_by_name);
    table_release(&b->types_by_id);
    table_release(&b->types_by_name);
    free(b->members.items);
    free(b->summaries.items);
    free(b);
}

static void pairs_add(struct pairs *p, uint32_t from, uint32_t to)
{
    if (p->count == p->room) {
        p->room = p->room ? p->room * 2 : 1024;
        p->items = memory_grow(p->items, p->room, sizeof *p->items);
    }
    p->items[p->count++] = (struct pair){from, to};
}

static uint64_t hash_id(int64_t id)
{
    return hash64(&id, sizeof id);
}

static bool same_collection_id(uint64_t value, const void *key, void *context)
{
    const struct snapshot *s = context;
    return s->collections[value - 1].id == *(const int64_t *)key;
}

static bool same_collection_name(uint64_t value, const void *key, void *context)
{
    const struct snapshot *s = context;
    return text_equal(s->collections[value - 1].name, *(const struct text *)key);
}

static bool same_type_id(uint64_t value, const void *key, void *context)
{
    const struct snapshot *s = context;
    return s->types[value - 1].id == *(const int64_t *)key;
}

static bool same_type_name(uint64_t value, const void *key, void *context)
{
    const struct snapshot *s = context;
    return text_equal(s->types[value - 1].name, *(const struct text *)key);
}

static uint32_t find_collection(struct snapshot *s, int64_t id)
{
    struct snapshot_builder *b = s->builder;
    if (b->last_index != INDEX_NONE && b->last_id == id)
        return b->last_index;
    uint64_t found =
        table_find(&b->collections_by_id, hash_id(id), same_collection_id, &id, s);
    if (!found)
        return INDEX_NONE;
    b->last_id = id;
    b->last_index = (uint32_t)(found - 1);
    return b->last_index;
}

static uint32_t find_type(struct snapshot *s, int64_t id)
{
    uint64_t found = table_find(&s->builder->types_by_id, hash_id(id), same_type_id, &id, s);
    return found ? (uint32_t)(found - 1) : INDEX_NONE;
}

// ^[a-zA-Z_][a-zA-Z0-9_]*(\.[a-zA-Z_][a-zA-Z0-9_]*)*$, as the client has it; and short enough to be
// the name of a folder.
static bool is_type_name(struct text name)
{
    bool at_start = true;
    if (name.size_bytes == 0 || name.size_bytes > TYPE_NAME_BYTES_MAX)
        return false;
    for (size_t i = 0; i < name.size_bytes; i++) {
        char c = name.data[i];
        bool is_letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
        if (at_start ? !is_letter : !is_letter && !(c >= '0' && c <= '9') && c != '.')
            return false;
        at_start = c == '.';
    }
    return !at_start;
}

static bool has_nul(struct text t)
{
    return t.size_bytes && memchr(t.data, 0, t.size_bytes);
}

int snapshot_add_type(struct snapshot *s, int64_t id, struct text name, struct text storage_class,
                      struct text tags_table, struct text calibs_table, const struct text *columns,
                      size_t count)
{
    struct snapshot_builder *b = s->builder;
    check(b && b->has_universe);
    if (!is_type_name(name) || has_nul(tags_table) || has_nul(calibs_table))
        return -EBADMSG;
    uint64_t name_hash = hash64(name.data, name.size_bytes);
    if (find_type(s, id) != INDEX_NONE ||
        table_find(&b->types_by_name, name_hash, same_type_name, &name, s))
        return -EEXIST;
    if (s->type_count == b->type_room) {
        b->type_room = b->type_room ? b->type_room * 2 : 64;
        s->types = memory_grow(s->types, b->type_room, sizeof *s->types);
    }
    struct dataset_type *t = &s->types[s->type_count++];
    *t = (struct dataset_type){
        .id = id,
        .name = snapshot_text(s, name),
        .storage_class = snapshot_text(s, storage_class),
        .tags_table = snapshot_text(s, tags_table),
        .calibs_table = snapshot_text(s, calibs_table),
        .day_obs_source = INDEX_NONE,
    };
    t->is_readable = columns && snapshot_type_levels(s, t, columns, count) == 0;
    table_add(&b->types_by_id, hash_id(id), s->type_count);
    table_add(&b->types_by_name, name_hash, s->type_count);
    return 0;
}

int snapshot_add_collection(struct snapshot *s, int64_t id, struct text name, int kind,
                            struct text doc)
{
    struct snapshot_builder *b = s->builder;
    check(b);
    if (kind < COLLECTION_RUN || kind > COLLECTION_CALIBRATION ||
        name.size_bytes > COLLECTION_NAME_BYTES_MAX || s->collection_count == INDEX_NONE - 1)
        return -EBADMSG;
    uint64_t name_hash = hash64(name.data, name.size_bytes);
    if (find_collection(s, id) != INDEX_NONE ||
        table_find(&b->collections_by_name, name_hash, same_collection_name, &name, s))
        return -EEXIST;
    if (s->collection_count == b->collection_room) {
        b->collection_room = b->collection_room ? b->collection_room * 2 : 256;
        s->collections = memory_grow(s->collections, b->collection_room, sizeof *s->collections);
    }
    if (doc.size_bytes > DOC_BYTES_MAX)
        doc.size_bytes = DOC_BYTES_MAX;
    s->collections[s->collection_count++] = (struct collection){
        .id = id,
        .name = snapshot_text(s, name),
        .kind = (enum collection_kind)kind,
        .doc = snapshot_text(s, doc),
        .branch = INDEX_NONE,
    };
    table_add(&b->collections_by_id, hash_id(id), s->collection_count);
    table_add(&b->collections_by_name, name_hash, s->collection_count);
    return 0;
}

int snapshot_add_member(struct snapshot *s, int64_t chain, int64_t child)
{
    check(s->builder);
    // The child first: rows come in runs of one chain, which is then the one remembered.
    uint32_t to = find_collection(s, child), from = find_collection(s, chain);
    if (from == INDEX_NONE || to == INDEX_NONE || from == to ||
        s->collections[from].kind != COLLECTION_CHAINED)
        return -EBADMSG;
    pairs_add(&s->builder->members, from, to);
    return 0;
}

int snapshot_add_summary(struct snapshot *s, int64_t collection, int64_t type)
{
    check(s->builder);
    uint32_t from = find_collection(s, collection), to = find_type(s, type);
    if (from == INDEX_NONE || to == INDEX_NONE || s->collections[from].kind == COLLECTION_CHAINED)
        return -EBADMSG;
    pairs_add(&s->builder->summaries, from, to);
    return 0;
}

// ---------------------------------------------------------------------------------------------
// Sealing.

static int order_collection_names(const void *a, const void *b, void *context)
{
    const struct collection *c = context;
    return text_compare(c[*(const uint32_t *)a].name, c[*(const uint32_t *)b].name);
}

static int order_collection_ids(const void *a, const void *b, void *context)
{
    const struct collection *c = context;
    int64_t x = c[*(const uint32_t *)a].id, y = c[*(const uint32_t *)b].id;
    return (x > y) - (x < y);
}

static int order_type_names(const void *a, const void *b, void *context)
{
    const struct dataset_type *t = context;
    return text_compare(t[*(const uint32_t *)a].name, t[*(const uint32_t *)b].name);
}

static int order_type_ids(const void *a, const void *b, void *context)
{
    const struct dataset_type *t = context;
    int64_t x = t[*(const uint32_t *)a].id, y = t[*(const uint32_t *)b].id;
    return (x > y) - (x < y);
}

typedef int order_indexes(const void *a, const void *b, void *context);

// 0..count-1 in that order. A registry mostly gives rows in order already.
static uint32_t *sorted_indexes(uint32_t count, order_indexes *order, void *context)
{
    uint32_t *indexes = memory_new((count + 1) * sizeof *indexes);
    bool is_sorted = true;
    for (uint32_t i = 0; i < count; i++) {
        indexes[i] = i;
        if (i > 0 && is_sorted)
            is_sorted = order(&indexes[i - 1], &indexes[i], context) <= 0;
    }
    if (!is_sorted)
        qsort_r(indexes, count, sizeof *indexes, order, context);
    return indexes;
}

// Where each went: new index by old one. Frees `sorted`.
static uint32_t *inverted(uint32_t *sorted, uint32_t count)
{
    uint32_t *places = memory_new((count + 1) * sizeof *places);
    for (uint32_t i = 0; i < count; i++)
        places[sorted[i]] = i;
    free(sorted);
    return places;
}

static uint32_t *sort_collections(struct snapshot *s)
{
    uint32_t count = s->collection_count;
    uint32_t *sorted = sorted_indexes(count, order_collection_names, s->collections);
    struct collection *collections = memory_new((count + 1) * sizeof *collections);
    for (uint32_t i = 0; i < count; i++) {
        collections[i] = s->collections[sorted[i]];
        collections[i].index = i;
    }
    free(s->collections);
    s->collections = collections;
    s->collections_by_id = sorted_indexes(count, order_collection_ids, s->collections);
    return inverted(sorted, count);
}

static uint32_t *sort_types(struct snapshot *s)
{
    uint32_t count = s->type_count;
    uint32_t *sorted = sorted_indexes(count, order_type_names, s->types);
    struct dataset_type *types = memory_new((count + 1) * sizeof *types);
    for (uint32_t i = 0; i < count; i++)
        types[i] = s->types[sorted[i]];
    free(s->types);
    s->types = types;
    s->types_by_id = sorted_indexes(count, order_type_ids, s->types);
    return inverted(sorted, count);
}

static void gather_members(struct snapshot *s, const uint32_t *places)
{
    const struct pairs *p = &s->builder->members;
    for (size_t i = 0; i < p->count; i++)
        s->collections[places[p->items[i].from]].child_count++;
    uint32_t *all = snapshot_memory(s, (p->count + 1) * sizeof *all);
    for (uint32_t i = 0; i < s->collection_count; i++) {
        s->collections[i].children = all;
        all += s->collections[i].child_count;
        s->collections[i].child_count = 0;
    }
    for (size_t i = 0; i < p->count; i++) {
        struct collection *c = &s->collections[places[p->items[i].from]];
        c->children[c->child_count++] = places[p->items[i].to];
    }
}

static int order_numbers(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static uint32_t sort_and_unite(uint32_t *items, uint32_t count)
{
    uint32_t kept = 0;
    qsort(items, count, sizeof *items, order_numbers);
    for (uint32_t i = 0; i < count; i++)
        if (kept == 0 || items[kept - 1] != items[i])
            items[kept++] = items[i];
    return kept;
}

// Summaries by collection: counted, laid out one collection after the other, then made sets.
static void gather_summaries(struct snapshot *s, const uint32_t *places,
                             const uint32_t *type_places)
{
    const struct pairs *p = &s->builder->summaries;
    size_t *ends = memory_new((s->collection_count + 1) * sizeof *ends);
    uint32_t *all = memory_new((p->count + 1) * sizeof *all);
    for (size_t i = 0; i < p->count; i++)
        ends[places[p->items[i].from] + 1]++;
    for (uint32_t i = 0; i < s->collection_count; i++)
        ends[i + 1] += ends[i];
    // ends[c] is where c's begin; filling moves it to where they end, which is where c+1's began.
    for (size_t i = 0; i < p->count; i++) {
        uint32_t type = type_places[p->items[i].to];
        if (s->types[type].is_readable)
            all[ends[places[p->items[i].from]]++] = type + 1;
        else
            all[ends[places[p->items[i].from]]++] = 0; // left out below
    }
    size_t from = 0;
    for (uint32_t i = 0; i < s->collection_count; i++) {
        struct collection *c = &s->collections[i];
        uint32_t count = sort_and_unite(all + from, (uint32_t)(ends[i] - from));
        uint32_t *items = all + from;
        if (count && items[0] == 0)
            items++, count--;
        for (uint32_t k = 0; k < count; k++)
            items[k]--;
        c->own_types = snapshot_index_set(s, items, count);
        if (c->kind != COLLECTION_CHAINED && count)
            c->presence = snapshot_memory(s, count);
        from = ends[i];
    }
    free(all);
    free(ends);
}

int snapshot_seal(struct snapshot *s, char **ret_why)
{
    struct snapshot_builder *b = s->builder;
    check(b);
    if (!b->has_universe) {
        *ret_why = strdup("the registry has no dimension universe (config:dimensions.json)");
        return -EBADMSG;
    }
    uint32_t *type_places = sort_types(s);
    uint32_t *places = sort_collections(s);
    gather_members(s, places);
    gather_summaries(s, places, type_places);
    free(places);
    free(type_places);
    snapshot_build_tree(s);
    snapshot_builder_free(take(s->builder));
    return 0;
}
