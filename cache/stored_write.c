// SPDX-License-Identifier: BSD-3-Clause
// stored_write: blocks as they arrive.
// 1. Data before mark: a block's mark is written when all of its bytes were, and the bit in memory
//    after that.
// 2. A block is written by one writer at a time (claims), never while it is marked, and never in a
//    sealed file. So when the last block is marked nobody writes, and the file can be sealed.
// 3. Sealed: its header says so on disk before anybody is given its descriptor, and the handle keeps
//    no descriptor that could write it. A writer may still have one, which it uses with a claim on the
//    file that it is of (file_serial), and there is none on a sealed one.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/metric.h"
#include "cache/store_state.h"

void stored_write_begin(struct stored *s, uint32_t first_block, struct stored_writer *ret_writer)
{
    *ret_writer = (struct stored_writer){
        .stored = stored_ref(s),
        .block = first_block,
        .direct_fd = -1,
    };
}

// ---- sealing

// The data's descriptor, exchanged for one that can only read. Its name is its own: it isn't dying.
static int drop_write_access(struct stored *s)
{
    struct store_disk *d = &s->store->disk;
    cleanup(cleanup_close) int fd =
        store_disk_open_file(d, s->version.identity, STORE_DATA, O_RDONLY);
    if (fd < 0)
        return fd;
    struct stat own, named;
    if (fstat(s->data_fd, &own) < 0 || fstat(fd, &named) < 0)
        return -errno;
    if (own.st_ino != named.st_ino || own.st_dev != named.st_dev)
        return -ESTALE; // somebody else changed the names
    return dup3(fd, s->data_fd, O_CLOEXEC) < 0 ? -errno : 0;
}

int stored_seal(struct stored *s)
{
    check(s->state == STORED_FULL && LIST_EMPTY(&s->claims));
    struct block_store *b = s->store;
    int r = 0;
    if (!s->is_sealed) {
        r = stored_stamp(s, &s->stamp);
        if (r == 0)
            r = drop_write_access(s);
        if (r < 0)
            return r;
        s->is_sealed = true; // in memory at least, whatever comes of the header
    }
    r = stored_write_header(s, s->map_fd);
    if (r < 0) {
        store_trouble(b, r, "completing a file");
        return r;
    }
    s->state = STORED_COMPLETE;
    if (s->block_count)
        store_ask_later(s);
    store_digest_free(take(s->digest));
    lock_scope(&b->lock);
    if (store_bits_all(&s->proven))
        store_index_entry(&b->index, s->slot)->flags |= STORE_ENTRY_CHECKED;
    return 0;
}

void stored_filled(struct stored *s)
{
    if (s->state == STORED_DYING)
        return;
    s->state = STORED_FULL;
    if (!s->digest || stored_is_digest_right(s))
        stored_seal(s);
    else
        stored_queue_check(s);
}

// ---- one block

static bool is_claimed(const struct stored *s, uint32_t block)
{
    const struct stored_claim *c;
    LIST_FOREACH(c, &s->claims, link)
        if (block >= c->block && block - c->block < c->count)
            return true;
    return false;
}

static void claim_blocks(struct stored_writer *w, uint32_t count)
{
    w->claim.block = w->block;
    w->claim.count = count;
    LIST_INSERT_HEAD(&w->stored->claims, &w->claim, link);
    w->stored->is_written = true;
}

// Takes the block for this writer: 0, or 1: it is there, or another's. An error: can't be written.
static int claim(struct stored_writer *w)
{
    struct stored *s = w->stored;
    lock_scope(&s->lock);
    if (store_bits_get(&s->present, w->block))
        return 1;
    if (s->is_sealed)
        return -EROFS;
    if (is_claimed(s, w->block))
        return 1;
    claim_blocks(w, 1);
    return 0;
}

// For what was just claimed; the claim goes back where that fails.
static int reserve(struct stored_writer *w, uint32_t size_bytes)
{
    struct stored *s = w->stored;
    w->reserved_bytes = (uint32_t)store_reserved_of(size_bytes);
    int r = store_reserve(s->store, s, w->reserved_bytes);
    if (r == 0)
        return 0;
    w->reserved_bytes = 0;
    lock_scope(&s->lock);
    LIST_REMOVE(&w->claim, link);
    return r;
}

static int begin_block(struct stored_writer *w)
{
    struct stored *s = w->stored;
    int r = claim(w);
    if (r == -EROFS) {
        r = stored_unseal(s, false);
        r = r < 0 ? r : claim(w);
    }
    w->is_skipping = r == 1;
    if (r != 0)
        return r < 0 ? r : 0;
    hash_stream_begin(&w->hash);
    return reserve(w, store_block_bytes(s->version.size_bytes, w->block));
}

