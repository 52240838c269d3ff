// SPDX-License-Identifier: BSD-3-Clause
#include "tests/unit/base/harness.h"

#include <errno.h>

#include "fs/ranges.h"

static void ranges_are_numbers_with_a_dash_between_and_colons_behind(void **state)
{
    struct range r[RANGES_MAX];
    assert_int_equal(ranges_parse("5", r), 1);
    assert_true(r[0].first == 5 && r[0].last == 5);
    assert_int_equal(ranges_parse("1000-59999:70000:4294967294", r), 3);
    assert_true(r[0].first == 1000 && r[0].last == 59999 && r[1].first == 70000 && r[1].last == 70000);
    assert_true(r[2].first == UINT32_MAX - 1);
    assert_int_equal(ranges_parse("0-0", NULL), 1);
}

static void what_is_no_range_is_refused(void **state)
{
    static const char *const wrong[] = {"", ":", "1:", ":1", "1-", "-1", "2-1", "1,2", "1 ", "alice", "4294967295",
                                        "99999999999999999999", "1-4294967295", "0x10", "1--2"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        assert_int_equal(ranges_parse(wrong[i], NULL), -EINVAL);
}

static void more_ranges_than_there_is_room_for_are_refused(void **state)
{
    char text[3 * RANGES_MAX + 3] = "";
    struct range r[RANGES_MAX];
    for (int i = 0; i < RANGES_MAX; i++)
        strcat(text, i ? ":1" : "1");
    assert_int_equal(ranges_parse(text, r), RANGES_MAX);
    strcat(text, ":1");
    assert_int_equal(ranges_parse(text, r), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranges_are_numbers_with_a_dash_between_and_colons_behind),
        cmocka_unit_test(what_is_no_range_is_refused),
        cmocka_unit_test(more_ranges_than_there_is_room_for_are_refused),
    };
    return run_group(tests);
}
