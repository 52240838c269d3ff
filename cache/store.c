// SPDX-License-Identifier: BSD-3-Clause
// store: the store as a whole: its life, its keeper, what the operator sees of it.
#include <string.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/metric.h"
#include "cache/store_state.h"

#define USE_WINDOW_S 10               // a user's opens within it are one use
#define ASK_AFTER_NS (45 * NS_PER_S)  // the kernel writes what is 30 s old, every 5 s
#define LOOK_EVERY_NS (10 * NS_PER_S) // at the file system, if a reserve is to be kept

// ---- the keeper

static void *keeper(void *store)
{
    struct block_store *b = store;
    store_count(b);
    while (!atomic_load(&b->is_closing)) {
        store_look_at_disk(b);
        store_evict_to_low_water(b);
        store_do_later(b);
        lock_scope(&b->lock);
        int64_t until = b->options.reserve_bytes ? clock_ns() + LOOK_EVERY_NS : INT64_MAX;
        // Above the mark still: nothing can be evicted now; a moment later, perhaps.
        if (store_is_above_high_water(b))
            until = clock_ns() + NS_PER_S;
        int64_t later = store_later_ns(b);
        until = later < until ? later : until;
        if (!atomic_load(&b->is_closing))
            condition_wait(&b->wake, &b->lock, until);
    }
    return NULL;
}

// ---- life

static struct block_store *store_new(const struct block_store_options *options)
{
    struct block_store *b = new_struct(struct block_store);
    b->options = *options;
    b->room_bytes = options->limit_bytes;
    for (int i = 0; i < STORE_DOORS; i++)
        lock_init(&b->doors[i], LOCK_RANK_STORE_DOOR, "store-door");
    lock_init(&b->lock, LOCK_RANK_STORE, "store");
    condition_init(&b->wake);
    STAILQ_INIT(&b->closing);
    STAILQ_INIT(&b->asked);
    b->ask_after_ns = ASK_AFTER_NS;
    queue_init(&b->checks, "store-checks");
    store_index_init(&b->index, options->limit_bytes, USE_WINDOW_S);
    return b;
}

static void store_free(struct block_store *b)
{
    metric_add(METRIC_STORE_BYTES, -(int64_t)store_index_bytes(&b->index));
    metric_add(METRIC_STORE_OBJECTS, -(int64_t)b->index.count);
    store_index_release(&b->index);
    table_release(&b->handles);
    queue_release(&b->checks);
    pthread_cond_destroy(&b->wake);
    lock_release_memory(&b->lock);
    for (int i = 0; i < STORE_DOORS; i++)
        lock_release_memory(&b->doors[i]);
    free(b->folder);
    free(b);
}

static void stop_checker(struct block_store *b)
{
    atomic_store(&b->is_closing, true);
    queue_close(&b->checks);
    pthread_join(b->checker, NULL);
}

static int start_threads(struct block_store *b)
{
    int r = thread_start(&b->checker, "store-checker", store_checker, b);
    if (r < 0)
        return r;
    r = thread_start(&b->keeper, "store-keeper", keeper, b);
    if (r < 0)
        stop_checker(b);
    return r;
}

int block_store_open(const struct block_store_options *options, struct block_store **ret_store,
                     char **ret_why)
{
    struct block_store *b = store_new(options);
    const char *why = NULL;
    int r = store_disk_open(options->folder, options->faults, &b->disk, &why);
    if (r == 0) {
        b->folder = memory_copy(options->folder, strlen(options->folder));
        b->options.folder = b->folder;
        store_look_at_disk(b);
        why = "can't start its threads";
        r = start_threads(b);
        if (r < 0)
            store_disk_close(&b->disk);
    }
    if (r < 0) {
        BUFFER_CLEANUP text = {0};
        buffer_format(&text, "cache %s: %s: %s", options->folder, why, strerror(-r));
        *ret_why = buffer_steal(&text);
        store_free(b);
        return r;
    }
    *ret_store = b;
    return 0;
}

struct block_store *block_store_open_none(void)
{
    return store_new(&(struct block_store_options){0});
}

void block_store_close(struct block_store *b)
{
    if (!b)
        return;
    if (b->folder) {
        stop_checker(b);
        {
            lock_scope(&b->lock);
            pthread_cond_broadcast(&b->wake);
        }
        pthread_join(b->keeper, NULL);
        store_forget_later(b);
        check(b->handle_count == 0 && b->reserved_bytes == 0 && b->dying_bytes == 0);
        store_leave_summary(b);
        store_disk_close(&b->disk);
    }
    store_free(b);
}

// ---- the operator's hand

static bool entry_at(struct block_store *b, uint64_t *cursor, uint8_t ret_identity[16])
{
    lock_scope(&b->lock);
    if (*cursor >= b->index.slot_end)
        return false;
    uint32_t slot = store_index_next(&b->index, (uint32_t)*cursor);
    if (!slot)
        return false;
    memcpy(ret_identity, store_index_entry(&b->index, slot)->identity, 16);
    *cursor = (uint64_t)slot + 1;
    return true;
}

static void describe(struct block_store *b, struct stored *s, struct stored_info *ret_info)
{
    *ret_info = (struct stored_info){
        .version = &s->version,
        .block_count = s->block_count,
        .blocks_present = stored_blocks_present(s),
        .is_complete = stored_state(s) == STORED_COMPLETE,
        .is_pinned = stored_is_pinned(s),
    };
    lock_scope(&b->lock);
    ret_info->disk_bytes = s->disk_bytes;
    ret_info->is_open = s->refs > 1;
}

uint32_t block_store_list(struct block_store *b, uint64_t *cursor, uint32_t max,
                          void (*each)(const struct stored_info *info, void *context),
                          void *context)
{
    uint32_t given = 0;
    uint8_t identity[16];
    while (given < max && entry_at(b, cursor, identity)) {
        cleanup(cleanup_stored_unref) struct stored *s = NULL;
        if (block_store_find(b, identity, &s) < 0)
            continue;
        struct stored_info info;
        describe(b, s, &info);
        each(&info, context);
        given++;
    }
    return given;
}

void block_store_status(struct block_store *b, struct block_store_status *ret_status)
{
    lock_scope(&b->lock);
    *ret_status = (struct block_store_status){
        .folder = b->folder,
        .limit_bytes = b->options.limit_bytes,
        .used_bytes = store_used_bytes(b),
        .dying_bytes = b->dying_bytes,
        .pinned_bytes = b->index.queues[STORE_QUEUE_PINNED].blocks * CACHE_BLOCK_BYTES,
        .pin_limit_bytes = b->options.pin_limit_bytes,
        .free_bytes = b->free_bytes,
        .reserve_bytes = b->options.reserve_bytes,
        .limit_objects = b->options.limit_objects,
        .objects = b->index.count,
        .open_objects = b->handle_count,
        .is_counted = b->is_counted || !b->folder,
        .trouble = atomic_load(&b->trouble),
        .scrubbed_bytes = b->scrubbed_bytes,
        .scrubbed_unix_ns = b->scrubbed_unix_ns,
    };
}
