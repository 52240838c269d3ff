// SPDX-License-Identifier: BSD-3-Clause
// flight: one request to an origin on behalf of an entry: a run of its blocks, or a question about its version.
// The engine's own.
//
//                 its turn            all its blocks came
//     QUEUED ─────────────▶ FLYING ───────────────────────▶ DONE
//        │                     │ the origin's error, another version
//        │ nobody wants it     │ nobody wants it any more
//        └─────────────────────┴──────────────────────────▶ FAILED
//
// Invariants
//  1. A block that is missing is in at most one flight of its entry that is QUEUED or FLYING: whoever else
//     asks joins that one.
//  2. Not a byte is taken before the answer's headers said the entry's version.
//  3. A flight is in its entry's list while QUEUED or FLYING, and refers to it until it is freed. It is freed by
//     `done` of its request if it ever flew, else by who took it out of the queue.
//  4. Blocks come in order: those in [first, first + arrived) are there (or were). It flies until they were written.
//  5. A long flight has more before it than anybody has asked for yet. It stops at asked_end, for a second at most, and
//     goes on when more is asked for; who asks for something far ahead of it shortens it to there, and gets another.
#pragma once
#include "cache/entry.h"
#include "cache/origin/origin.h"
#include "cache/storing.h"

enum flight_state { FLIGHT_QUEUED, FLIGHT_FLYING, FLIGHT_DONE, FLIGHT_FAILED };

struct flight {
    // the thread's that writes (storing.h)
    struct stored_writer writer;
    bool is_writing;
    atomic_bool is_unstored;      // the store doesn't take it
    atomic_uint holds;            // by its request, and by runs that aren't written yet
    // the fetcher's thread's
    bool is_past_memory;          // nobody is reading it: for the disk
    struct pool_block *filling;
    uint32_t filled_bytes;
    struct storing_run *run;      // blocks that came, to be written
    int result;                   // of the request
    char *why;
    uint32_t promised;            // blocks that the request is for
    int64_t started_ns;
    struct origin_request request; // the origin's while FLYING
    struct cache_entry *entry;     // a reference
    // under the entry's lock
    enum flight_state state;
    enum origin_priority priority;
    bool is_question;              // the entry is `asking` by it
    bool is_of_whole;              // and nobody waits for it: it is to say the whole's checksum
    uint32_t first, count;         // blocks; a HEAD: none
    uint32_t arrived;
    uint32_t stored;               // of them: written, as far as the store took them
    bool is_over;                  // its request: it is neither raised nor cancelled any more
    bool is_long;
    uint32_t asked_end;            // the block behind the last one that was asked for
    int64_t begun_ns;              // its first bytes came
    int64_t stopped_ns;            // since when it stands at asked_end; 0: it doesn't
    int64_t stood_ns;              // how long it stood, in sum
    TAILQ_ENTRY(flight) of_entry;
    struct flight_lane *lane;      // set when it is queued first
    // under the flights' lock
    bool is_queued;
    TAILQ_ENTRY(flight) queued;
    struct flight *next_gone;
};

struct flight_list {
    struct flight *first;
};

// All flights of a cache: so many at once to each endpoint, by priority.
struct flights *flights_new(uint32_t limit);
void flights_free(struct flights *f); // none may be left
void flights_status(struct flights *f, uint32_t *ret_flying, uint32_t *ret_queued);
// Waits until none is left (they were cancelled, or end by themselves).
void flights_drain(struct flights *f);

// With the entry's lock held; then flights_launch() without it.
//
// Sees to it that the blocks that are missing come: joins flights or makes them, of at most `part` blocks each.
void flight_want(struct cache_entry *e, uint32_t first, uint32_t count, uint32_t part,
                 enum origin_priority priority);
// The same for who reads on from there, near the origin: one flight that goes on behind the run, as long as it is read.
// More connections would only cost: entry_is_near.
void flight_want_on(struct cache_entry *e, uint32_t first, uint32_t count, enum origin_priority priority);
// Whether one connection carries all that there is to have, as far as is known: its answers begin at once, and none was
// found to be slow. With the entry's lock held.
bool entry_is_near(const struct cache_entry *e);
// The same, so that they are on the disk, if there is one.
void flight_want_stored(struct cache_entry *e, uint32_t first, uint32_t count, uint32_t part,
                        enum origin_priority priority);
// Asks for the version: by the first `count` blocks, or with count 0 by a HEAD. Nothing, if it is being asked.
void flight_ask(struct cache_entry *e, uint32_t count, enum origin_priority priority);
// Asks for the whole's checksum, unless something is being asked.
void flight_ask_checksum(struct cache_entry *e);
bool flight_covers(const struct cache_entry *e, uint32_t block);
// Cancels what nobody wants any more; all. Those that never flew are put into `gone`, for flights_free_gone.
void flights_review(struct cache_entry *e, struct flight_list *gone);
void flights_cancel_all(struct cache_entry *e, struct flight_list *gone);

// Without any lock of the engine.
void flights_launch(struct cache *c);
void flights_free_gone(struct flight_list *gone);