// The claim goes back; what the block took of the disk it keeps, also when it isn't whole.
static void leave_block(struct stored_writer *w)
{
    if (w->is_skipping || w->reserved_bytes == 0)
        return;
    store_charge(w->stored->store, w->stored, w->reserved_bytes);
    w->reserved_bytes = 0;
    lock_scope(&w->stored->lock);
    LIST_REMOVE(&w->claim, link);
}

// Bytes that come in order are added to the whole checksum on their way.
static void digest(struct stored *s, uint64_t offset, const void *data, size_t size_bytes)
{
    if (!s->digest) // only the last writer's end takes it away
        return;
    uint64_t skipped;
    {
        lock_scope(&s->lock);
        if (s->is_digesting || s->is_digest_stale || s->digested_bytes < offset ||
            s->digested_bytes >= offset + size_bytes)
            return;
        skipped = s->digested_bytes - offset;
        s->is_digesting = true;
        s->is_digest_streamed = true;
    }
    store_digest_add(s->digest, (const char *)data + skipped, size_bytes - skipped);
    lock_scope(&s->lock);
    s->is_digesting = false;
    s->digested_bytes = offset + size_bytes;
}

// A disk that is full gets room by evicting, once.
static int write_twice(struct stored *s, int fd, const void *data, size_t size_bytes,
                       uint64_t offset)
{
    struct block_store *b = s->store;
    int r = store_disk_write(&b->disk, fd, data, size_bytes, offset);
    if (r < 0 && store_make_room(b, r))
        r = store_disk_write(&b->disk, fd, data, size_bytes, offset);
    if (r < 0)
        store_trouble(b, r, "writing");
    return r;
}

// All bytes of the claimed blocks are on disk, as far as anybody who reads is concerned. Returns how many they are.
static int mark_blocks(struct stored_writer *w, const uint64_t *marks, size_t size_bytes)
{
    struct stored *s = w->stored;
    uint32_t first = w->claim.block, count = w->claim.count;
    int r = write_twice(s, s->map_fd, marks, count * sizeof(*marks),
                        store_mark_offset(s->header_bytes, first));
    if (r < 0)
        return r;
    store_charge(s->store, s, w->reserved_bytes);
    w->reserved_bytes = 0;
    metric_add(METRIC_STORE_WRITTEN_BYTES, (int64_t)size_bytes);
    store_write_worked(s->store);
    lock_scope(&s->lock);
    LIST_REMOVE(&w->claim, link);
    for (uint32_t block = first; block < first + count; block++) {
        store_bits_put(&s->present, block, true);
        store_bits_put(&s->proven, block, true);
    }
    if (store_bits_all(&s->present))
        stored_filled(s);
    return (int)count;
}

static int mark_block(struct stored_writer *w)
{
    uint64_t mark = store_mark(hash_stream_end(&w->hash));
    return mark_blocks(w, &mark, w->filled_bytes);
}

static int write_piece(struct stored_writer *w, const void *data, size_t size_bytes)
{
    struct stored *s = w->stored;
    uint64_t offset = (uint64_t)w->block * CACHE_BLOCK_BYTES + w->filled_bytes;
    int r = write_twice(s, s->data_fd, data, size_bytes, offset);
    if (r < 0)
        return r;
    hash_stream_add(&w->hash, data, size_bytes);
    digest(s, offset, data, size_bytes);
    return 0;
}

// A piece of one block; 1: the block is there by it.
static int add_to_block(struct stored_writer *w, const void *data, size_t size_bytes,
                        uint32_t block_bytes)
{
    int r = w->filled_bytes == 0 ? begin_block(w) : 0;
    if (r == 0 && !w->is_skipping)
        r = write_piece(w, data, size_bytes);
    if (r < 0)
        return r;
    w->filled_bytes += (uint32_t)size_bytes;
    if (w->filled_bytes < block_bytes)
        return 0;
    r = w->is_skipping ? 0 : mark_block(w);
    if (r < 0)
        return r;
    w->filled_bytes = 0;
    w->block++;
    return r;
}

int stored_write(struct stored_writer *w, const void *data, size_t size_bytes)
{
    struct stored *s = w->stored;
    int marked = 0;
    const char *from = data;
    while (size_bytes > 0 && w->error == 0) {
        if (w->block >= s->block_count) {
            w->error = -EINVAL;
            break;
        }
        uint32_t block_bytes = store_block_bytes(s->version.size_bytes, w->block);
        size_t n = block_bytes - w->filled_bytes;
        n = n < size_bytes ? n : size_bytes;
        int r = add_to_block(w, from, n, block_bytes);
        if (r < 0) {
            w->error = r;
            leave_block(w);
            metric_add(METRIC_STORE_REFUSED, 1);
        } else {
            marked += r;
        }
        from += n;
        size_bytes -= n;
    }
    return marked > 0 || w->error == 0 ? marked : w->error;
}

