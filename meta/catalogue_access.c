// SPDX-License-Identifier: BSD-3-Clause
// catalogue_access: how readers and writers come to a transaction, and how the environment under
// them is replaced.
// 1. A slot belongs to who set is_busy; its transaction is of `slot->store` and is reset when the
//    slot is given back, so no reader holds back LMDB's free pages between calls.
// 2. Replacing (under `writer`): first `store` is set, so that slots taken from now on come to the
//    new one; then every slot is taken once and cleared; then nobody is in the old one and it is
//    closed. A reader that waits for a slot waits at most as long as another reader's call.
// 3. A body that failed for want of room or health is run again at most once for each of the three
//    remedies: emptying, starting empty, moving to memory.
#include "meta/catalogue_store.h"

#include <sched.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/metric.h"

static void slot_clear(struct read_slot *s)
{
    if (s->rows)
        mdb_cursor_close(s->rows);
    if (s->txn)
        mdb_txn_abort(s->txn);
    s->rows = NULL;
    s->txn = NULL;
    s->store = NULL;
}

static bool slot_take(struct read_slot *s)
{
    return !atomic_load_explicit(&s->is_busy, memory_order_relaxed) &&
           !atomic_exchange_explicit(&s->is_busy, true, memory_order_acquire);
}

static void slot_give(struct read_slot *s)
{
    atomic_store_explicit(&s->is_busy, false, memory_order_release);
}

static struct read_slot *slot_find(struct catalogue *c)
{
    size_t first = (size_t)(((uintptr_t)pthread_self() >> 12) * 0x9e3779b97f4a7c15u >> 40);
    for (size_t i = 0;; i++) {
        struct read_slot *s = &c->slots[(first + i) % READ_SLOTS];
        if (slot_take(s))
            return s;
        if (i % READ_SLOTS == READ_SLOTS - 1)
            sched_yield();
    }
}

static int slot_start(struct read_slot *s, struct store *store)
{
    if (s->store != store)
        slot_clear(s);
    s->store = store;
    if (s->txn)
        return mdb_txn_renew(s->txn) ?: mdb_cursor_renew(s->txn, s->rows);
    int rc = mdb_txn_begin(store->env, NULL, MDB_RDONLY, &s->txn);
    if (rc) {
        s->txn = NULL;
        return rc;
    }
    return mdb_cursor_open(s->txn, store->rows, &s->rows);
}

int read_begin(struct catalogue *c, struct read_slot **ret_slot)
{
    struct read_slot *s = slot_find(c);
    // After is_busy is set: whoever replaces the store either sees that, or we see the new one.
    int rc = slot_start(s, atomic_load(&c->store));
    if (rc) {
        slot_clear(s);
        slot_give(s);
        return store_errno(rc);
    }
    *ret_slot = s;
    return 0;
}

void read_end(struct read_slot *s)
{
    mdb_txn_reset(s->txn);
    slot_give(s);
}

static void store_replace(struct catalogue *c, struct store *new_store)
{
    struct store *old = atomic_exchange(&c->store, new_store);
    for (size_t i = 0; i < READ_SLOTS; i++) {
        struct read_slot *s = &c->slots[i];
        while (!slot_take(s))
            sched_yield();
        if (s->store == old)
            slot_clear(s);
        slot_give(s);
    }
    store_close(old);
    atomic_store(&c->is_in_memory, new_store->is_in_memory);
    atomic_store(&c->repositories_unsaved, true);
    atomic_fetch_add(&c->incarnation, 1);
    metric_add(METRIC_CATALOGUE_RESETS, 1);
}

// The remedies; each 0 or -errno, and says in the log what it did.

static int run(struct catalogue *c, write_body *body, void *context)
{
    struct write w = {.c = c, .store = atomic_load(&c->store)};
    int rc = mdb_txn_begin(w.store->env, NULL, 0, &w.txn);
    if (rc)
        return rc;
    // A set may not become durable before the epoch it is of.
    bool unsaved = atomic_exchange(&c->repositories_unsaved, false);
    rc = unsaved ? repositories_write(&w) : 0;
    if (!rc)
        rc = body(&w, context);
    if (rc)
        mdb_txn_abort(w.txn);
    else
        rc = mdb_txn_commit(w.txn);
    if (w.has_condemned)
        pins_absolve(c, rc == 0);
    if (rc && unsaved)
        atomic_store(&c->repositories_unsaved, true);
    return rc;
}

static int make_room_body(struct write *w, void *context)
{
    return write_make_room(w);
}

