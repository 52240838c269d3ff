// SPDX-License-Identifier: BSD-3-Clause
// store_scrub: reading what nobody reads: slowly and for ever, or all of it when asked to.
// 1. It goes by slots of the index, and by blocks within an object. What comes and goes meanwhile
//    doesn't matter: every block that was there all the time is read once a round.
// 2. A block that it finds bad is missing from then on, as for any reader.
// 3. It leaves the page cache to those who read for themselves.
// 4. An object is open for one step only, so that it can be evicted between two.
#include <string.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/metric.h"
#include "cache/store_state.h"

#define FIRST_AFTER_NS (600 * NS_PER_S)
#define ROUND_NS (6 * 3600 * NS_PER_S) // rounds begin no closer to each other
#define STEP_BYTES ((uint64_t)4 << 20)

// ---- part of an object

// Reads present blocks from *block on, up to about `budget` bytes; *block: how far it came.
static void read_on(struct stored *s, uint32_t *block, uint64_t budget, char *buffer,
                    struct block_store_verified *sums)
{
    uint64_t bytes = 0;
    while (bytes < budget && *block < s->block_count) {
        uint32_t first = stored_next_present(s, *block, s->block_count);
        uint32_t limit = s->block_count - first < STORE_RUN_BLOCKS ? s->block_count
                                                                   : first + STORE_RUN_BLOCKS;
        uint32_t end = stored_next_missing(s, first, limit), good = 0;
        *block = end;
        if (first == end)
            continue;
        int r = stored_pass_blocks(s, first, end - first, buffer, &good);
        if (r < 0) {
            *block = first + good + 1; // whatever is wrong with it, on behind it
            sums->bad_blocks += r == -EBADMSG;
        }
        sums->blocks += good;
        bytes += (uint64_t)(*block - first) * CACHE_BLOCK_BYTES;
    }
    sums->bytes += bytes;
    metric_add(METRIC_STORE_CHECKED_BYTES, (int64_t)bytes);
}

// The object of the first used slot from *slot on. false: none.
static bool next_object(struct block_store *b, uint32_t *slot, uint8_t ret_identity[16])
{
    lock_scope(&b->lock);
    *slot = store_index_next(&b->index, *slot);
    if (*slot)
        memcpy(ret_identity, store_index_entry(&b->index, *slot)->identity, 16);
    return *slot != 0;
}

// ---- slowly

int64_t store_scrub_first_ns(struct block_store *b)
{
    return b->options.scrub_bytes_per_s ? clock_ns() + FIRST_AFTER_NS : INT64_MAX;
}

static int64_t end_round(struct block_store *b, struct store_scrub *scrub)
{
    int64_t next_ns = scrub->began_ns + ROUND_NS, now = clock_ns();
    *scrub = (struct store_scrub){0};
    lock_scope(&b->lock);
    b->scrubbed_bytes = 0;
    b->scrubbed_unix_ns = clock_unix_ns();
    return next_ns > now ? next_ns : now;
}

int64_t store_scrub_step(struct block_store *b, struct store_scrub *scrub, char *buffer)
{
    if (scrub->slot == 0)
        scrub->began_ns = clock_ns();
    uint8_t identity[16];
    if (!next_object(b, &scrub->slot, identity))
        return end_round(b, scrub);
    if (memcmp(identity, scrub->identity, sizeof(identity)) != 0)
        scrub->block = 0;
    memcpy(scrub->identity, identity, sizeof(identity));
    struct block_store_verified sums = {0};
    struct stored *s = NULL;
    bool is_done = true;
    if (block_store_find(b, identity, &s) == 0) {
        read_on(s, &scrub->block, STEP_BYTES, buffer, &sums);
        is_done = scrub->block >= s->block_count;
        stored_unref(s);
    }
    if (is_done) {
        scrub->slot++;
        scrub->block = 0;
    }
    {
        lock_scope(&b->lock);
        b->scrubbed_bytes += sums.bytes;
    }
    uint64_t read = sums.bytes < 4096 ? 4096 : sums.bytes; // opening it was work too
    return clock_ns() + (int64_t)((double)read * NS_PER_S / (double)b->options.scrub_bytes_per_s);
}

// ---- all, now

int block_store_verify(struct block_store *b,
                       bool (*progress)(const struct block_store_verified *sums, void *context),
                       void *context, struct block_store_verified *ret_sums)
{
    struct block_store_verified sums = {0};
    if (!b->folder) {
        *ret_sums = sums;
        return 0;
    }
    cleanup(cleanup_free) char *buffer = memory_new(STORE_RUN_BLOCKS * CACHE_BLOCK_BYTES);
    uint8_t identity[16];
    for (uint32_t slot = 1; next_object(b, &slot, identity); slot++) {
        cleanup(cleanup_stored_unref) struct stored *s = NULL;
        if (block_store_find(b, identity, &s) < 0)
            continue;
        sums.objects++;
        for (uint32_t block = 0; block < s->block_count;) {
            read_on(s, &block, (uint64_t)64 << 20, buffer, &sums);
            if (progress && !progress(&sums, context))
                return -ECANCELED;
        }
    }
    *ret_sums = sums;
    return 0;
}
