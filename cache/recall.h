// SPDX-License-Identifier: BSD-3-Clause
// recall: objects whose bytes are nearline (S3's GLACIER and the like) brought back; a part of the cache's door. What is
// nearline is found out by a GET that the origin refuses: cached_read and cached_warm then answer -EAGAIN, and whoever
// decides (fs) asks for a copy here, or doesn't. Versions are known without bytes, so opening waits for nothing.
//
//   cached_read ─ -EAGAIN ─▶ cached_recall ─ -EINPROGRESS ─▶ cache_ask … ready(0) ──▶ cached_read
//                                                                       └ ready(-EAGAIN): not within recall_wait_ns
//
// One request an object, however many ask: who comes later joins; and the origin is asked first whether it is being
// restored already, so that a daemon's death, or another daemon, makes no second one. How far it is is asked of the origin
// at pauses that grow with its age, a few at a time. Nobody's bytes are fetched by it but one, to see that they can be had.
//
// Threads and errors as cache.h. Nothing here waits.
#pragma once
#include "cache/cache.h"
#include "cache/origin/origin.h"

struct recall_terms {
    uint32_t days;       // how long a copy is to be kept; more than 0
    enum origin_tier tier;
    bool is_for_reader;  // of these at most cache_options.recalls at once
    bool only_joins;     // nothing is asked for that isn't under way
    bool is_longer;      // a copy that is there already is kept for `days` from now, too
};

// Brings back what a handle's read missed. 0: it is back, read again. -EINPROGRESS: under way, with the want. -EAGAIN: under
// way, and nothing to wait for (want NULL, or it has lasted for longer than recall_wait_ns). -EBUSY: too many are.
// -ENODATA: only_joins, and it isn't under way. -EACCES, -EREMOTEIO, -ETIMEDOUT, -ENOENT: how asking ended; it holds for a moment.
int cached_recall(struct cached *h, const struct recall_terms *terms, struct cache_want *want);

// Whether its origin has just refused its bytes so.
bool cached_is_nearline(struct cached *h);

//             HEAD; if it is away POST        it can be read
//   ASKING ──────────────────────▶ UNDER_WAY ──────────────▶ READY
//     │  │ it can be read                 │                    ▲ │
//     │  └────────────────────────────────│────────────────────┘ │ refused since
//     ▼ refused                           ▼ given up             ▼
//   FAILED ──────────── asked again ──────────────────────▶  ASKING
enum recall_state { RECALL_ASKING, RECALL_UNDER_WAY, RECALL_READY, RECALL_FAILED };

struct recall_report {
    enum recall_state state;
    bool is_cached;          // READY, as all of it is in the cache
    int64_t until_unix_ns;   // READY: how long the copy is kept; ORIGIN_TIME_UNKNOWN
    int error;               // FAILED
    char why[256];           // likewise; cut if longer
};
// Asks for an object by name, or tells how far that is: called again and again. -EBUSY: too many were asked for at once, again
// in a moment.
int cache_recall(struct cache *c, const struct object *object, const struct recall_terms *terms,
                 struct recall_report *ret_report);

enum cache_locality { CACHE_ONLINE, CACHE_CACHED, CACHE_AWAY, CACHE_COMING };
// Where an object's bytes are, by a HEAD unless it was said lately: as cache_attr.
int cache_locality(struct cache *c, const struct object *object, enum cache_locality *ret_locality,
                   struct cache_want *want, char **ret_why);
