// SPDX-License-Identifier: BSD-3-Clause
// catalogue_store: what the catalogue's sources share: the LMDB environment, read slots, the write
// wrapper. No other header shows LMDB.
//
// The environment may be replaced while the catalogue is in use (emptied after corruption, moved to
// memory when the disk is full). Readers take a slot, which holds a read transaction of one
// environment; whoever replaces it sweeps all slots before closing the old one. `incarnation` is
// the count of that.
//
// "rc": LMDB's codes (MDB_*, or a positive errno) or our own -errno; store_errno makes it -errno.
#pragma once
#include <lmdb.h>
#include <pthread.h>
#include <stdatomic.h>

#include "base/lock.h"
#include "base/table.h"
#include "meta/catalogue.h"

#define READ_SLOTS 64

enum section { SECTION_HEADER, SECTION_ROWS, SECTION_HIDDEN, SECTION_FOLDERS };

#define SET_KEY_BYTES 45
#define ROWS_KEY_PREFIX 9 // generation, big-endian, and section

struct rows_key {
    size_t size_bytes;
    uint8_t bytes[ROWS_KEY_PREFIX + KEY_BYTES_MAX];
};

struct store {
    MDB_env *env;
    MDB_dbi meta; // repositories
    MDB_dbi sets;
    MDB_dbi rows;
    MDB_dbi datasets;
    MDB_dbi dead; // generations that no set names: being written, or to be deleted
    size_t page_bytes;
    bool is_in_memory;
};

struct read_slot {
    _Alignas(64) atomic_bool is_busy;
    struct store *store; // of txn
    MDB_txn *txn;        // reset while the slot is free
    MDB_cursor *rows;    // of txn
};

struct pin {
    uint64_t generation;
    uint32_t count;
    bool is_condemned;  // being deleted: can't be pinned any more
    bool is_distrusted; // holds a record that is not well-formed: counts as absent
};

struct known_repository {
    uint8_t identity[16]; // hash128
    uint32_t number;
    uint64_t mark, epoch;
    int64_t since;
};

struct catalogue {
    char *folder;
    int64_t size_max_bytes;
    size_t flush_bytes; // the most to write in one transaction
    atomic_bool is_in_memory;
    int owner_fd;                // holds the lock; -1
    atomic_bool life_is_counted; // as one that might end too soon
    int64_t opened_ns;
    // One writer at a time; held over LMDB's writing to disk, so no `struct lock`.
    pthread_mutex_t writer;
    _Atomic(struct store *) store; // replaced under writer
    atomic_uint incarnation;       // changed under writer
    bool was_moved;                // under writer
    // Under writer: emptying gave no room, so it isn't tried again until then, or something is
    // unpinned (`unpins` counts).
    int64_t full_until_ns;
    unsigned full_unpins;
    atomic_uint unpins;
    atomic_uint_fast64_t next_generation;
    struct read_slot slots[READ_SLOTS];
    struct lock lock;                 // below
    struct table pins;                // struct pin by generation
    atomic_uint distrusted;           // how many of them are distrusted
    atomic_bool repositories_unsaved; // to be written with the next transaction
    struct known_repository *repositories;
    size_t repository_count;
};

int store_errno(int rc);
// Of an environment that was just opened: a file that is shorter than its own count of pages would end the process
// when it is read. MDB_CORRUPTED then, EIO. The file is closed by exec afterwards.
int store_check_length(MDB_env *env, size_t *ret_page_bytes);
void catalogue_trust(struct catalogue *c); // this life was long enough

// Opening, in catalogue_store.c. *ret_why is allocated.
int store_open(const char *folder, int64_t size_max_bytes, struct store **ret_store,
               char **ret_why);
int store_open_in_memory(int64_t size_max_bytes, struct store **ret_store, char **ret_why);
void store_close(struct store *s);
void store_remove_files(const char *folder);
int store_in_use_bytes(struct store *s, MDB_txn *txn, int64_t *ret_bytes);
int64_t store_room_bytes(struct store *s); // how much may be used before it is emptied

// Reading. 0 or -errno; read_end in any case of success.
int read_begin(struct catalogue *c, struct read_slot **ret_slot);
void read_end(struct read_slot *s);

// Writing: `body` in one transaction, which is committed if it answers 0. It may be called again
// from its start: after emptying where it was full, in another environment where that was replaced.
struct write {
    struct catalogue *c;
    struct store *store;
    MDB_txn *txn;
    bool has_condemned; // pin_condemn's
};
typedef int write_body(struct write *w, void *context);
int catalogue_write(struct catalogue *c, write_body *body, void *context);
// For those who write beside it: the disk is full or failing (a positive errno). 0: moved.
int catalogue_give_up_disk(struct catalogue *c, int error);

// What all records begin with, in catalogue_sets.c.
struct record_head {
    uint16_t magic;
    uint8_t version;
    uint8_t zero;
    uint32_t length_bytes;
};
struct record_head record_head(uint16_t magic, size_t length_bytes);
// Copies a record of a fixed size (or the fixed beginning of one); false: counts as absent.
bool record_read(const MDB_val *v, uint16_t magic, void *record, size_t size_bytes,
                 bool may_go_on);
void record_put_number(uint8_t *to, uint64_t value, size_t size_bytes); // big-endian, for keys

// Sets and generations inside a transaction, in catalogue_sets.c; rc.
int set_read(struct catalogue *c, struct store *s, MDB_txn *txn, const struct set_id *id,
             bool is_whole, struct set_state *ret_state);
int set_limit_times(struct write *w, const struct set_id *id);
int set_forget_answers(struct write *w, const struct set_id *id, uint64_t epoch);
// Names the generation; what was named before becomes dead, `state`'s is dead no more (unless what
// is named is newer).
int set_write(struct write *w, const struct set_id *id, const struct set_state *state);
int dead_add(struct write *w, uint64_t generation);
int dead_has(struct write *w, uint64_t generation); // MDB_NOTFOUND
int dead_remove(struct write *w, uint64_t generation);
bool set_generation(const MDB_val *record, uint64_t *ret_generation); // false: no set's record
int header_write(struct write *w, uint64_t generation, const struct set_id *id);
int repositories_write(struct write *w); // all that are known

MDB_val rows_key(struct rows_key *k, uint64_t generation, enum section section, struct text key);
// Whether `v` is a key of that section; *ret_key: what follows.
bool rows_key_is(const MDB_val *v, uint64_t generation, enum section section, struct text *ret_key);
bool rows_key_generation(const MDB_val *v, uint64_t *ret_generation);

// Pins, in catalogue_tidy.c.
bool pin_condemn(struct write *w, uint64_t generation);    // false: it is pinned
void pins_absolve(struct catalogue *c, bool were_deleted); // after the transaction
void pin_distrust(struct catalogue *c, uint64_t generation);
bool pin_is_distrusted(struct catalogue *c, uint64_t generation);
int write_make_room(struct write *w); // deletes all that isn't pinned

static inline MDB_val val_of(struct text t)
{
    return (MDB_val){t.size_bytes, (void *)t.data};
}

static inline struct text text_of_val(const MDB_val *v)
{
    return (struct text){v->mv_data, v->mv_size};
}
