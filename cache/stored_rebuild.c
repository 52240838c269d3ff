// SPDX-License-Identifier: BSD-3-Clause
// stored_rebuild: the way from a sealed file with bad blocks to one that can be written.
// 1. The sealed file is left as it is: the kernel may be reading it by itself. A new one gets its
//    good blocks, checked on the way, and takes its names; the old one lives as long as its users.
// 2. The handle keeps its descriptors' numbers: dup3 exchanges what they stand for at once, so that
//    a read that is under way reads one file or the other, in both of which good blocks are the
//    same. Nobody else has those numbers (stored_passthrough_fd gives duplicates).
// 3. What was found bad while it was copied isn't taken over.
#include <fcntl.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/log.h"
#include "cache/store_state.h"

#define AT_ONCE_BLOCKS 64 // what a caller copies by itself; more is the checker's

// 0: go on, is_rebuilding is set. 1: there is nothing to do.
static int begin(struct stored *s, bool may_take_long)
{
    lock_scope(&s->lock);
    if (!s->is_sealed)
        return 1;
    if (s->state == STORED_DYING)
        return -ESTALE;
    if (store_bits_all(&s->present))
        return -EROFS; // nothing to be written
    if (s->is_rebuilding)
        return -EBUSY;
    if (!may_take_long && s->present.set > AT_ONCE_BLOCKS) {
        s->wants_rebuild = true;
        stored_queue_check(s);
        return -EBUSY;
    }
    s->is_rebuilding = true;
    return 0;
}

static int copy_run(struct stored *s, const struct store_new *n, uint32_t first, uint32_t count,
                    char *buffer, struct store_bits *copied)
{
    struct store_disk *d = &s->store->disk;
    uint32_t good;
    int r = stored_read_blocks(s, first, count, buffer, &good);
    for (uint32_t i = 0; i < good; i++) {
        uint32_t block = first + i, bytes = store_block_bytes(s->version.size_bytes, block);
        const char *data = buffer + (size_t)i * CACHE_BLOCK_BYTES;
        uint64_t mark = store_mark(hash64(data, bytes));
        int written = store_disk_write(d, n->data_fd, data, bytes,
                                       (uint64_t)block * CACHE_BLOCK_BYTES);
        if (written == 0)
            written = store_disk_write(d, n->map_fd, &mark, sizeof(mark),
                                       store_mark_offset(s->header_bytes, block));
        if (written < 0)
            return written;
        store_bits_put(copied, block, true);
    }
    // What is bad, or was found bad by another meanwhile, is missing now: the next run is another.
    return r == -EBADMSG || r == -ENODATA ? 0 : r;
}

static int copy(struct stored *s, const struct store_new *n, struct store_bits *copied)
{
    cleanup(cleanup_free) char *buffer = memory_new(STORE_RUN_BLOCKS * CACHE_BLOCK_BYTES);
    int r = store_disk_resize(&s->store->disk, n->data_fd, s->version.size_bytes);
    uint32_t block = 0;
    while (r == 0 && !atomic_load(&s->store->is_closing)) {
        uint32_t end;
        {
            lock_scope(&s->lock);
            block = store_bits_next(&s->present, block, s->block_count, true);
            if (block == s->block_count)
                return 0;
            uint32_t limit = s->block_count - block < STORE_RUN_BLOCKS ? s->block_count
                                                                       : block + STORE_RUN_BLOCKS;
            end = store_bits_next(&s->present, block, limit, false);
        }
        r = copy_run(s, n, block, end - block, buffer, copied);
        // On from the first that was not copied: that, or one behind it, is missing now.
        block = store_bits_next(copied, block, end, false);
    }
    return r < 0 ? r : -ECANCELED;
}

// What was copied and is bad by now gets no mark. The lock is held.
static int drop_marks(struct stored *s, const struct store_new *n, struct store_bits *copied)
{
    const uint64_t none = 0;
    int r = 0;
    for (uint32_t i = 0; r == 0 && i < s->block_count; i++) {
        i = store_bits_next(copied, i, s->block_count, true);
        if (i < s->block_count && !store_bits_get(&s->present, i)) {
            r = store_disk_write(&s->store->disk, n->map_fd, &none, sizeof(none),
                                 store_mark_offset(s->header_bytes, i));
            store_bits_put(copied, i, false);
        }
    }
    return r;
}

// The new file becomes the object's. At the door, the lock is held.
static int exchange(struct stored *s, const struct store_new *n, struct store_bits *copied,
                    bool *ret_is_lost)
{
    *ret_is_lost = false;
    if (s->state == STORED_DYING)
        return -ESTALE;
    int r = drop_marks(s, n, copied);
    if (r < 0)
        return r;
    s->is_sealed = false;
    r = stored_write_header(s, n->map_fd);
    if (r == 0) {
        r = store_disk_adopt(&s->store->disk, n, s->version.identity);
        *ret_is_lost = r < 0;
    }
    if (r < 0) {
        s->is_sealed = true;
        return r;
    }
    if (dup3(n->data_fd, s->data_fd, O_CLOEXEC) < 0 || dup3(n->map_fd, s->map_fd, O_CLOEXEC) < 0)
        check(false); // both are open
    s->file_serial++;
    store_bits_release(&s->present);
    s->present = *copied;
    *copied = (struct store_bits){0};
    store_bits_fill(&s->proven, false);
    for (uint32_t i = 0; i < s->block_count; i++) {
        i = store_bits_next(&s->present, i, s->block_count, true);
        if (i < s->block_count)
            store_bits_put(&s->proven, i, true);
    }
    s->digest = store_digest_new(s->version.checksum);
    s->digested_bytes = 0;
    s->is_digest_stale = s->is_digest_streamed = false;
    s->is_written = true;
    return 0;
}

static int rebuild(struct stored *s, const struct store_new *n, struct store_bits *copied)
{
    int r = copy(s, n, copied);
    if (r < 0)
        return r;
    lock_scope(store_door(s->store, s->version.identity));
    bool is_lost;
    {
        lock_scope(&s->lock);
        r = exchange(s, n, copied, &is_lost);
    }
    if (is_lost)
        stored_die_at_door(s);
    return r;
}

static int rebuild_reserved(struct stored *s)
{
    struct store_disk *d = &s->store->disk;
    struct store_new n;
    int r = store_disk_new(d, &n);
    if (r < 0)
        return r;
    struct store_bits copied;
    store_bits_init(&copied, s->block_count, false);
    r = rebuild(s, &n, &copied);
    if (r < 0)
        store_disk_discard(d, &n);
    store_bits_release(&copied);
    close(n.data_fd);
    close(n.map_fd);
    return r;
}

int stored_unseal(struct stored *s, bool may_take_long)
{
    int r = begin(s, may_take_long);
    if (r != 0)
        return r < 0 ? r : 0;
    uint64_t bytes = (uint64_t)stored_blocks_present(s) * CACHE_BLOCK_BYTES;
    r = store_reserve(s->store, NULL, bytes);
    if (r == 0) {
        r = rebuild_reserved(s);
        store_unreserve(s->store, bytes);
        store_settle(s);
    }
    if (r < 0 && r != -ENOSPC && r != -ESTALE && r != -ECANCELED)
        store_trouble(s->store, r, "copying a file with bad blocks");
    lock_scope(&s->lock);
    s->is_rebuilding = false;
    return r;
}
