// SPDX-License-Identifier: BSD-3-Clause
#include "tests/unit/base/harness.h"

#include <math.h>

#include "base/doc.h"

static void assert_json(const struct doc *d, const char *expected)
{
    BUFFER_CLEANUP b = {0};
    doc_write_json(d, false, &b);
    assert_string_equal(buffer_text(&b).data, expected);
}

static void look_ups_on_nothing_answer_nothing(void **state)
{
    assert_int_equal(doc_kind(NULL), DOC_NULL);
    assert_null(doc_get(NULL, "a"));
    assert_null(doc_path(doc_get(NULL, "a"), "b.c"));
    assert_null(doc_item(NULL, 0));
    assert_int_equal(doc_count(NULL), 0);
    assert_int_equal(doc_key(NULL, 0).size_bytes, 0);
    assert_int_equal(doc_integer(NULL, 7), 7);
    assert_true(doc_bool(NULL, true));
    assert_true(text_equal(doc_text(NULL, TEXT("x")), TEXT("x")));
    assert_false(doc_is_scalar(NULL));
    doc_free(NULL);
}

static void a_scalar_of_another_kind_gives_the_default(void **state)
{
    cleanup(cleanup_doc_free) struct doc *text = doc_new_text(TEXT("12"));
    assert_int_equal(doc_integer(text, 7), 7);
    assert_false(doc_bool(text, false));
    assert_null(doc_get(text, "a"));
    assert_null(doc_item(text, 0));
    cleanup(cleanup_doc_free) struct doc *null = doc_new(DOC_NULL);
    assert_true(text_equal(doc_text(null, TEXT("x")), TEXT("x")));
    cleanup(cleanup_doc_free) struct doc *list = doc_new(DOC_LIST);
    assert_true(text_equal(doc_text(list, TEXT("x")), TEXT("x")));
    assert_false(doc_is_scalar(list));
}

static void what_is_built_can_be_read(void **state)
{
    cleanup(cleanup_doc_free) struct doc *map = doc_new(DOC_MAP);
    struct doc *inner = doc_new(DOC_MAP);
    doc_put(map, "registry", inner);
    doc_put_text(inner, "db", "sqlite:///gen3.sqlite3");
    doc_put_integer(inner, "port", INT64_MIN);
    doc_put_bool(inner, "readonly", true);
    doc_put_text(inner, "schema", NULL);
    struct doc *list = doc_new(DOC_LIST);
    doc_put(map, "list", list);
    doc_append(list, doc_new_real(0.1));
    doc_append(list, doc_new_integer(2));
    assert_true(text_equal(doc_text(doc_path(map, "registry.db"), TEXT("")),
                           TEXT("sqlite:///gen3.sqlite3")));
    assert_true(doc_integer(doc_path(map, "registry.port"), 0) == INT64_MIN);
    assert_true(doc_bool(doc_path(map, "registry.readonly"), false));
    assert_non_null(doc_path(map, "registry.schema"));
    assert_int_equal(doc_kind(doc_path(map, "registry.schema")), DOC_NULL);
    assert_null(doc_path(map, "registry.db.deeper"));
    assert_null(doc_path(map, "registry."));
    assert_true(doc_real(doc_item(doc_get(map, "list"), 0), 0) == 0.1);
    assert_true(doc_real(doc_item(doc_get(map, "list"), 1), 0) == 2.0);
    assert_null(doc_item(doc_get(map, "list"), 2));
}

static void a_map_is_filled_with_what_it_does_not_have(void **state)
{
    struct doc *map = NULL, *from = NULL;
    BUFFER_CLEANUP json = {0};
    assert_int_equal(doc_parse_json(TEXT("{\"a\": {\"x\": 1}, \"b\": null, \"c\": [1], \"d\": 2}"), &map, NULL), 0);
    assert_int_equal(doc_parse_json(TEXT("{\"d\": {}, \"c\": [2], \"b\": {\"n\": 0}, \"a\": {\"x\": 2, \"y\": [3]}, \"e\": 9}"), &from, NULL), 0);
    doc_fill(map, from);
    doc_replace(map, 2, doc_new_bool(true));
    assert_int_equal(doc_kind(doc_child(map, 2)), DOC_BOOL);
    doc_write_json(map, false, &json);
    assert_string_equal(json.data, "{\"a\":{\"x\":1,\"y\":[3]},\"b\":null,\"c\":true,\"d\":2,\"e\":9}");
    doc_free(map);
}

static void numbers_and_truth_have_a_text_too(void **state)
{
    cleanup(cleanup_doc_free) struct doc *n = doc_new_integer(-42);
    cleanup(cleanup_doc_free) struct doc *b = doc_new_bool(false);
    cleanup(cleanup_doc_free) struct doc *r = doc_new_real(3);
    assert_true(text_equal(doc_text(n, TEXT("")), TEXT("-42")));
    assert_true(text_equal(doc_text(b, TEXT("")), TEXT("false")));
    assert_true(text_equal(doc_text(r, TEXT("")), TEXT("3.0")));
}

static void a_key_put_again_has_the_last_value_in_its_first_place(void **state)
{
    cleanup(cleanup_doc_free) struct doc *map = doc_new(DOC_MAP);
    doc_put_integer(map, "a", 1);
    doc_put_integer(map, "b", 2);
    doc_put_integer(map, "a", 3);
    assert_json(map, "{\"a\":3,\"b\":2}");
}

