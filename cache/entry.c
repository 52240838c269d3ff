// SPDX-License-Identifier: BSD-3-Clause
// entry.c: which objects are known, their versions, their lives. Who waits for them: entry_wait.c.
#include "cache/entry.h"

#include <errno.h>
#include <stdio.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/metric.h"
#include "cache/flight.h"
#include "cache/store.h"
#include "cache/whole.h"

#define STORE_AGAIN_NS NS_PER_S          // a store that refused an object is asked again
#define REFUSAL_HOLDS_NS NS_PER_S        // it isn't there, or not for us
#define TROUBLE_HOLDS_NS (NS_PER_S / 10) // anything else

// ---- identity and version

void object_identity(const struct object *object, uint8_t ret_identity[16])
{
    BUFFER_CLEANUP bytes = {0};
    buffer_append_text(&bytes, origin_identity(object->origin));
    buffer_append_byte(&bytes, 0);
    buffer_append_text(&bytes, object->key);
    if (object->version.size_bytes) {
        buffer_append_byte(&bytes, 0);
        buffer_append_text(&bytes, object->version);
    }
    hash128(bytes.data, bytes.size_bytes, ret_identity);
}

static uint64_t identity_hash(const uint8_t identity[16])
{
    uint64_t hash;
    memcpy(&hash, identity, sizeof(hash));
    return hash;
}

static bool is_of_identity(uint64_t value, const void *key, void *context)
{
    return memcmp(((const struct cache_entry *)(uintptr_t)value)->identity, key, 16) == 0;
}

bool version_is(const struct version *a, const struct version *b)
{
    if (a->size_bytes != b->size_bytes)
        return false;
    if (a->validator.size_bytes && b->validator.size_bytes)
        return text_equal(a->validator, b->validator);
    return !a->mtime_unix_ns || !b->mtime_unix_ns || a->mtime_unix_ns == b->mtime_unix_ns;
}

// What the store goes by. Without an ETag the time has to do; without both nothing is kept on the disk.
static bool version_store_validator(const struct version *v, struct buffer *to)
{
    if (v->validator.size_bytes)
        buffer_append_text(to, v->validator);
    else if (v->mtime_unix_ns)
        buffer_format(to, "mtime:%lld", (long long)v->mtime_unix_ns);
    return to->size_bytes > 0;
}

uint32_t entry_block_count(const struct cache_entry *e)
{
    return (uint32_t)(((uint64_t)e->version.size_bytes + CACHE_BLOCK_BYTES - 1) / CACHE_BLOCK_BYTES);
}

uint32_t entry_block_bytes(const struct cache_entry *e, uint32_t block)
{
    uint64_t from = (uint64_t)block * CACHE_BLOCK_BYTES;
    uint64_t rest = (uint64_t)e->version.size_bytes - from;
    return rest < CACHE_BLOCK_BYTES ? (uint32_t)rest : (uint32_t)CACHE_BLOCK_BYTES;
}

// ---- states

void entry_move(struct cache_entry *e, enum entry_state to)
{
    static const bool is_legal[4][4] = {
        [ENTRY_ABSENT] = {[ENTRY_PARTIAL] = true, [ENTRY_DYING] = true},
        [ENTRY_PARTIAL] = {[ENTRY_COMPLETE] = true, [ENTRY_DYING] = true},
        [ENTRY_COMPLETE] = {[ENTRY_PARTIAL] = true, [ENTRY_DYING] = true},
    };
    check(is_legal[e->state][to]);
    e->state = to;
}

static void version_set(struct cache_entry *e, const struct version *v)
{
    e->validator = memory_copy(v->validator.data, v->validator.size_bytes);
    e->version = *v;
    e->version.validator.data = e->validator;
    entry_move(e, ENTRY_PARTIAL);
}

bool entry_learn(struct cache_entry *e, const struct version *said)
{
    check(lock_is_held(&e->lock));
    if (e->state != ENTRY_ABSENT)
        return version_is(&e->version, said);
    version_set(e, said);
    return true;
}

