// SPDX-License-Identifier: BSD-3-Clause
// pool: blocks of objects in memory, within a bound. A block is filled by one thread, published under its
// owner's id and number, and from then on held and read by any number; what nobody holds stays as long
// as there is room. The bound is kept by forgetting those; what is held or being filled can't be
// forgotten, and may exceed it: that is at most a block a flight and what answers are made of.
//
//            pool_take             pool_publish            pool_find, pool_drop
//   (free) ────────────▶ FILLING ───────────────▶ HELD ◀────────────────────▶ KEPT
//      ▲                    │ pool_drop                                         │ room is needed
//      └────────────────────┴───────────────────────────────────────────────────┘
//
// Blocks that were read go before those that wait for their reader; among each the oldest.
// Any thread. Nothing here waits.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "cache/store.h"

struct pool;

struct pool_block {
    unsigned char *data;  // CACHE_BLOCK_BYTES, page-aligned
    uint64_t owner;       // once published
    uint32_t number;      // likewise
    uint32_t size_bytes;  // likewise: less in an object's last block
    uint32_t holds;       // the pool's, as all below
    bool is_published;
    bool was_read;
    bool stands_alone;    // its memory is its own, no piece of a slab
    TAILQ_ENTRY(pool_block) kept;
};

// `keeps_read`: what was read is kept as long as there is room (it can't be had from a disk); else only a little of it.
struct pool *pool_new(uint64_t limit_bytes, bool keeps_read);
void pool_free(struct pool *p); // with nothing held
// A block to be filled, held by the caller. Its contents are anything.
struct pool_block *pool_take(struct pool *p);
// Filled: it can be found. The caller's hold goes on. Where that block is there already this one stays
// unknown, and goes with its hold.
void pool_publish(struct pool *p, struct pool_block *b, uint64_t owner, uint32_t number,
                  uint32_t size_bytes);
// Held for the caller, or NULL.
struct pool_block *pool_find(struct pool *p, uint64_t owner, uint32_t number);
bool pool_has(struct pool *p, uint64_t owner, uint32_t number);
void pool_drop(struct pool *p, struct pool_block *b, bool was_read);
// Nothing that the owner has there is found any more; who holds some goes on holding it.
void pool_forget(struct pool *p, uint64_t owner);
// In use for whatever reason; the most there ever was.
void pool_status(struct pool *p, uint64_t *ret_bytes, uint64_t *ret_peak_bytes);
