// SPDX-License-Identifier: BSD-3-Clause
// registry: the interface to a Butler registry database. One `struct registry` is one connection,
// used by one thread at a time (a librarian's). Every verb may block, up to the time limit it was
// opened with, and is read-only. A row and all it points to are borrowed and valid until `each`
// returns; `each` must not call the registry.
// The dispatcher (registry_*) asserts the contract, counts statements and checks what came back;
// implementations: sqlite, postgres, memory (for tests).
// Errors: -ETIMEDOUT (busy, locked, away or not answering within the limit), -EACCES, -ENOENT (no such
// row), -EBADMSG (what was read is not well-formed), -EIO (anything else the database says; the
// implementation logs its words).
#pragma once
#include <stdatomic.h>
#include <stdint.h>

#include "base/buffer.h"
#include "meta/snapshot.h"
#include "meta/timespan.h"
#include "meta/value.h"

struct registry;

#define SIZE_UNKNOWN (-1)
#define SIZE_RECORDED_MAX ((int64_t)1 << 60) // a larger one is no file's: unknown

// One file of a dataset: a row of a datastore's records table.
struct registry_file {
    uint32_t datastore;          // which of the repository's datastores, in order
    struct text component;       // empty: the whole dataset
    struct text path;            // as recorded: see meta/artifact.h
    struct text storage_class;
    struct text checksum;        // BLAKE2b-512 in hex, or empty
    int64_t size_bytes;          // SIZE_UNKNOWN, or up to SIZE_RECORDED_MAX
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
    bool has_range;              // it was found in a CALIBRATION collection, where it is valid in:
    bool has_twin;               // there with another dataset of this data ID and range,
    bool is_double;              // and there more than once, all this alike
    struct timespan range;
    const struct registry_file *files; // by datastore order, then component; none: not stored
    uint32_t file_count;
};

// Called once per row; a negative answer ends the verb with it.
typedef int registry_each(const struct registry_row *row, void *context);

// What to look for, by a data ID, in collections one after the other.
enum registry_how {
    SEARCH_FIRST, // in RUN and TAGGED ones: the row of the first that has one
    SEARCH_RANGE, // in CALIBRATION ones: all rows valid in just this range, of each
    SEARCH_AT,    // in all: the rows found at `span` (timespan_finds), of the first that has any
};

struct registry_search {
    enum registry_how how;
    struct timespan span;       // not for SEARCH_FIRST
    const int64_t *collections; // their ids; no chains
    uint32_t count;
    const struct value *values; // one per level; the implied one is not compared
};

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
    // A number that is another one once what is asked of has changed since, and costs much less than reading it. Without
    // a type: all that a snapshot is made of; exactly so. Else: the type's rows in the collections (no chains), exactly,
    // and the files of all datasets but for such as are new (of a row that had none); of these the database may tell a
    // few seconds late. 0: can't be told now. NULL: never.
    int (*digest)(struct registry *r, const struct snapshot *s, const struct dataset_type *t,
                  const int64_t *collections, uint32_t count, uint64_t *ret_digest);
    // The next `limit` rows of (collection, type) by keyset, in any fixed order; `cursor` is the
    // implementation's, empty at the start. *ret_end: there are no more. *ret_mark: of the state
    // this page was read from. Bad rows are left out and count towards the limit, so a page may
    // hold fewer, or none, and not be the last.
    int (*page)(struct registry *r, const struct snapshot *s, const struct dataset_type *t,
                int64_t collection_id, struct buffer *cursor, uint32_t limit, registry_each *each,
                void *context, bool *ret_end, uint64_t *ret_mark);
    // The rows of one data ID, as the search says. -ENOENT: there are none.
    int (*row)(struct registry *r, const struct snapshot *s, const struct dataset_type *t,
               const struct registry_search *search, registry_each *each, void *context);
    // What is in the folder of the first `depth` levels' values, in the collections (no chains; CALIBRATION
    // ones are passed over); registry_folder_columns says more than 0. Where its entries are files: all rows,
    // of one collection after the other. Where they are folders: for each of them one row that is stored, of the
    // first collection that has its data ID, and of that only its values (its time and its files are made up). -E2BIG:
    // there are more than `limit`, or all of the type in the collections is so little that it may as well be read, or
    // looking for the folders takes too long. NULL: it has no quicker way than reading all of a collection.
    int (*folder)(struct registry *r, const struct snapshot *s, const struct dataset_type *t,
                  const int64_t *collections, uint32_t count, const struct value *values,
                  uint32_t depth, uint32_t limit, registry_each *each, void *context);
    // Which of the types have a row in any of the collections (no chains). NULL: it is quick to ask `enter`
    // for each.
    int (*present)(struct registry *r, const struct snapshot *s, const int64_t *collections,
                   uint32_t count, const struct dataset_type *const *types, uint32_t type_count,
                   bool *ret_present);
    // Whether a folder may be entered on the dimension tables' word: the values of the first
    // `depth` levels of the type exist together (a day_obs above a visit: some visit of that day;
    // a visit below it: of that day). For elements without a table: whether the collections have a
    // row that begins so, as far as an index can tell (else yes). >0, 0, -errno.
    // A day_obs that the dimension tables don't know (NULL in old universes) is 0. With depth 0 (and
    // no values): whether the collections (no chains) have a row of the type at all.
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
    // The timespan of an element's row (a visit's, an exposure's). `values`: one per required
    // element. -ENOENT: there is no such row, or its time is not known.
    int (*timespan)(struct registry *r, const struct snapshot *s, const struct element *e,
                    const struct value *values, struct timespan *ret_span);
    // Columns of an element's row; texts are appended to *store. `values`: one per required element.
    // -ENOENT: there is no such row.
    int (*record)(struct registry *r, const struct snapshot *s, const struct element *e,
                  const struct value *values, const struct text *columns, uint32_t count,
                  struct field *ret_fields, struct buffer *store);
};

