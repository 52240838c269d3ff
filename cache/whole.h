// SPDX-License-Identifier: BSD-3-Clause
// whole: bringing a whole object (or its beginning) in, and what is to be done when all of it is there. The
// engine's own; without any lock of it, unless it says otherwise.
#pragma once
#include "cache/entry.h"

#define WHOLE_PART_BLOCKS 64 // 8 MiB a flight

// From now on so many bytes of its beginning are wanted: entry_pump sees to it. With the lock held.
void entry_wish(struct cache_entry *e, int64_t bytes);
// Flies for what the entry wants as a whole (warm, who goes through its folder), a few parts at a time;
// tells those who wait when all of it is there, or can't be.
void entry_pump(struct cache_entry *e);
// Looks whether every block is on the disk by now: then the entry is COMPLETE, and its whole checksum is looked at.
void whole_look(struct cache_entry *e);
// Compares a whole that was put on the disk without a checksum with the one that is known by now, if there is one.
void whole_told(struct cache_entry *e);
// With the lock held: gives up what the store has of it if that is dying (while it was open: because the whole isn't
// what its checksum says; else it may have been evicted). Returns what to stored_unref without the lock, or NULL.
struct stored *whole_lost(struct cache_entry *e);
// Has a complete object checked by the store, so that it may be given to passthrough.
void whole_check(struct cache_entry *e);
// Cancels all checks, and waits for one that is just telling its end. For cache_free.
void whole_end(struct cache *c);
