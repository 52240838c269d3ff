// SPDX-License-Identifier: BSD-3-Clause
// What the files of the snapshot share: its memory, and the builder that lives until it is sealed.
// A snapshot's memory is one arena: nothing in it is freed before the last reference goes.
#pragma once
#include "base/table.h"
#include "meta/snapshot.h"

struct pair {
    uint32_t from;
    uint32_t to;
};

struct pairs {
    struct pair *items;
    size_t count;
    size_t room;
};

struct snapshot_builder {
    bool has_universe;
    uint32_t collection_room;
    uint32_t type_room;
    struct table collections_by_id; // index + 1, in the order they were added
    struct table collections_by_name;
    struct table types_by_id;
    struct table types_by_name;
    struct pairs members;   // chain, child
    struct pairs summaries; // collection, dataset type
    int64_t last_id;        // rows come in runs of one collection: the last that was looked up
    uint32_t last_index;    // INDEX_NONE: none yet
};

void snapshot_builder_free(struct snapshot_builder *b); // NULL is fine

struct flattened {
    uint32_t *path;
    uint32_t path_count;
    const struct index_set *types;
};

// From the arena: zeroed, aligned for anything.
void *snapshot_memory(struct snapshot *s, size_t size_bytes);
struct text snapshot_text(struct snapshot *s, struct text t);
// The one set with these items (ascending).
const struct index_set *snapshot_index_set(struct snapshot *s, const uint32_t *items,
                                           uint32_t count);

// Fills the levels of a dataset type from its tags table's columns. -EBADMSG: it can't be read.
int snapshot_type_levels(struct snapshot *s, struct dataset_type *t, const struct text *columns,
                         size_t count);
// Builds the tree of collections' names; the collections are in their final order.
void snapshot_build_tree(struct snapshot *s);
