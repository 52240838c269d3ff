// SPDX-License-Identifier: BSD-3-Clause
// A sealed snapshot: its memory, look-ups, and what is derived only when it is asked for.
//
// Invariants, once sealed:
// 1. Nothing reached through the public fields changes, but `presence` bytes (atomic) and
//    `flattened` pointers (set once, published with release order).
// 2. Every index stored in it is below the count of what it points into.
// 3. A walk over chains enters each collection at most once, so a cycle, which only a damaged
//    registry has, costs nothing.
#include "meta/snapshot.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/log.h"
#include "meta/snapshot_internal.h"

#define MEMORY_BLOCK_BYTES (64 * 1024)

void *snapshot_memory(struct snapshot *s, size_t size_bytes)
{
    size_bytes = (size_bytes + 15) & ~(size_t)15;
    if (size_bytes > s->memory_left) {
        bool is_large = size_bytes > MEMORY_BLOCK_BYTES / 4;
        size_t block_bytes = is_large ? size_bytes : MEMORY_BLOCK_BYTES;
        char *block = memory_new(block_bytes);
        // The list of blocks doubles: its room is the power of two at or above the count.
        if ((s->memory_count & (s->memory_count - 1)) == 0)
            s->memory = memory_grow(s->memory, s->memory_count ? s->memory_count * 2 : 1,
                                    sizeof *s->memory);
        s->memory[s->memory_count++] = block;
        if (is_large)
            return block;
        s->memory_at = block;
        s->memory_left = block_bytes;
    }
    void *at = s->memory_at;
    s->memory_at += size_bytes;
    s->memory_left -= size_bytes;
    return at;
}

struct text snapshot_text(struct snapshot *s, struct text t)
{
    if (t.size_bytes == 0)
        return TEXT("");
    char *copy = snapshot_memory(s, t.size_bytes + 1);
    memcpy(copy, t.data, t.size_bytes);
    return (struct text){copy, t.size_bytes};
}

static bool same_set(uint64_t value, const void *key, void *context)
{
    const struct index_set *set = (const struct index_set *)(uintptr_t)value;
    const uint32_t *count = context;
    return set->count == *count && memcmp(set->items, key, *count * sizeof *set->items) == 0;
}

const struct index_set *snapshot_index_set(struct snapshot *s, const uint32_t *items,
                                           uint32_t count)
{
    static const struct index_set empty;
    if (count == 0)
        return &empty;
    size_t size_bytes = count * sizeof *items;
    uint64_t hash = hash64(items, size_bytes);
    uint64_t found = table_find(&s->index_sets, hash, same_set, items, &count);
    if (found)
        return (const struct index_set *)(uintptr_t)found;
    struct index_set *set = snapshot_memory(s, sizeof *set + size_bytes);
    set->count = count;
    memcpy(set->items, items, size_bytes);
    table_add(&s->index_sets, hash, (uintptr_t)set);
    return set;
}

const char *collection_kind_name(enum collection_kind kind)
{
    static const char *const names[] = {
        [COLLECTION_RUN] = "RUN",
        [COLLECTION_TAGGED] = "TAGGED",
        [COLLECTION_CHAINED] = "CHAINED",
        [COLLECTION_CALIBRATION] = "CALIBRATION",
    };
    return names[kind];
}

struct snapshot *snapshot_new(void)
{
    struct snapshot *s = new_struct(struct snapshot);
    s->references = 1;
    s->builder = new_struct(struct snapshot_builder);
    s->builder->last_index = INDEX_NONE;
    lock_init(&s->lock, LOCK_RANK_LEAF, "snapshot");
    return s;
}

struct snapshot *snapshot_ref(struct snapshot *s)
{
    __atomic_add_fetch(&s->references, 1, __ATOMIC_RELAXED);
    return s;
}

void snapshot_unref(struct snapshot *s)
{
    if (!s || __atomic_sub_fetch(&s->references, 1, __ATOMIC_ACQ_REL) != 0)
        return;
    snapshot_builder_free(s->builder);
    for (size_t i = 0; i < s->memory_count; i++)
        free(s->memory[i]);
    free(s->memory);
    free(s->elements);
    free(s->types);
    free(s->collections);
    free(s->branches);
    free(s->collections_by_id);
    free(s->types_by_id);
    free(s->visited);
    table_release(&s->index_sets);
    lock_release_memory(&s->lock);
    free(s);
}

// ---------------------------------------------------------------------------------------------
// Look-ups.

