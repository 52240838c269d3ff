// SPDX-License-Identifier: BSD-3-Clause
#include "tests/unit/base/harness.h"

#include "cache/series.h"

#define MIB (INT64_C(1) << 20)
#define FRAME (32 * MIB)
#define LIMIT (256 * MIB)

static struct series_plan open_at(struct series *s, int64_t position, int64_t extent)
{
    struct series_plan plan;
    series_note(s, position, extent, FRAME, LIMIT, &plan);
    return plan;
}

static void the_second_frame_of_a_movie_brings_the_next_ones(void **state)
{
    struct series s = {0};
    assert_int_equal(open_at(&s, 10, 0).count, 0);
    struct series_plan plan = open_at(&s, 11, FRAME);
    assert_int_equal(plan.first, 12);
    assert_int_equal(plan.step, 1);
    assert_int_equal(plan.count, 2);
    assert_true(plan.extent == INT64_MAX);
}

static void each_frame_is_planned_once(void **state)
{
    struct series s = {0};
    int64_t next = 2;
    for (int64_t at = 0; at < 100; at++) {
        struct series_plan plan = open_at(&s, at, FRAME);
        if (!plan.count)
            continue;
        assert_int_equal(plan.first, next);
        next += plan.count;
        assert_true(next - 1 - at <= LIMIT / FRAME);
    }
    assert_int_equal(next, 100 + LIMIT / FRAME);
}

static void a_larger_step_is_believed_after_three(void **state)
{
    struct series s = {0};
    assert_int_equal(open_at(&s, 5, 0).count, 0);
    assert_int_equal(open_at(&s, 194, FRAME).count, 0);
    struct series_plan plan = open_at(&s, 383, FRAME);
    assert_int_equal(plan.first, 572);
    assert_int_equal(plan.step, 189);
}

static void it_goes_backwards_too(void **state)
{
    struct series s = {0};
    open_at(&s, 50, 0);
    struct series_plan plan = open_at(&s, 49, FRAME);
    assert_int_equal(plan.first, 48);
    assert_int_equal(plan.step, -1);
}

static void files_of_which_the_head_was_read_have_their_heads_fetched(void **state)
{
    struct series s = {0};
    open_at(&s, 0, 0);
    struct series_plan plan = open_at(&s, 1, 65536);
    assert_int_equal(plan.extent, 65536);
    assert_int_equal(plan.count, 2);
}

static void files_that_are_only_opened_bring_nothing(void **state)
{
    struct series s = {0};
    for (int64_t at = 0; at < 20; at++)
        assert_int_equal(open_at(&s, at, 0).count, 0);
}

static void what_was_known_still_holds_for_files_read_by_passthrough(void **state)
{
    struct series s = {0};
    open_at(&s, 0, 0);
    open_at(&s, 1, FRAME);
    struct series_plan plan = open_at(&s, 2, 0);
    assert_true(plan.count > 0);
    assert_true(plan.extent == INT64_MAX);
}

static void files_in_no_order_bring_nothing(void **state)
{
    struct series s = {0};
    int64_t order[] = {7, 100, 3, 42, 20, 90, 11};
    for (size_t i = 0; i < sizeof(order) / sizeof(*order); i++)
        assert_int_equal(open_at(&s, order[i], FRAME).count, 0);
}

static void a_new_direction_starts_anew(void **state)
{
    struct series s = {0};
    for (int64_t at = 0; at < 10; at++)
        open_at(&s, at, FRAME);
    struct series_plan plan = open_at(&s, 8, FRAME);
    assert_int_equal(plan.first, 7);
    assert_int_equal(plan.count, 2);
}

static void a_file_opened_again_changes_nothing(void **state)
{
    struct series s = {0};
    open_at(&s, 0, 0);
    open_at(&s, 1, FRAME);
    assert_int_equal(open_at(&s, 1, FRAME).count, 0);
    struct series_plan plan = open_at(&s, 2, FRAME);
    assert_int_equal(plan.first, 4);
}

static void what_is_not_known_yet_is_planned_again_with_all_after_it(void **state)
{
    struct series s = {0};
    open_at(&s, 0, 0);
    struct series_plan plan = open_at(&s, 1, FRAME);
    series_not_yet(&s, plan.first + 1, plan.step);
    series_not_yet(&s, plan.first, plan.step);
    series_not_yet(&s, plan.first + 1, plan.step);
    assert_int_equal(open_at(&s, 2, FRAME).first, 3);
    series_not_yet(&s, 3, -1); // of another way
    assert_int_equal(open_at(&s, 3, FRAME).first > 4, 1);
}

static void a_file_larger_than_the_limit_brings_nothing(void **state)
{
    struct series s = {0};
    struct series_plan plan;
    for (int64_t at = 0; at < 5; at++) {
        series_note(&s, at, 1024 * MIB, 1024 * MIB, LIMIT, &plan);
        assert_int_equal(plan.count, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_second_frame_of_a_movie_brings_the_next_ones),
        cmocka_unit_test(each_frame_is_planned_once),
        cmocka_unit_test(a_larger_step_is_believed_after_three),
        cmocka_unit_test(it_goes_backwards_too),
        cmocka_unit_test(files_of_which_the_head_was_read_have_their_heads_fetched),
        cmocka_unit_test(files_that_are_only_opened_bring_nothing),
        cmocka_unit_test(what_was_known_still_holds_for_files_read_by_passthrough),
        cmocka_unit_test(files_in_no_order_bring_nothing),
        cmocka_unit_test(a_new_direction_starts_anew),
        cmocka_unit_test(a_file_opened_again_changes_nothing),
        cmocka_unit_test(what_is_not_known_yet_is_planned_again_with_all_after_it),
        cmocka_unit_test(a_file_larger_than_the_limit_brings_nothing),
    };
    return run_group(tests);
}
