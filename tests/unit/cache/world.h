// SPDX-License-Identifier: BSD-3-Clause
// world: an origin in memory, a cache before it (with a disk or without), and callers who wait. Objects' bytes follow
// from their seed, so that every test can say what is right.
#pragma once
#include "tests/unit/base/harness.h"

#include <errno.h>
#include <ftw.h>
#include <pthread.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/metric.h"
#include "cache/cache.h"
#include "cache/fetcher.h"
#include "cache/origin/origin.h"
#include "cache/store.h"

#define KIB ((size_t)1024)
#define MIB (KIB * 1024)
#define BLOCK CACHE_BLOCK_BYTES
#define FOR_EVER INT64_MAX

struct world {
    char folder[64];
    struct fetchers *fetchers;
    struct origin *origin;
    struct cache_options options;
    struct cache *cache;
};

static void world_start(struct world *w)
{
    w->cache = cache_new(&w->options);
}

static void world_restart(struct world *w)
{
    cache_free(w->cache);
    world_start(w);
}

static int world_new(void **state)
{
    struct world *w = new_struct(struct world);
    char *key = NULL, *why = NULL;
    strcpy(w->folder, "/tmp/butlerfs-cache-XXXXXX");
    assert_non_null(mkdtemp(w->folder));
    assert_int_equal(fetchers_new(&FETCHERS_OPTIONS_STANDARD, &w->fetchers), 0);
    assert_int_equal(origin_open(w->fetchers, "memory://tests", &(struct origin_options){0},
                                 &w->origin, &key, &why), 0);
    free(key);
    w->options = CACHE_OPTIONS_STANDARD;
    w->options.folder = w->folder;
    w->options.reserve_bytes = 0;
    w->options.scrub_bytes_per_s = 0;
    w->options.limit_ns = 10 * NS_PER_S;
    log_level_set(LOG_LEVEL_ERROR);
    world_start(w);
    *state = w;
    return 0;
}

static int world_remove_one(const char *path, const struct stat *st, int kind, struct FTW *walk)
{
    return remove(path);
}

static int world_end(void **state)
{
    struct world *w = *state;
    if (metric_get(METRIC_OPEN_OBJECTS)) { // the test failed, and says why after this
        metric_add(METRIC_OPEN_OBJECTS, -metric_get(METRIC_OPEN_OBJECTS));
        return 0;
    }
    cache_free(w->cache);
    origin_unref(w->origin);
    fetchers_free(w->fetchers);
    nftw(w->folder, world_remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(w);
    return 0;
}

#define test_in_world(t) cmocka_unit_test_setup_teardown(t, world_new, world_end)

// ---- objects

static inline unsigned char byte_of(uint64_t seed, uint64_t at)
{
    uint64_t word = (at / 8 + 1) * (seed * 2 + 1) * UINT64_C(0x9E3779B97F4A7C15);
    return (unsigned char)((word ^ word >> 29) >> (at % 8 * 8));
}

static void bytes_fill(uint64_t seed, uint64_t from, unsigned char *to, size_t size_bytes)
{
    for (size_t i = 0; i < size_bytes; i++)
        to[i] = byte_of(seed, from + i);
}

static void world_put(struct world *w, const char *key, uint64_t seed, size_t size_bytes)
{
    unsigned char *data = memory_new(size_bytes + 1);
    bytes_fill(seed, 0, data, size_bytes);
    origin_memory_put(w->origin, text_of(key), (struct text){(char *)data, size_bytes},
                      1000000000 + (int64_t)seed);
    free(data);
}

static inline struct object object_of(struct world *w, const char *key)
{
    return (struct object){.origin = w->origin, .key = text_of(key),
                           .size_bytes = OBJECT_SIZE_UNKNOWN, .fresh_for_ns = FOR_EVER};
}

static inline struct origin_memory_count counted(struct world *w)
{
    struct origin_memory_count c;
    origin_memory_count(w->origin, &c);
    return c;
}

// ---- waiting

struct patient {
    struct cache_waiter waiter;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool is_ready;
    int error;
};

static void patient_ready(struct cache_waiter *waiter, int error)
{
    struct patient *p = (struct patient *)waiter;
    pthread_mutex_lock(&p->mutex);
    p->is_ready = true;
    p->error = error;
    pthread_cond_signal(&p->changed);
    pthread_mutex_unlock(&p->mutex);
}

// 0: ask again.
static int wait_for(struct world *w, struct cache_want *want)
{
    struct patient p = {.waiter.ready = patient_ready, .mutex = PTHREAD_MUTEX_INITIALIZER,
                        .changed = PTHREAD_COND_INITIALIZER};
    int r = cache_ask(w->cache, want, &p.waiter);
    if (r != -EINPROGRESS)
        return r;
    pthread_mutex_lock(&p.mutex);
    while (!p.is_ready)
        pthread_cond_wait(&p.changed, &p.mutex);
    pthread_mutex_unlock(&p.mutex);
    return p.error;
}

static int open_object(struct world *w, const struct object *object, struct cached **ret_handle)
{
    struct cache_want want = {0};
    int64_t fresh = clock_ns();
    int r;
    while ((r = cache_open(w->cache, object, fresh, ret_handle, &want, NULL)) == -EINPROGRESS)
        if ((r = wait_for(w, &want)) < 0)
            break;
    cache_want_release(&want);
    return r;
}

static inline struct cached *opened(struct world *w, const char *key)
{
    struct object object = object_of(w, key);
    struct cached *h = NULL;
    assert_int_equal(open_object(w, &object, &h), 0);
    return h;
}

static ssize_t read_at(struct world *w, struct cached *h, int64_t offset, unsigned char *to,
                       size_t size_bytes)
{
    struct cache_want want = {0};
    struct cached_view v;
    int r;
    while ((r = cached_read(h, offset, size_bytes, &v, &want)) == -EINPROGRESS)
        if ((r = wait_for(w, &want)) < 0)
            break;
    cache_want_release(&want);
    if (r < 0)
        return r;
    ssize_t done = 0;
    for (uint32_t i = 0; i < v.count; i++) {
        memcpy(to + done, v.pieces[i].iov_base, v.pieces[i].iov_len);
        done += (ssize_t)v.pieces[i].iov_len;
    }
    assert_int_equal(done, v.size_bytes);
    cached_view_release(&v);
    return done;
}

// Whether these bytes of it are those of the seed.
static inline bool reads_right(struct world *w, struct cached *h, uint64_t seed, int64_t offset,
                               size_t size_bytes)
{
    unsigned char *bytes = memory_new(size_bytes);
    bool is_right = read_at(w, h, offset, bytes, size_bytes) == (ssize_t)size_bytes;
    for (size_t i = 0; i < size_bytes && is_right; i++)
        is_right = bytes[i] == byte_of(seed, (uint64_t)offset + i);
    free(bytes);
    return is_right;
}

static inline void read_through(struct world *w, struct cached *h, uint64_t seed, size_t size_bytes,
                                size_t step)
{
    for (size_t at = 0; at < size_bytes; at += step)
        assert_true(reads_right(w, h, seed, (int64_t)at,
                                size_bytes - at < step ? size_bytes - at : step));
}

// Until it holds, or too long.
#define assert_soon(condition)                                                                     \
    do {                                                                                           \
        int64_t until_ = clock_ns() + 10 * NS_PER_S;                                               \
        while (!(condition) && clock_ns() < until_)                                                \
            usleep(1000);                                                                          \
        assert_true(condition);                                                                    \
    } while (0)