const struct collection *snapshot_collection_by_id(const struct snapshot *s, int64_t id)
{
    uint32_t low = 0, high = s->collection_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const struct collection *c = &s->collections[s->collections_by_id[middle]];
        if (c->id == id)
            return c;
        if (c->id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

const struct collection *snapshot_collection_by_name(const struct snapshot *s, struct text name)
{
    uint32_t low = 0, high = s->collection_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int order = text_compare(s->collections[middle].name, name);
        if (order == 0)
            return &s->collections[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

const struct dataset_type *snapshot_type_by_id(const struct snapshot *s, int64_t id)
{
    uint32_t low = 0, high = s->type_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const struct dataset_type *t = &s->types[s->types_by_id[middle]];
        if (t->id == id)
            return t;
        if (t->id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

const struct dataset_type *snapshot_type_by_name(const struct snapshot *s, struct text name)
{
    uint32_t low = 0, high = s->type_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int order = text_compare(s->types[middle].name, name);
        if (order == 0)
            return &s->types[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

const struct element *snapshot_element_by_name(const struct snapshot *s, struct text name)
{
    for (uint32_t i = 0; i < s->element_count; i++)
        if (text_equal(s->elements[i].name, name))
            return &s->elements[i];
    return NULL;
}

const struct branch *snapshot_child(const struct snapshot *s, const struct branch *b,
                                    struct text name)
{
    uint64_t hash = hash64(name.data, name.size_bytes) >> 2;
    uint32_t low = 0, high = b->child_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const struct branch *child = &s->branches[b->children[middle]];
        int order = child->name_hash != hash ? (child->name_hash < hash ? -1 : 1)
                                             : text_compare(child->name, name);
        if (order == 0)
            return child;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

// ---------------------------------------------------------------------------------------------
// Chains.

struct walk_frame {
    uint32_t chain;
    uint32_t next; // of its children
};

struct walk {
    struct walk_frame *frames;
    size_t depth, frame_room;
    uint32_t *path;
    uint32_t path_count, path_room;
};

static void walk_enter(struct snapshot *s, struct walk *w, uint32_t index)
{
    if (s->visited[index] == s->walk)
        return;
    s->visited[index] = s->walk;
    if (s->collections[index].kind == COLLECTION_CHAINED) {
        if (w->depth == w->frame_room) {
            w->frame_room = w->frame_room ? w->frame_room * 2 : 16;
            w->frames = memory_grow(w->frames, w->frame_room, sizeof *w->frames);
        }
        w->frames[w->depth++] = (struct walk_frame){.chain = index};
        return;
    }
    if (w->path_count == w->path_room) {
        w->path_room = w->path_room ? w->path_room * 2 : 64;
        w->path = memory_grow(w->path, w->path_room, sizeof *w->path);
    }
    w->path[w->path_count++] = index;
}

// Depth first; no recursion, as a chain of chains may be as deep as there are collections.
static void walk_chain(struct snapshot *s, struct walk *w, uint32_t chain)
{
    if (!s->visited)
        s->visited = memory_new(s->collection_count * sizeof *s->visited);
    if (++s->walk == 0) { // all marks are old again
        memset(s->visited, 0, s->collection_count * sizeof *s->visited);
        s->walk = 1;
    }
    walk_enter(s, w, chain);
    while (w->depth > 0) {
        struct walk_frame *top = &w->frames[w->depth - 1];
        const struct collection *c = &s->collections[top->chain];
        if (top->next == c->child_count)
            w->depth--;
        else
            walk_enter(s, w, c->children[top->next++]);
    }
}

static const struct index_set *union_of_types(struct snapshot *s, const struct walk *w)
{
    uint8_t *has = memory_new(s->type_count + 1);
    const struct index_set *last = NULL;
    for (uint32_t i = 0; i < w->path_count; i++) {
        const struct index_set *set = s->collections[w->path[i]].own_types;
        if (set == last) // equal sets are one: runs of one pipeline have the same
            continue;
        last = set;
        for (uint32_t k = 0; k < set->count; k++)
            has[set->items[k]] = 1;
    }
    uint32_t *items = memory_new((s->type_count + 1) * sizeof *items);
    uint32_t count = 0;
    for (uint32_t i = 0; i < s->type_count; i++)
        if (has[i])
            items[count++] = i;
    const struct index_set *set = snapshot_index_set(s, items, count);
    free(items);
    free(has);
    return set;
}

static struct flattened *flatten(struct snapshot *s, const struct collection *c)
{
    struct walk w = {0};
    walk_chain(s, &w, (uint32_t)(c - s->collections));
    struct flattened *f = snapshot_memory(s, sizeof *f);
    f->path_count = w.path_count;
    f->path = snapshot_memory(s, (w.path_count + 1) * sizeof *f->path);
    if (w.path_count)
        memcpy(f->path, w.path, w.path_count * sizeof *f->path);
    f->types = union_of_types(s, &w);
    free(w.path);
    free(w.frames);
    return f;
}

static const struct flattened *chain_flattened(struct snapshot *s, const struct collection *c)
{
    check(!s->builder && c->kind == COLLECTION_CHAINED);
    struct flattened **slot = &s->collections[c - s->collections].flattened;
    struct flattened *f = __atomic_load_n(slot, __ATOMIC_ACQUIRE);
    if (f)
        return f;
    lock_scope(&s->lock);
    f = *slot;
    if (!f) {
        f = flatten(s, c);
        __atomic_store_n(slot, f, __ATOMIC_RELEASE);
    }
    return f;
}

const uint32_t *snapshot_search_path(struct snapshot *s, const struct collection *c,
                                     uint32_t *ret_count)
{
    if (c->kind != COLLECTION_CHAINED) {
        *ret_count = 1;
        return &c->index;
    }
    const struct flattened *f = chain_flattened(s, c);
    *ret_count = f->path_count;
    return f->path;
}

static const struct index_set *types_of(struct snapshot *s, const struct collection *c)
{
    return c->kind == COLLECTION_CHAINED ? chain_flattened(s, c)->types : c->own_types;
}

const uint32_t *snapshot_types(struct snapshot *s, const struct collection *c, uint32_t *ret_count)
{
    const struct index_set *set = types_of(s, c);
    *ret_count = set->count;
    return set->items;
}

// ---------------------------------------------------------------------------------------------
// Presence.

static uint32_t set_position(const struct index_set *set, uint32_t item)
{
    uint32_t low = 0, high = set->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (set->items[middle] == item)
            return middle;
        if (set->items[middle] < item)
            low = middle + 1;
        else
            high = middle;
    }
    return INDEX_NONE;
}

bool snapshot_may_hold(struct snapshot *s, const struct collection *c, const struct dataset_type *t)
{
    return set_position(types_of(s, c), (uint32_t)(t - s->types)) != INDEX_NONE;
}

static enum presence own_presence(const struct collection *c, uint32_t type)
{
    uint32_t at = set_position(c->own_types, type);
    return at == INDEX_NONE ? PRESENCE_ABSENT : __atomic_load_n(&c->presence[at], __ATOMIC_RELAXED);
}

enum presence snapshot_presence(struct snapshot *s, const struct collection *c,
                                const struct dataset_type *t)
{
    uint32_t count, type = (uint32_t)(t - s->types);
    const uint32_t *path = snapshot_search_path(s, c, &count);
    enum presence all = PRESENCE_ABSENT;
    for (uint32_t i = 0; i < count; i++) {
        enum presence one = own_presence(&s->collections[path[i]], type);
        if (one == PRESENCE_PRESENT)
            return one;
        if (one == PRESENCE_UNKNOWN)
            all = one;
    }
    return all;
}

void snapshot_set_presence(struct snapshot *s, const struct collection *c, const struct dataset_type *t,
                           uint64_t epoch, bool is_present)
{
    check(c->kind != COLLECTION_CHAINED);
    uint32_t at = set_position(c->own_types, (uint32_t)(t - s->types));
    lock_scope(&s->lock);
    if (at != INDEX_NONE && s->epoch == epoch)
        __atomic_store_n(&c->presence[at], is_present ? PRESENCE_PRESENT : PRESENCE_ABSENT,
                         __ATOMIC_RELAXED);
}

uint64_t snapshot_epoch(const struct snapshot *s)
{
    return __atomic_load_n(&s->epoch, __ATOMIC_ACQUIRE);
}

void snapshot_renew(struct snapshot *s, uint64_t epoch)
{
    lock_scope(&s->lock);
    if (s->epoch >= epoch)
        return;
    for (uint32_t i = 0; i < s->collection_count; i++) {
        const struct collection *c = &s->collections[i];
        for (uint32_t k = 0; c->presence && k < c->own_types->count; k++)
            __atomic_store_n(&c->presence[k], PRESENCE_UNKNOWN, __ATOMIC_RELAXED);
    }
    __atomic_store_n(&s->epoch, epoch, __ATOMIC_RELEASE);
}
