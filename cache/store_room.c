// SPDX-License-Identifier: BSD-3-Clause
// store_room: how much of the disk the store takes, and what it does when there is no more.
// 1. used = entries + dying files + blocks being written. Nothing is written that would take it over
//    the room: the limit, or what the file system has less the reserve for others.
// 2. A writer that finds no room evicts what it needs; above the high water mark the keeper evicts
//    down to the low one, so that writers rarely must.
// 3. Evicting unlinks at the object's door, after the entry is gone: who looks the object up then
//    waits and finds nothing.
// 4. A disk that fails, or is full although there is nothing to evict, is left alone for a while
//    (1 s, doubled up to a minute), then tried again. One line when that begins, one when it ends.
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/metric.h"
#include "cache/store_state.h"

#define LOOK_EVERY_BYTES ((uint64_t)64 << 20)
#define EVICT_TRIES 64
#define MAKE_ROOM_BYTES ((uint64_t)16 << 20)
#define TROUBLE_WAIT_MAX_NS (60 * NS_PER_S)
#define COMPLAIN_EVERY_NS (600 * NS_PER_S)

bool store_complaint_due(struct store_complaint *c, int64_t every_ns)
{
    int64_t now = clock_ns();
    bool is_due = now >= c->next_ns;
    if (is_due)
        c->next_ns = now + every_ns;
    return is_due;
}

// ---- sums, under the lock

uint64_t store_used_bytes(const struct block_store *b)
{
    return store_index_bytes(&b->index) + b->dying_bytes + b->reserved_bytes;
}

static uint64_t room_of(const struct block_store *b)
{
    return b->options.limit_bytes < b->room_bytes ? b->options.limit_bytes : b->room_bytes;
}

static uint64_t below_room(const struct block_store *b, uint64_t part, uint64_t max_bytes)
{
    uint64_t room = room_of(b), gap = room / part;
    return room - (gap < max_bytes ? gap : max_bytes);
}

bool store_is_above_high_water(struct block_store *b)
{
    return store_used_bytes(b) > below_room(b, 32, (uint64_t)1 << 30) ||
           b->index.count > b->options.limit_objects;
}

static bool is_above_low_water(struct block_store *b)
{
    return store_used_bytes(b) > below_room(b, 16, (uint64_t)2 << 30) ||
           b->index.count > b->options.limit_objects;
}

void store_count_bytes(struct block_store *b, uint32_t slot, uint64_t disk_bytes)
{
    uint64_t before = store_index_entry(&b->index, slot)->disk_bytes;
    metric_add(METRIC_STORE_BYTES, (int64_t)(disk_bytes - before));
    store_index_resize(&b->index, slot, disk_bytes);
}

void store_forget(struct block_store *b, uint32_t slot)
{
    store_count_bytes(b, slot, 0);
    metric_add(METRIC_STORE_OBJECTS, -1);
    store_index_remove(&b->index, slot);
}

// Of a handle, whether it is dying or not.
static void count_handle(struct block_store *b, struct stored *s, uint64_t disk_bytes)
{
    if (s->slot)
        store_count_bytes(b, s->slot, disk_bytes);
    else
        b->dying_bytes = b->dying_bytes - s->disk_bytes + disk_bytes;
    s->disk_bytes = disk_bytes;
}

void store_charge(struct block_store *b, struct stored *s, uint64_t size_bytes)
{
    lock_scope(&b->lock);
    b->reserved_bytes -= size_bytes;
    count_handle(b, s, s->disk_bytes + size_bytes);
}

void store_unreserve(struct block_store *b, uint64_t size_bytes)
{
    lock_scope(&b->lock);
    b->reserved_bytes -= size_bytes;
}

uint64_t store_reserved_of(uint64_t size_bytes)
{
    return (size_bytes + 4095) / 4096 * 4096;
}

static bool disk_bytes_of(const struct stored *s, uint64_t *ret_bytes)
{
    struct stat data, map;
    if (fstat(s->data_fd, &data) < 0 || fstat(s->map_fd, &map) < 0)
        return false;
    *ret_bytes = ((uint64_t)data.st_blocks + (uint64_t)map.st_blocks) * 512;
    return true;
}

