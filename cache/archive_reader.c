// SPDX-License-Identifier: BSD-3-Clause
// archive_reader: one open member.
// 1. A stream is used by the one thread that has set its reader busy. No lock is held while it
//    reads or inflates; who comes meanwhile waits for `freed`, until its deadline.
// 2. A reader is in the pool's list if and only if it has a stream and is not busy. Only from there
//    are streams dropped, under the pool's lock, so none is in use.
// 3. A stored member has no stream. The CRCs of what was read of it, in whatever order, are joined
//    (zlib's crc32_combine) until they are that of the whole.
// 4. Once broken, a reader gives nothing more.
#include "cache/archive_reader.h"

#include <stdatomic.h>
#include <zlib.h>

#include "base/buffer.h"
#include "base/log.h"
#include "cache/archive_index.h"
#include "cache/archive_stream.h"

#define PIECES_MAX 32

// Bytes of a stored member that were read, and their CRC-32.
struct piece {
    uint64_t from;
    uint64_t until;
    uint32_t crc;
};

struct tally {
    struct lock lock;
    struct piece pieces[PIECES_MAX]; // under lock: rising, with something between each two
    size_t count;                    // under lock
    atomic_bool is_over;             // all was read, or there were too many pieces
};

struct archive_reader {
    struct archive_pool *pool;
    int fd;
    struct archive_member member;
    _Atomic(const char *) broken; // why; never unset
    struct tally tally;
    pthread_cond_t freed;
    bool is_busy; // under the pool's lock, as are the next four
    uint32_t waiting;
    struct archive_stream *stream; // used by whoever is busy
    size_t stream_bytes;           // of it in the pool's sum
    TAILQ_ENTRY(archive_reader) link;
};

static int refuse(int error, const char *why, const char **ret_why)
{
    *ret_why = why;
    return error;
}

// ---- the pool

void archive_pool_init(struct archive_pool *p, size_t limit_bytes)
{
    lock_init(&p->lock, LOCK_RANK_LEAF, "archive streams");
    p->limit_bytes = limit_bytes;
    p->used_bytes = 0;
    p->reader_count = 0;
    TAILQ_INIT(&p->idle);
}

void archive_pool_release(struct archive_pool *p)
{
    check(p->reader_count == 0 && p->used_bytes == 0);
    lock_release_memory(&p->lock);
}

size_t archive_pool_used_bytes(struct archive_pool *p)
{
    lock_scope(&p->lock);
    return p->used_bytes;
}

// Takes the stream from a reader that is in the list; the caller frees it, without the lock.
static struct archive_stream *pool_take(struct archive_pool *p, struct archive_reader *r)
{
    TAILQ_REMOVE(&p->idle, r, link);
    p->used_bytes -= r->stream_bytes;
    r->stream_bytes = 0;
    return take(r->stream);
}

static void pool_shrink(struct archive_pool *p)
{
    for (;;) {
        struct archive_stream *old = NULL;
        lock_acquire(&p->lock);
        if (p->used_bytes > p->limit_bytes && !TAILQ_EMPTY(&p->idle))
            old = pool_take(p, TAILQ_FIRST(&p->idle));
        lock_release(&p->lock);
        if (!old)
            return;
        archive_stream_free(old);
    }
}

static int reader_begin(struct archive_reader *r, int64_t deadline_ns, const char **ret_why)
{
    lock_scope(&r->pool->lock);
    while (r->is_busy) {
        r->waiting++;
        int e = condition_wait(&r->freed, &r->pool->lock, deadline_ns);
        r->waiting--;
        if (e < 0 && r->is_busy)
            return refuse(e, "others who read it take too long", ret_why);
    }
    r->is_busy = true;
    if (r->stream)
        TAILQ_REMOVE(&r->pool->idle, r, link);
    return 0;
}

static void reader_end(struct archive_reader *r)
{
    struct archive_pool *p = r->pool;
    size_t now = r->stream ? archive_stream_memory_bytes(r->stream) : 0;
    lock_acquire(&p->lock);
    p->used_bytes += now - r->stream_bytes;
    r->stream_bytes = now;
    r->is_busy = false;
    if (r->stream)
        TAILQ_INSERT_TAIL(&p->idle, r, link);
    if (r->waiting > 0)
        pthread_cond_signal(&r->freed);
    lock_release(&p->lock);
    pool_shrink(p);
}

static int read_deflated(struct archive_reader *r, void *buffer, size_t size_bytes, uint64_t offset,
                         int64_t deadline_ns, const char **ret_why)
{
    int e = reader_begin(r, deadline_ns, ret_why);
    if (e < 0)
        return e;
    const char *why = atomic_load(&r->broken);
    if (why) {
        e = refuse(-EBADMSG, why, ret_why);
    } else {
        if (!r->stream)
            r->stream = archive_stream_new(r->fd, &r->member);
        e = archive_stream_read(r->stream, buffer, size_bytes, offset, deadline_ns, ret_why);
    }
    if (e == -EBADMSG) {
        atomic_store(&r->broken, *ret_why);
        if (r->stream)
            archive_stream_free(take(r->stream));
    }
    reader_end(r);
    return e;
}

