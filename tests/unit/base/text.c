// SPDX-License-Identifier: BSD-3-Clause
#include "tests/unit/base/harness.h"

#include "base/cleanup.h"
#include "base/text.h"

static const struct text nothing = {NULL, 0};

static void an_empty_text_with_no_data_is_like_any_empty_text(void **state)
{
    assert_true(text_equal(nothing, TEXT("")));
    assert_true(text_equal(text_of(NULL), text_of("")));
    assert_int_equal(text_compare(nothing, TEXT("")), 0);
    assert_true(text_begins(TEXT("a"), nothing));
    assert_true(text_ends(nothing, nothing));
    assert_int_equal(text_slice(nothing, 0, 0).size_bytes, 0);
}

static void texts_are_compared_beyond_a_nul(void **state)
{
    assert_false(text_equal(TEXT("a\0b"), TEXT("a\0c")));
    assert_true(text_equal(TEXT("a\0b"), TEXT("a\0b")));
    assert_true(text_compare(TEXT("a\0b"), TEXT("a\0c")) < 0);
}

static void the_shorter_comes_first_where_one_begins_the_other(void **state)
{
    assert_true(text_compare(TEXT("ab"), TEXT("abc")) < 0);
    assert_true(text_compare(TEXT("abc"), TEXT("ab")) > 0);
    assert_true(text_compare(nothing, TEXT("a")) < 0);
}

static void the_order_is_that_of_unsigned_bytes(void **state)
{
    assert_true(text_compare(TEXT("\x7f"), TEXT("\x80")) < 0);
}

static void beginnings_and_ends_are_found(void **state)
{
    assert_true(text_begins(TEXT("butler.yaml"), TEXT("butler")));
    assert_false(text_begins(TEXT("but"), TEXT("butler")));
    assert_true(text_ends(TEXT("butler.yaml"), TEXT(".yaml")));
    assert_false(text_ends(TEXT("yaml"), TEXT(".yaml")));
    assert_true(text_equal(text_slice(TEXT("butler.yaml"), 6, 11), TEXT(".yaml")));
}

static void taking_leaves_the_variable_empty(void **state)
{
    cleanup(cleanup_free) char *a = malloc(1);
    cleanup(cleanup_free) char *b = take(a);
    assert_null(a);
    assert_non_null(b);
    cleanup(cleanup_close) int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    cleanup(cleanup_close) int taken = take_fd(&fd);
    assert_int_equal(fd, -1);
    assert_true(taken >= 0);
}

static void a_descriptor_is_closed_at_the_end_of_its_scope(void **state)
{
    int number;
    {
        cleanup(cleanup_close) int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        number = fd;
    }
    assert_int_equal(fcntl(number, F_GETFD), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_text_with_no_data_is_like_any_empty_text),
        cmocka_unit_test(texts_are_compared_beyond_a_nul),
        cmocka_unit_test(the_shorter_comes_first_where_one_begins_the_other),
        cmocka_unit_test(the_order_is_that_of_unsigned_bytes),
        cmocka_unit_test(beginnings_and_ends_are_found),
        cmocka_unit_test(taking_leaves_the_variable_empty),
        cmocka_unit_test(a_descriptor_is_closed_at_the_end_of_its_scope),
    };
    return run_group(tests);
}
