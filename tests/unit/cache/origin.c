// SPDX-License-Identifier: BSD-3-Clause
// The door to origins and the fetchers beneath, by the origins that need no server: memory and file.
#include "tests/unit/cache/origin.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/metric.h"

struct world {
    struct fetchers *fetchers;
    struct origin *origin;
};

static int world_begin(void **state)
{
    struct world *w = new_struct(struct world);
    w->fetchers = some_fetchers();
    w->origin = opened(w->fetchers, "memory://tests", NULL);
    *state = w;
    return 0;
}

static int world_end(void **state)
{
    struct world *w = *state;
    origin_unref(w->origin);
    fetchers_free(w->fetchers);
    free(w);
    return 0;
}

#define world_test(f) cmocka_unit_test_setup_teardown(f, world_begin, world_end)

static void put_bytes(struct origin *o, const char *key, size_t size_bytes)
{
    cleanup(cleanup_free) char *data = memory_new(size_bytes);
    for (size_t i = 0; i < size_bytes; i++)
        data[i] = (char)(i * 7 + i / 251);
    origin_memory_put(o, text_of(key), (struct text){data, size_bytes}, 12 * NS_PER_S);
}

static void assert_bytes(const struct asked *k, size_t offset, size_t size_bytes)
{
    assert_int_equal(k->bytes.size_bytes, size_bytes);
    for (size_t i = 0; i < size_bytes; i++)
        assert_int_equal((unsigned char)k->bytes.data[i], (unsigned char)((i + offset) * 7 + (i + offset) / 251));
}

// ---- memory

static void a_range_comes_in_order_and_as_asked_for(void **state)
{
    struct world *w = *state;
    put_bytes(w->origin, "a", 100000);
    ASKED_CLEANUP *k = asked_new(ORIGIN_GET, "a");
    k->request.offset = 1234;
    k->request.size_bytes = 50000;
    assert_int_equal(asked_of(w->origin, k), 0);
    assert_bytes(k, 1234, 50000);
    assert_int_equal(k->begins, 1);
    assert_int_equal(k->begin_size_bytes, 100000);
    assert_int_equal(k->answer.mtime_unix_ns, 12 * NS_PER_S);
    assert_string_equal(k->validator, "\"1\"");
}

static void what_lies_behind_the_end_is_not_given(void **state)
{
    struct world *w = *state;
    put_bytes(w->origin, "a", 1000);
    ASKED_CLEANUP *k = asked_new(ORIGIN_GET, "a");
    k->request.offset = 990;
    k->request.size_bytes = 50000;
    assert_int_equal(asked_of(w->origin, k), 0);
    assert_bytes(k, 990, 10);
    ASKED_CLEANUP *behind = asked_new(ORIGIN_GET, "a");
    behind->request.offset = 1000;
    assert_int_equal(asked_of(w->origin, behind), -ERANGE);
}

static void an_empty_object_is_there(void **state)
{
    struct world *w = *state;
    put_bytes(w->origin, "a", 0);
    ASKED_CLEANUP *k = asked_new(ORIGIN_GET, "a");
    assert_int_equal(asked_of(w->origin, k), 0);
    assert_int_equal(k->answer.size_bytes, 0);
    assert_int_equal(k->begins, 1);
}

static void what_is_not_there_is_enoent_with_a_reason(void **state)
{
    struct world *w = *state;
    ASKED_CLEANUP *k = asked_new(ORIGIN_HEAD, "nothing");
    assert_int_equal(asked_of(w->origin, k), -ENOENT);
    assert_non_null(strstr(k->why, "no such object"));
}

static void another_validator_is_estale(void **state)
{
    struct world *w = *state;
    put_bytes(w->origin, "a", 1000);
    put_bytes(w->origin, "a", 1000);
    ASKED_CLEANUP *k = asked_new(ORIGIN_GET, "a");
    k->request.if_match = TEXT("\"1\"");
    assert_int_equal(asked_of(w->origin, k), -ESTALE);
    assert_int_equal(k->bytes.size_bytes, 0);
}

static void the_same_validator_again_is_unchanged(void **state)
{
    struct world *w = *state;
    put_bytes(w->origin, "a", 1000);
    ASKED_CLEANUP *k = asked_new(ORIGIN_GET, "a");
    k->request.if_none_match = TEXT("\"1\"");
    assert_int_equal(asked_of(w->origin, k), 0);
    assert_true(k->answer.is_unchanged);
    assert_int_equal(k->bytes.size_bytes, 0);
}

