// SPDX-License-Identifier: BSD-3-Clause
// store_state: what the store's sources share. No other file includes it, its tests excepted.
//
// Locks, in the order they are taken:
//   a door   the names on disk of an object (one of STORE_DOORS, by identity): made, replaced and
//            unlinked under it
//   stored   what is known of one open version
//   store    the index, the table of handles, sums
// Disk work is done under a door or a stored's lock where it must be (headers, sealing), never under
// the store's. Data of blocks is read and written under none.
#pragma once
#include <sys/queue.h>

#include "base/lock.h"
#include "base/queue.h"
#include "cache/store.h"
#include "cache/store_bits.h"
#include "cache/store_digest.h"
#include "cache/store_disk.h"
#include "cache/store_index.h"
#include "cache/store_map.h"

#define STORE_DOORS 64
#define STORE_RUN_BLOCKS STORED_RUN_BLOCKS // read in one go

struct stored {
    struct block_store *store;
    struct stored_version version; // constant; its texts are in `texts`
    char *texts;
    uint32_t block_count;          // constant
    uint32_t header_bytes;         // constant
    int data_fd, map_fd;           // numbers are constant; files are exchanged (dup3) under lock
    int64_t map_mtime_s;           // as found
    bool is_new;                   // constant: made in this life

    // under the store's lock
    uint32_t refs;
    uint32_t slot;                 // 0: dying
    uint64_t disk_bytes;           // as counted
    bool is_touched;

    struct lock lock;              // of all below
    enum stored_state state;
    bool is_sealed;                // the data file is never written again
    bool is_pinned;
    bool is_wrong;                 // dying as the whole isn't what its checksum says
    bool is_written;               // something was written by this handle
    uint32_t file_serial;          // of the data file: another one when it is exchanged
    bool is_rebuilding;
    bool wants_rebuild;
    bool is_queued;                // for the checker
    struct store_bits present;
    struct store_bits proven;      // of present ones: written or checked in this life
    struct store_stamp stamp;      // of a sealed one
    struct store_stamp check_stamp;
    bool has_check_stamp;          // a check has begun, with the file as check_stamp says
    uint8_t check_rounds;
    struct store_digest *digest;   // NULL: no checksum to compare. Used by who set is_digesting
    bool is_digesting;
    bool is_digest_stale;          // to be begun again
    bool is_digest_streamed;       // has bytes that were not read back
    bool is_digest_late;           // it is of a COMPLETE file: to be computed from the disk
    uint64_t digested_bytes;
    LIST_HEAD(, stored_claim) claims; // blocks being written
    struct stored_waiter *waiters;
    struct queue_item check_item;
    int64_t complained_ns;
};

struct store_complaint {
    int64_t next_ns; // not said again before
};

struct block_store {
    struct block_store_options options; // constant
    char *folder;                       // constant; NULL: a store of nothing
    struct store_disk disk;
    struct lock doors[STORE_DOORS];
    struct queue checks;
    pthread_t keeper, checker;
    atomic_bool is_closing;

    struct lock lock;                   // of all below
    pthread_cond_t wake;                // the keeper
    struct store_index index;
    struct table handles;               // identity -> struct stored
    uint32_t handle_count;              // listed or dying
    uint64_t dying_bytes;
    uint64_t reserved_bytes;            // for blocks being written
    uint64_t room_bytes;                // what the file system lets us use, as last looked at
    uint64_t free_bytes;
    uint64_t unlooked_bytes;            // written since
    atomic_int trouble;                 // -errno; also read without the lock
    int64_t trouble_until_ns, trouble_wait_ns;
    struct store_complaint full, files;
    STAILQ_HEAD(, store_task) closing, asked; // store_later.c
    uint32_t asked_count;
    int64_t ask_after_ns;
    bool is_counted;
    uint64_t scrubbed_bytes;
    int64_t scrubbed_unix_ns;
};

// ---- stored_open.c

struct lock *store_door(struct block_store *b, const uint8_t identity[16]);
// The door is held. -ENOENT, or another error.
int stored_find_at_door(struct block_store *b, const uint8_t identity[16],
                        struct stored **ret_stored);