// ---- many blocks at once

#define DIRECT_LEAST 4 // blocks: fewer cost as much as a copy, and their reader is likely to come again
#define PAGE_BYTES 4096

// Takes so many of the next blocks as can be written at once: all of them whole, missing, nobody's. 0: too few.
static uint32_t claim_run(struct stored_writer *w, uint32_t count)
{
    struct stored *s = w->stored;
    uint32_t run = 0;
    lock_scope(&s->lock);
    if (s->is_sealed || w->block >= s->block_count)
        return 0;
    while (run < count && w->block + run < s->block_count &&
           store_block_bytes(s->version.size_bytes, w->block + run) == CACHE_BLOCK_BYTES &&
           !store_bits_get(&s->present, w->block + run) && !is_claimed(s, w->block + run))
        run++;
    if (run < DIRECT_LEAST)
        return 0;
    claim_blocks(w, run);
    return run;
}

static void direct_close(struct stored_writer *w)
{
    if (w->direct_fd >= 0)
        close(w->direct_fd);
    w->direct_fd = -1;
}

// The descriptor for a run, that has been claimed.
static int direct_open(struct stored_writer *w)
{
    struct stored *s = w->stored;
    lock_acquire(&s->lock);
    uint32_t serial = s->file_serial;
    lock_release(&s->lock);
    if (w->direct_fd >= 0 && w->direct_serial != serial)
        direct_close(w);
    if (w->direct_fd < 0)
        w->direct_fd = store_disk_open_direct(&s->store->disk, s->data_fd);
    w->direct_serial = serial;
    return w->direct_fd;
}

// false: not that way.
static bool write_direct(struct stored_writer *w, const struct iovec *blocks, uint32_t count)
{
    struct store_disk *d = &w->stored->store->disk;
    if (atomic_load(&d->is_without_direct))
        return false;
    for (uint32_t i = 0; i < count; i++)
        if ((uintptr_t)blocks[i].iov_base % PAGE_BYTES)
            return false;
    int r = direct_open(w);
    if (r >= 0)
        r = store_disk_write_pieces(d, r, blocks, count, (uint64_t)w->block * CACHE_BLOCK_BYTES);
    if (r == -EINVAL || r == -EOPNOTSUPP)
        atomic_store(&d->is_without_direct, true);
    return r == 0;
}

// The claimed blocks. Returns how many came to be there.
static int write_run(struct stored_writer *w, const struct iovec *blocks, const uint64_t *hashes, bool was_given)
{
    struct stored *s = w->stored;
    uint32_t count = w->claim.count;
    uint64_t marks[STORED_RUN_BLOCKS], offset = (uint64_t)w->block * CACHE_BLOCK_BYTES;
    int r = reserve(w, count * (uint32_t)CACHE_BLOCK_BYTES);
    bool is_direct = r == 0 && was_given && write_direct(w, blocks, count);
    for (uint32_t i = 0; i < count && r == 0; i++, offset += CACHE_BLOCK_BYTES) {
        if (!is_direct)
            r = write_twice(s, s->data_fd, blocks[i].iov_base, CACHE_BLOCK_BYTES, offset);
        marks[i] = store_mark(hashes[i]);
        digest(s, offset, blocks[i].iov_base, CACHE_BLOCK_BYTES);
    }
    if (r == 0)
        r = mark_blocks(w, marks, count * (size_t)CACHE_BLOCK_BYTES);
    if (r < 0)
        leave_block(w);
    else
        w->block += count;
    return r;
}

int stored_write_blocks(struct stored_writer *w, const struct iovec *blocks, const uint64_t *hashes, uint32_t count,
                        bool was_given)
{
    check(w->filled_bytes == 0 && count <= STORED_RUN_BLOCKS);
    int marked = 0;
    for (uint32_t at = 0; at < count && w->error == 0;) {
        uint32_t run = claim_run(w, count - at);
        w->is_skipping = false;
        int r = run ? write_run(w, blocks + at, hashes + at, was_given) : stored_write(w, blocks[at].iov_base, blocks[at].iov_len);
        if (run && r < 0) {
            w->error = r;
            metric_add(METRIC_STORE_REFUSED, 1);
        }
        marked += r > 0 ? r : 0;
        at += run ? run : 1;
    }
    return marked > 0 || w->error == 0 ? marked : w->error;
}

void stored_write_end(struct stored_writer *w)
{
    direct_close(w);
    if (w->error == 0 && w->filled_bytes > 0)
        leave_block(w);
    stored_unref(take(w->stored));
}