static void a_listing_has_keys_and_common_prefixes_by_pages(void **state)
{
    struct world *w = *state;
    for (int i = 0; i < 5; i++) {
        char key[32];
        snprintf(key, sizeof(key), "p/d%d/x", i);
        put_bytes(w->origin, key, 3);
        snprintf(key, sizeof(key), "p/d%d/y", i);
        put_bytes(w->origin, key, 3);
    }
    put_bytes(w->origin, "p/a", 1);
    put_bytes(w->origin, "q", 1);
    ASKED_CLEANUP *k = asked_new(ORIGIN_LIST, "p/");
    k->request.delimiter = TEXT("/");
    k->request.max = 4;
    assert_int_equal(asked_of(w->origin, k), 0);
    assert_string_equal(k->entries.data, "p/a 1 \"11\"\np/d0/\np/d1/\np/d2/\n");
    ASKED_CLEANUP *more = asked_new(ORIGIN_LIST, "p/");
    more->request.delimiter = TEXT("/");
    more->request.token = text_of(k->token);
    assert_int_equal(asked_of(w->origin, more), 0);
    assert_string_equal(more->entries.data, "p/d3/\np/d4/\n");
    assert_string_equal(more->token, "");
}

// ---- requests

static void what_a_callback_returns_is_the_answers_error(void **state)
{
    struct world *w = *state;
    put_bytes(w->origin, "a", 1000);
    ASKED_CLEANUP *sink = asked_new(ORIGIN_GET, "a");
    sink->sink_error = -EXFULL;
    assert_int_equal(asked_of(w->origin, sink), -EXFULL);
    ASKED_CLEANUP *begin = asked_new(ORIGIN_GET, "a");
    begin->begin_error = -EXFULL;
    assert_int_equal(asked_of(w->origin, begin), -EXFULL);
    assert_int_equal(begin->bytes.size_bytes, 0);
    ASKED_CLEANUP *each = asked_new(ORIGIN_LIST, "");
    each->each_error = -EXFULL;
    assert_int_equal(asked_of(w->origin, each), -EXFULL);
}

static void a_paused_request_gives_nothing_until_it_goes_on(void **state)
{
    struct world *w = *state;
    put_bytes(w->origin, "a", 100000);
    ASKED_CLEANUP *k = asked_new(ORIGIN_GET, "a");
    k->pauses = true;
    origin_start(w->origin, &k->request);
    asked_wait_paused(k);
    usleep(20000);
    lock_acquire(&k->lock);
    assert_int_equal(k->bytes.size_bytes, 0);
    lock_release(&k->lock);
    origin_unpause(&k->request);
    asked_wait(k, 1);
    assert_int_equal(k->answer.error, 0);
    assert_bytes(k, 0, 100000);
}

static void a_cancelled_request_is_done_once(void **state)
{
    struct world *w = *state;
    put_bytes(w->origin, "a", 1000);
    origin_memory_hold(w->origin, true);
    ASKED_CLEANUP *k = asked_new(ORIGIN_GET, "a");
    origin_start(w->origin, &k->request);
    lock_acquire(&k->lock); // `done` waits for it: until then a request may be cancelled
    origin_cancel(&k->request);
    origin_cancel(&k->request);
    lock_release(&k->lock);
    asked_wait(k, 1);
    assert_int_equal(k->answer.error, -ECANCELED);
    origin_memory_hold(w->origin, false);
    usleep(20000);
    assert_int_equal(k->dones, 1);
}

static void a_deadline_ends_what_does_not_answer(void **state)
{
    struct world *w = *state;
    put_bytes(w->origin, "a", 1000);
    origin_memory_hold(w->origin, true);
    ASKED_CLEANUP *k = asked_new(ORIGIN_GET, "a");
    k->request.deadline_ns = clock_ns() + 100 * NS_PER_MS;
    assert_int_equal(asked_of(w->origin, k), -ETIMEDOUT);
}

static void a_request_may_be_waited_for(void **state)
{
    struct world *w = *state;
    put_bytes(w->origin, "a", 40000);
    BUFFER_CLEANUP whole = {0};
    char *why = NULL;
    int64_t deadline_ns = clock_ns() + 10 * NS_PER_S;
    assert_int_equal(origin_read_whole(w->origin, TEXT("a"), 40000, deadline_ns, &whole, &why), 0);
    assert_int_equal(whole.size_bytes, 40000);
    assert_int_equal(origin_read_whole(w->origin, TEXT("a"), 39999, deadline_ns, &whole, NULL), -EFBIG);
    assert_int_equal(whole.size_bytes, 40000);
    assert_int_equal(origin_read_whole(w->origin, TEXT("b"), 39999, deadline_ns, &whole, &why), -ENOENT);
    assert_non_null(why);
    free(why);
}

