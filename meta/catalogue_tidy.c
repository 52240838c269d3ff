// SPDX-License-Identifier: BSD-3-Clause
// catalogue_tidy: which generations are in use, and deleting the others.
// 1. A generation is deleted only after it was condemned under the lock, which is refused while it
//    is pinned; once condemned it can't be pinned through its set any more, until the transaction
//    that deletes it has ended. Then no set names it.
// 2. Who pins what a set names looks at the set again afterwards: if it still names it, it was not
//    deleted before the pin, and can't be after.
// 3. A generation's header goes first: a half-deleted one counts as gone.
// 4. Only what stands in `dead` in the very transaction is tidied away.
// 5. A distrusted generation stays in the table until it is deleted.
#include "meta/catalogue_store.h"

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"

#define GRACE_NS (30 * NS_PER_S) // after a take-over, until folders that are being read are pinned
#define DEAD_AT_ONCE 256

static bool pin_same(uint64_t value, const void *key, void *context)
{
    return ((struct pin *)(uintptr_t)value)->generation == *(const uint64_t *)key;
}

static struct pin *pin_get(struct catalogue *c, uint64_t generation, bool make)
{
    check(lock_is_held(&c->lock));
    uint64_t hash = hash64(&generation, sizeof(generation));
    struct pin *p =
        (struct pin *)(uintptr_t)table_find(&c->pins, hash, pin_same, &generation, NULL);
    if (!p && make) {
        p = new_struct(struct pin);
        p->generation = generation;
        table_add(&c->pins, hash, (uint64_t)(uintptr_t)p);
    }
    return p;
}

static void pin_drop_if_idle(struct catalogue *c, struct pin *p)
{
    if (p->count || p->is_condemned || p->is_distrusted)
        return;
    table_remove(&c->pins, hash64(&p->generation, sizeof(p->generation)), (uint64_t)(uintptr_t)p);
    free(p);
}

void catalogue_pin(struct catalogue *c, uint64_t generation)
{
    lock_scope(&c->lock);
    pin_get(c, generation, true)->count++;
}

void catalogue_unpin(struct catalogue *c, uint64_t generation)
{
    lock_scope(&c->lock);
    struct pin *p = pin_get(c, generation, false);
    check(p && p->count);
    if (--p->count == 0)
        atomic_fetch_add(&c->unpins, 1);
    pin_drop_if_idle(c, p);
}

static bool pin_if_alive(struct catalogue *c, uint64_t generation)
{
    lock_scope(&c->lock);
    struct pin *p = pin_get(c, generation, true);
    if (p->is_condemned || p->is_distrusted)
        return false;
    p->count++;
    return true;
}

int catalogue_pin_set(struct catalogue *c, const struct set_id *id, uint64_t fresh,
                      struct set_state *ret_state)
{
    struct set_state state, again;
    for (;;) {
        int r = catalogue_set(c, id, &state);
        if (r < 0)
            return r;
        if (state.epoch < fresh || !pin_if_alive(c, state.generation))
            return -ENOENT;
        r = catalogue_set(c, id, &again); // invariant 2
        if (r == 0 && again.generation == state.generation) {
            *ret_state = state;
            return 0;
        }
        catalogue_unpin(c, state.generation);
    }
}

bool pin_condemn(struct write *w, uint64_t generation)
{
    lock_scope(&w->c->lock);
    struct pin *p = pin_get(w->c, generation, true);
    if (p->count)
        return false;
    p->is_condemned = true;
    w->has_condemned = true;
    return true;
}

void pins_absolve(struct catalogue *c, bool were_deleted)
{
    lock_scope(&c->lock);
    struct table kept = {0};
    size_t position = 0;
    uint64_t value;
    while ((value = table_next(&c->pins, &position))) {
        struct pin *p = (struct pin *)(uintptr_t)value;
        bool is_gone = p->is_condemned && were_deleted;
        if (is_gone && p->is_distrusted) {
            atomic_fetch_sub(&c->distrusted, 1);
            p->is_distrusted = false;
        }
        p->is_condemned = false;
        if (!p->count && !p->is_distrusted)
            free(p);
        else
            table_add(&kept, hash64(&p->generation, sizeof(p->generation)), value);
    }
    table_release(&c->pins);
    c->pins = kept;
}

void pin_distrust(struct catalogue *c, uint64_t generation)
{
    lock_scope(&c->lock);
    struct pin *p = pin_get(c, generation, true);
    if (p->is_distrusted)
        return;
    p->is_distrusted = true;
    atomic_fetch_add(&c->distrusted, 1);
    log_error("catalogue %s: a record is damaged, its set will be read again", c->folder);
}

bool pin_is_distrusted(struct catalogue *c, uint64_t generation)
{
    if (atomic_load_explicit(&c->distrusted, memory_order_relaxed) == 0)
        return false;
    lock_scope(&c->lock);
    struct pin *p = pin_get(c, generation, false);
    return p && p->is_distrusted;
}

// Deleting.