static void many_keys_are_found_and_keep_their_order(void **state)
{
    cleanup(cleanup_doc_free) struct doc *map = doc_new(DOC_MAP);
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < 5000; i++) {
            char key[16];
            snprintf(key, sizeof(key), "k%d", i);
            doc_put_integer(map, key, i + round);
        }
    assert_int_equal(doc_count(map), 5000);
    for (int i = 0; i < 5000; i++) {
        char key[16];
        snprintf(key, sizeof(key), "k%d", i);
        assert_int_equal(doc_integer(doc_get(map, key), -1), i + 1);
        assert_true(text_equal(doc_key(map, (size_t)i), text_of(key)));
    }
    assert_null(doc_get(map, "k5000"));
    assert_int_equal(doc_key(map, 5000).size_bytes, 0);
}

static void json_escapes_what_must_be_and_nothing_else(void **state)
{
    cleanup(cleanup_doc_free) struct doc *d = 
        doc_new_text(TEXT("\"\\/\b\f\n\r\t\0\x1f\x7f\xc3\xa9"));
    assert_json(d, "\"\\\"\\\\/\\b\\f\\n\\r\\t\\u0000\\u001f\x7f\xc3\xa9\"");
}

static void bytes_that_are_not_utf8_are_written_as_the_replacement_character(void **state)
{
    static const struct {
        struct text bytes;
        int replaced;
    } cases[] = {
        {{"\x80", 1}, 1},             // begins nothing
        {{"\xc3", 1}, 1},             // cut short
        {{"\xc0\xaf", 2}, 2},         // overlong
        {{"\xe0\x80\xaf", 3}, 3},     // overlong
        {{"\xed\xa0\x80", 3}, 3},     // a surrogate
        {{"\xf4\x90\x80\x80", 4}, 4}, // above U+10FFFF
        {{"\xf5\x80\x80\x80", 4}, 4},
        {{"\xff", 1}, 1},
        {{"\xf0\x9f\x98\x80", 4}, 0},
        {{"\xed\x9f\xbf", 3}, 0},
        {{"\xf4\x8f\xbf\xbf", 4}, 0},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        cleanup(cleanup_doc_free) struct doc *d = doc_new_text(cases[i].bytes);
        BUFFER_CLEANUP expected = {0};
        buffer_append_byte(&expected, '"');
        for (int n = 0; n < cases[i].replaced; n++)
            buffer_append_string(&expected, "\xef\xbf\xbd");
        if (!cases[i].replaced)
            buffer_append_text(&expected, cases[i].bytes);
        buffer_append_byte(&expected, '"');
        assert_json(d, expected.data);
    }
}

static void a_real_is_written_so_that_it_is_read_back_the_same(void **state)
{
    static const double values[] = {0.1, 1e300, 1.0 / 3, 5e-324, -2.5, 123456789012345680.0, 1e22};
    for (size_t i = 0; i < sizeof(values) / sizeof(*values); i++) {
        cleanup(cleanup_doc_free) struct doc *d = doc_new_real(values[i]);
        BUFFER_CLEANUP b = {0};
        doc_write_json(d, false, &b);
        struct doc *again = NULL;
        assert_int_equal(doc_parse_json(buffer_text(&b), &again, NULL), 0);
        assert_int_equal(doc_kind(again), DOC_REAL);
        assert_true(doc_real(again, 0) == values[i]);
        doc_free(again);
    }
}

static void a_real_that_is_no_number_is_written_as_null(void **state)
{
    cleanup(cleanup_doc_free) struct doc *list = doc_new(DOC_LIST);
    doc_append(list, doc_new_real(NAN));
    doc_append(list, doc_new_real(-INFINITY));
    assert_json(list, "[null,null]");
}

static void pretty_json_has_a_line_for_each_value(void **state)
{
    cleanup(cleanup_doc_free) struct doc *map = doc_new(DOC_MAP);
    doc_put(map, "none", doc_new(DOC_LIST));
    struct doc *list = doc_new(DOC_LIST);
    doc_append(list, doc_new_integer(1));
    doc_append(list, doc_new(DOC_MAP));
    doc_put(map, "some", list);
    BUFFER_CLEANUP b = {0};
    doc_write_json(map, true, &b);
    assert_string_equal(b.data,
                        "{\n  \"none\": [],\n  \"some\": [\n    1,\n    {}\n  ]\n}");
}

static void building_what_cannot_be_aborts(void **state)
{
    cleanup(cleanup_doc_free) struct doc *list = doc_new(DOC_LIST);
    assert_aborts(doc_put_integer(list, "a", 1));
    assert_aborts(doc_append(list, NULL));
    assert_aborts(doc_new(DOC_STRING));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(look_ups_on_nothing_answer_nothing),
        cmocka_unit_test(a_scalar_of_another_kind_gives_the_default),
        cmocka_unit_test(what_is_built_can_be_read),
        cmocka_unit_test(a_map_is_filled_with_what_it_does_not_have),
        cmocka_unit_test(numbers_and_truth_have_a_text_too),
        cmocka_unit_test(a_key_put_again_has_the_last_value_in_its_first_place),
        cmocka_unit_test(many_keys_are_found_and_keep_their_order),
        cmocka_unit_test(json_escapes_what_must_be_and_nothing_else),
        cmocka_unit_test(bytes_that_are_not_utf8_are_written_as_the_replacement_character),
        cmocka_unit_test(a_real_is_written_so_that_it_is_read_back_the_same),
        cmocka_unit_test(a_real_that_is_no_number_is_written_as_null),
        cmocka_unit_test(pretty_json_has_a_line_for_each_value),
        cmocka_unit_test(building_what_cannot_be_aborts),
    };
    return run_group(tests);
}
