// SPDX-License-Identifier: BSD-3-Clause
#include "tests/unit/base/harness.h"

#include <errno.h>

#include "base/buffer.h"

static void an_empty_buffer_is_an_empty_text(void **state)
{
    BUFFER_CLEANUP b = {0};
    assert_true(text_equal(buffer_text(&b), TEXT("")));
    buffer_clear(&b);
    buffer_release(&b);
}

static void the_data_is_always_followed_by_a_nul(void **state)
{
    BUFFER_CLEANUP b = {0};
    for (int i = 0; i < 1000; i++) {
        buffer_append_byte(&b, 'x');
        assert_int_equal(strlen(b.data), b.size_bytes);
    }
    buffer_truncate(&b, 7);
    assert_string_equal(b.data, "xxxxxxx");
    buffer_append(&b, NULL, 0);
    assert_string_equal(b.data, "xxxxxxx");
}

static void bytes_after_a_nul_are_kept(void **state)
{
    BUFFER_CLEANUP b = {0};
    buffer_append_text(&b, TEXT("a\0b"));
    buffer_append_string(&b, "c");
    assert_true(text_equal(buffer_text(&b), TEXT("a\0bc")));
}

static void a_format_longer_than_the_room_is_written_whole(void **state)
{
    BUFFER_CLEANUP b = {0};
    buffer_append_string(&b, "head:");
    buffer_format(&b, "%0500d|", 7);
    buffer_format(&b, "%s", "tail");
    assert_int_equal(b.size_bytes, 5 + 500 + 1 + 4);
    assert_string_equal(b.data + 5 + 499, "7|tail");
}

static void a_format_sees_the_callers_errno(void **state)
{
    BUFFER_CLEANUP b = {0};
    errno = ENOENT;
    buffer_format(&b, "%100s%m", "");
    assert_string_equal(b.data + 100, strerror(ENOENT));
}

static void clearing_keeps_the_memory(void **state)
{
    BUFFER_CLEANUP b = {0};
    buffer_append_string(&b, "something");
    char *before = b.data;
    buffer_clear(&b);
    assert_ptr_equal(b.data, before);
    assert_string_equal(b.data, "");
}

static void stealing_gives_a_string_and_leaves_an_empty_buffer(void **state)
{
    struct buffer b = {0};
    char *nothing = buffer_steal(&b);
    assert_string_equal(nothing, "");
    free(nothing);
    buffer_append_string(&b, "abc");
    char *stolen = buffer_steal(&b);
    assert_string_equal(stolen, "abc");
    free(stolen);
    assert_null(b.data);
    assert_int_equal(b.size_bytes + b.room_bytes, 0);
}

static void truncating_to_more_than_there_is_aborts(void **state)
{
    BUFFER_CLEANUP b = {0};
    buffer_append_string(&b, "abc");
    assert_aborts(buffer_truncate(&b, 4));
}

static void a_size_that_overflows_ends_the_process(void **state)
{
    BUFFER_CLEANUP b = {0};
    buffer_append_string(&b, "abc");
    assert_aborts(buffer_reserve(&b, SIZE_MAX - 2));
    assert_aborts(memory_grow(NULL, SIZE_MAX / 2, 3));
    assert_aborts(memory_copy("", SIZE_MAX));
}

static void a_copy_has_a_nul_after_it_and_new_memory_is_zero(void **state)
{
    cleanup(cleanup_free) char *copy = memory_copy("abcdef", 3);
    assert_string_equal(copy, "abc");
    cleanup(cleanup_free) char *empty = memory_copy(NULL, 0);
    assert_string_equal(empty, "");
    cleanup(cleanup_free) uint64_t *fresh = new_struct(uint64_t);
    assert_int_equal(*fresh, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_buffer_is_an_empty_text),
        cmocka_unit_test(the_data_is_always_followed_by_a_nul),
        cmocka_unit_test(bytes_after_a_nul_are_kept),
        cmocka_unit_test(a_format_longer_than_the_room_is_written_whole),
        cmocka_unit_test(a_format_sees_the_callers_errno),
        cmocka_unit_test(clearing_keeps_the_memory),
        cmocka_unit_test(stealing_gives_a_string_and_leaves_an_empty_buffer),
        cmocka_unit_test(truncating_to_more_than_there_is_aborts),
        cmocka_unit_test(a_size_that_overflows_ends_the_process),
        cmocka_unit_test(a_copy_has_a_nul_after_it_and_new_memory_is_zero),
    };
    return run_group(tests);
}
