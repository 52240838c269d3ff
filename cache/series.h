// SPDX-License-Identifier: BSD-3-Clause
// series: how files are opened one after the other in a folder, or in another order (visit after visit of
// one detector), and which ones to fetch ahead. It only decides (ahead.c does): no clock, no memory, no
// lock. The owner serialises calls. Zero-initialised has seen nothing.
//
// The next file is the one after this one at the same step as before: at a step of 1 (or -1) already
// after two files, at a larger one after three. Of it is fetched what was read of those before it: their
// heads, if they were looked into, or all, if they were read. How many: as many as fit into the
// limit, twice as many with each file as long as the guess was right.
#pragma once
#include <stdbool.h>
#include <stdint.h>

struct series {
    uint64_t id;
    uint32_t count;     // files opened, a file opened again not counted
    uint32_t same_steps;
    int64_t position;   // of the last one
    int64_t step;
    int64_t ahead;      // the last position that was planned
    uint32_t depth;     // files to be ahead
    int64_t extent;     // what is read of a file; 0: unknown yet, or nothing
    bool is_whole;      // all of it
};

struct series_plan {
    int64_t first;      // position
    int64_t step;
    uint32_t count;     // files; 0: none
    int64_t extent;     // bytes of each to fetch, from its beginning; INT64_MAX: all
};

// A file of the series was opened. `extent`, `size`: how far the file before it has been read, its size; extent 0: not
// at all, or not through the daemon, and then what was known before still holds.
void series_note(struct series *s, int64_t position, int64_t extent, int64_t size,
                 int64_t limit_bytes, struct series_plan *ret_plan);
// What was planned at that position, in steps of `step`, isn't known yet: it is to be planned again, with all after it.
void series_not_yet(struct series *s, int64_t position, int64_t step);
