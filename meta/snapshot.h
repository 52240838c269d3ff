// SPDX-License-Identifier: BSD-3-Clause
// snapshot: everything of a registry that is small, read whole at one moment: collections and
// chains, dataset types and their summaries, the dimension universe. Immutable once sealed, counted
// by reference; readers on any thread. A registry builds one with the snapshot_add_* calls, then
// snapshot_seal() derives the tree of collection names, the levels of each dataset type and checks
// everything that came from outside (unknown ids, cycles, names).
#pragma once
#include <stdint.h>

#include "base/buffer.h"
#include "base/lock.h"
#include "base/table.h"
#include "meta/value.h"

// Values are those of the registry's collection.type column.
enum collection_kind {
    COLLECTION_RUN = 1,
    COLLECTION_TAGGED = 2,
    COLLECTION_CHAINED = 3,
    COLLECTION_CALIBRATION = 4,
};

const char *collection_kind_name(enum collection_kind kind); // "RUN"

#define INDEX_NONE UINT32_MAX

// What a dimension's table has besides the keys of other dimensions: other keys of its own, metadata.
enum column_kind { COLUMN_INTEGER, COLUMN_REAL, COLUMN_TEXT, COLUMN_BOOL };

struct column {
    struct text name;
    enum column_kind kind;
};

// A dimension, or another element with a table, of the universe (config:dimensions.json).
// In the universe's own order. Where a universe has no day_obs (before version 6) one stands at the
// end, not a dimension, for the implied level.
struct element {
    struct text name;
    bool is_dimension;          // may be a key of a data ID
    enum value_kind kind;       // of its own key
    bool has_table;             // by introspection; band, htm* and healpix* have none
    struct text table;          // unquoted name, "group" among them
    struct text key_column;     // its own key's column: "id" or "name"
    uint32_t *required;         // elements whose values find a row: required dependencies, then
                                // itself if it is a dimension; in the universe's order
    uint32_t required_count;
    uint32_t *implied;          // elements whose values a row gives
    uint32_t implied_count;
    struct column *columns;     // of kinds that can be compared
    uint32_t column_count;
    bool has_day_obs;           // its table has a day_obs column (exposure, visit; any universe)
    bool has_timespan;          // and says when it was
    struct text skypix_system;  // "htm", "healpix", or empty
};

struct level {
    uint32_t element;
    bool is_implied; // the day_obs level that only folders have, not in tags tables or file names
};

struct dataset_type {
    int64_t id;
    struct text name;
    struct text storage_class;
    struct text tags_table;
    struct text calibs_table; // empty: not a calibration dataset type
    struct level levels[LEVELS_MAX]; // in the tree's order; the last one is the file's
    uint32_t level_count;            // 0: dimensionless
    uint32_t required_count;         // levels that are not implied
    uint32_t day_obs_source;         // element that implies the day_obs level; INDEX_NONE: none
    // The tags table's data-ID columns in the table's own (unique index) order, as level numbers.
    uint32_t columns[LEVELS_MAX];
    bool is_readable; // false: its table or a dimension is unknown: in no collection's types
};

struct collection {
    int64_t id;
    struct text name;
    enum collection_kind kind;
    uint32_t index;            // its own
    struct text doc;
    uint32_t *children;        // of a chain, in order: collection indexes
    uint32_t child_count;
    uint32_t branch;           // its place in the tree of names
    // Its summary: indexes of the (readable) dataset types it may hold, sorted by name. A chain has
    // none of its own: see snapshot_types.
    const struct index_set *own_types;
    uint8_t *presence;         // one atomic byte per own type: enum presence; NULL for a chain
    struct flattened *flattened; // of a chain that was asked for (atomic): search path and types
};

struct index_set {
    uint32_t count;
    uint32_t items[];
};

// One part of collections' names: a folder below collections/.
struct branch {
    struct text name;       // escaped and shortened: what readdir shows
    struct text part;       // unescaped
    uint64_t name_hash;     // hash64 of name >> 2: the order of children, and their cookie
    uint32_t parent;        // INDEX_NONE for the root (0)
    uint32_t collection;    // the collection of exactly this name; INDEX_NONE
    uint32_t *children;     // sorted by (name_hash, name)
    uint32_t child_count;
};

