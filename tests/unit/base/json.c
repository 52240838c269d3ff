// SPDX-License-Identifier: BSD-3-Clause
#include "tests/unit/base/harness.h"

#include <errno.h>
#include <math.h>

#include "base/doc.h"

static void assert_json(struct text json, const char *expected)
{
    struct doc *d = NULL;
    char *why = NULL;
    int error = doc_parse_json(json, &d, &why);
    if (error)
        fail_msg("`%.*s`: %d %s", (int)json.size_bytes, json.data, error, why);
    BUFFER_CLEANUP b = {0};
    doc_write_json(d, false, &b);
    doc_free(d);
    assert_string_equal(b.data, expected);
}

static void assert_refused(struct text json, int expected, const char *why_has)
{
    struct doc *d = NULL;
    cleanup(cleanup_free) char *why = NULL;
    int error = doc_parse_json(json, &d, &why);
    if (error != expected)
        fail_msg("`%.*s`: %d, not %d", (int)json.size_bytes, json.data, error, expected);
    assert_null(d);
    if (!strstr(why, why_has))
        fail_msg("`%s` does not say `%s`", why, why_has);
    assert_int_equal(doc_parse_json(json, &d, NULL), expected);
}

static void what_is_read_is_written_the_same(void **state)
{
    static const char all[] = "{\"a\":[1,-2,3.50,1e5,-0.25E-3,true,false,null],\"b\":{\"\":\"\"},"
                              "\"c\":\"\xc3\xa9\\n\\u0000\\\"\",\"d\":[],\"e\":{}}";
    assert_json(text_of(all), all);
    assert_json(TEXT(" [ 1 ,\t{ \"a\" :\r\n 2 } ] \n"), "[1,{\"a\":2}]");
}

static void a_scalar_alone_is_a_document(void **state)
{
    assert_json(TEXT("12"), "12");
    assert_json(TEXT("-1.5"), "-1.5");
    assert_json(TEXT("\"a\""), "\"a\"");
    assert_json(TEXT("null"), "null");
    assert_json(TEXT("true"), "true");
}

static void the_input_ends_where_its_size_says(void **state)
{
    assert_json((struct text){"123", 2}, "12");
    assert_json((struct text){"[1]]", 3}, "[1]");
    assert_refused((struct text){"[1]", 2}, -EINVAL, "end of data");
}

static void a_key_that_stands_twice_keeps_the_last_value(void **state)
{
    assert_json(TEXT("{\"a\":1,\"b\":2,\"a\":3}"), "{\"a\":3,\"b\":2}");
}

static void strings_are_counted_and_may_be_no_utf8(void **state)
{
    struct doc *d = NULL;
    assert_int_equal(doc_parse_json(TEXT("\"a\\u0000b\xff\\ud83d\\ude00\""), &d, NULL), 0);
    assert_true(text_equal(doc_text(d, TEXT("")), TEXT("a\0b\xff\xf0\x9f\x98\x80")));
    doc_free(d);
}

static void numbers_keep_64_bits_and_their_kind(void **state)
{
    struct doc *d = NULL;
    assert_int_equal(doc_parse_json(TEXT("[9223372036854775807,-9223372036854775808,"
                                         "18446744073709551615,1.0,NaN,-Infinity]"),
                                    &d, NULL),
                     0);
    assert_true(doc_integer(doc_item(d, 0), 0) == INT64_MAX);
    assert_true(doc_integer(doc_item(d, 1), 0) == INT64_MIN);
    assert_int_equal(doc_kind(doc_item(d, 2)), DOC_REAL);
    assert_true(text_equal(doc_text(doc_item(d, 2), TEXT("")), TEXT("18446744073709551615")));
    assert_int_equal(doc_kind(doc_item(d, 3)), DOC_REAL);
    assert_true(isnan(doc_real(doc_item(d, 4), 0)));
    assert_true(doc_real(doc_item(d, 5), 0) == -INFINITY);
    doc_free(d);
}

