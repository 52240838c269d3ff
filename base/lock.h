// SPDX-License-Identifier: BSD-3-Clause
// lock: a mutex with a rank. A thread may only take a lock of a higher rank than any it holds; with
// NDEBUG unset this is asserted on every acquire, so that a wrong order is found by any test that
// runs it, not by the one in a thousand that deadlocks. The classes stand in this one table.
// None is held over a database call, a FUSE reply or a callback (the catalogue's write lock, LMDB's
// own, is the librarians' and is not of this kind).
#pragma once
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

enum lock_rank {
    LOCK_RANK_NONE,
    LOCK_RANK_LIBRARY,    // meta: jobs in flight and their waiters
    LOCK_RANK_REPOSITORY, // meta: the current snapshot
    LOCK_RANK_CATALOGUE,  // meta: pinned generations, thread transactions
    LOCK_RANK_PARKED,     // fs: operations that wait
    LOCK_RANK_INODE,      // fs: one inode of a home, its length and what it costs
    LOCK_RANK_NODE,       // fs: the node table
    LOCK_RANK_HANDLE,     // fs: open files and folders
    LOCK_RANK_CACHE,      // cache: which objects are known, the folders' series
    LOCK_RANK_ENTRY,      // cache: one object, its flights and waiters
    LOCK_RANK_RECALLS,    // cache: objects that are being brought back
    LOCK_RANK_FLIGHTS,    // cache: what flies and what waits for its turn
    LOCK_RANK_POOL,       // cache: blocks in memory
    LOCK_RANK_UPLOAD,     // cache: what was written of one object and isn't sent yet
    LOCK_RANK_UPLOADS,    // cache: parts under way, who waits for them
    LOCK_RANK_ORIGIN,     // cache: credentials and what an origin learnt of its server
    LOCK_RANK_FETCHERS,   // cache: endpoints, their queues, who has which fetch
    LOCK_RANK_STORE_DOOR, // cache: the names on disk of one stored object
    LOCK_RANK_STORED,     // cache: one open stored object
    LOCK_RANK_STORE,      // cache: what is stored, and how much
    LOCK_RANK_LEDGER,     // meta: usage, changes in work, a count under way
    LOCK_RANK_QUEUE,      // base: one queue
    LOCK_RANK_LEAF,       // anything that calls nothing
};

struct lock {
    pthread_mutex_t mutex;
    enum lock_rank rank;
    const char *name;
};

void lock_init(struct lock *l, enum lock_rank rank, const char *name);
void lock_release_memory(struct lock *l);
void lock_acquire(struct lock *l);
void lock_release(struct lock *l);
bool lock_is_held(const struct lock *l); // by this thread; always true with NDEBUG

// A condition variable on the monotonic clock.
void condition_init(pthread_cond_t *c);
// Waits until signalled or `deadline_ns` (monotonic; INT64_MAX: for ever). -ETIMEDOUT or 0.
int condition_wait(pthread_cond_t *c, struct lock *l, int64_t deadline_ns);

static inline struct lock *lock_scope_begin(struct lock *l)
{
    lock_acquire(l);
    return l;
}
static inline void lock_scope_end(struct lock **l)
{
    if (*l)
        lock_release(*l);
}
// Holds the lock until the end of the enclosing block.
#define lock_scope(l) lock_scope_at(l, __LINE__)
#define lock_scope_at(l, line) lock_scope_named(l, line) // so that __LINE__ is expanded first
#define lock_scope_named(l, line)                                                                  \
    __attribute__((__cleanup__(lock_scope_end), unused)) struct lock *lock_scope_##line =          \
        lock_scope_begin(l)
