// SPDX-License-Identifier: BSD-3-Clause
// stored_read: blocks, checked whenever they come from the disk.
// 1. No byte of a block is given out before the whole block has the checksum of its mark.
// 2. A block that hasn't is read once more, with its mark: it may have been written, found bad or
//    moved to another file meanwhile. Then it is condemned: missing, in memory first, then on disk.
// 3. What is condemned in a sealed file stays in that file: only the mark and the header say so.
#include "base/clock.h"
#include "base/log.h"
#include "base/metric.h"
#include "cache/store_state.h"

#define COMPLAIN_EVERY_NS (10 * NS_PER_S)

// An error that says that these bytes are lost, not that the machine is short of something.
static bool is_damage(int error)
{
    return error == -EIO || error == -ENODATA || error == -EBADMSG || error == -EUCLEAN ||
           error == -EREMOTEIO || error == -EILSEQ;
}

static void complain(struct stored *s, uint32_t block)
{
    int64_t now = clock_ns();
    if (now < s->complained_ns)
        return;
    s->complained_ns = now + COMPLAIN_EVERY_NS;
    log_warn("cache: block %u of %.*s/%.*s is not what was written: to be fetched again", block,
             (int)s->version.origin.size_bytes, s->version.origin.data,
             (int)s->version.key.size_bytes, s->version.key.data);
}

static void forget_checked(struct stored *s)
{
    struct block_store *b = s->store;
    lock_scope(&b->lock);
    if (s->slot)
        store_index_entry(&b->index, s->slot)->flags &= (uint8_t)~STORE_ENTRY_CHECKED;
}

// Makes the block missing. -ENODATA: it is already.
static int condemn(struct stored *s, uint32_t block)
{
    lock_scope(&s->lock);
    if (!store_bits_put(&s->present, block, false))
        return -ENODATA;
    store_bits_put(&s->proven, block, false);
    metric_add(METRIC_STORE_BAD_BLOCKS, 1);
    complain(s, block);
    s->is_digest_stale = true;
    if (s->state == STORED_COMPLETE)
        forget_checked(s);
    if (s->state == STORED_FULL || s->state == STORED_COMPLETE)
        s->state = STORED_PARTIAL;
    uint64_t mark = 0;
    int r = s->is_sealed ? stored_write_header(s, s->map_fd) : 0;
    if (r == 0)
        r = store_disk_write(&s->store->disk, s->map_fd, &mark, sizeof(mark),
                             store_mark_offset(s->header_bytes, block));
    if (r < 0)
        store_trouble(s->store, r, "taking back a mark"); // the next life will find it bad too
    return -EBADMSG;
}

static bool are_present(struct stored *s, uint32_t first, uint32_t count)
{
    lock_scope(&s->lock);
    return store_bits_next(&s->present, first, first + count, false) == first + count;
}

static void prove(struct stored *s, uint32_t first, uint32_t count)
{
    lock_scope(&s->lock);
    for (uint32_t i = first; i < first + count; i++)
        if (store_bits_get(&s->present, i))
            store_bits_put(&s->proven, i, true);
}

// Bytes of blocks [first, first + count), the last of which may be short.
static size_t run_bytes(const struct stored *s, uint32_t first, uint32_t count)
{
    return (size_t)(count - 1) * CACHE_BLOCK_BYTES +
           store_block_bytes(s->version.size_bytes, first + count - 1);
}

typedef int read_data(struct store_disk *d, int fd, void *buffer, size_t size_bytes,
                      uint64_t offset);

