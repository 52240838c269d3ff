// SPDX-License-Identifier: BSD-3-Clause
// catalogue: the rebuildable cache of names, one LMDB environment per cache folder, with one owner
// (a lock file). What it holds can always be asked of the registry again; so commits don't sync
// (a process's death loses nothing that was committed: the pages are the kernel's), and after a
// reboot or with a format it doesn't know it starts empty. Records read from it are checked.
//
// What is in it:
//   sets      (repository, collection, type; whole or partial) -> which generation of rows, of
//             which epoch
//   rows      (generation, rows or hidden or folders, key) -> a block of rows, sorted
//   datasets  (repository, uuid) -> dataset with its files, of which epoch
// A whole generation is written once, sorted, and never changed; a partial one gains single
// answers. A folder that is being read pins its generation. Generations that nobody pins and no set
// names are deleted by catalogue_tidy.
//
// Readers: any thread; each call is one short transaction, and waits for nobody. A callback inside
// may not call the catalogue. Writers: librarians, one at a time. Errors: -ENOENT; -ENOSPC (full
// even after emptying), -EIO: it can't be written.
#pragma once
#include "base/buffer.h"
#include "meta/key.h"
#include "meta/registry/registry.h"

struct catalogue;

// *ret_why as everywhere. `folder` is made if missing (0700). If it can't be used (read-only,
// full), the catalogue is made in memory-backed storage and *ret_why is a line to log with return 0
// (also when what was there had to be thrown away); -EBUSY: another process owns it.
int catalogue_open(const char *folder, int64_t size_max_bytes, struct catalogue **ret_catalogue,
                   char **ret_why);
void catalogue_close(struct catalogue *c);
// At a mount's orderly end: writes down how the file is left; nothing can be written after it.
void catalogue_seal(struct catalogue *c);
// Before a mount's first catalogue_open: throws away what was not left so. false: it did.
bool catalogue_check_seal(const char *folder);
// For status.
void catalogue_usage(struct catalogue *c, int64_t *ret_used_bytes, int64_t *ret_max_bytes);
const char *catalogue_folder(const struct catalogue *c); // as it was given
bool catalogue_in_memory(const struct catalogue *c);     // it is elsewhere than `folder`

// A repository's number in this catalogue, by its identity (config's yaml path and database), and
// its epoch: a count that grows with every change that was noticed, kept across restarts. `mark`
// is the registry's (0: unknown): another than the recorded one makes a new epoch. *ret_since: when
// the epoch began, Unix ns. Neither fails: what can't be written is remembered here.
// catalogue_last_epoch: the one recorded, whatever the registry's mark may be by now; 0: none.
uint32_t catalogue_repository(struct catalogue *c, struct text identity);
uint64_t catalogue_epoch(struct catalogue *c, uint32_t repository, uint64_t mark,
                         int64_t *ret_since);
uint64_t catalogue_last_epoch(struct catalogue *c, uint32_t repository, int64_t *ret_since);

struct set_id {
    uint32_t repository;
    int64_t collection_id;
    int64_t type_id;
    struct timespan at; // what is found at a time, names without ranges; TIMESPAN_NONE: the entries
    uint64_t part;      // of one folder only: a hash of its key; 0: all
};

struct set_state {
    uint64_t generation; // 0: there is none
    uint64_t epoch;      // for which it is true
    bool is_whole;       // all rows are there; else only those that were asked
    uint64_t row_count;  // visible rows of a whole set
};

// The whole one. -ENOENT.
int catalogue_set(struct catalogue *c, const struct set_id *id, struct set_state *ret_state);
// Whether rows of that generation are still there and are of that set.
bool catalogue_has_generation(struct catalogue *c, const struct set_id *id, uint64_t generation);

enum row_kind {
    ROW_VISIBLE, // a stored dataset: a file
    ROW_HIDDEN,  // known to the registry but not stored, or (answers) known not to be
    ROW_ENTERED, // a folder: rows below it, or (answers) the dimension tables vouch for it
    ROW_REFUSED, // a folder that is not there
    ROW_AMBIGUOUS, // at a time several datasets are valid: there is no telling which is meant
};

// A row as the tree needs it; texts point into the caller's scratch buffer, or into the catalogue
// (then valid inside the callback).
struct row_file {
    struct text component;
    struct text suffix;
    int64_t size_bytes; // SIZE_UNKNOWN
};

struct row {
    struct uuid uuid;
    int64_t mtime_unix_ns;
    struct value values[LEVELS_MAX];
    uint32_t value_count;
    bool has_range; // of an entry of a CALIBRATION collection, as in registry.h
    bool has_twin, is_double;
    struct timespan range;
    struct row_file files[ROW_FILES_MAX];
    uint32_t file_count;
};

// A dataset made of several files, each of a component: a folder in the tree.
static inline bool row_is_composite(const struct row *row)
{
    return row->file_count != 1 || row->files[0].component.size_bytes > 0;
}

// The suffix that its name has.
static inline struct text row_suffix(const struct row *row)
{
    return row_is_composite(row) ? TEXT(".components") : row->files[0].suffix;
}

