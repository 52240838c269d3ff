// SPDX-License-Identifier: BSD-3-Clause
// pool.c
// 1. A block is in exactly one place: free, filling or held (in no list), or in one of the kept lists.
// 2. Under its key there is at most one block: the table and the lists agree.
// 3. At most an eighth of the bound is blocks that were read: a stream's blocks are filled and read in memory that
//    is in the processor's cache, instead of going round through all of it. They are kept for those who read the
//    same a little later.
// 4. Memory of free blocks is kept up to the bound: mapping it anew would cost more than a copy.
// 5. Within the bound blocks are pieces of slabs, each a large page where the kernel has one: sockets, disk and /dev/fuse take
//    blocks by their pages, one or 32. What is beyond the bound stands alone, and is given back once it is free.
#include "cache/pool.h"

#include <sys/mman.h>

#include "base/buffer.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/table.h"

#ifdef __SANITIZE_ADDRESS__
#define SLAB_BLOCKS 1 // so that what runs over a block is seen
#else
#define SLAB_BLOCKS 16
#endif
#define SLAB_BYTES ((size_t)SLAB_BLOCKS * CACHE_BLOCK_BYTES)

TAILQ_HEAD(pool_list, pool_block);
SLIST_HEAD(slab_list, pool_slab);

struct pool_slab {
    unsigned char *data;
    uint32_t used; // blocks of it
    SLIST_ENTRY(pool_slab) link;
};

struct pool {
    struct lock lock;
    uint32_t limit;
    uint32_t read_limit;
    // under lock
    uint32_t count; // all there are
    uint32_t peak;
    uint32_t free_count;
    uint32_t read_count;
    struct slab_list slabs; // the first has room, if any has
    uint32_t slab_blocks;   // room in all of them
    struct pool_list free;
    struct pool_list unread;
    struct pool_list read;
    struct table published;
};

struct pool_key {
    uint64_t owner;
    uint64_t number;
};

static uint64_t key_hash(const struct pool_key *key)
{
    return hash64(key, sizeof(*key));
}

static bool is_of_key(uint64_t value, const void *key, void *context)
{
    const struct pool_block *b = (const struct pool_block *)(uintptr_t)value;
    const struct pool_key *k = key;
    return b->owner == k->owner && b->number == k->number;
}

static struct pool_block *pool_look(struct pool *p, uint64_t owner, uint32_t number)
{
    struct pool_key key = {owner, number};
    return (struct pool_block *)(uintptr_t)table_find(&p->published, key_hash(&key), is_of_key,
                                                      &key, NULL);
}

struct pool *pool_new(uint64_t limit_bytes, bool keeps_read)
{
    struct pool *p = new_struct(struct pool);
    lock_init(&p->lock, LOCK_RANK_POOL, "pool");
    p->limit = (uint32_t)(limit_bytes / CACHE_BLOCK_BYTES);
    p->read_limit = keeps_read ? p->limit : p->limit / 8;
    SLIST_INIT(&p->slabs);
    TAILQ_INIT(&p->free);
    TAILQ_INIT(&p->unread);
    TAILQ_INIT(&p->read);
    return p;
}

// ---- under the lock

static void block_free(struct pool *p, struct pool_block *b)
{
    if (p->count > p->limit && b->stands_alone) {
        p->count--;
        free(b->data);
        free(b);
        return;
    }
    TAILQ_INSERT_HEAD(&p->free, b, kept); // the last used first: it is in the processor's cache
    p->free_count++;
}

static void block_unpublish(struct pool *p, struct pool_block *b)
{
    struct pool_key key = {b->owner, b->number};
    check(table_remove(&p->published, key_hash(&key), (uint64_t)(uintptr_t)b));
    b->is_published = false;
}

static void block_keep(struct pool *p, struct pool_block *b)
{
    TAILQ_INSERT_TAIL(b->was_read ? &p->read : &p->unread, b, kept);
    p->read_count += b->was_read;
}

static void block_unkeep(struct pool *p, struct pool_block *b)
{
    TAILQ_REMOVE(b->was_read ? &p->read : &p->unread, b, kept);
    p->read_count -= b->was_read;
}

static struct pool_block *block_evict(struct pool *p)
{
    struct pool_block *b = TAILQ_FIRST(&p->read);
    if (!b)
        b = TAILQ_FIRST(&p->unread);
    if (!b)
        return NULL;
    block_unkeep(p, b);
    block_unpublish(p, b);
    return b;
}

static void *memory_of(size_t alignment, size_t size_bytes)
{
    void *data = aligned_alloc(alignment, size_bytes);
    check(data); // as everywhere: memory does not fail
    return data;
}

