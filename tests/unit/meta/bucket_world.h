// SPDX-License-Identifier: BSD-3-Clause
// A bucket on an origin in memory, for tests: made and unmade for each, asked and waited for.
#pragma once
#include "tests/unit/base/harness.h"

#include <pthread.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "cache/fetcher.h"
#include "cache/origin/origin.h"
#include "meta/bucket.h"
#include "meta/bucket_library.h"

struct world {
    char folder[32];
    struct fetchers *fetchers;
    struct origin *origin;
    struct catalogue *catalogue;
    struct bucket *bucket;
};

static struct world w;

static inline void open_bucket(const char *prefix, int64_t list_ns)
{
    char *why = NULL;
    struct bucket_options o = {
        .origin = w.origin,
        .prefix = prefix,
        .catalogue = w.catalogue,
        .list_ns = list_ns,
        .limit_ns = 10 * NS_PER_S,
        .librarian_count = 6,
    };
    if (w.bucket)
        bucket_close(w.bucket);
    assert_int_equal(bucket_open(&o, &w.bucket, &why), 0);
}

static inline void make_in(const char *folder)
{
    char *why = NULL, *key = NULL;
    struct origin_options o = {0};
    struct fetchers_options f = FETCHERS_OPTIONS_STANDARD;
    w = (struct world){0};
    snprintf(w.folder, sizeof w.folder, "%s", folder);
    assert_int_equal(fetchers_new(&f, &w.fetchers), 0);
    assert_int_equal(origin_open(w.fetchers, "memory://bucket", &o, &w.origin, &key, &why), 0);
    free(key);
    assert_int_equal(catalogue_open(w.folder, 256 << 20, &w.catalogue, &why), 0);
    open_bucket("", 60 * NS_PER_S);
}

static inline int make(void **state)
{
    char folder[] = "/tmp/bucket-XXXXXX";
    (void)state;
    assert_non_null(mkdtemp(folder));
    make_in(folder);
    return 0;
}

static inline int unmake(void **state)
{
    char command[64];
    (void)state;
    bucket_close(w.bucket);
    catalogue_close(w.catalogue);
    origin_unref(w.origin);
    fetchers_free(w.fetchers);
    snprintf(command, sizeof command, "rm -r %s", w.folder);
    return system(command);
}

static inline void put(const char *key, const char *data)
{
    origin_memory_put(w.origin, text_of(key), text_of(data), 5 * NS_PER_S);
}

static inline uint64_t lists(void)
{
    struct origin_memory_count count;
    origin_memory_count(w.origin, &count);
    return count.lists;
}

// ---- asking and waiting

struct sleeper {
    struct waiter waiter;
    pthread_mutex_t mutex;
    pthread_cond_t woken;
    bool is_awake;
    int error;
};

static inline void wake(struct waiter *waiter, int error)
{
    struct sleeper *s = (struct sleeper *)waiter;
    pthread_mutex_lock(&s->mutex);
    s->is_awake = true;
    s->error = error;
    pthread_cond_signal(&s->woken);
    pthread_mutex_unlock(&s->mutex);
}

static inline int wait_for(struct bucket_want *want)
{
    struct sleeper s = {.waiter = {.ready = wake},
                        .mutex = PTHREAD_MUTEX_INITIALIZER,
                        .woken = PTHREAD_COND_INITIALIZER};
    bucket_ask(w.bucket, want, &s.waiter);
    pthread_mutex_lock(&s.mutex);
    while (!s.is_awake)
        pthread_cond_wait(&s.woken, &s.mutex);
    pthread_mutex_unlock(&s.mutex);
    bucket_want_release(want);
    *want = (struct bucket_want){0};
    return s.error;
}

// The statement, again and again until it has what it waits for; `want` must be in scope.
#define ask(statement)                                                                             \
    ({                                                                                             \
        int r_;                                                                                    \
        while ((r_ = (statement)) == -EINPROGRESS && (r_ = wait_for(&want)) == 0)                  \
            ;                                                                                      \
        r_;                                                                                        \
    })

static inline int enter(const char *path, struct bucket_place *ret_place)
{
    struct bucket_want want = {0};
    bucket_root(w.bucket, bucket_fresh(w.bucket), (uint64_t)clock_steady_unix_ns(), ret_place);
    while (*path) {
        size_t n = strcspn(path, "/");
        int r = ask(bucket_enter(ret_place, (struct text){path, n}, &want));
        if (r < 0) {
            bucket_place_release(ret_place);
            return r;
        }
        path += n + (path[n] == '/');
    }
    return 0;
}

// What the path's last name is: 'f' folder, 'o' object, '-' nothing; an object's size in *ret_size.
static inline char look_up(const char *folder, struct text name, int64_t *ret_size)
{
    struct bucket_place p;
    struct bucket_want want = {0};
    struct bucket_entry e;
    BUFFER_CLEANUP scratch = {0};
    if (enter(folder, &p) < 0)
        return '-';
    int r = ask(bucket_lookup(&p, name, &e, &scratch, &want));
    bucket_place_release(&p);
    if (r < 0) {
        assert_int_equal(r, -ENOENT);
        return '-';
    }
    if (ret_size)
        *ret_size = e.size_bytes;
    return e.is_folder ? 'f' : 'o';
}

struct listed {
    struct buffer names; // each with a '/' after a folder, and a newline
    uint64_t count, limit;
    uint64_t cookie;
};

static inline int add_listed(const struct bucket_entry *e, uint64_t cookie, void *context)
{
    struct listed *l = context;
    if (l->count == l->limit)
        return 1;
    buffer_append_text(&l->names, e->name);
    buffer_append_string(&l->names, e->is_folder ? "/\n" : "\n");
    l->count++;
    l->cookie = cookie;
    return 0;
}

// All names, `piece` at a time.
static inline uint64_t list(const char *folder, uint64_t piece, struct buffer *names)
{
    struct bucket_place p;
    struct bucket_want want = {0};
    struct bucket_listing l;
    struct listed listed = {0};
    uint64_t epoch;
    assert_int_equal(enter(folder, &p), 0);
    assert_int_equal(ask(bucket_list_open(&p, &l, &epoch, &want)), 0);
    int r;
    do {
        listed.limit = listed.count + piece;
        r = ask(bucket_list(&p, &l, listed.cookie, add_listed, &listed, &want));
        assert_true(r >= 0);
    } while (r == 1);
    bucket_listing_close(w.bucket, &l);
    bucket_place_release(&p);
    buffer_append_text(names, buffer_text(&listed.names));
    buffer_release(&listed.names);
    return listed.count;
}

static inline void assert_lists(const char *folder, const char *names)
{
    BUFFER_CLEANUP got = {0};
    list(folder, 2, &got);
    assert_string_equal(got.data ? got.data : "", names);
}

static inline void fill(const char *folder, unsigned count)
{
    char key[64];
    for (unsigned i = 0; i < count; i++) {
        snprintf(key, sizeof key, "%s/%06u", folder, i);
        put(key, "x");
    }
}
