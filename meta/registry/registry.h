// SPDX-License-Identifier: BSD-3-Clause
// registry: the interface to a Butler registry database. One `struct registry` is one connection,
// used by one thread at a time (a librarian's). Every verb may block, up to the time limit it was
// opened with, and is read-only. A row and all it points to are borrowed and valid until `each`
// returns; `each` must not call the registry.
// The dispatcher (registry_*) asserts the contract, counts statements and checks what came back;
// implementations: sqlite, memory (for tests), later postgresql.
// Errors: -ETIMEDOUT (busy, locked or not answering within the limit), -EACCES, -ENOENT (no such
// row), -EBADMSG (what was read is not well-formed), -EIO (anything else the database says; the
// implementation logs its words).
#pragma once
#include <stdint.h>

#include "base/buffer.h"
#include "meta/snapshot.h"
#include "meta/value.h"

struct registry;

#define SIZE_UNKNOWN (-1)

// One file of a dataset: a row of a datastore's records table.
struct registry_file {
    uint32_t datastore;          // which of the repository's datastores, in order
    struct text component;       // empty: the whole dataset
    struct text path;            // as recorded: see meta/artifact.h
    struct text storage_class;
    struct text checksum;        // BLAKE2b-512 in hex, or empty
    int64_t size_bytes;          // SIZE_UNKNOWN
};

#define ROW_FILES_MAX 256

struct registry_row {
    struct uuid uuid;
    int64_t type_id;
    int64_t run_id;
    int64_t collection_id;       // where it was found (row: the first that has it; dataset: its run)
    int64_t ingest_tai_ns;       // INT64_MIN: unknown
    const struct value *values;  // one per level of the dataset type, the implied day_obs included
    uint32_t value_count;
    const struct registry_file *files; // by datastore order, then component; none: not stored
    uint32_t file_count;
};

// Called once per row; a negative answer ends the verb with it.
typedef int registry_each(const struct registry_row *row, void *context);

struct registry_ops {
    const char *name;
    void (*close)(struct registry *r);
    // A number that differs whenever the database may have changed since another mark was taken,
    // by whichever connection to the same database; equal as long as it has not, across processes
    // too where the database can tell (0: can't be told, so never equal to anything, 0 included).
    // Cheap: made to be polled.
    int (*mark)(struct registry *r, uint64_t *ret_mark);
    // Fills a new snapshot (sealed).
    int (*snapshot)(struct registry *r, struct snapshot *s, char **ret_why);
    // Whether the collection (not a chain) has a row of the type in its tags table (calibrations
    // are not looked at yet). >0, 0, -errno.
    int (*present)(struct registry *r, const struct dataset_type *t, int64_t collection_id);
    // The next `limit` rows of (collection, type) by keyset, in any fixed order; `cursor` is the
    // implementation's, empty at the start. *ret_end: there are no more. *ret_mark: of the state
    // this page was read from. Bad rows are left out and count towards the limit, so a page may
    // hold fewer, or none, and not be the last.
    int (*page)(struct registry *r, const struct snapshot *s, const struct dataset_type *t,
                int64_t collection_id, struct buffer *cursor, uint32_t limit, registry_each *each,
                void *context, bool *ret_end, uint64_t *ret_mark);
    // Find-first: the row of the first of `collections` that has the data ID. `values`: one per
    // level; the implied one is not compared. -ENOENT.
    int (*row)(struct registry *r, const struct snapshot *s, const struct dataset_type *t,
               const int64_t *collections, uint32_t count, const struct value *values,
               registry_each *each, void *context);
    // Whether a folder may be entered on the dimension tables' word: the values of the first
    // `depth` levels of the type exist together (a day_obs above a visit: some visit of that day;
    // a visit below it: of that day). For elements without a table: whether the collections have a
    // row that begins so, as far as an index can tell (else yes). >0, 0, -errno.
    // A day_obs that the dimension tables don't know (NULL in old universes) is 0.
    int (*enter)(struct registry *r, const struct snapshot *s, const struct dataset_type *t,
                 const int64_t *collections, uint32_t count, const struct value *values,
                 uint32_t depth);
    // A dataset by its id, with its data ID in its run. -ENOENT.
    int (*dataset)(struct registry *r, const struct snapshot *s, const struct uuid *uuid,
                   registry_each *each, void *context);
    // The implied values of a data ID (band, day_obs, group, physical_filter, ...): each is called
    // once per element; what the registry doesn't know (NULL) isn't. `values`: one per level, the
    // implied one is not looked at.
    int (*implied)(struct registry *r, const struct snapshot *s, const struct dataset_type *t,
                   const struct value *values,
                   int (*each)(const struct element *e, const struct value *v, void *context),
                   void *context);
};

struct registry {
    const struct registry_ops *ops;
};

// One function per verb, named registry_<verb>, in registry.c: same arguments, same errors.
void registry_close(struct registry *r);
int registry_mark(struct registry *r, uint64_t *ret_mark);
int registry_snapshot(struct registry *r, struct snapshot **ret_snapshot, char **ret_why);
int registry_present(struct registry *r, const struct dataset_type *t, int64_t collection_id);
int registry_page(struct registry *r, const struct snapshot *s, const struct dataset_type *t,
                  int64_t collection_id, struct buffer *cursor, uint32_t limit, registry_each *each,
                  void *context, bool *ret_end, uint64_t *ret_mark);
int registry_row(struct registry *r, const struct snapshot *s, const struct dataset_type *t,
                 const int64_t *collections, uint32_t count, const struct value *values,
                 registry_each *each, void *context);
int registry_enter(struct registry *r, const struct snapshot *s, const struct dataset_type *t,
                   const int64_t *collections, uint32_t count, const struct value *values,
                   uint32_t depth);
int registry_dataset(struct registry *r, const struct snapshot *s, const struct uuid *uuid,
                     registry_each *each, void *context);
int registry_implied(struct registry *r, const struct snapshot *s, const struct dataset_type *t,
                     const struct value *values,
                     int (*each)(const struct element *e, const struct value *v, void *context),
                     void *context);

// Where a registry and its datastores are: read from butler.yaml by meta/config.h.
struct repository_config;
// Opens a connection and checks that this repository can be read (manager classes and versions,
// tables). *ret_why: one line for the person who mounts: what, which, why, what to do; allocated.
// `limit_ns`: the most any verb may wait for a lock.
int registry_open(const struct repository_config *config, int64_t limit_ns,
                  struct registry **ret_registry, char **ret_why);
int registry_open_sqlite(const struct repository_config *config, int64_t limit_ns,
                         struct registry **ret_registry, char **ret_why);