// ---- stored members

// Adds what was read to the pieces. False: it overlaps with one, or there are too many.
static bool tally_insert(struct tally *t, struct piece p)
{
    size_t i = 0;
    while (i < t->count && t->pieces[i].until < p.from)
        i++;
    if (i < t->count && t->pieces[i].until == p.from) { // goes on where [i] ends
        p.crc = (uint32_t)crc32_combine(t->pieces[i].crc, p.crc, (z_off_t)(p.until - p.from));
        p.from = t->pieces[i].from;
        if (i + 1 < t->count && t->pieces[i + 1].from < p.until)
            return false;
        memmove(&t->pieces[i], &t->pieces[i + 1], (t->count - i - 1) * sizeof(p));
        t->count--;
    }
    if (i < t->count && t->pieces[i].from < p.until)
        return false;
    if (i < t->count && t->pieces[i].from == p.until) { // ends where [i] begins
        uint64_t size = t->pieces[i].until - t->pieces[i].from;
        t->pieces[i].crc = (uint32_t)crc32_combine(p.crc, t->pieces[i].crc, (z_off_t)size);
        t->pieces[i].from = p.from;
        return true;
    }
    if (t->count == PIECES_MAX) {
        atomic_store(&t->is_over, true);
        return false;
    }
    memmove(&t->pieces[i + 1], &t->pieces[i], (t->count - i) * sizeof(p));
    t->pieces[i] = p;
    t->count++;
    return true;
}

static int tally_add(struct archive_reader *r, const void *data, size_t size_bytes, uint64_t offset)
{
    struct tally *t = &r->tally;
    struct piece p = {offset, offset + size_bytes, 0};
    p.crc = (uint32_t)crc32_z(0, data, size_bytes);
    lock_scope(&t->lock);
    if (t->is_over || !tally_insert(t, p) || t->pieces[0].from != 0 ||
        t->pieces[0].until != r->member.size_bytes)
        return 0;
    atomic_store(&t->is_over, true);
    return t->pieces[0].crc == r->member.crc32 ? 0 : -EBADMSG;
}

static int read_stored(struct archive_reader *r, void *buffer, size_t size_bytes, uint64_t offset,
                       const char **ret_why)
{
    const char *why = atomic_load(&r->broken);
    if (why)
        return refuse(-EBADMSG, why, ret_why);
    int e = archive_read_at(r->fd, buffer, size_bytes, r->member.data_offset + offset, ret_why);
    if (e < 0 || atomic_load_explicit(&r->tally.is_over, memory_order_relaxed))
        return e;
    if (tally_add(r, buffer, size_bytes, offset) < 0) {
        why = "its checksum is not what the directory says";
        atomic_store(&r->broken, why);
        return refuse(-EBADMSG, why, ret_why);
    }
    return 0;
}

// ---- doors

struct archive_reader *archive_reader_open(struct archives *all, int fd,
                                           const struct archive_member *member)
{
    struct archive_reader *r = new_struct(struct archive_reader);
    r->pool = archives_pool(all);
    r->fd = fd;
    r->member = *member;
    lock_init(&r->tally.lock, LOCK_RANK_LEAF, "archive tally");
    condition_init(&r->freed);
    lock_scope(&r->pool->lock);
    r->pool->reader_count++;
    return r;
}

void archive_reader_close(struct archive_reader *r)
{
    struct archive_stream *stream = NULL;
    lock_acquire(&r->pool->lock);
    check(!r->is_busy && r->waiting == 0);
    if (r->stream)
        stream = pool_take(r->pool, r);
    r->pool->reader_count--;
    lock_release(&r->pool->lock);
    if (stream)
        archive_stream_free(stream);
    lock_release_memory(&r->tally.lock);
    pthread_cond_destroy(&r->freed);
    free(r);
}

ssize_t archive_reader_read(struct archive_reader *r, void *buffer, size_t size_bytes,
                            uint64_t offset, int64_t deadline_ns, const char **ret_why)
{
    if (offset >= r->member.size_bytes)
        return 0;
    if (size_bytes > r->member.size_bytes - offset)
        size_bytes = (size_t)(r->member.size_bytes - offset);
    if (size_bytes > SSIZE_MAX)
        size_bytes = SSIZE_MAX;
    if (size_bytes == 0)
        return 0;
    int e = r->member.method == ARCHIVE_STORED
                ? read_stored(r, buffer, size_bytes, offset, ret_why)
                : read_deflated(r, buffer, size_bytes, offset, deadline_ns, ret_why);
    return e < 0 ? e : (ssize_t)size_bytes;
}