bool entry_has(struct cache_entry *e, uint32_t block)
{
    return pool_has(e->cache->pool, atomic_load(&e->serial), block) || (e->stored && stored_has(e->stored, block));
}

void entry_failed(struct cache_entry *e, int error, const char *why)
{
    check(lock_is_held(&e->lock) && error < 0);
    e->error = error;
    e->error_ns = clock_ns();
    e->failures++;
    free(e->why);
    e->why = why ? memory_copy(why, strlen(why)) : NULL;
}

bool entry_is_failing(const struct cache_entry *e)
{
    if (!e->failures)
        return false;
    bool is_refusal = e->error == -EACCES || e->error == -ENOENT;
    return clock_ns() - e->error_ns < (is_refusal ? REFUSAL_HOLDS_NS : TROUBLE_HOLDS_NS);
}

// ---- lives

static struct cache_entry *entry_new(struct cache *c, struct origin *origin, struct text key, struct text version_id,
                                     const uint8_t identity[16])
{
    struct cache_entry *e = new_struct(struct cache_entry);
    e->cache = c;
    atomic_init(&e->serial, atomic_fetch_add(&c->serials, 1) + 1);
    memcpy(e->identity, identity, 16);
    e->origin = origin_ref(origin);
    e->key = memory_copy(key.data, key.size_bytes);
    e->key_text = (struct text){e->key, key.size_bytes};
    e->version_id = memory_copy(version_id.data, version_id.size_bytes);
    e->version_id_text = (struct text){e->version_id, version_id.size_bytes};
    atomic_init(&e->references, 1);
    lock_init(&e->lock, LOCK_RANK_ENTRY, "entry");
    TAILQ_INIT(&e->flights);
    LIST_INIT(&e->handles);
    return e;
}

// Nobody refers to it any more, no list has it.
static void entry_free(struct cache_entry *e)
{
    check(TAILQ_EMPTY(&e->flights) && LIST_EMPTY(&e->handles) && !e->waiters && !e->asking);
    pool_forget(e->cache->pool, atomic_load(&e->serial));
    if (e->stored)
        stored_unref(e->stored);
    origin_unref(e->origin);
    lock_release_memory(&e->lock);
    free(e->key);
    free(e->version_id);
    free(e->validator);
    free(e->checksum);
    free(e->why);
    free(e);
}

// Under the cache's lock.
static void entry_unlist(struct cache *c, struct cache_entry *e)
{
    check(table_remove(&c->entries, identity_hash(e->identity), (uint64_t)(uintptr_t)e));
    e->is_listed = false;
    c->entry_count--;
    if (atomic_load(&e->references) == 0) {
        TAILQ_REMOVE(&c->idle, e, idle);
        c->idle_count--;
    }
}

static struct cache_entry *entry_look(struct cache *c, const uint8_t identity[16])
{
    struct cache_entry *e = (struct cache_entry *)(uintptr_t)table_find(
        &c->entries, identity_hash(identity), is_of_identity, identity, NULL);
    if (e && atomic_fetch_add(&e->references, 1) == 0) {
        TAILQ_REMOVE(&c->idle, e, idle);
        c->idle_count--;
    }
    return e;
}

struct cache_entry *entry_find(struct cache *c, const uint8_t identity[16])
{
    lock_scope(&c->lock);
    return entry_look(c, identity);
}

struct cache_entry *entry_ref(struct cache_entry *e)
{
    check(atomic_fetch_add(&e->references, 1) > 0);
    return e;
}

// The last reference is gone: idle, and who is idle for the longest time leaves, or not listed. Under the
// cache's lock; returns who is to be freed. An idle entry gives up what it has in the store, so that it can be evicted.
static struct cache_entry *entry_rest(struct cache *c, struct cache_entry *e,
                                      struct stored **ret_given_up)
{
    if (!e->is_listed)
        return e;
    lock_acquire(&e->lock);
    *ret_given_up = take(e->stored);
    lock_release(&e->lock);
    TAILQ_INSERT_TAIL(&c->idle, e, idle);
    if (++c->idle_count <= c->options.idle_objects)
        return NULL;
    struct cache_entry *gone = TAILQ_FIRST(&c->idle);
    entry_unlist(c, gone);
    return gone;
}

