// SPDX-License-Identifier: BSD-3-Clause
// The tree of collections' names. Names come sorted, so neighbours mostly share their beginning: the
// branches of the last name are kept as a path, and only what follows the shared parts is looked up
// in a table (it may still be there: `a`, `a-b`, `a/c` is the sorted order). That makes the cost the
// bytes of the names, however deep they are.
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/log.h"
#include "meta/name.h"
#include "meta/snapshot_internal.h"

struct growth {
    struct snapshot *s;
    uint32_t room;            // of s->branches
    struct table by_part;     // (parent, part) -> branch index
    uint32_t *path;           // branches of the last name's parts
    size_t *ends;             // where each of these parts ends in the last name
    size_t depth, path_room;
    struct text last;         // the last name
    struct buffer name;       // scratch
};

struct part_key {
    uint32_t parent;
    struct text part;
};

static bool same_part(uint64_t value, const void *key, void *context)
{
    const struct snapshot *s = context;
    const struct part_key *k = key;
    const struct branch *b = &s->branches[value];
    return b->parent == k->parent && text_equal(b->part, k->part);
}

static uint32_t branch_new(struct growth *g, uint32_t parent, struct text part)
{
    struct snapshot *s = g->s;
    if (s->branch_count == g->room) {
        g->room = g->room ? g->room * 2 : 1024;
        s->branches = memory_grow(s->branches, g->room, sizeof *s->branches);
    }
    struct branch *b = &s->branches[s->branch_count];
    *b = (struct branch){.parent = parent, .collection = INDEX_NONE, .part = part};
    return s->branch_count++;
}

// What readdir shows; mostly the part itself, and then no other bytes are kept.
static void branch_write_name(struct growth *g, struct branch *b)
{
    struct text parent_part = b->parent ? g->s->branches[b->parent].part : TEXT("");
    buffer_clear(&g->name);
    name_write_part(parent_part, b->part, &g->name);
    name_shorten(&g->name, 0, TEXT(""));
    struct text written = buffer_text(&g->name);
    b->name = text_equal(written, b->part) ? b->part : snapshot_text(g->s, written);
    b->name_hash = hash64(b->name.data, b->name.size_bytes) >> 2;
}

static uint32_t branch_of_part(struct growth *g, uint32_t parent, struct text part)
{
    struct part_key key = {parent, part};
    uint64_t hash = hash64_seed(part.data, part.size_bytes, parent);
    uint64_t found = table_find(&g->by_part, hash, same_part, &key, g->s);
    if (found)
        return (uint32_t)found;
    uint32_t index = branch_new(g, parent, part);
    branch_write_name(g, &g->s->branches[index]);
    table_add(&g->by_part, hash, index); // never 0: that is the root
    return index;
}

static void path_push(struct growth *g, uint32_t branch, size_t end)
{
    if (g->depth == g->path_room) {
        g->path_room = g->path_room ? g->path_room * 2 : 64;
        g->path = memory_grow(g->path, g->path_room, sizeof *g->path);
        g->ends = memory_grow(g->ends, g->path_room, sizeof *g->ends);
    }
    g->path[g->depth] = branch;
    g->ends[g->depth++] = end;
}

static size_t shared_bytes(struct text a, struct text b)
{
    size_t n = a.size_bytes < b.size_bytes ? a.size_bytes : b.size_bytes, i = 0;
    while (i < n && a.data[i] == b.data[i])
        i++;
    return i;
}

// Leaves on the path the parts that `name` has in common with the last name: those that end where
// both have a `/`.
static void path_keep_shared(struct growth *g, struct text name)
{
    size_t shared = shared_bytes(g->last, name);
    while (g->depth > 0) {
        size_t end = g->ends[g->depth - 1];
        if (end < shared || (end == shared && end == g->last.size_bytes && end < name.size_bytes &&
                             name.data[end] == '/'))
            return;
        g->depth--;
    }
}

static void grow(struct growth *g, uint32_t collection)
{
    struct snapshot *s = g->s;
    struct text name = s->collections[collection].name;
    path_keep_shared(g, name);
    size_t from = g->depth ? g->ends[g->depth - 1] + 1 : 0;
    uint32_t parent = g->depth ? g->path[g->depth - 1] : 0;
    while (from <= name.size_bytes) {
        const char *slash = memchr(name.data + from, '/', name.size_bytes - from);
        size_t end = slash ? (size_t)(slash - name.data) : name.size_bytes;
        parent = branch_of_part(g, parent, text_slice(name, from, end));
        path_push(g, parent, end);
        from = end + 1;
    }
    s->branches[parent].collection = collection;
    s->collections[collection].branch = parent;
    g->last = name;
}

static int order_branches(const void *a, const void *b, void *context)
{
    const struct branch *branches = context;
    const struct branch *x = &branches[*(const uint32_t *)a], *y = &branches[*(const uint32_t *)b];
    if (x->name_hash != y->name_hash)
        return x->name_hash < y->name_hash ? -1 : 1;
    return text_compare(x->name, y->name);
}

static void gather_children(struct snapshot *s)
{
    for (uint32_t i = 1; i < s->branch_count; i++)
        s->branches[s->branches[i].parent].child_count++;
    uint32_t *all = snapshot_memory(s, s->branch_count * sizeof *all);
    for (uint32_t i = 0; i < s->branch_count; i++) {
        s->branches[i].children = all;
        all += s->branches[i].child_count;
        s->branches[i].child_count = 0;
    }
    for (uint32_t i = 1; i < s->branch_count; i++) {
        struct branch *parent = &s->branches[s->branches[i].parent];
        parent->children[parent->child_count++] = i;
    }
    for (uint32_t i = 0; i < s->branch_count; i++)
        if (s->branches[i].child_count > 1)
            qsort_r(s->branches[i].children, s->branches[i].child_count, sizeof(uint32_t),
                    order_branches, s->branches);
}

void snapshot_build_tree(struct snapshot *s)
{
    struct growth g = {.s = s};
    branch_new(&g, INDEX_NONE, TEXT(""));
    s->branches[0].name = TEXT("");
    for (uint32_t i = 0; i < s->collection_count; i++)
        grow(&g, i);
    gather_children(s);
    s->branches = memory_grow(s->branches, s->branch_count, sizeof *s->branches);
    table_release(&g.by_part);
    buffer_release(&g.name);
    free(g.path);
    free(g.ends);
}
