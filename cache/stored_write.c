// SPDX-License-Identifier: BSD-3-Clause
// stored_write: blocks as they arrive.
// 1. Data before mark: a block's mark is written when all of its bytes were, and the bit in memory
//    after that.
// 2. A block is written by one writer at a time (claims), never while it is marked, and never in a
//    sealed file. So when the last block is marked nobody writes, and the file can be sealed.
// 3. Sealed: its header says so on disk before anybody is given its descriptor, and the handle keeps
//    no descriptor that could write it.
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

// Takes the block for this writer: 0, or 1: it is there, or another's. An error: can't be written.
static int claim(struct stored_writer *w)
{
    struct stored *s = w->stored;
    lock_scope(&s->lock);
    if (store_bits_get(&s->present, w->block))
        return 1;
    if (s->is_sealed)
        return -EROFS;
    struct stored_claim *c;
    LIST_FOREACH(c, &s->claims, link)
        if (c->block == w->block)
            return 1;
    w->claim.block = w->block;
    LIST_INSERT_HEAD(&s->claims, &w->claim, link);
    s->is_written = true;
    return 0;
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
    uint32_t bytes = store_block_bytes(s->version.size_bytes, w->block);
    w->reserved_bytes = (uint32_t)store_reserved_of(bytes);
    r = store_reserve(s->store, s, w->reserved_bytes);
    if (r < 0) {
        w->reserved_bytes = 0;
        lock_scope(&s->lock);
        LIST_REMOVE(&w->claim, link);
        return r;
    }
    hash_stream_begin(&w->hash);
    return 0;
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

// All of its bytes are on disk, as far as anybody who reads is concerned.
static int mark_block(struct stored_writer *w)
{
    struct stored *s = w->stored;
    uint64_t mark = store_mark(hash_stream_end(&w->hash));
    int r = write_twice(s, s->map_fd, &mark, sizeof(mark),
                        store_mark_offset(s->header_bytes, w->block));
    if (r < 0)
        return r;
    store_charge(s->store, s, w->reserved_bytes);
    w->reserved_bytes = 0;
    metric_add(METRIC_STORE_WRITTEN_BYTES, w->filled_bytes);
    store_write_worked(s->store);
    lock_scope(&s->lock);
    LIST_REMOVE(&w->claim, link);
    store_bits_put(&s->present, w->block, true);
    store_bits_put(&s->proven, w->block, true);
    if (store_bits_all(&s->present))
        stored_filled(s);
    return 1;
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

void stored_write_end(struct stored_writer *w)
{
    if (w->error == 0 && w->filled_bytes > 0)
        leave_block(w);
    stored_unref(take(w->stored));
}
