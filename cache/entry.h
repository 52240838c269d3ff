// SPDX-License-Identifier: BSD-3-Clause
// entry: one version of one object as the engine knows it, and who waits for it. The engine's own: other
// rooms come through cache.h.
//
//             its version is known          every block is on the disk
//   ABSENT ──────────────────────▶ PARTIAL ◀────────────────────────────▶ COMPLETE
//      │                              │       one was bad, or evicted        │
//      └──────────────┬───────────────┴──────────────────────────────────────┘
//                     ▼ replaced at its origin, gone from there, evicted by hand
//                   DYING     who has it open reads what is here of it; nobody finds it any more
//
// Invariants
//  1. The version is set by the step out of ABSENT and never changes: whoever has seen another state under
//     the lock may read it without.
//  2. The table holds at most one entry an identity. A DYING one is on its way out of it: who finds it there
//     takes it out.
//  3. A block of an entry is of its version: bytes are taken from an answer only after its headers said
//     that version (flight.c), and from the store only by a handle of that version.
//  4. A waiter is in one entry's list, or was taken out by who calls it.
//  5. An entry lives as long as somebody refers to it (handles, wants, flights), and a while longer, idle.
#pragma once
#include <stdatomic.h>
#include <sys/queue.h>

#include "base/lock.h"
#include "base/table.h"
#include "cache/cache.h"
#include "cache/origin/origin.h"
#include "cache/pool.h"
#include "cache/reading.h"

struct ahead;
struct checking;
struct flight;
struct flights;
struct storing;
struct recall;
struct recalls;

enum entry_state { ENTRY_ABSENT, ENTRY_PARTIAL, ENTRY_COMPLETE, ENTRY_DYING };

// What tells one version from another.
struct version {
    int64_t size_bytes;
    int64_t mtime_unix_ns; // 0: unknown
    struct text validator; // empty: the origin gives none, size and mtime have to do
};

TAILQ_HEAD(entry_flights, flight);
LIST_HEAD(entry_handles, cached);

struct cache_entry {
    struct cache *cache;
    atomic_uint_fast64_t serial; // never used twice: the owner of its blocks in the pool; another one when they are
                                 // found to be wrong
    uint8_t identity[16];
    struct origin *origin; // a reference
    char *key;
    struct text key_text;
    char *version_id;      // where it is an object of its own (struct object's `version`)
    struct text version_id_text;

    atomic_uint references; // to 0 and from 0 under the cache's lock only
    // under the cache's lock
    bool is_listed; // in the table
    TAILQ_ENTRY(cache_entry) idle;

    struct lock lock;
    // under it
    enum entry_state state;
    bool is_replaced;           // DYING, because its origin has another version, or none
    bool is_buried;             // DYING, and all that follows from it is done
    struct version version;     // invariant 1
    char *validator;            // its memory
    char *checksum;             // of the whole, the registry's or the origin's; NULL: none, or it is to be ignored
    bool was_asked;             // whether the origin has one
    uint32_t mismatches;        // times that the whole wasn't what its checksum says
    int64_t confirmed_ns;       // the origin said this version (monotonic); 0: not in this life
    int64_t confirmed_unix_ns;
    int64_t disproved_unix_ns;  // listings seen before are known to be outdated
    struct stored *stored;      // NULL: not on the disk
    int64_t store_refused_ns;   // when it couldn't be put there; 0: never
    struct flight *asking;      // finds out the version, or whether it is still this one
    struct entry_flights flights;
    struct cache_waiter *waiters;
    struct entry_handles handles;
    int64_t wanted_bytes;       // of its beginning, by `warm` or for who goes through its folder
    uint32_t pumped;            // blocks of that which were asked for
    bool has_pumped_twice;
    bool is_warming;            // for a user, who wants it on the disk
    int64_t warm_ns;            // since when
    bool is_checking;           // the store looks at the whole
    bool is_refused;            // it isn't what its checksum says
    int64_t latency_ns;         // until the first byte, lately; 0: unknown
    bool is_narrow;             // one connection didn't carry what a reader took
    int error;                  // of the last failure
    int64_t error_ns;           // when
    uint64_t failures;
    char *why;
    int64_t nearline_ns;        // when its bytes were refused as nearline; 0: they were given since
    enum origin_nearline nearline_said; // by an answer with a head
    int64_t nearline_said_ns;   // when; 0: never
    struct recall *recall;      // under the recalls' lock; NULL: none
};