// A piece of a slab; NULL: there may be no more of them.
static unsigned char *slab_piece(struct pool *p)
{
    struct pool_slab *s = SLIST_FIRST(&p->slabs);
    if (!s || s->used == SLAB_BLOCKS) {
        if (p->slab_blocks + SLAB_BLOCKS > p->limit)
            return NULL;
        s = new_struct(struct pool_slab);
        s->data = memory_of(SLAB_BYTES, SLAB_BYTES);
        madvise(s->data, SLAB_BYTES, MADV_HUGEPAGE); // it may not be had
        SLIST_INSERT_HEAD(&p->slabs, s, link);
        p->slab_blocks += SLAB_BLOCKS;
    }
    return s->data + (size_t)s->used++ * CACHE_BLOCK_BYTES;
}

static struct pool_block *block_new(struct pool *p)
{
    struct pool_block *b = new_struct(struct pool_block);
    b->data = slab_piece(p);
    b->stands_alone = !b->data;
    if (b->stands_alone)
        b->data = memory_of(4096, CACHE_BLOCK_BYTES);
    if (++p->count > p->peak)
        p->peak = p->count;
    return b;
}

// ---- the door

void pool_free(struct pool *p)
{
    struct pool_block *b;
    struct pool_slab *s;
    while ((b = block_evict(p)))
        block_free(p, b);
    check(p->free_count == p->count); // nothing is held
    while ((b = TAILQ_FIRST(&p->free))) {
        TAILQ_REMOVE(&p->free, b, kept);
        if (b->stands_alone)
            free(b->data);
        free(b);
    }
    while ((s = SLIST_FIRST(&p->slabs))) {
        SLIST_REMOVE_HEAD(&p->slabs, link);
        free(s->data);
        free(s);
    }
    table_release(&p->published);
    lock_release_memory(&p->lock);
    free(p);
}

struct pool_block *pool_take(struct pool *p)
{
    lock_scope(&p->lock);
    struct pool_block *b = TAILQ_FIRST(&p->free);
    if (b) {
        TAILQ_REMOVE(&p->free, b, kept);
        p->free_count--;
    } else if (p->count < p->limit || !(b = block_evict(p))) {
        b = block_new(p);
    }
    b->holds = 1;
    b->was_read = false;
    return b;
}

void pool_publish(struct pool *p, struct pool_block *b, uint64_t owner, uint32_t number,
                  uint32_t size_bytes)
{
    check(size_bytes <= CACHE_BLOCK_BYTES);
    lock_scope(&p->lock);
    check(b->holds == 1 && !b->is_published);
    b->owner = owner;
    b->number = number;
    b->size_bytes = size_bytes;
    if (pool_look(p, owner, number))
        return;
    struct pool_key key = {owner, number};
    table_add(&p->published, key_hash(&key), (uint64_t)(uintptr_t)b);
    b->is_published = true;
}

struct pool_block *pool_find(struct pool *p, uint64_t owner, uint32_t number)
{
    lock_scope(&p->lock);
    struct pool_block *b = pool_look(p, owner, number);
    if (b && b->holds++ == 0)
        block_unkeep(p, b);
    return b;
}

bool pool_has(struct pool *p, uint64_t owner, uint32_t number)
{
    lock_scope(&p->lock);
    return pool_look(p, owner, number) != NULL;
}

void pool_drop(struct pool *p, struct pool_block *b, bool was_read)
{
    lock_scope(&p->lock);
    check(b->holds > 0);
    b->was_read |= was_read;
    if (--b->holds)
        return;
    if (!b->is_published) {
        block_free(p, b);
        return;
    }
    block_keep(p, b);
    while ((p->count - p->free_count > p->limit || p->read_count > p->read_limit) && (b = block_evict(p)))
        block_free(p, b);
}

void pool_forget(struct pool *p, uint64_t owner)
{
    lock_scope(&p->lock);
    size_t position = 0;
    uint64_t value;
    struct pool_list gone = TAILQ_HEAD_INITIALIZER(gone);
    while ((value = table_next(&p->published, &position))) {
        struct pool_block *b = (struct pool_block *)(uintptr_t)value;
        if (b->owner != owner)
            continue;
        if (!b->holds)
            block_unkeep(p, b);
        TAILQ_INSERT_TAIL(&gone, b, kept);
    }
    struct pool_block *b;
    while ((b = TAILQ_FIRST(&gone))) {
        TAILQ_REMOVE(&gone, b, kept);
        block_unpublish(p, b);
        if (!b->holds)
            block_free(p, b); // else with its last hold
    }
}

void pool_status(struct pool *p, uint64_t *ret_bytes, uint64_t *ret_peak_bytes)
{
    lock_scope(&p->lock);
    *ret_bytes = (uint64_t)(p->count - p->free_count) * CACHE_BLOCK_BYTES;
    *ret_peak_bytes = (uint64_t)p->peak * CACHE_BLOCK_BYTES;
}
