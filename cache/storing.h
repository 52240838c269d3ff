// SPDX-License-Identifier: BSD-3-Clause
// storing: the thread that brings to the disk what flights fetched. Who fetches doesn't wait for the disk, nor do readers,
// and it gets many blocks at once. The engine's own.
//
// A flight gathers a run of blocks and gives it away; runs are written in the order in which they were given. A flight
// ends (flight_finish) when its request has, and all of its runs were written: by whoever comes last.
#pragma once
#include "cache/entry.h"

#define STORING_RUN_BLOCKS 8

struct storing_run {
    struct flight *flight;
    uint32_t first, count;                       // blocks
    struct pool_block *blocks[STORING_RUN_BLOCKS]; // held
    uint64_t hashes[STORING_RUN_BLOCKS];           // of each
    STAILQ_ENTRY(storing_run) link;
};

struct storing;

// `limit_bytes`: so much waits to be written, at most.
struct storing *storing_new(uint64_t limit_bytes);
void storing_free(struct storing *s); // nothing is left to write
// One more block was put into a run. true: there is so much that the run should be given away as it is.
bool storing_gathered(struct storing *s);
// Takes the run. Waits while too much is to be written before it, so that a disk that is slower than what is fetched
// slows that down; but not for a disk that writes nothing for a second: false, the run stays the caller's. Without locks.
bool storing_put(struct storing *s, struct storing_run *run);