struct registry {
    const struct registry_ops *ops;
    // A verb that has to wait for the database gives up (-ETIMEDOUT) once this is true; the caller's, may
    // be NULL. So far PostgreSQL's do.
    const atomic_bool *gives_up;
    int64_t limit_ns; // the most a verb may wait, as it was opened with; may be lowered
    // Whether the last verb's -ETIMEDOUT was for want of the database itself (it is refused, silent or
    // gone), which others would wait for just as well.
    bool is_away;
    bool is_refused; // of the last verb: there is no connection, as the login was refused
};

// One function per verb, named registry_<verb>, in registry.c: same arguments, same errors.
void registry_close(struct registry *r);
int registry_mark(struct registry *r, uint64_t *ret_mark);
int registry_snapshot(struct registry *r, struct snapshot **ret_snapshot, char **ret_why);
int registry_digest(struct registry *r, const struct snapshot *s, const struct dataset_type *t,
                    const int64_t *collections, uint32_t count, uint64_t *ret_digest); // 0: also where there is none
int registry_page(struct registry *r, const struct snapshot *s, const struct dataset_type *t,
                  int64_t collection_id, struct buffer *cursor, uint32_t limit, registry_each *each,
                  void *context, bool *ret_end, uint64_t *ret_mark);
int registry_row(struct registry *r, const struct snapshot *s, const struct dataset_type *t,
                 const struct registry_search *search, registry_each *each, void *context);
int registry_present(struct registry *r, const struct snapshot *s, const int64_t *collections,
                     uint32_t count, const struct dataset_type *const *types, uint32_t type_count,
                     bool *ret_present);
int registry_folder(struct registry *r, const struct snapshot *s, const struct dataset_type *t,
                    const int64_t *collections, uint32_t count, const struct value *values,
                    uint32_t depth, uint32_t limit, registry_each *each, void *context);
// How many columns of the type's table, from its first, a folder of this depth is found by along the table's
// unique index: up to the last that its values say something of, and the one whose values it lists, where each before
// it is known or has few values, in a table. 0: there is no such way.
uint32_t registry_folder_columns(const struct snapshot *s, const struct dataset_type *t, uint32_t depth);
// The column that says which folders are in one of this depth: its next level's, or that which implies it.
// INDEX_NONE: its entries are files.
uint32_t registry_wanted_column(const struct dataset_type *t, uint32_t depth);
// The table that has the values of an element: its own, or of one (physical filters) that implies it. NULL.
const struct element *registry_values_table(const struct snapshot *s, uint32_t element);
int registry_enter(struct registry *r, const struct snapshot *s, const struct dataset_type *t,
                   const int64_t *collections, uint32_t count, const struct value *values,
                   uint32_t depth);
int registry_dataset(struct registry *r, const struct snapshot *s, const struct uuid *uuid,
                     registry_each *each, void *context);
int registry_implied(struct registry *r, const struct snapshot *s, const struct dataset_type *t,
                     const struct value *values,
                     int (*each)(const struct element *e, const struct value *v, void *context),
                     void *context);
int registry_timespan(struct registry *r, const struct snapshot *s, const struct element *e,
                      const struct value *values, struct timespan *ret_span);
int registry_record(struct registry *r, const struct snapshot *s, const struct element *e,
                    const struct value *values, const struct text *columns, uint32_t count,
                    struct field *ret_fields, struct buffer *store);

// Where a registry and its datastores are: read from butler.yaml by meta/config.h.
struct repository_config;
// Opens a connection and checks that this repository can be read (manager classes and versions,
// tables). *ret_why: one line for the person who mounts: what, which, why, what to do; allocated.
// `limit_ns`: the most any verb may wait for a lock; of PostgreSQL, for all of it. `config` must outlive it.
// Errors as above; -EUSERS: the server has no room for one more connection, but isn't away to others.
int registry_open(const struct repository_config *config, int64_t limit_ns,
                  struct registry **ret_registry, char **ret_why);
int registry_open_sqlite(const struct repository_config *config, int64_t limit_ns,
                         struct registry **ret_registry, char **ret_why);
int registry_open_postgres(const struct repository_config *config, int64_t limit_ns,
                           struct registry **ret_registry, char **ret_why);
