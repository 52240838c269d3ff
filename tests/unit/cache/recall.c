// SPDX-License-Identifier: BSD-3-Clause
// Nearline objects in the engine: what is asked of the origin, who is told what, what stays bounded.
#include "tests/unit/cache/world.h"

#include "cache/recall.h"

static const struct recall_terms for_reader = {.days = 3, .is_for_reader = true};
static const struct recall_terms by_name = {.days = 3};

static void put_away(struct world *w, const char *key, uint64_t seed, size_t size_bytes)
{
    world_put(w, key, seed, size_bytes);
    origin_memory_nearline(w->origin, text_of(key), ORIGIN_NEARLINE_AWAY);
}

static void give_back(struct world *w, const char *key)
{
    origin_memory_nearline(w->origin, text_of(key), ORIGIN_NEARLINE_RESTORED);
}

// Asks, and waits: what who waits is told.
static int recalled(struct world *w, struct cached *h, const struct recall_terms *terms)
{
    struct cache_want want = {0};
    int r;
    while ((r = cached_recall(h, terms, &want)) == -EINPROGRESS)
        if ((r = wait_for(w, &want)) < 0)
            break;
    cache_want_release(&want);
    return r;
}

static enum recall_state asked_by_name(struct world *w, const char *key, const struct recall_terms *terms)
{
    struct recall_report report = {0};
    struct object object = object_of(w, key);
    assert_int_equal(cache_recall(w->cache, &object, terms, &report), 0);
    return report.state;
}

static int read_error(struct world *w, struct cached *h, int64_t offset)
{
    unsigned char byte;
    return (int)read_at(w, h, offset, &byte, 1);
}

// ---- readers

static void opening_needs_no_bytes_and_a_read_says_that_they_are_away(void **state)
{
    struct world *w = *state;
    struct cache_attr a;
    put_away(w, "away", 1, 5000);
    struct cached *h = opened(w, "away");
    cached_attr(h, &a);
    assert_int_equal(a.size_bytes, 5000);
    assert_true(cached_is_nearline(h));
    for (int i = 0; i < 10; i++)
        assert_int_equal(read_error(w, h, 0), -EAGAIN);
    assert_in_range(counted(w).gets, 1, 2);
    assert_int_equal(counted(w).restores, 0);
    cached_close(h);
}

static void what_is_back_is_read(void **state)
{
    struct world *w = *state;
    put_away(w, "away", 1, 300 * KIB);
    struct cached *h = opened(w, "away");
    assert_int_equal(read_error(w, h, 0), -EAGAIN);
    assert_int_equal(cached_recall(h, &for_reader, NULL), -EAGAIN);
    assert_soon(counted(w).restores == 1);
    give_back(w, "away");
    assert_int_equal(recalled(w, h, &for_reader), 0);
    assert_true(reads_right(w, h, 1, 0, 300 * KIB));
    assert_int_equal(counted(w).restores, 1);
    assert_int_equal(cached_recall(h, &for_reader, NULL), 0);
    cached_close(h);
}

struct asking {
    struct world *world;
    struct cached *handle;
    pthread_t thread;
    int result;
};

static void *ask_in_a_thread(void *argument)
{
    struct asking *a = argument;
    a->result = recalled(a->world, a->handle, &for_reader);
    return NULL;
}

static void many_who_wait_make_one_request_and_are_all_told(void **state)
{
    struct world *w = *state;
    struct asking all[20];
    put_away(w, "away", 1, 5000);
    struct cached *h = opened(w, "away");
    assert_int_equal(read_error(w, h, 0), -EAGAIN);
    for (int i = 0; i < 20; i++) {
        all[i] = (struct asking){.world = w, .handle = h, .result = 1};
        assert_int_equal(pthread_create(&all[i].thread, NULL, ask_in_a_thread, &all[i]), 0);
    }
    assert_soon(counted(w).restores == 1);
    give_back(w, "away");
    for (int i = 0; i < 20; i++) {
        pthread_join(all[i].thread, NULL);
        assert_int_equal(all[i].result, 0);
    }
    assert_int_equal(counted(w).restores, 1);
    cached_close(h);
}

static void who_waits_too_long_is_told_and_the_recall_goes_on(void **state)
{
    struct world *w = *state;
    w->options.recall_wait_ns = 100 * NS_PER_MS;
    world_restart(w);
    put_away(w, "away", 1, 5000);
    struct cached *h = opened(w, "away");
    assert_int_equal(read_error(w, h, 0), -EAGAIN);
    assert_int_equal(recalled(w, h, &for_reader), -EAGAIN);
    assert_int_equal(recalled(w, h, &for_reader), -EAGAIN); // at once
    give_back(w, "away");
    assert_soon(read_error(w, h, 0) == 1);
    assert_int_equal(counted(w).restores, 1);
    cached_close(h);
}

