// SPDX-License-Identifier: BSD-3-Clause
// The engine: opening, reading, versions, failures, what it asks of the origin.
#include "tests/unit/cache/world.h"

// ---- how much is asked

static void a_small_cold_object_costs_one_request(void **state)
{
    struct world *w = *state;
    world_put(w, "small", 1, 5000);
    struct cached *h = opened(w, "small");
    struct cache_attr a;
    cached_attr(h, &a);
    assert_int_equal(a.size_bytes, 5000);
    assert_int_equal(a.mtime_unix_ns, 1000000001);
    assert_true(reads_right(w, h, 1, 0, 5000));
    assert_int_equal(counted(w).gets, 1);
    assert_int_equal(counted(w).heads, 0);
    cached_close(h);
}

static struct object listed(struct world *w, const char *key, size_t size_bytes,
                            const char *validator, int64_t seen_unix_ns)
{
    struct object object = object_of(w, key);
    object.size_bytes = (int64_t)size_bytes;
    object.validator = text_of(validator);
    object.seen_unix_ns = seen_unix_ns;
    return object;
}

static void an_object_of_a_listing_is_opened_without_a_request(void **state)
{
    struct world *w = *state;
    world_put(w, "listed", 1, 300 * KIB);
    struct object object = listed(w, "listed", 300 * KIB, "\"1\"", clock_steady_unix_ns());
    struct cached *h = NULL;
    assert_int_equal(open_object(w, &object, &h), 0);
    assert_int_equal(counted(w).gets, 0);
    assert_true(reads_right(w, h, 1, 0, 1000));
    assert_int_equal(counted(w).gets, 1);
    assert_int_equal(counted(w).bytes, BLOCK);
    cached_close(h);
}

static void an_empty_object_has_no_bytes(void **state)
{
    struct world *w = *state;
    world_put(w, "empty", 1, 0);
    struct cached *h = opened(w, "empty");
    unsigned char byte;
    assert_int_equal(read_at(w, h, 0, &byte, 1), 0);
    cached_close(h);
}

static void reads_end_where_the_object_ends(void **state)
{
    struct world *w = *state;
    world_put(w, "object", 1, BLOCK + 10);
    struct cached *h = opened(w, "object");
    unsigned char bytes[100];
    assert_int_equal(read_at(w, h, BLOCK, bytes, sizeof(bytes)), 10);
    assert_int_equal(read_at(w, h, BLOCK + 10, bytes, sizeof(bytes)), 0);
    assert_int_equal(read_at(w, h, INT64_MAX - 50, bytes, sizeof(bytes)), 0);
    cached_close(h);
}

static void random_reads_fetch_a_block_each(void **state)
{
    struct world *w = *state;
    world_put(w, "large", 1, 32 * MIB);
    struct cached *h = opened(w, "large");
    uint64_t before = counted(w).bytes;
    for (int64_t i = 1; i <= 20; i++)
        assert_true(reads_right(w, h, 1, i * i % 31 * (int64_t)MIB + i * 4096, 4096));
    assert_true(counted(w).bytes - before <= 20 * BLOCK);
    cached_close(h);
}

static void a_file_read_through_is_fetched_once_by_few_requests(void **state)
{
    struct world *w = *state;
    world_put(w, "large", 1, 40 * MIB + 12345);
    struct cached *h = opened(w, "large");
    read_through(w, h, 1, 40 * MIB + 12345, 256 * KIB);
    assert_int_equal(counted(w).bytes, 40 * MIB + 12345);
    assert_in_range(counted(w).gets, 1, 40);
    cached_close(h);
}

struct reader {
    struct world *world;
    int number;
    bool is_right;
};

static void *read_all(void *argument)
{
    struct reader *r = argument;
    struct cached *h = NULL;
    struct object object = object_of(r->world, "shared");
    r->is_right = open_object(r->world, &object, &h) == 0;
    for (size_t at = 0; r->is_right && at < 8 * MIB + 1; at += 512 * KIB)
        r->is_right = reads_right(r->world, h, 3, (int64_t)at,
                                  8 * MIB + 1 - at < 512 * KIB ? 8 * MIB + 1 - at : 512 * KIB);
    if (h)
        cached_close(h);
    return NULL;
}

