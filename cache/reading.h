// SPDX-License-Identifier: BSD-3-Clause
// reading: how one handle is read, learnt from where its reads fall, and what to fetch ahead of them. It
// only decides (prefetch.c does): no clock, no memory, no lock, the same answers to the same reads. The
// owner serialises calls. Zero-initialised is a handle that was never read.
//
//   once       a read that continues nothing: nothing is fetched ahead (random reads fetch a block)
//   forward    reads that continue one another, several such streams in a handle (the extensions
//              of a FITS file, the columns of a Parquet file)
//   backward   likewise, towards the beginning
//   strided    reads with the same distance, three times in a row: the next ones of them
//
// The window of a stream opens when it has gone on for a block. It grows when its reader had to wait although it
// was open (a slow wire makes it grow to the limit within a few reads), and with what was read.
#pragma once
#include <stdbool.h>
#include <stdint.h>

#define READING_STREAMS 8
#define READING_RANGES 16

enum reading_kind { READING_ONCE, READING_FORWARD, READING_BACKWARD, READING_STRIDED };

struct reading_stream {
    enum reading_kind kind;
    uint32_t used;       // when, by the reading's count; 0: free
    int64_t start;       // where it began
    int64_t begin, end;  // the last read; forward: how far reads have come
    int64_t ahead;       // what was planned reaches to here (strided: `begin` of the last planned)
    int64_t window;      // bytes
    int64_t stride;
};

struct reading {
    struct reading_stream streams[READING_STREAMS];
    uint32_t count;      // of reads that said something new
    int64_t last_begin;  // of the last read
    int64_t last_delta;  // from the one before it
    uint32_t same_deltas;
    int64_t extent;      // the furthest end of reads; what a next file like this is good for
};

struct reading_limits {
    int64_t object_bytes;
    int64_t first_window; // bytes to open with: what the wire carries while one waits for an answer
    int64_t window;       // the most; 0: nothing is read ahead
    int64_t part;         // the most for one range asked of the origin
};

struct reading_plan {
    uint32_t count;
    struct reading_range {
        int64_t begin, end; // not empty, inside the object
    } ranges[READING_RANGES]; // in the order in which they will be read
    int64_t part;             // ask for them in parts of this size
    bool goes_on;             // there is one range, and what follows it will be read, too
    bool is_abandoned;        // a stream that had a window is no more: see reading_wants
};

// A read of [begin, end) (not empty, inside the object); `had_to_wait`: it was not all there. A read that is
// made again says nothing new.
void reading_note(struct reading *r, int64_t begin, int64_t end, bool had_to_wait,
                  const struct reading_limits *limits, struct reading_plan *ret_plan);
// Whether a read of [begin, end) continues one of its streams.
bool reading_continues(struct reading *r, int64_t begin, int64_t end);
// Whether some of [begin, end) is still ahead of a stream.
bool reading_wants(const struct reading *r, int64_t begin, int64_t end);
