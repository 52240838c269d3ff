// SPDX-License-Identifier: BSD-3-Clause
// store_map: the record beside a data file that says what it is and which of its blocks are there.
// The store's own. Bytes from a disk: checked, never trusted.
//
//   header (header_bytes <= 4096, its last 8 the hash of those before) | a mark for each block
//
// A mark is the XXH3-64 of the block, 0: missing (a hash that is 0 stands as 1). Marks past the end
// of the file are missing.
#pragma once
#include "cache/store.h"

#define STORE_MAP_HEADER_MAX 4096
#define STORE_MAP_ROOM 4096 // what encode and decode are given

enum store_map_flag {
    STORE_MAP_SEALED = 1, // the data file was complete once: it is never written again
    STORE_MAP_HOLED = 2,  // of a sealed one: blocks were found bad; else all marks are there
    STORE_MAP_PINNED = 4,
    STORE_MAP_FLAGS = 7,
};

// What a data file looked like when it was sealed.
struct store_stamp {
    uint64_t size_bytes;
    int64_t mtime_ns;
    int64_t ctime_ns;
};

struct store_map {
    struct stored_version version; // its texts: somebody else's
    uint32_t flags;
    struct store_stamp stamp;      // of a sealed one
    uint32_t header_bytes;         // decode's
};

// -ENAMETOOLONG, -EFBIG: what can't be stored; else 0.
int store_map_check(const struct stored_version *v);
// Returns the bytes of the header. The version is one that can be stored.
size_t store_map_encode(const struct store_map *m, uint8_t ret_bytes[STORE_MAP_ROOM]);
// Texts point into `bytes`. -EBADMSG: not a header as we write them.
int store_map_decode(const uint8_t *bytes, size_t size_bytes, struct store_map *ret_map);

uint32_t store_block_count(uint64_t size_bytes);
uint32_t store_block_bytes(uint64_t size_bytes, uint32_t block); // the last may be short
static inline uint64_t store_mark(uint64_t hash)
{
    return hash ? hash : 1;
}
static inline uint64_t store_mark_offset(uint32_t header_bytes, uint32_t block)
{
    return header_bytes + (uint64_t)block * sizeof(uint64_t);
}