static int tick_body(struct write *w, void *context)
{
    size_t id = mdb_txn_id(w->txn);
    MDB_val key = {4, (void *)"tick"}, data = {sizeof(id), &id};
    return mdb_put(w->txn, w->store->meta, &key, &data, 0);
}

// LMDB uses a transaction's free pages from the second transaction after it on: hence the tick.
static int make_room(struct catalogue *c)
{
    int rc = run(c, make_room_body, NULL);
    if (!rc)
        rc = run(c, tick_body, NULL);
    metric_add(METRIC_CATALOGUE_RESETS, 1);
    log_info("catalogue %s: full, emptied", c->folder);
    return rc;
}

static int start_empty(struct catalogue *c)
{
    struct store *fresh;
    cleanup(cleanup_free) char *why = NULL;
    bool in_memory = atomic_load(&c->store)->is_in_memory;
    log_error("catalogue %s: damaged, starting empty", c->folder);
    if (!in_memory)
        store_remove_files(c->folder);
    int r = in_memory ? store_open_in_memory(c->size_max_bytes, &fresh, &why)
                      : store_open(c->folder, c->size_max_bytes, &fresh, &why);
    if (r < 0)
        return r;
    store_replace(c, fresh);
    return 0;
}

static int move_to_memory(struct catalogue *c, int rc)
{
    struct store *fresh;
    cleanup(cleanup_free) char *why = NULL;
    int r = store_open_in_memory(c->size_max_bytes, &fresh, &why);
    log_error("catalogue %s: can't be written (%s), %s", c->folder, mdb_strerror(rc),
              r < 0 ? why : "going on in memory, from empty");
    if (r < 0)
        return r;
    c->was_moved = true;
    if (c->owner_fd >= 0)
        store_remove_files(c->folder); // it gives the disk back what it can
    store_replace(c, fresh);
    return 0;
}

static bool is_past_limit(struct catalogue *c)
{
    struct store *s = atomic_load(&c->store);
    MDB_envinfo info;
    mdb_env_info(s->env, &info);
    if ((int64_t)((info.me_last_pgno + 1) * s->page_bytes) < store_room_bytes(s))
        return false;
    int64_t used, max;
    catalogue_usage(c, &used, &max);
    return used >= max;
}

static int write_locked(struct catalogue *c, write_body *body, void *context)
{
    bool emptied = false, restarted = false;
    if (is_past_limit(c)) {
        emptied = true;
        if (clock_ns() < c->full_until_ns && atomic_load(&c->unpins) == c->full_unpins)
            return MDB_MAP_FULL;
        c->full_unpins = atomic_load(&c->unpins);
        if (make_room(c) != 0 || is_past_limit(c)) {
            c->full_until_ns = clock_ns() + NS_PER_S;
            return MDB_MAP_FULL;
        }
    }
    for (;;) {
        int rc = run(c, body, context);
        bool is_damaged = rc == MDB_CORRUPTED || rc == MDB_PAGE_NOTFOUND || rc == MDB_PANIC;
        if (rc == MDB_MAP_FULL && !emptied) {
            emptied = true;
            if (make_room(c) == 0)
                continue;
        } else if (is_damaged && !restarted) {
            restarted = true;
            if (start_empty(c) == 0 || (!c->was_moved && move_to_memory(c, EIO) == 0))
                continue;
        } else if (rc > 0 && rc != ENOMEM && !c->was_moved) {
            if (move_to_memory(c, rc) == 0)
                continue;
        }
        return rc;
    }
}

int catalogue_write(struct catalogue *c, write_body *body, void *context)
{
    pthread_mutex_lock(&c->writer);
    int rc = write_locked(c, body, context);
    pthread_mutex_unlock(&c->writer);
    return rc == MDB_MAP_FULL ? -ENOSPC : store_errno(rc);
}

int catalogue_give_up_disk(struct catalogue *c, int error)
{
    pthread_mutex_lock(&c->writer);
    int r = c->was_moved ? -ENOSPC : move_to_memory(c, error);
    pthread_mutex_unlock(&c->writer);
    return store_errno(r);
}

void catalogue_usage(struct catalogue *c, int64_t *ret_used_bytes, int64_t *ret_max_bytes)
{
    struct read_slot *s;
    *ret_used_bytes = 0;
    *ret_max_bytes = c->size_max_bytes;
    if (read_begin(c, &s) < 0)
        return;
    store_in_use_bytes(s->store, s->txn, ret_used_bytes);
    *ret_max_bytes = store_room_bytes(s->store);
    read_end(s);
}
