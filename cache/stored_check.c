// SPDX-License-Identifier: BSD-3-Clause
// stored_check: what must be true before the kernel reads a file by itself, and the thread that sees
// to it.
// 1. A descriptor is given out only of a COMPLETE file all of whose blocks are proven: written or
//    checked in this life, in a file that looked the same before and after.
// 2. A check goes in slices, and the checks of several objects take turns: a large one doesn't keep
//    a small one waiting.
// 3. The whole checksum is compared once, when all blocks are there. One that is wrong and had bytes
//    that were never read back is computed again from the disk before it counts.
// 4. A waiter is called once: by who takes it out of the list, with no lock held.
#include <fcntl.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/metric.h"
#include "cache/store_state.h"

#define SLICE_BYTES ((uint64_t)32 << 20)
#define AGAIN 1 // of a slice: there is more to do
#define ROUNDS_MAX 4 // a file that changes during so many checks isn't only ours

// ---- the digest

bool stored_is_digest_right(struct stored *s)
{
    if (s->is_digesting || s->is_digest_stale || s->digested_bytes < s->version.size_bytes)
        return false;
    if (store_digest_is_right(s->digest))
        return true;
    s->is_digest_stale = true;
    return false;
}

// Who gets it may use it until digest_leave.
static bool digest_take(struct stored *s)
{
    lock_scope(&s->lock);
    if (s->is_digesting)
        return false;
    s->is_digesting = true;
    if (s->is_digest_stale) {
        store_digest_reset(s->digest);
        s->is_digest_stale = s->is_digest_streamed = false;
        s->digested_bytes = 0;
    }
    return true;
}

static void digest_leave(struct stored *s)
{
    lock_scope(&s->lock);
    s->is_digesting = false;
}

// Reads on where the digest stands. 0: to the end.
static int digest_slice(struct stored *s, uint64_t *budget, char *buffer)
{
    if (!digest_take(s))
        return AGAIN;
    int r = 0;
    uint64_t at = s->digested_bytes, size = s->version.size_bytes;
    while (r == 0 && at < size && *budget > 0) {
        uint32_t block = (uint32_t)(at / CACHE_BLOCK_BYTES), good;
        uint32_t bytes = store_block_bytes(size, block), from = (uint32_t)(at % CACHE_BLOCK_BYTES);
        r = stored_read_blocks(s, block, 1, buffer, &good);
        if (r < 0)
            break;
        store_digest_add(s->digest, buffer + from, bytes - from);
        at += bytes - from;
        *budget = *budget > bytes ? *budget - bytes : 0;
    }
    {
        lock_scope(&s->lock);
        s->digested_bytes = at;
    }
    digest_leave(s);
    return r < 0 ? r : at < size ? AGAIN : 0;
}

// All was added. 0: right, and the object is complete. -EILSEQ: it isn't what it should be.
static int digest_end(struct stored *s)
{
    bool is_final;
    {
        lock_scope(&s->lock);
        if (s->state != STORED_FULL && !(s->state == STORED_COMPLETE && s->is_digest_late))
            return -ENODATA;
        is_final = !s->is_digest_streamed && !s->is_digest_stale;
        if (stored_is_digest_right(s)) {
            s->is_digest_late = false;
            if (s->state == STORED_FULL)
                return stored_seal(s);
            store_digest_free(take(s->digest));
            return 0;
        }
        if (!is_final)
            return AGAIN;
        s->is_wrong = true;
    }
    metric_add(METRIC_STORE_BAD_OBJECTS, 1);
    log_error("cache: %.*s/%.*s is not what its checksum %.*s says: dropped",
              (int)s->version.origin.size_bytes, s->version.origin.data,
              (int)s->version.key.size_bytes, s->version.key.data,
              (int)s->version.checksum.size_bytes, s->version.checksum.data);
    stored_drop(s);
    return -EILSEQ;
}

// ---- blocks

