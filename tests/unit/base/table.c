// SPDX-License-Identifier: BSD-3-Clause
#include "tests/unit/base/harness.h"

#include "base/table.h"

static bool is_equal(uint64_t value, const void *key, void *context)
{
    ++*(int *)context;
    return value == *(const uint64_t *)key;
}

static void an_empty_table_has_nothing(void **state)
{
    struct table t = {0};
    size_t position = 0;
    assert_int_equal(table_find(&t, 0, NULL, NULL, NULL), 0);
    assert_int_equal(table_next(&t, &position), 0);
    assert_false(table_remove(&t, 0, 1));
    table_release(&t);
}

static void values_under_one_hash_are_told_apart_by_the_caller(void **state)
{
    struct table t = {0};
    for (uint64_t v = 1; v <= 50; v++)
        table_add(&t, 7, v);
    int calls = 0;
    for (uint64_t v = 1; v <= 50; v++)
        assert_int_equal(table_find(&t, 7, is_equal, &v, &calls), v);
    uint64_t none = 51;
    assert_int_equal(table_find(&t, 7, is_equal, &none, &calls), 0);
    assert_true(table_find(&t, 7, NULL, NULL, NULL) != 0);
    table_release(&t);
}

static void the_caller_is_only_asked_about_values_of_that_hash(void **state)
{
    struct table t = {0};
    for (uint64_t v = 1; v <= 1000; v++)
        table_add(&t, v * 16, v);
    int calls = 0;
    uint64_t v = 500;
    assert_int_equal(table_find(&t, 500 * 16, is_equal, &v, &calls), 500);
    assert_int_equal(calls, 1);
    table_release(&t);
}

static void removing_takes_that_very_pair(void **state)
{
    struct table t = {0};
    table_add(&t, 1, 10);
    table_add(&t, 1, 11);
    assert_false(table_remove(&t, 2, 10));
    assert_false(table_remove(&t, 1, 12));
    assert_true(table_remove(&t, 1, 10));
    assert_false(table_remove(&t, 1, 10));
    assert_int_equal(table_find(&t, 1, NULL, NULL, NULL), 11);
    assert_int_equal(t.count, 1);
    table_release(&t);
}

// Against a plain list: hashes from a small range, so that they collide and wrap round.
static void any_series_of_changes_leaves_what_a_list_would_hold(void **state)
{
    enum { PAIRS = 400, STEPS = 20000 };
    static bool is_in[PAIRS + 1];
    struct table t = {0};
    unsigned seed = 1;
    size_t count = 0;
    memset(is_in, 0, sizeof(is_in));
    for (int step = 0; step < STEPS; step++) {
        uint64_t v = (uint64_t)rand_r(&seed) % PAIRS + 1;
        uint64_t hash = v % 37;
        if (is_in[v]) {
            assert_true(table_remove(&t, hash, v));
            count--;
        } else {
            table_add(&t, hash, v);
            count++;
        }
        is_in[v] = !is_in[v];
        uint64_t probe = (uint64_t)rand_r(&seed) % PAIRS + 1;
        int calls = 0;
        assert_int_equal(table_find(&t, probe % 37, is_equal, &probe, &calls),
                         is_in[probe] ? probe : 0);
        assert_int_equal(t.count, count);
    }
    table_release(&t);
}

static void iteration_gives_each_value_once(void **state)
{
    struct table t = {0};
    static int seen[1001];
    memset(seen, 0, sizeof(seen));
    for (uint64_t v = 1; v <= 1000; v++)
        table_add(&t, v, v);
    size_t position = 0;
    for (uint64_t v; (v = table_next(&t, &position));)
        seen[v]++;
    for (int v = 1; v <= 1000; v++)
        assert_int_equal(seen[v], 1);
    table_release(&t);
}

static void the_load_is_at_most_three_quarters(void **state)
{
    struct table t = {0};
    for (uint64_t v = 1; v <= 5000; v++) {
        table_add(&t, v << 32, v);
        assert_true(t.count * 4 <= t.room * 3);
        assert_int_equal(t.room & (t.room - 1), 0);
    }
    table_release(&t);
}

static void adding_zero_aborts(void **state)
{
    struct table t = {0};
    assert_aborts(table_add(&t, 1, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_table_has_nothing),
        cmocka_unit_test(values_under_one_hash_are_told_apart_by_the_caller),
        cmocka_unit_test(the_caller_is_only_asked_about_values_of_that_hash),
        cmocka_unit_test(removing_takes_that_very_pair),
        cmocka_unit_test(any_series_of_changes_leaves_what_a_list_would_hold),
        cmocka_unit_test(iteration_gives_each_value_once),
        cmocka_unit_test(the_load_is_at_most_three_quarters),
        cmocka_unit_test(adding_zero_aborts),
    };
    return run_group(tests);
}
