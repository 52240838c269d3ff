// SPDX-License-Identifier: BSD-3-Clause
// upload_internal: what upload.c and upload_recover.c share; others use upload.h.
#pragma once
#include "base/clock.h"
#include "base/lock.h"
#include "cache/upload.h"

#define REQUEST_LIMIT_NS (600 * NS_PER_S) // of one request; who waits for it gives up earlier
#define FORGET_LIMIT_NS (60 * NS_PER_S) // of the request

struct uploads {
    struct lock lock;              // everything below
    pthread_cond_t ended;          // a request has
    char *folder;                  // does not change, as the next three
    uint64_t memory_bytes, part_bytes;
    int64_t started_unix_ns;       // this life of it
    uint64_t used_bytes;
    uint32_t requests;             // under way
    int64_t moved_ns;              // one began or ended, or bytes were seen to be sent
    int64_t drained_bytes;         // sent, when that was looked at
    uint32_t open_count;
    uint64_t last_record;          // number
    struct upload_waiter *waiters;
    struct upload *first;          // of all that somebody has
};

// Whether an upload of that name is one of this life's.
bool upload_is_used(struct uploads *all, struct text name);
// Has the origin forget the uploads of that key that were begun within that time and aren't used: their names were never
// heard. Then removes the record. Under the lock of all; in the background.
void uploads_forget_unheard(struct uploads *all, struct origin *o, struct text key, uint64_t record, int64_t from_unix_ns,
                            int64_t until_unix_ns);