// Reads blocks that aren't proven. 0: none is left.
static int prove_slice(struct stored *s, uint64_t *budget, char *buffer)
{
    uint32_t block = 0;
    while (*budget > 0) {
        uint32_t end, good;
        {
            lock_scope(&s->lock);
            block = store_bits_next(&s->proven, block, s->block_count, false);
            if (block == s->block_count)
                return 0;
            uint32_t limit = s->block_count - block < STORE_RUN_BLOCKS ? s->block_count
                                                                       : block + STORE_RUN_BLOCKS;
            end = store_bits_next(&s->proven, block, limit, true);
        }
        int r = stored_read_blocks(s, block, end - block, buffer, &good);
        metric_add(METRIC_STORE_CHECKED_BYTES, (int64_t)good * (int64_t)CACHE_BLOCK_BYTES);
        if (r < 0)
            return r;
        uint64_t bytes = (uint64_t)(end - block) * CACHE_BLOCK_BYTES;
        *budget = *budget > bytes ? *budget - bytes : 0;
        block = end;
    }
    return AGAIN;
}

// The file must be the same before and after. One that looks otherwise than was recorded is
// checked from the beginning.
static int begin_check(struct stored *s)
{
    lock_scope(&s->lock);
    if (s->state == STORED_DYING)
        return -ESTALE;
    if (s->state == STORED_PARTIAL)
        return -ENODATA;
    if (s->has_check_stamp)
        return 0;
    int r = stored_stamp(s, &s->check_stamp);
    if (r < 0)
        return r;
    s->has_check_stamp = true;
    if (s->state == STORED_COMPLETE && !store_stamp_equal(&s->stamp, &s->check_stamp))
        store_bits_fill(&s->proven, false);
    return 0;
}

static void note_checked(struct stored *s)
{
    struct block_store *b = s->store;
    lock_scope(&b->lock);
    if (s->slot)
        store_index_entry(&b->index, s->slot)->flags |= STORE_ENTRY_CHECKED;
}

static int end_check(struct stored *s)
{
    lock_scope(&s->lock);
    s->has_check_stamp = false;
    struct store_stamp now;
    int r = stored_stamp(s, &now);
    if (r < 0)
        return r;
    if (s->state == STORED_FULL && !s->digest)
        r = stored_seal(s);
    if (r < 0 || s->state != STORED_COMPLETE)
        return r < 0 ? r : -ENODATA;
    if (!store_stamp_equal(&now, &s->check_stamp)) {
        store_bits_fill(&s->proven, false);
        return ++s->check_rounds < ROUNDS_MAX ? AGAIN : -ESTALE;
    }
    if (!store_bits_all(&s->proven))
        return AGAIN;
    if (!store_stamp_equal(&now, &s->stamp)) {
        s->stamp = now;
        stored_write_header(s, s->map_fd); // if not, the next life checks once more
    }
    note_checked(s);
    return 0;
}

static int check_slice(struct stored *s, char *buffer)
{
    uint64_t budget = SLICE_BYTES;
    bool has_digest;
    {
        lock_scope(&s->lock);
        has_digest = s->digest && (s->state == STORED_FULL || s->is_digest_late);
    }
    int r = begin_check(s);
    if (r == 0)
        r = prove_slice(s, &budget, buffer);
    if (r == 0 && has_digest)
        r = digest_slice(s, &budget, buffer);
    if (r == 0 && has_digest)
        r = digest_end(s);
    return r == 0 ? end_check(s) : r;
}

// ---- the thread

void stored_queue_check(struct stored *s)
{
    if (s->is_queued)
        return;
    s->is_queued = true;
    stored_ref(s);
    if (!queue_put(&s->store->checks, &s->check_item))
        check(false); // closed with handles left
}

static void finish(struct stored *s, int error)
{
    struct stored_waiter *w;
    {
        lock_scope(&s->lock);
        s->is_queued = false;
        s->has_check_stamp = false;
        s->check_rounds = 0;
        w = take(s->waiters);
    }
    while (w) {
        struct stored_waiter *next = w->next;
        w->done(w, error);
        w = next;
    }
    stored_unref(s);
}

// Whether it must have another turn: also when what was missing came meanwhile.
static bool is_unfinished(struct stored *s, int result)
{
    lock_scope(&s->lock);
    return result == AGAIN || s->wants_rebuild || (result == 0 && s->is_digest_late) ||
           (s->state == STORED_FULL && (result == -ENODATA || result == -EBADMSG));
}

