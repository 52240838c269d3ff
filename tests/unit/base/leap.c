// SPDX-License-Identifier: BSD-3-Clause
#include "tests/unit/base/harness.h"

#include <errno.h>

#include "base/buffer.h"
#include "base/leap.h"

#define FIRST "2272060800\t10\t# 1 Jan 1972\n"

static void assert_refused(struct text list)
{
    struct leap_table table = {.count = -1};
    assert_int_equal(leap_parse(list, &table), -EINVAL);
    assert_int_equal(table.count, -1);
}

static void a_list_is_read(void **state)
{
    struct leap_table table;
    struct text list = TEXT("#\tcomment\n\n" FIRST "   2287785600 11\r\n#$ 1\n2303683200\t12");
    assert_int_equal(leap_parse(list, &table), 0);
    assert_int_equal(table.count, 3);
    assert_int_equal(table.rows[0].unix_s, 63072000);
    assert_int_equal(table.rows[0].offset_s, 10);
    assert_int_equal(table.rows[2].unix_s, 94694400);
    assert_int_equal(table.rows[2].offset_s, 12);
}

static void a_second_left_out_is_read_too(void **state)
{
    struct leap_table table;
    assert_int_equal(leap_parse(TEXT(FIRST "2287785600 9\n"), &table), 0);
    assert_int_equal(table.rows[1].offset_s, 9);
}

static void a_list_with_anything_wrong_in_it_is_refused_whole(void **state)
{
    assert_refused(TEXT(""));
    assert_refused(TEXT("# only a comment\n"));
    assert_refused(TEXT("2287785600 11\n"));                // doesn't begin in 1972
    assert_refused(TEXT("2272060800 11\n"));                // nor with 10 s
    assert_refused(TEXT(FIRST "2272060800 11\n"));          // not later
    assert_refused(TEXT(FIRST "2287785600 12\n"));          // two at once
    assert_refused(TEXT(FIRST "2287785600 10\n"));          // none
    assert_refused(TEXT(FIRST "2287785600\n"));
    assert_refused(TEXT(FIRST "2287785600 11 x\n"));
    assert_refused(TEXT(FIRST "2287785600x 11\n"));
    assert_refused(TEXT(FIRST "-2287785600 11\n"));
    assert_refused(TEXT(FIRST "99999999999999999999 11\n"));
    assert_refused(TEXT(FIRST "2287785600 99999999999\n"));
    assert_refused(TEXT(FIRST "2287785600 1\0001\n"));
    assert_refused(TEXT("<html>\n"));
}

static void more_rows_than_there_is_room_for_are_refused(void **state)
{
    BUFFER_CLEANUP list = {0};
    for (int i = 0; i < LEAP_ROWS_MAX; i++)
        buffer_format(&list, "%u %d\n", 2272060800u + (unsigned)i, 10 + i);
    struct leap_table table;
    assert_int_equal(leap_parse(buffer_text(&list), &table), 0);
    buffer_format(&list, "%u %d\n", 2272060800u + LEAP_ROWS_MAX, 10 + LEAP_ROWS_MAX);
    assert_refused(buffer_text(&list));
}

static void assert_builtin(const struct leap_table *table)
{
    assert_int_equal(table->count, 28);
    assert_int_equal(table->rows[27].unix_s, 1483228800);
    assert_int_equal(table->rows[27].offset_s, 37);
}

// Writes a file and loads it.
static void load(struct text content, struct leap_table *ret_table)
{
    char path[] = "/tmp/butlerfs-leap-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, content.data, content.size_bytes), content.size_bytes);
    close(fd);
    leap_load(path, ret_table);
    unlink(path);
}

static void without_a_file_the_builtin_table_is_used(void **state)
{
    struct leap_table table;
    leap_load("/nonexistent/leap-seconds.list", &table);
    assert_builtin(&table);
}

static void a_file_that_is_broken_older_or_too_large_is_not_used(void **state)
{
    struct leap_table table;
    load(TEXT("nonsense\n"), &table);
    assert_builtin(&table);
    load(TEXT(FIRST), &table);
    assert_builtin(&table);
    BUFFER_CLEANUP large = {0};
    for (int i = 0; i < 70000; i++)
        buffer_append_string(&large, "#\n");
    load(buffer_text(&large), &table);
    assert_builtin(&table);
    leap_load("/tmp", &table);
    assert_builtin(&table);
}

static void a_newer_file_is_used(void **state)
{
    struct leap_table builtin, table;
    leap_builtin(&builtin);
    BUFFER_CLEANUP list = {0};
    for (int i = 0; i < builtin.count; i++)
        buffer_format(&list, "%lld %d\n", (long long)builtin.rows[i].unix_s + 2208988800,
                      builtin.rows[i].offset_s);
    buffer_append_string(&list, "4102444800 38\n");
    load(buffer_text(&list), &table);
    assert_int_equal(table.count, 29);
    assert_int_equal(table.rows[28].offset_s, 38);
}

static void the_builtin_table_keeps_the_rules_of_a_list(void **state)
{
    struct leap_table builtin;
    leap_builtin(&builtin);
    assert_builtin(&builtin);
    for (int i = 1; i < builtin.count; i++) {
        assert_int_equal(builtin.rows[i].offset_s, builtin.rows[i - 1].offset_s + 1);
        assert_int_equal(builtin.rows[i].unix_s % 86400, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_list_is_read),
        cmocka_unit_test(a_second_left_out_is_read_too),
        cmocka_unit_test(a_list_with_anything_wrong_in_it_is_refused_whole),
        cmocka_unit_test(more_rows_than_there_is_room_for_are_refused),
        cmocka_unit_test(without_a_file_the_builtin_table_is_used),
        cmocka_unit_test(a_file_that_is_broken_older_or_too_large_is_not_used),
        cmocka_unit_test(a_newer_file_is_used),
        cmocka_unit_test(the_builtin_table_keeps_the_rules_of_a_list),
    };
    return run_group(tests);
}
