// SPDX-License-Identifier: BSD-3-Clause
// archives: keeps the archives that were used last.
// 1. A file state (archive_identity) is in the list at most once, most recently used first. A
//    changed file is another one; the old entry goes the way of all that aren't used.
// 2. An entry being opened is only touched by the thread that opens it; it isn't dropped. The lock
//    is not held meanwhile.
// 3. Whoever has an archive has a reference; dropping an entry takes nothing away from anybody.
#include <limits.h>
#include <sys/queue.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/table.h"
#include "cache/archive.h"
#include "cache/archive_index.h"
#include "cache/archive_reader.h"

// A file that is being written may be no archive now and one a moment later, without its times
// showing it: their clock is coarse.
#define SETTLED_NS (2 * NS_PER_S)

struct entry {
    TAILQ_ENTRY(entry) link;
    struct archive_identity identity;
    bool is_opening;
    struct archive *archive; // NULL: being opened, or
    int error;               // can't be
    const char *why;
};

struct archives {
    struct archives_limits limits;
    struct archive_pool pool;
    struct lock lock;
    pthread_cond_t opened;
    TAILQ_HEAD(entries, entry) entries; // under lock, as is the rest
    struct table index;                 // hash of an identity -> entry
    size_t count;
    size_t index_bytes;
};

struct archives *archives_new(const struct archives_limits *limits)
{
    struct archives *all = new_struct(struct archives);
    all->limits = *limits;
    archive_pool_init(&all->pool, limits->stream_bytes);
    lock_init(&all->lock, LOCK_RANK_LEAF, "archives");
    condition_init(&all->opened);
    TAILQ_INIT(&all->entries);
    return all;
}

struct archive_pool *archives_pool(struct archives *all)
{
    return &all->pool;
}

static uint64_t identity_hash(const struct archive_identity *i)
{
    uint64_t key[] = {
        (uint64_t)i->dev,           (uint64_t)i->ino,           (uint64_t)i->size_bytes,
        (uint64_t)i->mtime.tv_sec,  (uint64_t)i->mtime.tv_nsec, (uint64_t)i->ctime.tv_sec,
        (uint64_t)i->ctime.tv_nsec,
    };
    return hash64(key, sizeof(key));
}

static bool is_of_identity(uint64_t value, const void *key, void *context)
{
    const struct entry *e = (const struct entry *)(uintptr_t)value;
    return archive_identity_equal(&e->identity, key);
}

static struct entry *find(const struct archives *all, const struct archive_identity *i)
{
    uint64_t value = table_find(&all->index, identity_hash(i), is_of_identity, i, NULL);
    return (struct entry *)(uintptr_t)value;
}

static struct entry *add(struct archives *all, const struct archive_identity *i)
{
    struct entry *e = new_struct(struct entry);
    e->identity = *i;
    e->is_opening = true;
    TAILQ_INSERT_HEAD(&all->entries, e, link);
    table_add(&all->index, identity_hash(i), (uintptr_t)e);
    all->count++;
    return e;
}

static void drop(struct archives *all, struct entry *e)
{
    bool is_removed = table_remove(&all->index, identity_hash(&e->identity), (uintptr_t)e);
    check(is_removed && !e->is_opening);
    TAILQ_REMOVE(&all->entries, e, link);
    all->count--;
    if (e->archive) {
        all->index_bytes -= archive_memory_bytes(e->archive);
        archive_unref(e->archive);
    }
    free(e);
}

// Drops what was used longest ago until the rest is within bounds.
static void shrink(struct archives *all)
{
    struct entry *e = TAILQ_LAST(&all->entries, entries), *before;
    for (; e; e = before) {
        if (all->count <= all->limits.count && all->index_bytes <= all->limits.index_bytes)
            return;
        before = TAILQ_PREV(e, entries, link);
        if (!e->is_opening)
            drop(all, e);
    }
}

void archives_free(struct archives *all)
{
    while (!TAILQ_EMPTY(&all->entries))
        drop(all, TAILQ_FIRST(&all->entries));
    table_release(&all->index);
    archive_pool_release(&all->pool);
    pthread_cond_destroy(&all->opened);
    lock_release_memory(&all->lock);
    free(all);
}

static bool is_settled(const struct archive_identity *i)
{
    int64_t now = clock_unix_ns(), limit = INT64_MAX / NS_PER_S - 1;
    int64_t changed = i->ctime.tv_sec < limit ? i->ctime.tv_sec * NS_PER_S : INT64_MAX;
    return changed < now - SETTLED_NS;
}

// Opens the archive of a new entry. The lock is held before and after, not meanwhile.
static int open_entry(struct archives *all, struct entry *e, int fd, struct archive **ret_archive,
                      const char **ret_why)
{
    struct archive *a = NULL;
    const char *why = NULL;
    lock_release(&all->lock);
    int r = archive_open(fd, &a, &why);
    if (r == 0 && !archive_identity_equal(&e->identity, archive_identity(a))) {
        archive_unref(take(a));
        why = "the archive was changed while it was opened";
        r = -ESTALE;
    }
    lock_acquire(&all->lock);
    e->is_opening = false;
    e->archive = a;
    e->error = r;
    e->why = why;
    pthread_cond_broadcast(&all->opened);
    if (r == 0) {
        all->index_bytes += archive_memory_bytes(a);
        *ret_archive = archive_ref(a);
    } else {
        *ret_why = why;
        if ((r != -EBADMSG && r != -EFBIG) || !is_settled(&e->identity))
            drop(all, e);
    }
    shrink(all);
    return r;
}

static int use_entry(struct archives *all, struct entry *e, struct archive **ret_archive,
                     const char **ret_why)
{
    TAILQ_REMOVE(&all->entries, e, link);
    TAILQ_INSERT_HEAD(&all->entries, e, link);
    if (e->archive)
        *ret_archive = archive_ref(e->archive);
    else
        *ret_why = e->why;
    return e->error;
}

int archives_get(struct archives *all, int fd, int64_t deadline_ns, struct archive **ret_archive,
                 const char **ret_why)
{
    struct archive_identity identity;
    int r = archive_identify(fd, &identity, ret_why);
    if (r < 0)
        return r;
    lock_scope(&all->lock);
    for (;;) {
        struct entry *e = find(all, &identity);
        if (!e)
            return open_entry(all, add(all, &identity), fd, ret_archive, ret_why);
        if (!e->is_opening)
            return use_entry(all, e, ret_archive, ret_why);
        if (condition_wait(&all->opened, &all->lock, deadline_ns) < 0) {
            *ret_why = "another thread takes too long to open the archive";
            return -ETIMEDOUT;
        }
    }
}