// One turn of one object.
static void serve(struct block_store *b, struct stored *s, char *buffer)
{
    bool wants_rebuild;
    {
        lock_scope(&s->lock);
        wants_rebuild = s->wants_rebuild;
        s->wants_rebuild = false;
    }
    int r = wants_rebuild ? stored_unseal(s, true) : check_slice(s, buffer);
    if (is_unfinished(s, r) && !atomic_load(&b->is_closing) &&
        queue_put(&b->checks, &s->check_item))
        return;
    finish(s, r == AGAIN ? -ECANCELED : r);
}

static struct stored *stored_of(struct queue_item *item)
{
    return (struct stored *)((char *)item - offsetof(struct stored, check_item));
}

void *store_checker(void *store)
{
    struct block_store *b = store;
    char *buffer = memory_new(STORE_RUN_BLOCKS * CACHE_BLOCK_BYTES);
    struct store_scrub scrub = {0};
    int64_t next_ns = store_scrub_first_ns(b);
    for (;;) {
        struct queue_item *item = queue_get(&b->checks, next_ns);
        if (item)
            serve(b, stored_of(item), buffer);
        else if (atomic_load(&b->is_closing))
            break;
        if (clock_ns() >= next_ns)
            next_ns = store_scrub_step(b, &scrub, buffer);
    }
    free(buffer);
    return NULL;
}

// ---- the door

uint64_t stored_unchecked_bytes(struct stored *s)
{
    lock_scope(&s->lock);
    uint64_t blocks = s->present.set - s->proven.set;
    return blocks * CACHE_BLOCK_BYTES;
}

int stored_passthrough_fd(struct stored *s, int *ret_fd)
{
    lock_scope(&s->lock);
    if (s->state != STORED_COMPLETE)
        return s->state == STORED_FULL ? -EINPROGRESS : -ENODATA;
    struct store_stamp now;
    int r = stored_stamp(s, &now);
    if (r < 0)
        return r;
    if (!store_stamp_equal(&now, &s->stamp))
        store_bits_fill(&s->proven, false);
    if (!store_bits_all(&s->proven))
        return -EINPROGRESS;
    int fd = fcntl(s->data_fd, F_DUPFD_CLOEXEC, 3);
    if (fd < 0)
        return -errno;
    note_checked(s); // by reads, it may be: it is to be known when the handle is gone
    *ret_fd = fd;
    return 0;
}

// What there is to say at once: 0 or an error; AGAIN: nothing.
static int answer(struct stored *s)
{
    if (s->state == STORED_DYING)
        return s->is_wrong ? -EILSEQ : -ESTALE;
    if (s->state == STORED_PARTIAL)
        return -ENODATA;
    struct store_stamp now;
    int r = stored_stamp(s, &now);
    if (r < 0)
        return r;
    bool is_done = s->state == STORED_COMPLETE && store_stamp_equal(&now, &s->stamp) &&
                   store_bits_all(&s->proven) && !s->is_digest_late;
    if (is_done)
        note_checked(s);
    return is_done ? 0 : AGAIN;
}

bool stored_expect(struct stored *s, struct text checksum)
{
    cleanup(cleanup_store_digest_free) struct store_digest *digest = store_digest_new(checksum);
    lock_scope(&s->lock);
    if (!digest || s->digest || s->version.checksum.size_bytes || s->state != STORED_COMPLETE)
        return false;
    s->digest = take(digest);
    s->digested_bytes = 0;
    s->is_digest_stale = s->is_digest_streamed = false;
    s->is_digest_late = true;
    return true;
}

void stored_check(struct stored *s, struct stored_waiter *w)
{
    int r;
    {
        lock_scope(&s->lock);
        r = answer(s);
        if (r == AGAIN) {
            w->next = s->waiters;
            s->waiters = w;
            stored_queue_check(s);
        }
    }
    if (r != AGAIN)
        w->done(w, r);
}

bool stored_check_cancel(struct stored *s, struct stored_waiter *w)
{
    lock_scope(&s->lock);
    for (struct stored_waiter **at = &s->waiters; *at; at = &(*at)->next)
        if (*at == w) {
            *at = w->next;
            return true;
        }
    return false;
}