void entry_unref(struct cache_entry *e)
{
    struct cache *c = e->cache;
    struct cache_entry *gone = NULL;
    struct stored *given_up = NULL;
    unsigned references = atomic_load(&e->references);
    while (references > 1)
        if (atomic_compare_exchange_weak(&e->references, &references, references - 1))
            return;
    lock_acquire(&c->lock);
    references = atomic_fetch_sub(&e->references, 1);
    check(references > 0);
    if (references == 1)
        gone = entry_rest(c, e, &given_up);
    lock_release(&c->lock);
    if (given_up)
        stored_unref(given_up);
    if (gone)
        entry_free(gone);
}

void entries_release(struct cache *c)
{
    struct cache_entry *e;
    while ((e = TAILQ_FIRST(&c->idle))) {
        lock_acquire(&c->lock);
        entry_unlist(c, e);
        lock_release(&c->lock);
        entry_free(e);
    }
    check(c->entry_count == 0); // no handle, want or flight is left
    table_release(&c->entries);
}

// Puts it in the table; if another came there meanwhile that one, and `e` is gone.
static struct cache_entry *entry_list(struct cache_entry *e)
{
    struct cache *c = e->cache;
    lock_acquire(&c->lock);
    struct cache_entry *other = entry_look(c, e->identity);
    if (!other) {
        table_add(&c->entries, identity_hash(e->identity), (uint64_t)(uintptr_t)e);
        e->is_listed = true;
        c->entry_count++;
    }
    lock_release(&c->lock);
    if (!other)
        return e;
    entry_unref(e);
    return other;
}

// ---- death

// What is known of an object whose old version died at its origin: that listings from before are outdated.
static void successor_make(struct cache_entry *e)
{
    struct cache_entry *next = entry_new(e->cache, e->origin, e->key_text, e->version_id_text, e->identity);
    next->disproved_unix_ns = clock_steady_unix_ns();
    entry_unref(entry_list(next));
}

void entry_doom(struct cache_entry *e, bool by_origin)
{
    check(lock_is_held(&e->lock));
    if (e->state == ENTRY_DYING)
        return;
    entry_move(e, ENTRY_DYING);
    e->is_replaced = by_origin;
    e->wanted_bytes = 0;
    e->is_warming = false;
}

void entry_die(struct cache_entry *e, bool by_origin)
{
    struct cache *c = e->cache;
    struct wake_list blocks = {0}, others = {0};
    struct flight_list gone = {0};
    lock_acquire(&c->lock);
    if (e->is_listed)
        entry_unlist(c, e);
    lock_release(&c->lock);
    lock_acquire(&e->lock);
    entry_doom(e, by_origin);
    bool is_first = !e->is_buried;
    e->is_buried = true;
    struct stored *stored = is_first && e->stored ? stored_ref(e->stored) : NULL;
    flights_cancel_all(e, &gone);
    entry_take_waiters(e, CACHE_WANT_BLOCKS, 0, UINT32_MAX, &blocks);
    entry_take_waiters(e, CACHE_WANT_WHOLE, 0, UINT32_MAX, &blocks);
    entry_take_waiters(e, CACHE_WANT_VERSION, 0, UINT32_MAX, &others);
    entry_take_waiters(e, CACHE_WANT_RECALL, 0, UINT32_MAX, &others);
    lock_release(&e->lock);
    flights_free_gone(&gone);
    if (stored) {
        stored_drop(stored);
        stored_unref(stored);
    }
    if (is_first && e->is_replaced) {
        metric_add(METRIC_OBJECTS_REPLACED, 1);
        successor_make(e);
    }
    wake(&blocks, -ESTALE);
    wake(&others, 0); // they ask again, and find the next one
}

// ---- the store

