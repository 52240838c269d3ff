// SPDX-License-Identifier: BSD-3-Clause
// archive_reader: what open members share; archives.c's and archive_reader.c's own.
#pragma once
#include <sys/queue.h>

#include "base/lock.h"
#include "cache/archive.h"

// The streams of all readers, within a bound.
struct archive_pool {
    struct lock lock;
    size_t limit_bytes;
    size_t used_bytes;                 // under lock: of all streams, as last seen
    TAILQ_HEAD(, archive_reader) idle; // under lock: with a stream nobody uses, oldest first
    uint32_t reader_count;             // under lock
};

void archive_pool_init(struct archive_pool *p, size_t limit_bytes);
void archive_pool_release(struct archive_pool *p); // with no reader left
size_t archive_pool_used_bytes(struct archive_pool *p);
struct archive_pool *archives_pool(struct archives *all);