// A handle.
struct cached {
    struct cache_entry *entry; // a reference
    LIST_ENTRY(cached) of_entry;
    struct reading reading;     // under the entry's lock
    atomic_int_fast64_t extent; // how far it was read
    uint64_t series[CACHE_SERIES_MAX]; // ids; under the lock of `ahead`
    uint32_t series_count;
    bool wants_check;           // it would have been given a descriptor, if it had been checked; by who opens it
};

struct cache {
    struct cache_options options;
    struct block_store *store;
    bool has_store;
    struct pool *pool;
    struct flights *flights;
    struct ahead *ahead;
    struct storing *storing; // NULL: there is no disk
    struct recalls *recalls;
    atomic_uint_fast64_t serials;
    atomic_int_fast64_t latency_ns; // of recent first bytes, of any origin
    struct lock lock;
    // under it
    struct table entries; // by identity
    TAILQ_HEAD(idle_list, cache_entry) idle;
    uint32_t entry_count;
    uint32_t idle_count;
    LIST_HEAD(checkings, checking) checkings; // whole.c's
    pthread_cond_t checked;
};

enum want_kind { CACHE_WANT_VERSION = 1, CACHE_WANT_BLOCKS, CACHE_WANT_WHOLE, CACHE_WANT_RECALL };

// ---- entries

// The entry for the object, made if there is none; a reference. Takes over what `object` says of its version, and
// what the store has; an entry that a listing has overtaken is left dying, and another made. Disk.
struct cache_entry *entry_get(struct cache *c, const struct object *object);
// The one in memory; NULL. A reference.
struct cache_entry *entry_find(struct cache *c, const uint8_t identity[16]);
struct cache_entry *entry_ref(struct cache_entry *e);
void entry_unref(struct cache_entry *e); // without any entry's lock
define_cleanup(struct cache_entry *, entry_unref);
void object_identity(const struct object *object, uint8_t ret_identity[16]);
void entries_release(struct cache *c); // frees the idle ones; no other may be left

bool version_is(const struct version *a, const struct version *b);
// Of a known version.
uint32_t entry_block_count(const struct cache_entry *e);
uint32_t entry_block_bytes(const struct cache_entry *e, uint32_t block);

// Its handle in the store, made if it can be; a reference, or NULL. Without the lock. Disk.
struct stored *entry_stored(struct cache_entry *e);
// It is DYING from now on, and all that follows from that is done: who waits for its blocks is told -ESTALE, its flights
// are cancelled, its files go. `by_origin`: the origin has another version, or none; older listings are not believed
// any more. Without the lock. Disk.
void entry_die(struct cache_entry *e, bool by_origin);
// The same, of which the rest is left to an entry_die soon. With the lock held.
void entry_doom(struct cache_entry *e, bool by_origin);

// The rest with the lock held.
void entry_move(struct cache_entry *e, enum entry_state to); // legal steps only
// ABSENT: takes the version over and becomes PARTIAL. Else: whether it is this version.
bool entry_learn(struct cache_entry *e, const struct version *said);
bool entry_has(struct cache_entry *e, uint32_t block); // in memory or on the disk
void entry_failed(struct cache_entry *e, int error, const char *why);
bool entry_is_failing(const struct cache_entry *e); // its last failure is its answer, for a moment

// ---- waiters

// What the want held until now, to be let go of when the call is over and without locks (or NULL): what came for it
// must still be found.
struct cache_entry *want_take(struct cache_want *want);
void want_fill(struct cache_want *want, struct cache_entry *e, enum want_kind kind, uint32_t first,
               uint32_t count); // an empty one

// Those who were taken out of their entries' lists, to be called without any lock.
struct wake_list {
    struct cache_waiter *first;
};
void wake(struct wake_list *list, int error);
void entry_wait(struct cache_entry *e, struct cache_waiter *w);
bool entry_unwait(struct cache_entry *e, struct cache_waiter *w); // false: it was taken out
// Those for whom this block was the last one missing.
void entry_block_came(struct cache_entry *e, uint32_t block, struct wake_list *to);
// All who wait for this kind of thing; of blocks, those who wait for one of these.
void entry_take_waiters(struct cache_entry *e, enum want_kind kind, uint32_t first, uint32_t count,
                        struct wake_list *to);
// Whether the blocks are of use to anybody: who waits for one, who reads ahead there, who wants it all.
bool entry_is_waited_for(const struct cache_entry *e, uint32_t first, uint32_t count);
bool entry_is_wanted(const struct cache_entry *e, uint32_t first, uint32_t count);