struct stored *entry_stored(struct cache_entry *e)
{
    struct cache *c = e->cache;
    BUFFER_CLEANUP validator = {0};
    lock_acquire(&e->lock);
    struct stored *s = e->stored;
    if (s && (e->state == ENTRY_DYING || stored_state(s) != STORED_DYING)) {
        stored_ref(s);
        lock_release(&e->lock);
        return s;
    }
    struct stored *lost = whole_lost(e);
    bool may_store = c->has_store && e->state != ENTRY_DYING && e->state != ENTRY_ABSENT &&
                     e->version.size_bytes > 0 &&
                     clock_ns() - e->store_refused_ns > STORE_AGAIN_NS;
    struct text checksum = text_of(e->checksum);
    BUFFER_CLEANUP checksum_copy = {0};
    buffer_append_text(&checksum_copy, checksum);
    lock_release(&e->lock);
    if (lost)
        stored_unref(lost);
    if (!may_store || !version_store_validator(&e->version, &validator))
        return NULL;
    const struct stored_version version = {
        .origin = origin_identity(e->origin),
        .key = e->key_text,
        .validator = buffer_text(&validator),
        .size_bytes = (uint64_t)e->version.size_bytes,
        .mtime_ns = e->version.mtime_unix_ns,
        .checksum = buffer_text(&checksum_copy),
    };
    struct stored_version named = version;
    memcpy(named.identity, e->identity, 16);
    struct stored *made = NULL;
    int r = block_store_create(c->store, &named, &made);
    lock_acquire(&e->lock);
    struct stored *old = NULL, *nobodys = NULL;
    if (r < 0) {
        e->store_refused_ns = clock_ns();
    } else if (e->state == ENTRY_DYING) { // meanwhile: what was made is nobody's, and would be found
        nobodys = take(made);
    } else if (e->stored && e->stored != made && stored_state(e->stored) != STORED_DYING) {
        old = made; // it was evicted meanwhile, and another thread has made the next one
        made = stored_ref(e->stored);
    } else {
        old = e->stored; // NULL, evicted, or the same: another thread made it
        e->stored = made;
        stored_ref(made);
    }
    lock_release(&e->lock);
    if (old)
        stored_unref(old);
    if (nobodys) {
        stored_drop(nobodys);
        stored_unref(nobodys);
    }
    return made;
}

// ---- finding and making

static struct version version_of_stored(const struct stored_version *v)
{
    struct version version = {(int64_t)v->size_bytes, v->mtime_ns, v->validator};
    if (text_begins(v->validator, TEXT("mtime:")))
        version.validator = TEXT("");
    return version;
}

static struct version version_of_object(const struct object *object)
{
    return (struct version){object->size_bytes, object->mtime_unix_ns, object->validator};
}

static bool object_has_version(const struct object *object)
{
    return object->validator.size_bytes && object->size_bytes >= 0;
}

static void entry_confirm_by(struct cache_entry *e, const struct object *object)
{
    if (object->seen_unix_ns <= e->confirmed_unix_ns)
        return;
    int64_t age = clock_steady_unix_ns() - object->seen_unix_ns;
    e->confirmed_unix_ns = object->seen_unix_ns;
    e->confirmed_ns = clock_ns() - (age > 0 ? age : 0);
}

// A listing without validators confirms what it doesn't contradict, of an object that has none: size, and time as far as
// HTTP says it.
static bool is_listed_so(const struct cache_entry *e, const struct object *object)
{
    return object->seen_unix_ns && e->state != ENTRY_ABSENT && !e->version.validator.size_bytes &&
           object->size_bytes == e->version.size_bytes && e->version.mtime_unix_ns &&
           object->mtime_unix_ns / NS_PER_S == e->version.mtime_unix_ns / NS_PER_S;
}