static void thirty_two_readers_of_a_cold_object_fetch_each_byte_once(void **state)
{
    struct world *w = *state;
    world_put(w, "shared", 3, 8 * MIB + 1);
    origin_memory_delay(w->origin, NS_PER_MS);
    pthread_t threads[32];
    struct reader readers[32];
    for (int i = 0; i < 32; i++) {
        readers[i] = (struct reader){.world = w, .number = i};
        assert_int_equal(pthread_create(&threads[i], NULL, read_all, &readers[i]), 0);
    }
    for (int i = 0; i < 32; i++) {
        pthread_join(threads[i], NULL);
        assert_true(readers[i].is_right);
    }
    assert_int_equal(counted(w).bytes, 8 * MIB + 1);
}

// ---- several origins

#define DEAD_READERS 8 // more than may fly to one endpoint

static void an_origin_that_does_not_answer_keeps_nobody_from_another(void **state)
{
    struct world *w = *state;
    struct origin *dead = NULL;
    w->options.flights = DEAD_READERS / 2;
    world_restart(w);
    assert_int_equal(origin_open(w->fetchers, "memory://dead", &(struct origin_options){0}, &dead, NULL, NULL), 0);
    origin_memory_hold(dead, true);
    struct object object = listed(w, "far", 64 * MIB, "\"1\"", clock_steady_unix_ns());
    object.origin = dead;
    struct cached *h = NULL;
    assert_int_equal(open_object(w, &object, &h), 0);
    struct patient waiting[DEAD_READERS] = {0};
    struct cache_want wants[DEAD_READERS] = {0};
    for (int i = 0; i < DEAD_READERS; i++) {
        struct cached_view v;
        waiting[i] = (struct patient){.waiter.ready = patient_ready, .mutex = PTHREAD_MUTEX_INITIALIZER,
                                      .changed = PTHREAD_COND_INITIALIZER};
        assert_int_equal(cached_read(h, (i * 37 % 60 + 1) * (int64_t)MIB, 1, &v, &wants[i]), -EINPROGRESS);
        assert_int_equal(cache_ask(w->cache, &wants[i], &waiting[i].waiter), -EINPROGRESS);
    }
    world_put(w, "near", 1, 2 * MIB);
    struct cached *near = opened(w, "near");
    assert_true(reads_right(w, near, 1, 0, MIB));
    for (int i = 0; i < DEAD_READERS; i++) {
        assert_true(cache_cancel(w->cache, &wants[i], &waiting[i].waiter)); // they were waiting all the time
        cache_want_release(&wants[i]);
    }
    cached_close(near);
    cached_close(h);
    origin_unref(dead);
}

// ---- versions

static void a_replaced_object_is_stale_for_who_has_it_open_and_new_for_who_opens_it(void **state)
{
    struct world *w = *state;
    unsigned char byte;
    world_put(w, "object", 1, 4 * MIB);
    struct cached *h = opened(w, "object");
    assert_true(reads_right(w, h, 1, 0, 4096));
    world_put(w, "object", 2, 4 * MIB);
    assert_int_equal(read_at(w, h, 2 * MIB, &byte, 1), -ESTALE);
    assert_true(reads_right(w, h, 1, 0, 4096)); // what was here is of the old version
    struct cached *again = opened(w, "object");
    assert_true(reads_right(w, again, 2, 0, 4096));
    assert_true(reads_right(w, again, 2, 2 * MIB, 4096));
    assert_int_equal(read_at(w, h, 3 * MIB, &byte, 1), -ESTALE);
    struct cache_attr a;
    cached_attr(h, &a);
    assert_true(a.is_stale);
    cached_close(h);
    cached_close(again);
}

static void a_newer_listing_replaces_what_is_here(void **state)
{
    struct world *w = *state;
    world_put(w, "object", 1, 1000);
    cached_close(opened(w, "object"));
    world_put(w, "object", 2, 2000);
    struct object object = listed(w, "object", 2000, "\"2\"", clock_steady_unix_ns());
    struct cached *h = NULL;
    assert_int_equal(open_object(w, &object, &h), 0);
    assert_true(reads_right(w, h, 2, 0, 2000));
    cached_close(h);
}

static void an_outdated_listing_is_found_out_once(void **state)
{
    struct world *w = *state;
    unsigned char byte;
    world_put(w, "object", 1, 1000);
    struct object object = listed(w, "object", 1000, "\"1\"", clock_steady_unix_ns());
    world_put(w, "object", 2, 2000);
    struct cached *h = NULL;
    assert_int_equal(open_object(w, &object, &h), 0); // by what the listing says
    assert_int_equal(read_at(w, h, 0, &byte, 1), -ESTALE);
    cached_close(h);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(open_object(w, &object, &h), 0);
        assert_true(reads_right(w, h, 2, 0, 2000));
        cached_close(h);
    }
    assert_int_equal(counted(w).gets, 2);
}

