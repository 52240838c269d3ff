// SPDX-License-Identifier: BSD-3-Clause
// archive_index: the inside of an archive, for archive.c and archive_find.c.
#pragma once
#include <stdatomic.h>

#include "base/table.h"
#include "cache/archive.h"
#include "cache/archive_format.h"

// Where a member begins, and how far those before it reach at least: from their local headers to
// the end of their data, the length of the local extra fields not known.
struct archive_extent {
    uint64_t from;
    uint64_t reached;
};

struct archive {
    atomic_uint references;
    // The rest never changes.
    struct archive_identity identity;
    struct archive_end end;
    uint64_t seed;                  // of the names' hashes: nobody can choose names that collide
    struct table names;             // hash -> archive_place
    struct archive_extent *extents; // rising by from; those that lie outside are left out
    size_t extent_count;
    size_t member_count;
};

// A value of `names`: where the central header is in the directory (which is smaller than 2^62),
// and whether there is a second of this name. Never 0.
static inline uint64_t archive_place(uint64_t at, bool is_twice)
{
    return (at << 1 | is_twice) + 1;
}
static inline uint64_t archive_place_at(uint64_t place)
{
    return (place - 1) >> 1;
}
static inline bool archive_place_is_twice(uint64_t place)
{
    return (place - 1) & 1;
}

// fstat of a regular file; -EBADMSG for anything else.
int archive_identify(int fd, struct archive_identity *ret_identity, const char **ret_why);
bool archive_identity_equal(const struct archive_identity *a, const struct archive_identity *b);
// All of it, or -errno; -EBADMSG: the file ends before.
int archive_read_at(int fd, void *to, size_t size_bytes, uint64_t offset, const char **ret_why);