// Takes over what the listing says. false: it says that this entry is outdated.
static bool entry_agrees(struct cache_entry *e, const struct object *object)
{
    lock_scope(&e->lock);
    if (object->checksum.size_bytes && !e->checksum && !e->mismatches)
        e->checksum = memory_copy(object->checksum.data, object->checksum.size_bytes);
    if (!object_has_version(object)) {
        if (is_listed_so(e, object))
            entry_confirm_by(e, object);
        return true;
    }
    const struct version said = version_of_object(object);
    bool is_believed = object->is_exact || object->seen_unix_ns > e->disproved_unix_ns;
    if (e->state == ENTRY_ABSENT) {
        if (is_believed && !e->asking) {
            version_set(e, &said);
            entry_confirm_by(e, object);
        }
        return true;
    }
    if (version_is(&e->version, &said)) {
        entry_confirm_by(e, object);
        return true;
    }
    return !object->is_exact &&
           (!is_believed || object->seen_unix_ns <= e->confirmed_unix_ns);
}

// Of a handle of an earlier life, whose version is not the current one any more: it has what is open
// of it, that is nothing.
static struct cache_entry *entry_outdated(struct cache *c, const struct object *object,
                                          const uint8_t identity[16])
{
    struct cache_entry *e = entry_new(c, object->origin, object->key, object->version, identity);
    const struct version said = version_of_object(object);
    lock_scope(&e->lock);
    version_set(e, &said);
    entry_move(e, ENTRY_DYING);
    return e;
}

// What an idle entry gave up, if it is still there.
static void entry_reattach(struct cache_entry *e)
{
    struct stored *s = NULL;
    if (!e->cache->has_store)
        return;
    lock_acquire(&e->lock);
    bool is_without = !e->stored && (e->state == ENTRY_PARTIAL || e->state == ENTRY_COMPLETE);
    lock_release(&e->lock);
    if (!is_without)
        return;
    if (block_store_find(e->cache->store, e->identity, &s) == 0) {
        const struct version has = version_of_stored(stored_version(s));
        if (!version_is(&e->version, &has)) {
            stored_unref(s);
            s = NULL;
        }
    }
    lock_acquire(&e->lock);
    if (e->stored || e->state == ENTRY_DYING) {
        lock_release(&e->lock);
        if (s)
            stored_unref(s);
        return;
    }
    e->stored = s;
    if (!s && e->state == ENTRY_COMPLETE)
        entry_move(e, ENTRY_PARTIAL); // it was evicted
    lock_release(&e->lock);
}

static struct cache_entry *entry_make(struct cache *c, const struct object *object,
                                      const uint8_t identity[16])
{
    struct cache_entry *e = entry_new(c, object->origin, object->key, object->version, identity);
    struct stored *s = NULL;
    if (!c->has_store || block_store_find(c->store, identity, &s) < 0)
        return entry_list(e);
    const struct version has = version_of_stored(stored_version(s));
    const struct version said = version_of_object(object);
    if (object_has_version(object) && !version_is(&has, &said)) {
        stored_unref(s); // replaced when the first block of this version comes
        return entry_list(e);
    }
    lock_acquire(&e->lock);
    version_set(e, &has);
    e->stored = s;
    if (stored_state(s) == STORED_FULL || stored_state(s) == STORED_COMPLETE)
        entry_move(e, ENTRY_COMPLETE);
    lock_release(&e->lock);
    return entry_list(e);
}

// Completes a death that another thread has begun.
static bool entry_is_dead(struct cache_entry *e)
{
    lock_acquire(&e->lock);
    bool is_dying = e->state == ENTRY_DYING;
    lock_release(&e->lock);
    if (is_dying)
        entry_die(e, false);
    return is_dying;
}

struct cache_entry *entry_get(struct cache *c, const struct object *object)
{
    uint8_t identity[16];
    object_identity(object, identity);
    for (;;) {
        struct cache_entry *e = entry_find(c, identity);
        if (!e)
            e = entry_make(c, object, identity);
        entry_reattach(e);
        whole_look(e); // what was on the disk may have been evicted
        bool is_dead = entry_is_dead(e);
        if (!is_dead && entry_agrees(e, object))
            return e;
        if (!is_dead && !object->is_exact)
            entry_die(e, false);
        entry_unref(e);
        if (!is_dead && object->is_exact)
            return entry_outdated(c, object, identity);
    }
}