static void what_has_become_old_is_confirmed_by_a_head(void **state)
{
    struct world *w = *state;
    world_put(w, "object", 1, 1000);
    struct object object = object_of(w, "object");
    object.fresh_for_ns = 0;
    struct cached *h = NULL;
    assert_int_equal(open_object(w, &object, &h), 0);
    assert_true(reads_right(w, h, 1, 0, 1000));
    cached_close(h);
    assert_int_equal(counted(w).heads, 0);
    assert_int_equal(open_object(w, &object, &h), 0);
    assert_true(reads_right(w, h, 1, 0, 1000));
    cached_close(h);
    assert_int_equal(counted(w).heads, 1);
    assert_int_equal(counted(w).gets, 1);
    world_put(w, "object", 2, 1500);
    assert_int_equal(open_object(w, &object, &h), 0);
    assert_true(reads_right(w, h, 2, 0, 1500));
    cached_close(h);
}

static void a_handle_of_an_earlier_life_is_of_its_version_or_stale(void **state)
{
    struct world *w = *state;
    unsigned char byte;
    world_put(w, "object", 1, 1000);
    struct object object = listed(w, "object", 1000, "\"1\"", 0);
    object.is_exact = true;
    struct cached *h = NULL;
    assert_int_equal(open_object(w, &object, &h), 0);
    assert_true(reads_right(w, h, 1, 0, 1000));
    cached_close(h);
    world_put(w, "object", 2, 1000);
    world_restart(w);
    struct object newer = listed(w, "object", 1000, "\"2\"", clock_steady_unix_ns());
    struct cached *new_one = NULL;
    assert_int_equal(open_object(w, &newer, &new_one), 0);
    assert_true(reads_right(w, new_one, 2, 0, 1000));
    assert_int_equal(open_object(w, &object, &h), 0);
    assert_int_equal(read_at(w, h, 0, &byte, 1), -ESTALE);
    assert_true(reads_right(w, new_one, 2, 0, 1000));
    cached_close(h);
    cached_close(new_one);
}

static void size_and_time_are_asked_by_a_head(void **state)
{
    struct world *w = *state;
    world_put(w, "object", 7, 12345);
    struct object object = object_of(w, "object");
    struct cache_want want = {0};
    struct cache_attr a;
    for (int i = 0; i < 2; i++) {
        int r = cache_attr(w->cache, &object, clock_ns(), &a, &want, NULL);
        if (r == -EINPROGRESS) {
            assert_int_equal(wait_for(w, &want), 0);
            r = cache_attr(w->cache, &object, clock_ns(), &a, &want, NULL);
        }
        assert_int_equal(r, 0);
        assert_int_equal(a.size_bytes, 12345);
    }
    cache_want_release(&want);
    assert_int_equal(counted(w).heads, 1);
    assert_int_equal(counted(w).gets, 0);
}

// ---- failures

static void an_object_that_is_not_there_is_said_so_without_a_storm(void **state)
{
    struct world *w = *state;
    struct object object = object_of(w, "nothing");
    struct cached *h = NULL;
    for (int i = 0; i < 20; i++)
        assert_int_equal(open_object(w, &object, &h), -ENOENT);
    assert_int_equal(counted(w).gets, 1);
}

static void a_refusal_is_given_with_its_reason(void **state)
{
    struct world *w = *state;
    world_put(w, "object", 1, 1000);
    origin_memory_fault(w->origin, &(struct origin_memory_fault){
                                       .times = 1, .error = -EACCES, .why = "wrong key"});
    struct object object = object_of(w, "object");
    struct cached *h = NULL;
    assert_int_equal(open_object(w, &object, &h), -EACCES);
    struct cache_want want = {0};
    char *why = NULL;
    assert_int_equal(cache_open(w->cache, &object, clock_ns(), &h, &want, &why), -EACCES);
    assert_non_null(strstr(why, "wrong key"));
    free(why);
}