struct snapshot {
    uint32_t references;    // atomic
    uint64_t epoch;         // atomic: of the repository when it was read, or found to be what it was; the librarian's
    uint64_t digest;        // of what it was read from (registry.h); 0: not known
    struct element *elements;
    uint32_t element_count;
    struct dataset_type *types;     // sorted by name
    uint32_t type_count;
    struct collection *collections; // sorted by name
    uint32_t collection_count;
    struct branch *branches;        // [0]: the root, collections/ itself
    uint32_t branch_count;
    struct snapshot_builder *builder; // while it is built
    // snapshot.c's own: how it looks things up, and the memory all of the above is in.
    uint32_t *collections_by_id;    // indexes, sorted by id
    uint32_t *types_by_id;
    struct lock lock;               // over what follows, once it is sealed
    struct table index_sets;        // equal sets are kept once
    uint32_t *visited;              // per collection: the last walk that met it
    uint32_t walk;
    void **memory;
    size_t memory_count;
    char *memory_at;
    size_t memory_left;
};

enum presence { PRESENCE_UNKNOWN, PRESENCE_ABSENT, PRESENCE_PRESENT };

struct snapshot *snapshot_new(void);
struct snapshot *snapshot_ref(struct snapshot *s);
void snapshot_unref(struct snapshot *s); // the last one frees; NULL is fine

// Building, in this order; texts are copied. One thread. -EBADMSG: refused (counted in ROWS_REFUSED
// by the caller; the rest goes on), -EEXIST: the id or name stands already.
// The universe as JSON (config:dimensions.json); also checked for its shape. *ret_why as in doc.h.
int snapshot_add_universe(struct snapshot *s, struct text dimensions_json, char **ret_why);
// What introspection found of an element's table; `columns` as the database names them.
int snapshot_add_element_table(struct snapshot *s, struct text table, const struct text *columns,
                               size_t count);
// `columns`: the data-ID columns of its tags table in order (NULL: the table is not there).
int snapshot_add_type(struct snapshot *s, int64_t id, struct text name, struct text storage_class,
                      struct text tags_table, struct text calibs_table, const struct text *columns,
                      size_t count);
int snapshot_add_collection(struct snapshot *s, int64_t id, struct text name, int kind, struct text doc);
int snapshot_add_member(struct snapshot *s, int64_t chain, int64_t child); // in position order
int snapshot_add_summary(struct snapshot *s, int64_t collection, int64_t type);
int snapshot_seal(struct snapshot *s, char **ret_why);

const struct collection *snapshot_collection_by_id(const struct snapshot *s, int64_t id);
const struct collection *snapshot_collection_by_name(const struct snapshot *s, struct text name);
const struct dataset_type *snapshot_type_by_id(const struct snapshot *s, int64_t id);
const struct dataset_type *snapshot_type_by_name(const struct snapshot *s, struct text name);
const struct element *snapshot_element_by_name(const struct snapshot *s, struct text name);
// A collection's search path: itself, or a chain's depth-first expansion, each collection at its first
// occurrence only and without the chains (which is also what bounds a cycle). Indexes, borrowed from
// the snapshot. A chain's is made when it is first asked for: chains of long chains would else need
// memory as the square of their number. Thread-safe.
const uint32_t *snapshot_search_path(struct snapshot *s, const struct collection *c,
                                     uint32_t *ret_count);
// The dataset types it may hold by the summaries, sorted by name; of a chain: any member. As above.
const uint32_t *snapshot_types(struct snapshot *s, const struct collection *c, uint32_t *ret_count);
// Child of a branch by its (escaped) name; NULL.
const struct branch *snapshot_child(const struct snapshot *s, const struct branch *b, struct text name);
// Whether the collection may hold the type by its summary (for a chain: any member).
bool snapshot_may_hold(struct snapshot *s, const struct collection *c, const struct dataset_type *t);
// Presence of (collection, type), as far as it was asked; for a chain: any member of its search path.
// Of a type the collection may not hold: absent. Thread-safe.
enum presence snapshot_presence(struct snapshot *s, const struct collection *c,
                                const struct dataset_type *t);
// `epoch`: the snapshot's before it was asked: if it was renewed since, nothing is noted.
void snapshot_set_presence(struct snapshot *s, const struct collection *c, const struct dataset_type *t,
                           uint64_t epoch, bool is_present);
uint64_t snapshot_epoch(const struct snapshot *s);
// It is as the registry is at a later epoch. Presences are to be asked again. Thread-safe.
void snapshot_renew(struct snapshot *s, uint64_t epoch);
