// SPDX-License-Identifier: BSD-3-Clause
// store_index: what is stored, in memory: an entry of 48 bytes for each object, the sums, and the
// order in which objects are evicted (S3-FIFO, see store_policy.c). Knows no disk, no clock and no
// lock: its user holds one (the store's). The store's own.
//
// An entry is named by its slot, a number from 1 on that is used again when the entry is gone.
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/table.h"

enum store_queue { STORE_QUEUE_SMALL, STORE_QUEUE_MAIN, STORE_QUEUE_PINNED, STORE_QUEUE_COUNT };

enum store_entry_flag {
    STORE_ENTRY_USED = 1,    // the slot is somebody's
    STORE_ENTRY_OPEN = 2,    // somebody has a handle: not evicted
    STORE_ENTRY_CHECKED = 4, // complete, and all of it was checked (or written) in this life
};

struct store_entry {
    uint8_t identity[16];
    uint64_t disk_bytes;
    uint32_t block_count;    // of the whole object
    uint32_t used_s;         // Unix time of the last use that counted
    uint32_t newer, older;   // slots in its queue; 0: none
    uint8_t queue;
    uint8_t hits;            // 0 to STORE_HITS_MAX
    uint8_t flags;
};

#define STORE_HITS_MAX 3

struct store_ring { // identities (their first 8 bytes) of what was evicted without a second use
    uint64_t *items;
    uint32_t room; // a power of two, or 0
    uint32_t first;
    uint32_t count;
    struct table positions;
};

struct store_index {
    struct store_entry **chunks;
    uint32_t chunk_count;
    uint32_t slot_end;       // slots below it were given out once
    uint32_t free_slot;      // the first of a list through `older`; 0: none
    uint32_t count;
    struct table by_identity;
    struct store_queue_ends {
        uint32_t newest, oldest;
        uint32_t count;
        uint64_t disk_bytes;
        uint64_t blocks;     // of the whole objects
    } queues[STORE_QUEUE_COUNT];
    struct store_ring ghosts;
    uint64_t small_bytes;    // what the small queue may have before it is evicted from first
    uint32_t window_s;       // uses within it after one that counted are the same use
};

void store_index_init(struct store_index *ix, uint64_t limit_bytes, uint32_t window_s);
void store_index_release(struct store_index *ix);

struct store_entry *store_index_entry(const struct store_index *ix, uint32_t slot);
uint32_t store_index_find(const struct store_index *ix, const uint8_t identity[16]); // 0: none
// A new entry (there is none of that identity), in the queue where a new object belongs.
uint32_t store_index_add(struct store_index *ix, const uint8_t identity[16], uint32_t block_count,
                         uint32_t now_s);
void store_index_remove(struct store_index *ix, uint32_t slot);
void store_index_resize(struct store_index *ix, uint32_t slot, uint64_t disk_bytes);
uint64_t store_index_bytes(const struct store_index *ix); // on disk, in sum
// The first slot that is used from `slot` on; 0: none.
uint32_t store_index_next(const struct store_index *ix, uint32_t slot);

// ---- store_policy.c

void store_policy_place(struct store_index *ix, uint32_t slot); // of a new entry
void store_policy_move(struct store_index *ix, uint32_t slot, enum store_queue to); // its newest
void store_policy_forget(struct store_index *ix, uint32_t slot); // out of its queue
// A use. Returns whether it counted.
bool store_policy_touch(struct store_index *ix, uint32_t slot, uint32_t now_s);
void store_policy_pin(struct store_index *ix, uint32_t slot, bool is_pinned);
// Which object is to go; 0: none can. It is only named, and remembered as gone: remove it, or, if it
// can't be, touch it.
uint32_t store_policy_victim(struct store_index *ix);
// Puts the main queue into the order of its entries' last uses (after a scan of the disk).
void store_policy_sort(struct store_index *ix);
void store_ring_release(struct store_ring *r);
