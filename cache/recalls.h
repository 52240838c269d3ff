// SPDX-License-Identifier: BSD-3-Clause
// recalls: all recalls of a cache, and their thread. The engine's own; the door is recall.h.
#pragma once
#include "cache/entry.h"
#include "cache/recall.h"

struct recalls;

struct recalls *recalls_new(struct cache *c); // starts the thread "recaller"
void recalls_free(struct recalls *all);       // what is asked for stays so, at the origin
void recalls_status(struct recalls *all, struct doc *map);

// With the entry's lock held.
bool entry_is_nearline(const struct cache_entry *e); // an origin has just said so, or it is being recalled
bool recall_is_awaited(const struct cache_entry *e); // whether who waits for it will be told