// The door is held, the stored's lock not. Nothing for what is dying already.
void stored_die_at_door(struct stored *s);
bool stored_is_listed(struct block_store *b, const uint8_t identity[16]); // the store's lock held
// The stored's lock is held. To the map, or another one.
int stored_write_header(struct stored *s, int map_fd);
int stored_stamp(const struct stored *s, struct store_stamp *ret_stamp);
bool store_stamp_equal(const struct store_stamp *a, const struct store_stamp *b);

// ---- stored_write.c

// All blocks are there: seals it, or has its checksum looked at. The lock is held.
void stored_filled(struct stored *s);
// FULL to COMPLETE. The lock is held. An error leaves it FULL.
int stored_seal(struct stored *s);

// ---- stored_read.c

// Reads whole blocks [first, first + count), count <= STORE_RUN_BLOCKS, and compares. Those that are
// bad are condemned. As stored_read; *ret_good: how many of the first ones were good.
int stored_read_blocks(struct stored *s, uint32_t first, uint32_t count, void *buffer,
                       uint32_t *ret_good);
// The same for who reads everything: the page cache is left as it is.
int stored_pass_blocks(struct stored *s, uint32_t first, uint32_t count, void *buffer,
                       uint32_t *ret_good);

// ---- stored_check.c

void stored_queue_check(struct stored *s); // the lock is held
// Whether all bytes were added to the digest and it is right. If it is wrong, it begins again. The
// lock is held; nobody else is at it.
bool stored_is_digest_right(struct stored *s);
void *store_checker(void *store);

// ---- store_scrub.c

struct store_scrub {
    uint32_t slot;        // the next object, 0: a round begins
    uint32_t block;       // and what of it
    uint8_t identity[16]; // it was, when `block` was reached
    int64_t began_ns;     // the round
    uint64_t done_bytes;
};

int64_t store_scrub_first_ns(struct block_store *b);
// Reads and checks a little more. Returns when to go on. `buffer`: STORE_RUN_BLOCKS.
int64_t store_scrub_step(struct block_store *b, struct store_scrub *scrub, char *buffer);

// ---- stored_rebuild.c

// Makes a new file of a sealed one's good blocks, so that it can be written: 0. -EBUSY: another
// thread does, or, unless `may_take_long`, the store's will.
int stored_unseal(struct stored *s, bool may_take_long);

// ---- store_room.c

// For n more bytes on disk of s (NULL: of a new object), evicting where there is need. -ENOSPC.
int store_reserve(struct block_store *b, struct stored *s, uint64_t size_bytes);
int store_reserve_object(struct block_store *b);
// What was reserved is used now, by s.
void store_charge(struct block_store *b, struct stored *s, uint64_t size_bytes);
// Counts what s really takes.
void store_settle(struct stored *s);
// The same, for the last time: it has no user any more.
void store_close_account(struct stored *s);
void store_count_bytes(struct block_store *b, uint32_t slot, uint64_t disk_bytes); // lock held
void store_forget(struct block_store *b, uint32_t slot);                           // lock held
// After an error: true: the disk was full and room was made: once more.
bool store_make_room(struct block_store *b, int error);
// A write failed for good: nothing is written for a while. It is logged, once.
void store_trouble(struct block_store *b, int error, const char *what);
void store_write_worked(struct block_store *b);
bool store_evict_one(struct block_store *b);
void store_look_at_disk(struct block_store *b);
void store_evict_to_low_water(struct block_store *b);
bool store_is_above_high_water(struct block_store *b); // the lock is held
bool store_complaint_due(struct store_complaint *c, int64_t every_ns); // the lock is held
uint64_t store_used_bytes(const struct block_store *b);    // the lock is held
uint64_t store_reserved_of(uint64_t size_bytes);
void store_unreserve(struct block_store *b, uint64_t size_bytes);

// ---- store_later.c

void store_close_later(struct block_store *b, int fd, uint64_t size_bytes); // takes the descriptor
void store_ask_later(struct stored *s);         // whether its file came to the disk
void store_ask_no_more(struct block_store *b, const uint8_t identity[16]);
void store_do_later(struct block_store *b);     // the keeper
int64_t store_later_ns(struct block_store *b);  // when there is something to do; the lock is held
void store_forget_later(struct block_store *b); // at the end; no other thread is left

// ---- store_scan.c

// Counts what is there: by the summary, if one was left, else by looking at all files. Ends early
// when the store is closed.
void store_count(struct block_store *b);
void store_leave_summary(struct block_store *b);
