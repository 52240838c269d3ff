// SPDX-License-Identifier: BSD-3-Clause
// When a server is left in peace, with a clock that is told.
#include "cache/fetcher_health.h"

#include "tests/unit/cache/origin.h"

static const int64_t start_ns = 1000 * NS_PER_S;

static struct health healthy(uint32_t slots)
{
    struct health h;
    health_init(&h, slots);
    return h;
}

static void fail_times(struct health *h, int times, int64_t now_ns)
{
    for (int i = 0; i < times; i++)
        health_failed(h, false, now_ns, 0);
}

static void failures_in_a_row_close_it_and_a_success_between_does_not(void **state)
{
    struct health h = healthy(8);
    fail_times(&h, HEALTH_FAILURES_MAX - 1, start_ns);
    health_succeeded(&h);
    fail_times(&h, HEALTH_FAILURES_MAX - 1, start_ns);
    assert_true(health_may_begin(&h, 0, start_ns));
    assert_true(health_failed(&h, false, start_ns, 0));
    assert_false(health_may_begin(&h, 0, start_ns));
    assert_false(health_failed(&h, false, start_ns, 0)); // no news
}

static void one_tries_when_its_time_has_come(void **state)
{
    struct health h = healthy(8);
    fail_times(&h, HEALTH_FAILURES_MAX, start_ns);
    int64_t due = health_due_ns(&h, start_ns);
    assert_true(due > start_ns && due <= start_ns + HEALTH_CLOSED_NS);
    assert_false(health_may_begin(&h, 0, due - 1));
    assert_true(health_may_begin(&h, 0, due));
    assert_true(health_began(&h));
    assert_false(health_may_begin(&h, 1, due));
    health_succeeded(&h);
    assert_true(health_may_begin(&h, 7, due));
    assert_false(health_began(&h));
}

static void a_try_that_fails_closes_it_for_longer_each_time(void **state)
{
    struct health h = healthy(8);
    int64_t now = start_ns, before = 0;
    fail_times(&h, HEALTH_FAILURES_MAX, now);
    for (int i = 0; i < 12; i++) {
        int64_t pause = h.reopen_ns - now;
        assert_true(pause >= before && pause <= HEALTH_CLOSED_MAX_NS);
        before = pause;
        now = h.reopen_ns;
        assert_true(health_may_begin(&h, 0, now));
        assert_true(health_began(&h));
        assert_false(health_failed(&h, false, now, 0)); // another's failure decides nothing
        assert_int_equal(h.state, HEALTH_TRYING);
        health_failed(&h, true, now, 0);
    }
    assert_int_equal(before, HEALTH_CLOSED_MAX_NS);
    health_began(&h);
    health_succeeded(&h);
    fail_times(&h, HEALTH_FAILURES_MAX, now);
    assert_true(h.reopen_ns - now <= HEALTH_CLOSED_NS);
}

static void a_try_that_was_given_up_lets_another_try(void **state)
{
    struct health h = healthy(8);
    fail_times(&h, HEALTH_FAILURES_MAX, start_ns);
    health_began(&h);
    health_given_up(&h, start_ns);
    assert_true(health_may_begin(&h, 0, start_ns));
}

static void slow_down_halves_what_flies_once_in_a_while(void **state)
{
    struct health h = healthy(16);
    health_slower(&h, start_ns, 0);
    health_slower(&h, start_ns, 0);
    assert_int_equal(h.slots, 8);
    assert_true(health_may_begin(&h, 7, start_ns));
    assert_false(health_may_begin(&h, 8, start_ns));
    for (int i = 1; i < 10; i++)
        health_slower(&h, start_ns + i * HEALTH_SLOWER_NS, 0);
    assert_int_equal(h.slots, 1);
    assert_true(health_may_begin(&h, 0, start_ns));
}

static void successes_bring_the_slots_back_one_by_one(void **state)
{
    struct health h = healthy(4);
    health_slower(&h, start_ns, 0);
    assert_int_equal(h.slots, 2);
    health_succeeded(&h);
    assert_int_equal(h.slots, 2);
    health_succeeded(&h);
    assert_int_equal(h.slots, 3);
    for (int i = 0; i < 100; i++)
        health_succeeded(&h);
    assert_int_equal(h.slots, 4);
}

static void retry_after_holds_everything_but_not_for_ever(void **state)
{
    struct health h = healthy(4);
    health_slower(&h, start_ns, 3 * NS_PER_S);
    assert_false(health_may_begin(&h, 0, start_ns + 3 * NS_PER_S - 1));
    assert_true(health_may_begin(&h, 0, start_ns + 3 * NS_PER_S));
    assert_int_equal(health_due_ns(&h, start_ns), start_ns + 3 * NS_PER_S);
    assert_int_equal(health_due_ns(&h, start_ns + 4 * NS_PER_S), INT64_MAX);
    health_slower(&h, start_ns, 100000 * NS_PER_S);
    assert_true(health_may_begin(&h, 0, start_ns + HEALTH_HOLD_MAX_NS));
}

static void pauses_double_up_to_a_limit_with_jitter(void **state)
{
    assert_int_equal(health_pause_ns(1, 100, 1000, 0), 100);
    assert_int_equal(health_pause_ns(2, 100, 1000, 0), 200);
    assert_int_equal(health_pause_ns(5, 100, 1000, 0), 1000);
    assert_int_equal(health_pause_ns(UINT32_MAX, 100, 1000, 0), 1000);
    int64_t least = INT64_MAX;
    for (uint32_t r = 0; r < 5000; r++) {
        int64_t pause = health_pause_ns(3, 1000000, 100000000, r);
        assert_true(pause > 2000000 && pause <= 4000000);
        least = pause < least ? pause : least;
    }
    assert_true(least < 2010000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(failures_in_a_row_close_it_and_a_success_between_does_not),
        cmocka_unit_test(one_tries_when_its_time_has_come),
        cmocka_unit_test(a_try_that_fails_closes_it_for_longer_each_time),
        cmocka_unit_test(a_try_that_was_given_up_lets_another_try),
        cmocka_unit_test(slow_down_halves_what_flies_once_in_a_while),
        cmocka_unit_test(successes_bring_the_slots_back_one_by_one),
        cmocka_unit_test(retry_after_holds_everything_but_not_for_ever),
        cmocka_unit_test(pauses_double_up_to_a_limit_with_jitter),
    };
    return run_group(tests);
}
