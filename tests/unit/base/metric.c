// SPDX-License-Identifier: BSD-3-Clause
#include "tests/unit/base/harness.h"

#include <pthread.h>

#include "base/metric.h"

static void what_is_added_is_there(void **state)
{
    int64_t before = metric_get(METRIC_WAITERS);
    metric_add(METRIC_WAITERS, 3);
    metric_add(METRIC_WAITERS, -1);
    assert_int_equal(metric_get(METRIC_WAITERS), before + 2);
}

static void each_has_a_name_of_its_own_and_a_help(void **state)
{
    for (int i = 0; i < METRIC_COUNT; i++) {
        assert_true(strlen(metric_name(i)) > 0);
        assert_int_equal(strspn(metric_name(i), "abcdefghijklmnopqrstuvwxyz_"),
                         strlen(metric_name(i)));
        assert_true(strlen(metric_help(i)) > 0);
        for (int other = 0; other < i; other++)
            assert_string_not_equal(metric_name(i), metric_name(other));
    }
}

static void kinds_are_those_of_the_table(void **state)
{
    assert_int_equal(metric_kind(METRIC_REQUESTS), METRIC_COUNTER);
    assert_int_equal(metric_kind(METRIC_NODES), METRIC_GAUGE);
}

static void *count_up(void *argument)
{
    for (int i = 0; i < 100000; i++)
        metric_add(METRIC_REQUESTS, 1);
    return argument;
}

static void threads_lose_no_count(void **state)
{
    int64_t before = metric_get(METRIC_REQUESTS);
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, count_up, NULL), 0);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(metric_get(METRIC_REQUESTS), before + 300000);
}

static void a_metric_outside_the_table_aborts(void **state)
{
    assert_aborts(metric_add(METRIC_COUNT, 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_added_is_there),
        cmocka_unit_test(each_has_a_name_of_its_own_and_a_help),
        cmocka_unit_test(kinds_are_those_of_the_table),
        cmocka_unit_test(threads_lose_no_count),
        cmocka_unit_test(a_metric_outside_the_table_aborts),
    };
    return run_group(tests);
}
