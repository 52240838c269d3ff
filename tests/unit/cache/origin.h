// SPDX-License-Identifier: BSD-3-Clause
// What the tests of origins share: fetchers, an origin, requests that are waited for and keep what they were given.
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/lock.h"
#include "cache/fetcher.h"
#include "cache/origin/origin.h"

#define run_group(tests) cmocka_run_group_tests_name(__BASE_FILE__, tests, NULL, NULL)

static inline struct fetchers *fetchers_of(const struct fetchers_options *options)
{
    struct fetchers *all;
    assert_int_equal(fetchers_new(options, &all), 0);
    return all;
}

static inline struct fetchers *some_fetchers(void)
{
    struct fetchers_options options = FETCHERS_OPTIONS_STANDARD;
    return fetchers_of(&options);
}

static inline struct origin *opened(struct fetchers *all, const char *uri, const struct origin_options *options)
{
    static const struct origin_options none;
    struct origin *o;
    char *why = NULL;
    int error = origin_open(all, uri, options ? options : &none, &o, NULL, &why);
    if (error)
        fail_msg("%s: %s", uri, why);
    return o;
}

// A request and all that came of it.
struct asked {
    struct origin_request request; // the first
    struct lock lock;
    pthread_cond_t changed;
    // Under the lock.
    struct buffer bytes;
    struct buffer entries;         // a line each: "key size validator\n" or "prefix\n"
    char *why;
    char *validator;
    char *token;
    struct origin_answer answer;   // no texts
    uint32_t begins, dones;
    int64_t begin_size_bytes;
    // What the callbacks do.
    int sink_error, begin_error, each_error;
    bool pauses;                   // once
    bool is_paused;
    int64_t first_byte_ns;
};

static inline char *asked_copy(struct text t)
{
    return memory_copy(t.data, t.size_bytes);
}

static inline int asked_begin(struct origin_request *r, const struct origin_answer *a)
{
    struct asked *k = (struct asked *)r;
    lock_scope(&k->lock);
    k->begins++;
    k->begin_size_bytes = a->size_bytes;
    return k->begin_error;
}

static inline int asked_sink(struct origin_request *r, const void *data, size_t size_bytes)
{
    struct asked *k = (struct asked *)r;
    lock_scope(&k->lock);
    if (!k->first_byte_ns)
        k->first_byte_ns = clock_ns();
    if (k->pauses) {
        k->pauses = false;
        k->is_paused = true;
        pthread_cond_broadcast(&k->changed);
        return ORIGIN_PAUSE;
    }
    if (k->sink_error)
        return k->sink_error;
    buffer_append(&k->bytes, data, size_bytes);
    return 0;
}

static inline int asked_each(struct origin_request *r, const struct origin_entry *e)
{
    struct asked *k = (struct asked *)r;
    lock_scope(&k->lock);
    buffer_append_text(&k->entries, e->key);
    if (!e->is_prefix)
        buffer_format(&k->entries, " %lld %.*s", (long long)e->size_bytes, (int)e->validator.size_bytes,
                      e->validator.data);
    buffer_append_byte(&k->entries, '\n');
    return k->each_error;
}

static inline void asked_done(struct origin_request *r, const struct origin_answer *a)
{
    struct asked *k = (struct asked *)r;
    lock_scope(&k->lock);
    k->answer = *a;
    free(k->why);
    free(k->validator);
    free(k->token);
    k->why = a->why ? memory_copy(a->why, strlen(a->why)) : NULL;
    k->validator = asked_copy(a->validator);
    k->token = asked_copy(a->token);
    k->dones++;
    pthread_cond_broadcast(&k->changed);
}

static inline struct asked *asked_new(enum origin_verb verb, const char *key)
{
    struct asked *k = new_struct(struct asked);
    lock_init(&k->lock, LOCK_RANK_HANDLE, "asked"); // cancelled under it, as the engine does
    condition_init(&k->changed);
    k->request = (struct origin_request){
        .verb = verb,
        .key = text_of(key),
        .size_bytes = ORIGIN_TO_THE_END,
        .deadline_ns = clock_ns() + 30 * NS_PER_S,
        .begin = asked_begin,
        .sink = asked_sink,
        .each = asked_each,
        .done = asked_done,
    };
    return k;
}

static inline void asked_free(struct asked *k)
{
    buffer_release(&k->bytes);
    buffer_release(&k->entries);
    free(k->why);
    free(k->validator);
    free(k->token);
    pthread_cond_destroy(&k->changed);
    lock_release_memory(&k->lock);
    free(k);
}
define_cleanup(struct asked *, asked_free);
#define ASKED_CLEANUP cleanup(cleanup_asked_free) struct asked

static inline void asked_wait(struct asked *k, uint32_t dones)
{
    lock_scope(&k->lock);
    while (k->dones < dones)
        assert_int_equal(condition_wait(&k->changed, &k->lock, clock_ns() + 60 * NS_PER_S), 0);
}

static inline void asked_wait_paused(struct asked *k)
{
    lock_scope(&k->lock);
    while (!k->is_paused)
        assert_int_equal(condition_wait(&k->changed, &k->lock, clock_ns() + 60 * NS_PER_S), 0);
}

static inline int asked_of(struct origin *o, struct asked *k)
{
    origin_start(o, &k->request);
    asked_wait(k, 1);
    return k->answer.error;
}