// How many of the first blocks are right. An error: could not be read at all.
static int read_run(struct stored *s, uint32_t first, uint32_t count, char *buffer, read_data *read)
{
    struct store_disk *d = &s->store->disk;
    uint64_t marks[STORE_RUN_BLOCKS];
    int r = store_disk_read(d, s->map_fd, marks, count * sizeof(*marks),
                            store_mark_offset(s->header_bytes, first));
    if (r == 0)
        r = read(d, s->data_fd, buffer, run_bytes(s, first, count),
                 (uint64_t)first * CACHE_BLOCK_BYTES);
    if (r < 0)
        return is_damage(r) ? 0 : r;
    uint32_t good = 0;
    for (; good < count; good++) {
        uint32_t n = store_block_bytes(s->version.size_bytes, first + good);
        if (store_mark(hash64(buffer + (size_t)good * CACHE_BLOCK_BYTES, n)) != marks[good])
            break;
    }
    return (int)good;
}

static int read_blocks(struct stored *s, uint32_t first, uint32_t count, void *buffer,
                       read_data *read, uint32_t *ret_good)
{
    check(count > 0 && count <= STORE_RUN_BLOCKS && count <= s->block_count - first);
    *ret_good = 0;
    if (!are_present(s, first, count))
        return -ENODATA;
    int good = read_run(s, first, count, buffer, read);
    while (good >= 0 && (uint32_t)good < count) { // each by itself, and the bad one again
        *ret_good = (uint32_t)good;
        char *at = (char *)buffer + (size_t)good * CACHE_BLOCK_BYTES;
        int r = read_run(s, first + (uint32_t)good, 1, at, read);
        if (r == 0)
            r = condemn(s, first + (uint32_t)good);
        if (r < 0)
            good = r;
        else
            good++;
    }
    uint32_t proven = good < 0 ? *ret_good : count;
    *ret_good = proven;
    prove(s, first, proven);
    metric_add(METRIC_STORE_READ_BYTES, proven ? (int64_t)run_bytes(s, first, proven) : 0);
    return good < 0 ? good : 0;
}

int stored_read_blocks(struct stored *s, uint32_t first, uint32_t count, void *buffer,
                       uint32_t *ret_good)
{
    return read_blocks(s, first, count, buffer, store_disk_read, ret_good);
}

int stored_pass_blocks(struct stored *s, uint32_t first, uint32_t count, void *buffer,
                       uint32_t *ret_good)
{
    return read_blocks(s, first, count, buffer, store_disk_pass, ret_good);
}

// ---- ranges

// One block of which only a part is wanted.
static int read_part(struct stored *s, uint32_t block, size_t from, size_t size_bytes, void *to,
                     void *scratch)
{
    uint32_t good;
    int r = stored_read_blocks(s, block, 1, scratch, &good);
    if (r == 0)
        memcpy(to, (const char *)scratch + from, size_bytes);
    return r;
}

ssize_t stored_read(struct stored *s, void *buffer, size_t size_bytes, uint64_t offset,
                    void *scratch)
{
    if (offset >= s->version.size_bytes)
        return 0;
    uint64_t left = s->version.size_bytes - offset;
    size_t wanted = size_bytes < left ? size_bytes : (size_t)left, done = 0;
    while (done < wanted) {
        uint32_t block = (uint32_t)((offset + done) / CACHE_BLOCK_BYTES);
        size_t from = (size_t)((offset + done) % CACHE_BLOCK_BYTES);
        size_t block_bytes = store_block_bytes(s->version.size_bytes, block);
        size_t n = block_bytes - from < wanted - done ? block_bytes - from : wanted - done;
        char *to = (char *)buffer + done;
        int r;
        if (n < block_bytes) {
            r = read_part(s, block, from, n, to, scratch);
        } else {
            uint32_t count = 1, good; // more that are wanted as a whole
            while (count < STORE_RUN_BLOCKS && block + count < s->block_count &&
                   n + store_block_bytes(s->version.size_bytes, block + count) <= wanted - done)
                n += store_block_bytes(s->version.size_bytes, block + count++);
            r = stored_read_blocks(s, block, count, to, &good);
        }
        if (r < 0)
            return r;
        done += n;
    }
    return (ssize_t)done;
}