// What is known now of a file's or folder's key in a set of at least the epoch `fresh`; one
// transaction, so that a generation can't vanish between. 0: *ret_kind says; the row is filled for
// ROW_VISIBLE. -ENOENT: nothing is known (no set, an older one, or not asked yet).
int catalogue_find_row(struct catalogue *c, const struct set_id *id, uint64_t fresh,
                       const struct key *k, enum row_kind *ret_kind, struct row *ret_row,
                       struct buffer *scratch);
int catalogue_find_folder(struct catalogue *c, const struct set_id *id, uint64_t fresh,
                          const struct key *prefix, enum row_kind *ret_kind);

// A position in a generation's visible rows; the caller keeps it, zeroed at the start.
struct row_cursor {
    struct key key; // the last row's key, or a seek target
    bool is_seek;   // start at the first row >= key (else > key)
    bool is_begun;  // false: start at the first row
    bool is_end;    // the end was reached
};

// Visible rows whose key begins with `prefix`, in key order, from the cursor on (a cursor that was
// never used: from the start). `each` gets the row and its key (valid inside), and answers
//   0  to go on; it may set *skip_bytes, to jump behind all rows that share that many bytes of key
//   1  to stop after this row (*skip_bytes counts too)
//   2  to stop before this row: the cursor will begin with it
// -errno ends it. 0: the end was reached; 1: stopped. The generation must be pinned, or its set be
// read by the same thread meanwhile (librarians).
enum { ROW_GO_ON, ROW_STOP_AFTER, ROW_STOP_BEFORE };
typedef int row_each(const struct row *row, const struct key *k, size_t *skip_bytes, void *context);
int catalogue_scan(struct catalogue *c, uint64_t generation, const struct key *prefix,
                   struct row_cursor *cursor, row_each *each, void *context);

// Writing a whole set: rows (visible or hidden) in any order, of a key given twice the first
// counts. Sorted in bounded memory, beside it in an unlinked file. -EMSGSIZE: a row too large to
// keep.
struct catalogue_load;
struct catalogue_load *catalogue_load_new(struct catalogue *c);
int catalogue_load_row(struct catalogue_load *l, const struct key *k, enum row_kind kind,
                       const struct row *row);
// Writes all and makes it the set's. `l` can only be freed then.
int catalogue_load_finish(struct catalogue_load *l, const struct set_id *id, uint64_t epoch,
                          struct set_state *ret_state);
void catalogue_load_free(struct catalogue_load *l); // NULL is fine
define_cleanup(struct catalogue_load *, catalogue_load_free);

// Writes the find-first merge of pinned whole generations as a set: of equal keys the first
// generation's row wins, visible or hidden.
int catalogue_merge(struct catalogue *c, const uint64_t *generations, size_t count,
                    const struct set_id *id, uint64_t epoch, struct set_state *ret_state);

// Writes what is found at id->at in the pinned whole sets of collections that are searched one after
// the other: of each data ID what is valid in the first that has anything valid. What is valid there
// twice is kept as ambiguous: not scanned, but found. Only so many times of one (collection, type)
// are kept; the oldest goes.
int catalogue_resolve(struct catalogue *c, const uint64_t *generations, size_t count,
                      size_t level_count, const struct set_id *id, uint64_t epoch,
                      struct set_state *ret_state);

// Keeps one answer: of a row (VISIBLE with its row, HIDDEN) or a folder (ENTERED, REFUSED). Goes to
// the set's partial generation, a new one if that is older than `epoch`; does nothing where that is
// newer, or a whole one is as new.
int catalogue_put_answer(struct catalogue *c, const struct set_id *id, uint64_t epoch,
                         const struct key *k, enum row_kind kind, const struct row *row);

// What is known of a dataset by its id, serialised by the caller.
// Of a visit or an exposure, by a hash of its name, its timespan.
enum dataset_record { DATASET_FILES, DATASET_DATA_ID, DATASET_TIMESPAN };
int catalogue_put_dataset(struct catalogue *c, uint32_t repository, const struct uuid *uuid,
                          enum dataset_record which, uint64_t epoch, struct text record);
int catalogue_dataset(struct catalogue *c, uint32_t repository, const struct uuid *uuid,
                      enum dataset_record which, uint64_t *ret_epoch, struct buffer *ret_record);

// A pinned generation's rows stay. Pins are counted. To pin what a set names, and be sure of it,
// use catalogue_pin_set: it pins the generation of a whole set of at least `fresh`; -ENOENT.
void catalogue_pin(struct catalogue *c, uint64_t generation);
void catalogue_unpin(struct catalogue *c, uint64_t generation);
int catalogue_pin_set(struct catalogue *c, const struct set_id *id, uint64_t fresh,
                      struct set_state *ret_state);
// Deletes some of what nothing names any more; a librarian calls it from time to time. In the first
// seconds of a process's life nothing, as those that take over have yet to pin what they read.
// 1: there is more to do.
int catalogue_tidy(struct catalogue *c, uint32_t limit_blocks);