static void a_failed_flight_fails_its_readers_and_nobody_else(void **state)
{
    struct world *w = *state;
    unsigned char byte;
    world_put(w, "object", 1, 4 * MIB);
    struct cached *h = opened(w, "object");
    origin_memory_fault(w->origin, &(struct origin_memory_fault){.times = 1, .error = -EREMOTEIO});
    assert_int_equal(read_at(w, h, 2 * MIB, &byte, 1), -EREMOTEIO);
    assert_true(reads_right(w, h, 1, 3 * MIB, 4096));
    assert_true(reads_right(w, h, 1, 2 * MIB, 4096));
    cached_close(h);
}

static void what_came_before_a_failure_is_kept(void **state)
{
    struct world *w = *state;
    unsigned char *bytes = memory_new(MIB);
    world_put(w, "object", 1, 4 * MIB);
    struct cached *h = opened(w, "object");
    origin_memory_fault(w->origin, &(struct origin_memory_fault){
                                       .times = 1, .error = -EREMOTEIO, .after_bytes = 3 * BLOCK + 5});
    assert_int_equal(read_at(w, h, MIB, bytes, MIB), -EREMOTEIO);
    assert_soon(metric_get(METRIC_FLIGHTS) == 0); // whoever reads is told before the rest of it is given back
    uint64_t before = counted(w).bytes;
    assert_true(reads_right(w, h, 1, MIB, MIB));
    assert_soon(counted(w).bytes - before == MIB - 3 * BLOCK); // a stream that stands gives back what it can't take
    cached_close(h);
    free(bytes);
}

static void a_waiter_who_leaves_is_not_called_and_his_flight_ends(void **state)
{
    struct world *w = *state;
    world_put(w, "object", 1, 4 * MIB);
    struct cached *h = opened(w, "object");
    origin_memory_hold(w->origin, true);
    struct cache_want want = {0};
    struct cached_view v;
    struct patient p = {.waiter.ready = patient_ready, .mutex = PTHREAD_MUTEX_INITIALIZER,
                        .changed = PTHREAD_COND_INITIALIZER};
    assert_int_equal(cached_read(h, 2 * MIB, 4096, &v, &want), -EINPROGRESS);
    assert_int_equal(cache_ask(w->cache, &want, &p.waiter), -EINPROGRESS);
    assert_true(cache_cancel(w->cache, &want, &p.waiter));
    cache_want_release(&want);
    assert_soon(metric_get(METRIC_FLIGHTS) == 0);
    assert_false(p.is_ready);
    origin_memory_hold(w->origin, false);
    assert_true(reads_right(w, h, 1, 2 * MIB, 4096));
    cached_close(h);
}

static void those_who_read_one_file_together_are_read_ahead_for_as_one(void **state)
{
    struct world *w = *state;
    world_put(w, "large", 1, 32 * MIB);
    origin_memory_delay(w->origin, 20 * NS_PER_MS);
    struct cached *readers[8];
    for (int i = 0; i < 8; i++)
        readers[i] = opened(w, "large");
    for (int i = 0; i < 32; i++)
        assert_true(reads_right(w, readers[i * 5 % 8], 1, i * (int64_t)MIB, MIB));
    assert_int_equal(counted(w).bytes, 32 * MIB);
    assert_true(counted(w).gets < 20);
    for (int i = 0; i < 8; i++)
        cached_close(readers[i]);
}

// On a busy machine any origin is far away, and a window as wide as it may be.
static void narrow_window(struct world *w)
{
    w->options.window_bytes = 32 * MIB;
    world_restart(w);
}

// Near an origin a stream is one flight that goes on as it is read.
static void a_reader_who_stops_reading_holds_no_connection(void **state)
{
    struct world *w = *state;
    narrow_window(w);
    world_put(w, "large", 1, 64 * MIB);
    struct cached *h = opened(w, "large");
    for (int64_t at = 0; at < (int64_t)(4 * MIB); at += (int64_t)(256 * KIB))
        assert_true(reads_right(w, h, 1, at, 256 * KIB));
    assert_soon(metric_get(METRIC_FLIGHTS) == 0);
    assert_true(counted(w).bytes <= 40 * MIB);
    for (int64_t at = (int64_t)(4 * MIB); at < (int64_t)(64 * MIB); at += (int64_t)(256 * KIB))
        assert_true(reads_right(w, h, 1, at, 256 * KIB));
    assert_int_equal(counted(w).bytes, 64 * MIB);
    cached_close(h);
}