// ---- turns

// More than fly at once, and in which order they begin.
static void readers_come_before_those_who_read_ahead(void **state)
{
    struct world *w = *state;
    struct origin *o = opened(w->fetchers, "memory://turns", &(struct origin_options){.connections = 1});
    put_bytes(o, "a", 10);
    origin_memory_hold(o, true);
    struct asked *all[5];
    static const enum origin_priority priorities[] = {ORIGIN_BACKGROUND, ORIGIN_BACKGROUND, ORIGIN_AHEAD,
                                                      ORIGIN_AHEAD, ORIGIN_READER_WAITS};
    for (int i = 0; i < 5; i++) {
        all[i] = asked_new(ORIGIN_GET, "a");
        all[i]->request.priority = priorities[i];
        origin_start(o, &all[i]->request);
    }
    origin_raise(&all[3]->request, ORIGIN_READER_WAITS); // in front of those that waited longer
    origin_memory_hold(o, false);
    for (int i = 0; i < 5; i++)
        asked_wait(all[i], 1);
    assert_true(all[3]->first_byte_ns < all[4]->first_byte_ns);
    assert_true(all[4]->first_byte_ns < all[2]->first_byte_ns);
    assert_true(all[2]->first_byte_ns < all[1]->first_byte_ns);
    for (int i = 0; i < 5; i++)
        asked_free(all[i]);
    origin_unref(o);
}

static void a_full_queue_is_ebusy_and_others_go_on(void **state)
{
    struct fetchers_options options = FETCHERS_OPTIONS_STANDARD;
    options.waiting = 2;
    options.connections = 1;
    struct fetchers *fetchers = fetchers_of(&options);
    struct origin *o = opened(fetchers, "memory://full", NULL);
    struct origin *other = opened(fetchers, "memory://other", NULL);
    put_bytes(o, "a", 10);
    put_bytes(other, "a", 10);
    origin_memory_hold(o, true);
    struct asked *all[4];
    for (int i = 0; i < 4; i++) {
        all[i] = asked_new(ORIGIN_GET, "a");
        origin_start(o, &all[i]->request);
    }
    asked_wait(all[3], 1);
    assert_int_equal(all[3]->answer.error, -EBUSY);
    ASKED_CLEANUP *k = asked_new(ORIGIN_GET, "a");
    assert_int_equal(asked_of(other, k), 0);
    origin_memory_hold(o, false);
    for (int i = 0; i < 4; i++) {
        asked_wait(all[i], 1);
        asked_free(all[i]);
    }
    origin_unref(o);
    origin_unref(other);
    fetchers_free(fetchers);
}

static void what_is_left_is_cancelled_at_the_end(void **state)
{
    struct fetchers *fetchers = some_fetchers();
    struct origin *o = opened(fetchers, "memory://left", &(struct origin_options){.connections = 2});
    origin_memory_hold(o, true);
    struct asked *all[6];
    for (int i = 0; i < 6; i++) {
        all[i] = asked_new(ORIGIN_HEAD, "a");
        origin_start(o, &all[i]->request);
    }
    origin_unref(o); // the requests hold it
    fetchers_free(fetchers);
    for (int i = 0; i < 6; i++) {
        assert_int_equal(all[i]->dones, 1);
        assert_int_equal(all[i]->answer.error, -ECANCELED);
        asked_free(all[i]);
    }
    assert_int_equal(metric_get(METRIC_FETCHES_FLYING), 0);
    assert_int_equal(metric_get(METRIC_FETCHES_WAITING), 0);
}

struct storm {
    struct origin *origin;
    uint32_t seed;
};

static void *storm_run(void *argument)
{
    struct storm *s = argument;
    for (int i = 0; i < 200; i++) {
        struct asked *k = asked_new(i % 3 ? ORIGIN_GET : ORIGIN_HEAD, "a");
        k->request.priority = (enum origin_priority)(i % 3);
        origin_start(s->origin, &k->request);
        s->seed = s->seed * 1664525 + 1013904223;
        if (s->seed >> 30 == 0)
            usleep(s->seed >> 20 & 0xff);
        if (s->seed >> 28 & 1) {
            // As the header says: not after `done`; the lock is what `done` takes.
            lock_acquire(&k->lock);
            if (k->dones == 0) {
                origin_raise(&k->request, ORIGIN_READER_WAITS);
                origin_cancel(&k->request);
            }
            lock_release(&k->lock);
        }
        asked_wait(k, 1);
        assert_true(k->answer.error == 0 || k->answer.error == -ECANCELED);
        if (k->answer.error == 0 && k->request.verb == ORIGIN_GET)
            assert_bytes(k, 0, 50000);
        asked_free(k);
    }
    return NULL;
}