void store_settle(struct stored *s)
{
    uint64_t bytes;
    if (!disk_bytes_of(s, &bytes))
        return;
    lock_scope(&s->store->lock);
    count_handle(s->store, s, bytes);
}

void store_close_account(struct stored *s)
{
    struct block_store *b = s->store;
    uint64_t bytes = s->disk_bytes;
    if (s->is_written)
        disk_bytes_of(s, &bytes);
    lock_scope(&b->lock);
    b->handle_count--;
    if (!s->slot) {
        b->dying_bytes -= s->disk_bytes;
        return;
    }
    // Somebody may have opened it again meanwhile: then the entry is his, or gone.
    uint32_t slot = store_index_find(&b->index, s->version.identity);
    if (slot == s->slot && !stored_is_listed(b, s->version.identity)) {
        store_count_bytes(b, slot, bytes);
        store_index_entry(&b->index, slot)->flags &= (uint8_t)~STORE_ENTRY_OPEN;
    }
}

// ---- the file system

void store_look_at_disk(struct block_store *b)
{
    uint64_t free_bytes;
    if (store_disk_free_bytes(&b->disk, &free_bytes) < 0)
        return;
    lock_scope(&b->lock);
    uint64_t whole = store_used_bytes(b) + free_bytes, reserve = b->options.reserve_bytes;
    b->free_bytes = free_bytes;
    b->room_bytes = whole > reserve ? whole - reserve : 0;
    b->unlooked_bytes = 0;
}

static bool is_disk_full(int error)
{
    return error == -ENOSPC || error == -EDQUOT;
}

void store_trouble(struct block_store *b, int error, const char *what)
{
    bool is_ours = error == -EMFILE || error == -ENFILE || error == -ENOMEM || error == -ESTALE ||
                   error == -EEXIST || error == -EINTR;
    lock_scope(&b->lock);
    if (is_ours) {
        if (store_complaint_due(&b->files, COMPLAIN_EVERY_NS))
            log_warn("cache %s: %s: %s", b->folder, what, strerror(-error));
        return;
    }
    if (atomic_load(&b->trouble) == 0) {
        // A full disk is one trouble, whoever finds it first: refuse() or a write. It comes and goes.
        if (!is_disk_full(error) || store_complaint_due(&b->full, COMPLAIN_EVERY_NS))
            log_error("cache %s: %s: %s; reading goes on without it", b->folder, what,
                      strerror(-error));
        b->trouble_wait_ns = NS_PER_S;
    }
    atomic_store(&b->trouble, error);
    b->trouble_until_ns = clock_ns() + b->trouble_wait_ns;
    b->trouble_wait_ns *= 2;
    if (b->trouble_wait_ns > TROUBLE_WAIT_MAX_NS)
        b->trouble_wait_ns = TROUBLE_WAIT_MAX_NS;
}

void store_write_worked(struct block_store *b)
{
    if (atomic_load_explicit(&b->trouble, memory_order_relaxed) == 0)
        return;
    lock_scope(&b->lock);
    if (atomic_exchange(&b->trouble, 0) != 0)
        log_info("cache %s: can be written again", b->folder);
}

// ---- evicting

// Takes the entry out, if it still may go.
static bool condemn_entry(struct block_store *b, const uint8_t identity[16],
                          struct store_entry *ret_entry)
{
    lock_scope(&b->lock);
    uint32_t slot = store_index_find(&b->index, identity);
    if (!slot)
        return false;
    struct store_entry *e = store_index_entry(&b->index, slot);
    if (e->flags & STORE_ENTRY_OPEN || e->queue == STORE_QUEUE_PINNED)
        return false;
    *ret_entry = *e;
    store_forget(b, slot);
    return true;
}

// Its files could not be deleted.
static void put_back(struct block_store *b, const struct store_entry *e)
{
    lock_scope(&b->lock);
    uint32_t slot = store_index_add(&b->index, e->identity, e->block_count, e->used_s);
    metric_add(METRIC_STORE_OBJECTS, 1);
    store_count_bytes(b, slot, e->disk_bytes);
}