static void who_reads_far_ahead_of_a_stream_does_not_wait_for_what_lies_between(void **state)
{
    struct world *w = *state;
    narrow_window(w);
    world_put(w, "large", 1, 128 * MIB);
    struct cached *h = opened(w, "large"), *far = opened(w, "large");
    for (int64_t at = 0; at < (int64_t)(4 * MIB); at += (int64_t)(256 * KIB))
        assert_true(reads_right(w, h, 1, at, 256 * KIB));
    assert_true(reads_right(w, far, 1, 120 * MIB, 4096));
    assert_true(counted(w).bytes <= 40 * MIB);
    cached_close(h);
    cached_close(far);
}

static void read_ahead_ends_when_its_reader_closes(void **state)
{
    struct world *w = *state;
    world_put(w, "large", 1, 64 * MIB);
    struct cached *h = opened(w, "large");
    assert_true(reads_right(w, h, 1, 0, BLOCK));
    origin_memory_hold(w->origin, true);
    struct cache_want want = {0};
    struct cached_view v;
    assert_int_equal(cached_read(h, BLOCK, 512 * KIB, &v, &want), -EINPROGRESS);
    assert_true(metric_get(METRIC_FLIGHTS) >= 1);
    cached_close(h);
    assert_soon(metric_get(METRIC_FLIGHTS) == 0);
    cache_want_release(&want);
    origin_memory_hold(w->origin, false);
}

static void without_an_answer_a_read_ends_at_its_limit(void **state)
{
    struct world *w = *state;
    unsigned char byte;
    world_put(w, "object", 1, 4 * MIB);
    w->options.limit_ns = 50 * NS_PER_MS;
    world_restart(w);
    struct cached *h = opened(w, "object");
    origin_memory_hold(w->origin, true);
    assert_int_equal(read_at(w, h, 2 * MIB, &byte, 1), -ETIMEDOUT);
    origin_memory_hold(w->origin, false);
    cached_close(h);
}

// ---- without a disk

static void without_a_disk_everything_is_read_through_a_small_memory(void **state)
{
    struct world *w = *state;
    w->options.folder = "/dev/null/nothing";
    w->options.memory_bytes = 4 * MIB;
    log_level_set(LOG_LEVEL_ERROR + 0);
    world_restart(w);
    world_put(w, "large", 5, 30 * MIB + 7);
    struct cached *h = opened(w, "large");
    read_through(w, h, 5, 30 * MIB + 7, 256 * KIB);
    assert_true(counted(w).bytes <= 31 * MIB);
    struct cache_want want = {0};
    assert_int_equal(cached_warm(h, false, &want), -ENOSPC);
    int fd;
    assert_int_equal(cached_descriptor(h, &fd), -ENODATA);
    cached_close(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_in_world(a_small_cold_object_costs_one_request),
        test_in_world(an_object_of_a_listing_is_opened_without_a_request),
        test_in_world(an_empty_object_has_no_bytes),
        test_in_world(reads_end_where_the_object_ends),
        test_in_world(random_reads_fetch_a_block_each),
        test_in_world(a_file_read_through_is_fetched_once_by_few_requests),
        test_in_world(thirty_two_readers_of_a_cold_object_fetch_each_byte_once),
        test_in_world(an_origin_that_does_not_answer_keeps_nobody_from_another),
        test_in_world(a_replaced_object_is_stale_for_who_has_it_open_and_new_for_who_opens_it),
        test_in_world(a_newer_listing_replaces_what_is_here),
        test_in_world(an_outdated_listing_is_found_out_once),
        test_in_world(what_has_become_old_is_confirmed_by_a_head),
        test_in_world(a_handle_of_an_earlier_life_is_of_its_version_or_stale),
        test_in_world(size_and_time_are_asked_by_a_head),
        test_in_world(an_object_that_is_not_there_is_said_so_without_a_storm),
        test_in_world(a_refusal_is_given_with_its_reason),
        test_in_world(a_failed_flight_fails_its_readers_and_nobody_else),
        test_in_world(what_came_before_a_failure_is_kept),
        test_in_world(a_waiter_who_leaves_is_not_called_and_his_flight_ends),
        test_in_world(those_who_read_one_file_together_are_read_ahead_for_as_one),
        test_in_world(a_reader_who_stops_reading_holds_no_connection),
        test_in_world(who_reads_far_ahead_of_a_stream_does_not_wait_for_what_lies_between),
        test_in_world(read_ahead_ends_when_its_reader_closes),
        test_in_world(without_an_answer_a_read_ends_at_its_limit),
        test_in_world(without_a_disk_everything_is_read_through_a_small_memory),
    };
    return run_group(tests);
}