static void many_threads_may_start_raise_and_cancel(void **state)
{
    struct world *w = *state;
    struct origin *o = opened(w->fetchers, "memory://storm", &(struct origin_options){.connections = 3});
    put_bytes(o, "a", 50000);
    struct storm storms[6];
    pthread_t threads[6];
    for (int i = 0; i < 6; i++) {
        storms[i] = (struct storm){o, (uint32_t)i};
        assert_int_equal(pthread_create(&threads[i], NULL, storm_run, &storms[i]), 0);
    }
    for (int i = 0; i < 6; i++)
        pthread_join(threads[i], NULL);
    origin_unref(o);
}

// ---- files

static void a_file_is_read_by_ranges_and_has_a_validator(void **state)
{
    struct world *w = *state;
    char path[] = "/tmp/butlerfs-origin-XXXXXX";
    cleanup(cleanup_close) int fd = mkstemp(path);
    cleanup(cleanup_free) char *data = memory_new(300000);
    for (size_t i = 0; i < 300000; i++)
        data[i] = (char)(i * 7 + i / 251);
    assert_int_equal(write(fd, data, 300000), 300000);
    struct origin *o;
    char *key = NULL;
    assert_int_equal(origin_open(w->fetchers, path, &(struct origin_options){0}, &o, &key, NULL), 0);
    assert_string_equal(key, path + 1);
    ASKED_CLEANUP *k = asked_new(ORIGIN_GET, key);
    k->request.offset = 1000;
    k->request.size_bytes = 250000;
    assert_int_equal(asked_of(o, k), 0);
    assert_bytes(k, 1000, 250000);
    assert_int_equal(pwrite(fd, "x", 1, 300000), 1);
    ASKED_CLEANUP *later = asked_new(ORIGIN_GET, key);
    later->request.if_match = text_of(k->validator);
    assert_int_equal(asked_of(o, later), -ESTALE);
    ASKED_CLEANUP *folder = asked_new(ORIGIN_HEAD, "tmp");
    assert_int_equal(asked_of(o, folder), -EACCES);
    unlink(path);
    ASKED_CLEANUP *gone = asked_new(ORIGIN_HEAD, key);
    assert_int_equal(asked_of(o, gone), -ENOENT);
    ASKED_CLEANUP *list = asked_new(ORIGIN_LIST, key);
    assert_int_equal(asked_of(o, list), -EOPNOTSUPP);
    free(key);
    origin_unref(o);
}

static void uris_that_are_none_are_refused_with_a_reason(void **state)
{
    struct world *w = *state;
    static const struct {
        const char *uri;
        int error;
    } cases[] = {
        {"nothing", -EINVAL},        {"ftp://host/file", -EOPNOTSUPP}, {"file://host/path", -EINVAL},
        {"://x", -EINVAL},           {"", -EINVAL},                    {"memory://a b/x", -EINVAL},
        {"memory://a:port/x", -EINVAL},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct origin *o;
        char *why = NULL;
        assert_int_equal(origin_open(w->fetchers, cases[i].uri, &(struct origin_options){0}, &o, NULL, &why),
                         cases[i].error);
        assert_non_null(why);
        free(why);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        world_test(a_range_comes_in_order_and_as_asked_for),
        world_test(what_lies_behind_the_end_is_not_given),
        world_test(an_empty_object_is_there),
        world_test(what_is_not_there_is_enoent_with_a_reason),
        world_test(another_validator_is_estale),
        world_test(the_same_validator_again_is_unchanged),
        world_test(a_listing_has_keys_and_common_prefixes_by_pages),
        world_test(what_a_callback_returns_is_the_answers_error),
        world_test(a_paused_request_gives_nothing_until_it_goes_on),
        world_test(a_cancelled_request_is_done_once),
        world_test(a_deadline_ends_what_does_not_answer),
        world_test(a_request_may_be_waited_for),
        world_test(readers_come_before_those_who_read_ahead),
        world_test(a_full_queue_is_ebusy_and_others_go_on),
        cmocka_unit_test(what_is_left_is_cancelled_at_the_end),
        world_test(many_threads_may_start_raise_and_cancel),
        world_test(a_file_is_read_by_ranges_and_has_a_validator),
        world_test(uris_that_are_none_are_refused_with_a_reason),
    };
    return run_group(tests);
}