static void a_waiter_may_give_up(void **state)
{
    struct world *w = *state;
    struct cache_want want = {0};
    struct patient p = {.waiter.ready = patient_ready, .mutex = PTHREAD_MUTEX_INITIALIZER,
                        .changed = PTHREAD_COND_INITIALIZER};
    put_away(w, "away", 1, 5000);
    struct cached *h = opened(w, "away");
    assert_int_equal(read_error(w, h, 0), -EAGAIN);
    assert_int_equal(cached_recall(h, &for_reader, &want), -EINPROGRESS);
    assert_int_equal(cache_ask(w->cache, &want, &p.waiter), -EINPROGRESS);
    assert_true(cache_cancel(w->cache, &want, &p.waiter));
    cache_want_release(&want);
    assert_soon(counted(w).restores == 1);
    assert_false(p.is_ready);
    cached_close(h);
}

static void what_goes_away_again_is_asked_for_again(void **state)
{
    struct world *w = *state;
    put_away(w, "away", 1, 2 * BLOCK);
    struct cached *h = opened(w, "away");
    assert_int_equal(read_error(w, h, 0), -EAGAIN);
    assert_int_equal(cached_recall(h, &for_reader, NULL), -EAGAIN);
    assert_soon(counted(w).restores == 1);
    give_back(w, "away");
    assert_int_equal(recalled(w, h, &for_reader), 0);
    origin_memory_nearline(w->origin, text_of("away"), ORIGIN_NEARLINE_AWAY);
    assert_int_equal(read_error(w, h, BLOCK), -EAGAIN);
    assert_int_equal(cached_recall(h, &for_reader, NULL), -EAGAIN);
    assert_soon(counted(w).restores == 2);
    cached_close(h);
}

static void readers_have_a_limit_and_who_asks_by_name_has_not(void **state)
{
    struct world *w = *state;
    struct cached *h[4];
    static const char *const keys[] = {"a", "b", "c", "d"};
    w->options.recalls = 2;
    world_restart(w);
    for (int i = 0; i < 4; i++) {
        put_away(w, keys[i], 1, 5000);
        h[i] = opened(w, keys[i]);
        assert_int_equal(read_error(w, h[i], 0), -EAGAIN);
    }
    assert_int_equal(cached_recall(h[0], &for_reader, NULL), -EAGAIN);
    assert_int_equal(cached_recall(h[1], &for_reader, NULL), -EAGAIN);
    assert_int_equal(cached_recall(h[2], &for_reader, NULL), -EBUSY);
    assert_int_equal(asked_by_name(w, "d", &by_name), RECALL_ASKING);
    assert_soon(counted(w).restores == 3);
    assert_int_not_equal(asked_by_name(w, "a", &by_name), RECALL_FAILED); // takes it over, which makes room
    assert_int_equal(cached_recall(h[2], &for_reader, NULL), -EAGAIN);
    assert_soon(counted(w).restores == 4);
    for (int i = 0; i < 4; i++)
        cached_close(h[i]);
}

static void who_only_joins_asks_for_nothing(void **state)
{
    struct world *w = *state;
    const struct recall_terms joins = {.days = 3, .is_for_reader = true, .only_joins = true};
    put_away(w, "away", 1, 5000);
    struct cached *h = opened(w, "away");
    assert_int_equal(read_error(w, h, 0), -EAGAIN);
    assert_int_equal(cached_recall(h, &joins, NULL), -ENODATA);
    assert_int_equal(asked_by_name(w, "away", &by_name), RECALL_ASKING);
    assert_int_equal(cached_recall(h, &joins, NULL), -EAGAIN);
    assert_soon(counted(w).restores == 1);
    cached_close(h);
}

// ---- by name

static void what_is_at_hand_is_ready_and_nothing_is_asked_for(void **state)
{
    struct world *w = *state;
    world_put(w, "here", 1, 5000);
    assert_soon(asked_by_name(w, "here", &by_name) == RECALL_READY);
    assert_int_equal(counted(w).restores, 0);
}

static void what_is_under_way_already_is_not_asked_for(void **state)
{
    struct world *w = *state;
    put_away(w, "away", 1, 5000);
    origin_memory_nearline(w->origin, text_of("away"), ORIGIN_NEARLINE_COMING);
    assert_soon(asked_by_name(w, "away", &by_name) == RECALL_UNDER_WAY);
    give_back(w, "away");
    assert_soon(asked_by_name(w, "away", &by_name) == RECALL_READY);
    assert_int_equal(counted(w).restores, 0);
}