// Up to *limit blocks of it, which is counted down; at 0 there may be more.
static int delete_rows(struct write *w, uint64_t generation, uint32_t *limit)
{
    struct rows_key bytes;
    MDB_cursor *cursor;
    MDB_val key = rows_key(&bytes, generation, SECTION_HEADER, (struct text){0}), data;
    uint64_t g;
    int rc = mdb_cursor_open(w->txn, w->store->rows, &cursor);
    if (rc)
        return rc;
    rc = mdb_cursor_get(cursor, &key, &data, MDB_SET_RANGE);
    while (!rc && *limit && rows_key_generation(&key, &g) && g == generation) {
        rc = mdb_cursor_del(cursor, 0);
        if (!rc)
            rc = mdb_cursor_get(cursor, &key, &data, MDB_NEXT);
        --*limit;
    }
    mdb_cursor_close(cursor);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

static uint64_t generation_of(const MDB_val *key)
{
    uint64_t g = 0;
    for (int i = 0; i < 8; i++)
        g = g << 8 | ((uint8_t *)key->mv_data)[i];
    return g;
}

static bool is_pinned(struct catalogue *c, uint64_t generation)
{
    lock_scope(&c->lock);
    struct pin *p = pin_get(c, generation, false);
    return p && p->count;
}

static int dead_unpinned(struct catalogue *c, uint64_t generations[DEAD_AT_ONCE], size_t *ret_count)
{
    struct read_slot *s;
    MDB_cursor *cursor;
    MDB_val key, data;
    size_t count = 0;
    int rc = read_begin(c, &s);
    if (rc < 0)
        return rc;
    rc = mdb_cursor_open(s->txn, s->store->dead, &cursor);
    if (!rc) {
        while (count < DEAD_AT_ONCE && mdb_cursor_get(cursor, &key, &data, MDB_NEXT) == 0)
            if (key.mv_size == 8 && !is_pinned(c, generation_of(&key)))
                generations[count++] = generation_of(&key);
        mdb_cursor_close(cursor);
    }
    read_end(s);
    *ret_count = count;
    return store_errno(rc);
}

struct tidying {
    const uint64_t *generations;
    size_t count;
    uint32_t limit_blocks;
    bool is_more;
};

static int tidy_body(struct write *w, void *context)
{
    struct tidying *t = context;
    uint32_t limit = t->limit_blocks;
    t->is_more = t->count == DEAD_AT_ONCE;
    for (size_t i = 0; i < t->count; i++) {
        // Since it was looked at it may have been finished and named.
        int rc = dead_has(w, t->generations[i]);
        if (rc == MDB_NOTFOUND || (!rc && !pin_condemn(w, t->generations[i])))
            continue;
        if (!rc)
            rc = delete_rows(w, t->generations[i], &limit);
        if (!rc && limit == 0) {
            t->is_more = true;
            return 0;
        }
        if (!rc)
            rc = dead_remove(w, t->generations[i]);
        if (rc)
            return rc;
    }
    return 0;
}

int catalogue_tidy(struct catalogue *c, uint32_t limit_blocks)
{
    uint64_t generations[DEAD_AT_ONCE];
    struct tidying t = {.generations = generations, .limit_blocks = limit_blocks};
    if (clock_ns() < c->opened_ns + GRACE_NS)
        return 0;
    catalogue_trust(c);
    int r = dead_unpinned(c, generations, &t.count);
    if (r < 0 || t.count == 0)
        return r;
    r = catalogue_write(c, tidy_body, &t);
    return r < 0 ? r : t.is_more;
}

// Emptying.

// Forgets the sets of generations that can be condemned.
static int forget_sets(struct write *w)
{
    MDB_cursor *cursor;
    MDB_val key, data;
    int rc = mdb_cursor_open(w->txn, w->store->sets, &cursor);
    if (rc)
        return rc;
    while ((rc = mdb_cursor_get(cursor, &key, &data, MDB_NEXT)) == 0) {
        uint64_t generation;
        if (set_generation(&data, &generation) && !pin_condemn(w, generation))
            continue;
        rc = mdb_cursor_del(cursor, 0);
        if (rc)
            break;
    }
    mdb_cursor_close(cursor);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

// Deletes the rows of all generations that can be condemned, and nobody's.
static int forget_rows(struct write *w)
{
    uint64_t next = 0;
    for (;;) {
        struct rows_key bytes;
        MDB_cursor *cursor;
        MDB_val key = rows_key(&bytes, next, SECTION_HEADER, (struct text){0}), data;
        int rc = mdb_cursor_open(w->txn, w->store->rows, &cursor);
        if (rc)
            return rc;
        rc = mdb_cursor_get(cursor, &key, &data, MDB_SET_RANGE);
        bool is_key = !rc && rows_key_generation(&key, &next);
        mdb_cursor_close(cursor);
        if (rc || !is_key)
            return rc == MDB_NOTFOUND ? 0 : rc ? rc : MDB_CORRUPTED;
        uint32_t limit = UINT32_MAX;
        if (pin_condemn(w, next) &&
            ((rc = delete_rows(w, next, &limit)) || (rc = dead_remove(w, next))))
            return rc;
        next++;
    }
}

int write_make_room(struct write *w)
{
    int rc = mdb_drop(w->txn, w->store->datasets, 0);
    if (!rc)
        rc = forget_sets(w);
    if (rc)
        return rc;
    return forget_rows(w);
}