bool store_evict_one(struct block_store *b)
{
    uint8_t identity[16];
    {
        lock_scope(&b->lock);
        uint32_t slot = store_policy_victim(&b->index);
        if (!slot)
            return false;
        memcpy(identity, store_index_entry(&b->index, slot)->identity, sizeof(identity));
    }
    lock_scope(store_door(b, identity));
    struct store_entry entry;
    if (!condemn_entry(b, identity, &entry))
        return true; // somebody came before; look again
    store_ask_no_more(b, identity);
    int r = store_disk_remove(&b->disk, identity);
    if (r < 0) {
        put_back(b, &entry);
        store_trouble(b, r, "deleting a file");
        return false;
    }
    metric_add(METRIC_STORE_EVICTED_OBJECTS, 1);
    metric_add(METRIC_STORE_EVICTED_BYTES, (int64_t)entry.disk_bytes);
    return true;
}

void store_evict_to_low_water(struct block_store *b)
{
    for (;;) {
        {
            lock_scope(&b->lock);
            if (!is_above_low_water(b) || atomic_load(&b->is_closing))
                return;
        }
        if (!store_evict_one(b))
            return;
    }
}

bool store_make_room(struct block_store *b, int error)
{
    if (!is_disk_full(error))
        return false;
    uint64_t free_before = 0, free_now = 0;
    if (store_disk_free_bytes(&b->disk, &free_before) < 0)
        return false;
    bool is_evicted = false;
    for (int i = 0; i < EVICT_TRIES && free_now < free_before + MAKE_ROOM_BYTES; i++) {
        if (!store_evict_one(b))
            break;
        is_evicted = true;
        if (store_disk_free_bytes(&b->disk, &free_now) < 0)
            break;
    }
    store_look_at_disk(b);
    return is_evicted;
}

// ---- reserving

enum room { ROOM, NO_ROOM_YET, NO_ROOM };

static enum room try_reserve(struct block_store *b, const struct stored *s, uint64_t size_bytes)
{
    lock_scope(&b->lock);
    if (atomic_load(&b->trouble) && clock_ns() < b->trouble_until_ns)
        return NO_ROOM;
    // One object, however large and however it is read, leaves half of the cache to the others.
    if (s && s->disk_bytes + size_bytes > b->options.limit_bytes / 2)
        return NO_ROOM;
    if (store_used_bytes(b) + size_bytes > room_of(b))
        return NO_ROOM_YET;
    b->reserved_bytes += size_bytes;
    b->unlooked_bytes += size_bytes;
    if (store_is_above_high_water(b))
        pthread_cond_signal(&b->wake);
    return ROOM;
}

static int refuse(struct block_store *b)
{
    lock_scope(&b->lock);
    if (atomic_load(&b->trouble) == 0 && store_complaint_due(&b->full, COMPLAIN_EVERY_NS))
        log_warn("cache %s: full of what is in use or pinned: reading goes on without it",
                 b->folder);
    return -ENOSPC;
}

int store_reserve(struct block_store *b, struct stored *s, uint64_t size_bytes)
{
    for (int i = 0; i < EVICT_TRIES; i++) {
        enum room room = try_reserve(b, s, size_bytes);
        if (room == NO_ROOM)
            return -ENOSPC;
        if (room == ROOM) {
            bool is_look_due;
            {
                lock_scope(&b->lock);
                is_look_due = b->unlooked_bytes >= LOOK_EVERY_BYTES;
            }
            if (is_look_due)
                store_look_at_disk(b);
            return 0;
        }
        if (!store_evict_one(b))
            break;
    }
    return refuse(b);
}

int store_reserve_object(struct block_store *b)
{
    if (!b->folder)
        return -ENOSPC;
    for (int i = 0; i < EVICT_TRIES; i++) {
        {
            lock_scope(&b->lock);
            if (atomic_load(&b->trouble) && clock_ns() < b->trouble_until_ns)
                return -ENOSPC;
            if (b->index.count < b->options.limit_objects)
                return 0;
        }
        if (!store_evict_one(b))
            break;
    }
    return refuse(b);
}
