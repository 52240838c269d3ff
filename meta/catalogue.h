// SPDX-License-Identifier: BSD-3-Clause
// catalogue: the rebuildable cache of names, one LMDB environment per cache folder, with one owner
// (a lock file). What it holds can always be asked of the registry again; so commits don't sync
// (a process's death loses nothing that was committed: the pages are the kernel's), and after a
// reboot or with a format it doesn't know it starts empty. Records read from it are checked.
//
// What is in it:
//   sets      (repository, collection, type) -> which generation of rows, of which epoch, whole or
//             partial
//   rows      (generation, visible or hidden or folder, key) -> row
//   datasets  (repository, uuid) -> dataset with its files, of which epoch
// A generation is written once and never changed when it is whole; a folder that is being read pins
// it. Generations that nobody pins and no set names are deleted by catalogue_tidy.
//
// Readers: any thread, short transactions inside one call. Writers: librarians, LMDB's lock.
#pragma once
#include "base/buffer.h"
#include "meta/key.h"
#include "meta/registry/registry.h"

struct catalogue;

// *ret_why as everywhere. `folder` is made if missing (0700). If it can't be used (read-only, full,
// owned by another), the catalogue is made in memory-backed storage and *ret_why is a line to log
// with return 0; -EBUSY: another process owns it.
int catalogue_open(const char *folder, int64_t size_max_bytes, struct catalogue **ret_catalogue,
                   char **ret_why);
void catalogue_close(struct catalogue *c);
// For status.
void catalogue_usage(struct catalogue *c, int64_t *ret_used_bytes, int64_t *ret_max_bytes);
const char *catalogue_folder(const struct catalogue *c);

// A repository's number in this catalogue, by its identity (config's yaml path and database), and
// its epoch: a count that grows with every change that was noticed, kept across restarts. `mark`
// is the registry's (0: unknown): another than the recorded one makes a new epoch.
int catalogue_repository(struct catalogue *c, struct text identity, uint32_t *ret_repository);
int catalogue_epoch(struct catalogue *c, uint32_t repository, uint64_t mark, uint64_t *ret_epoch);

struct set_id {
    uint32_t repository;
    int64_t collection_id;
    int64_t type_id;
};

struct set_state {
    uint64_t generation; // 0: there is none
    uint64_t epoch;      // for which it is true
    bool is_whole;       // all rows are there; else only those that were asked
    uint64_t row_count;  // visible rows
};

int catalogue_set(struct catalogue *c, const struct set_id *id, struct set_state *ret_state); // -ENOENT

enum row_kind {
    ROW_VISIBLE, // a stored dataset: a file
    ROW_HIDDEN,  // whole sets: known to the registry, not stored; partial ones: known not to be
    ROW_ENTERED, // partial sets: a folder the dimension tables vouch for
    ROW_REFUSED, // partial sets: a folder they don't
};

// A row as the tree needs it; texts point into the caller's scratch buffer.
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
    struct row_file files[4]; // the first four; file_count may be larger (composites)
    uint32_t file_count;
};

// A position in a generation's visible rows; the caller keeps it, zeroed at the start.
struct row_cursor {
    struct key key; // the last row's key, or a seek target
    bool is_seek;   // start at the first row >= key (else > key)
};

// One row by key. 0: *ret_kind says; row filled for ROW_VISIBLE. -ENOENT: nothing is known.
int catalogue_row(struct catalogue *c, uint64_t generation, const struct key *k,
                  enum row_kind *ret_kind, struct row *ret_row, struct buffer *scratch);
// Visible rows whose key begins with `prefix`, in key order, from the cursor on. `each` gets the
// row's key; it answers 0 to go on, 1 to stop after this row, or sets *skip (a key prefix length)
// to jump behind all rows that share that many bytes. 0: the end was reached; 1: stopped.
// scratch is cleared per row.
typedef int row_each(const struct row *row, const struct key *k, size_t *skip_bytes, void *context);
int catalogue_scan(struct catalogue *c, uint64_t generation, const struct key *prefix,
                   struct row_cursor *cursor, row_each *each, void *context);

// Writing: librarians only. A batch is one LMDB write transaction: keep it short, ask nothing of a
// registry inside.
struct catalogue_batch;
int catalogue_begin(struct catalogue *c, struct catalogue_batch **ret_batch);
int catalogue_commit(struct catalogue_batch *b); // frees it; -ENOSPC: full even after emptying
void catalogue_abort(struct catalogue_batch *b);
uint64_t catalogue_new_generation(struct catalogue_batch *b);
// `keep_first`: an existing row under the key wins (find-first merging); visible or hidden.
int catalogue_put_row(struct catalogue_batch *b, uint64_t generation, const struct key *k,
                      enum row_kind kind, const struct row *row, bool keep_first);
int catalogue_put_set(struct catalogue_batch *b, const struct set_id *id, const struct set_state *s);
// Copies up to `limit` rows (visible and hidden) of one generation into another, keep_first;
// `cursor` continues. 1: there are more. For chains: no registry needed.
int catalogue_merge_rows(struct catalogue_batch *b, uint64_t from, uint64_t to,
                         struct row_cursor *cursor, bool *in_hidden, uint32_t limit);

// Datasets: what is known of one by its id, with its files, serialised by the caller.
int catalogue_put_dataset(struct catalogue_batch *b, uint32_t repository, const struct uuid *uuid,
                          uint64_t epoch, struct text record);
int catalogue_dataset(struct catalogue *c, uint32_t repository, const struct uuid *uuid,
                      uint64_t *ret_epoch, struct buffer *ret_record); // -ENOENT

void catalogue_pin(struct catalogue *c, uint64_t generation);
void catalogue_unpin(struct catalogue *c, uint64_t generation);
// Deletes some of what nothing names any more; call from time to time. 1: there is more to do.
int catalogue_tidy(struct catalogue *c, uint32_t limit_rows);