static void an_origin_that_fails_is_asked_again_after_a_moment(void **state)
{
    struct world *w = *state;
    put_away(w, "away", 1, 5000);
    origin_memory_fault(w->origin, &(struct origin_memory_fault){.times = 100, .error = -EACCES, .why = "not for you"});
    assert_soon(asked_by_name(w, "away", &by_name) == RECALL_FAILED);
    struct recall_report report;
    struct object object = object_of(w, "away");
    assert_int_equal(cache_recall(w->cache, &object, &by_name, &report), 0);
    assert_int_equal(report.error, -EACCES);
    assert_non_null(strstr(report.why, "not for you"));
    assert_int_equal(counted(w).heads, 1);
    assert_int_equal(counted(w).restores, 0);
}

static void a_cache_that_ends_waits_for_no_recall(void **state)
{
    struct world *w = *state;
    put_away(w, "away", 1, 5000);
    assert_soon(asked_by_name(w, "away", &by_name) == RECALL_UNDER_WAY);
    world_restart(w);
    assert_soon(asked_by_name(w, "away", &by_name) == RECALL_UNDER_WAY);
    assert_int_equal(counted(w).restores, 1); // the origin has said that it goes on
    origin_memory_hold(w->origin, true);
    put_away(w, "other", 1, 5000);
    assert_int_equal(asked_by_name(w, "other", &by_name), RECALL_ASKING);
    world_restart(w);
    origin_memory_hold(w->origin, false);
}

static void many_more_than_are_kept_are_asked_for_and_forgotten(void **state)
{
    struct world *w = *state;
    enum { MANY = 5000 };
    char key[16];
    for (int i = 0; i < MANY; i++) {
        snprintf(key, sizeof(key), "%05d", i);
        put_away(w, key, 1, 10);
    }
    for (int i = 0; i < MANY; i++) {
        struct recall_report report;
        snprintf(key, sizeof(key), "%05d", i);
        struct object object = object_of(w, key);
        while (cache_recall(w->cache, &object, &by_name, &report) == -EBUSY)
            usleep(1000);
    }
    assert_soon(counted(w).restores == MANY);
    assert_true(metric_get(METRIC_RECALLS) <= 4096);
}

// ---- where it is

static enum cache_locality locality_of(struct world *w, const char *key)
{
    struct cache_want want = {0};
    struct object object = object_of(w, key);
    enum cache_locality where = CACHE_ONLINE;
    char *why = NULL;
    int r;
    while ((r = cache_locality(w->cache, &object, &where, &want, &why)) == -EINPROGRESS)
        assert_int_equal(wait_for(w, &want), 0);
    cache_want_release(&want);
    assert_int_equal(r, 0);
    return where;
}

static void locality_costs_a_head_and_asks_for_nothing(void **state)
{
    struct world *w = *state;
    put_away(w, "away", 1, 5000);
    world_put(w, "here", 1, 5000);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(locality_of(w, "away"), CACHE_AWAY);
        assert_int_equal(locality_of(w, "here"), CACHE_ONLINE);
    }
    assert_int_equal(counted(w).heads, 2);
    assert_int_equal(counted(w).gets, 0);
    struct cached *h = opened(w, "here");
    assert_true(reads_right(w, h, 1, 0, 5000));
    assert_soon(locality_of(w, "here") == CACHE_CACHED); // written to the disk after it was given
    cached_close(h);
    asked_by_name(w, "away", &by_name);
    assert_int_equal(locality_of(w, "away"), CACHE_COMING);
    assert_soon(counted(w).restores == 1);
    give_back(w, "away");
    assert_soon(locality_of(w, "away") == CACHE_ONLINE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_in_world(opening_needs_no_bytes_and_a_read_says_that_they_are_away),
        test_in_world(what_is_back_is_read),
        test_in_world(many_who_wait_make_one_request_and_are_all_told),
        test_in_world(who_waits_too_long_is_told_and_the_recall_goes_on),
        test_in_world(a_waiter_may_give_up),
        test_in_world(what_goes_away_again_is_asked_for_again),
        test_in_world(readers_have_a_limit_and_who_asks_by_name_has_not),
        test_in_world(who_only_joins_asks_for_nothing),
        test_in_world(what_is_at_hand_is_ready_and_nothing_is_asked_for),
        test_in_world(what_is_under_way_already_is_not_asked_for),
        test_in_world(an_origin_that_fails_is_asked_again_after_a_moment),
        test_in_world(a_cache_that_ends_waits_for_no_recall),
        test_in_world(many_more_than_are_kept_are_asked_for_and_forgotten),
        test_in_world(locality_costs_a_head_and_asks_for_nothing),
    };
    return cmocka_run_group_tests_name(__BASE_FILE__, tests, NULL, NULL);
}
