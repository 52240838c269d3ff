// SPDX-License-Identifier: BSD-3-Clause
// catalogue_load: what writing a whole generation is made of: sorted streams of rows, their merge,
// and the generation that takes the rows. The catalogue's own.
#pragma once
#include <sys/types.h>

#include "meta/catalogue_block.h"
#include "meta/catalogue_store.h"

// A sorted sequence of rows, of which one is at hand. `fetch` brings the next block: 1, 0 at the
// end, -errno.
struct stream {
    int (*fetch)(struct stream *s);
    struct buffer block;
    struct block_reader reader;
    struct block_row row;
    uint32_t rank; // of equal keys the lowest rank's comes first
    // A run of a sort.
    int run_fd;
    off_t run_at, run_end;
    // A section of a generation.
    struct catalogue *c;
    uint64_t generation;
    enum section section;
    struct key last_block;
    bool has_last_block;
};

// A generation being written. Rows come in order.
struct generation {
    struct catalogue *c;
    const struct set_id *id;
    struct set_state state;
    unsigned incarnation;
    bool is_begun; // in the environment
    bool drops_hidden;
    struct block_writer visible, hidden;
    struct buffer pending; // blocks to be written: section, key length, length, key, block
};

void generation_begin(struct generation *g, struct catalogue *c, const struct set_id *id,
                      uint64_t epoch);
int generation_put(struct generation *g, struct text key, const struct block_row *row);
// Writes the rest and names it in its set, or with `error` gives it up. Always ends it.
int generation_end(struct generation *g, int error, struct set_state *ret_state);

// Merges and releases them; ranks are by place in the array. `sink` is given every row, in the order
// of (key, rank); `is_first`: of its key.
typedef int stream_sink(const struct stream *s, bool is_first, void *context);
int streams_merge(struct stream *streams, size_t count, stream_sink *sink, void *context);
// The sink that keeps the first row of each key in a generation.
int sink_first(const struct stream *s, bool is_first, void *generation);
// The two sections' streams of each generation: 2 * count; the caller frees.
struct stream *streams_of(struct catalogue *c, const uint64_t *generations, size_t count);
// After a merge of generations ended with `error`: which of them isn't known, so none is trusted.
void streams_distrust(struct catalogue *c, const uint64_t *generations, size_t count, int error);