static void a_number_that_would_be_changed_is_refused(void **state)
{
    assert_refused(TEXT("18446744073709551616"), -EINVAL, "64 bits");
    assert_refused(TEXT("[\n-9223372036854775809]"), -EINVAL, "line 2");
    assert_refused(TEXT("123456789012345678901234567890"), -EINVAL, "64 bits");
}

static void a_key_that_would_be_cut_is_refused(void **state)
{
    assert_refused(TEXT("{\"a\\u0000b\":1}"), -EINVAL, "NUL");
    assert_refused(TEXT("{\"a\\u0000b\" \n :1}"), -EINVAL, "NUL");
    assert_json(TEXT("{\"a\\\\u0000b\":1}"), "{\"a\\\\u0000b\":1}");
}

static void what_is_not_json_is_refused(void **state)
{
    static const char *const wrong[] = {
        "",       " ",      "[",       "]",       "[1,]",   "{\"a\":1,}", "{'a':1}", "{a:1}",
        "'a'",    "01",     "1.",      ".5",      "+1",     "-",          "1e",      "0x10",
        "- 1",    "[01]",   "nul",     "nullx",   "True",   "\"\\q\"",    "\"\\u12", "\"a",
        "1 2",    "[1]x",   "/*c*/1",  "1//c",    "[1 2]",  "{\"a\" 1}",  "[,1]",    "{,}",
        "\"a\nb\"", "\"\t\"", "nan",   "[1}",     "{1:2}",  "--1",        "1-2",     "\\",
    };
    for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++)
        assert_refused(text_of(wrong[i]), -EINVAL, "line ");
    assert_refused(TEXT("1\0"), -EINVAL, "line 1");
    assert_refused(TEXT("\"a\0\""), -EINVAL, "control byte");
    assert_refused(TEXT("\"a\\\0\""), -EINVAL, "line 1");
}

static void depth_is_bounded_to_64(void **state)
{
    BUFFER_CLEANUP b = {0};
    for (int i = 0; i < 64; i++)
        buffer_append_byte(&b, '[');
    for (int i = 0; i < 64; i++)
        buffer_append_byte(&b, ']');
    assert_json(buffer_text(&b), b.data);
    buffer_clear(&b);
    for (int i = 0; i < 65; i++)
        buffer_append_string(&b, "{\"a\":");
    assert_refused(buffer_text(&b), -E2BIG, "too deep");
    assert_refused(TEXT("[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["
                        "]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]"),
                   -E2BIG, "too deep");
}

static void more_than_4_million_values_are_refused(void **state)
{
    BUFFER_CLEANUP b = {0};
    buffer_append_string(&b, "[0");
    for (int i = 0; i < 4000000; i++)
        buffer_append_string(&b, ",0");
    buffer_append_byte(&b, ']');
    assert_refused(buffer_text(&b), -E2BIG, "too many");
}

static void more_than_64_mib_are_refused(void **state)
{
    char *large = memory_new((64 << 20) + 1);
    memset(large, ' ', (64 << 20) + 1);
    assert_refused((struct text){large, (64 << 20) + 1}, -E2BIG, "bytes");
    free(large);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_read_is_written_the_same),
        cmocka_unit_test(a_scalar_alone_is_a_document),
        cmocka_unit_test(the_input_ends_where_its_size_says),
        cmocka_unit_test(a_key_that_stands_twice_keeps_the_last_value),
        cmocka_unit_test(strings_are_counted_and_may_be_no_utf8),
        cmocka_unit_test(numbers_keep_64_bits_and_their_kind),
        cmocka_unit_test(a_number_that_would_be_changed_is_refused),
        cmocka_unit_test(a_key_that_would_be_cut_is_refused),
        cmocka_unit_test(what_is_not_json_is_refused),
        cmocka_unit_test(depth_is_bounded_to_64),
        cmocka_unit_test(more_than_4_million_values_are_refused),
        cmocka_unit_test(more_than_64_mib_are_refused),
    };
    return run_group(tests);
}
