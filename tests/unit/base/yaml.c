// SPDX-License-Identifier: BSD-3-Clause
#include "tests/unit/base/harness.h"

#include <errno.h>
#include <math.h>
#include <sys/stat.h>

#include "base/doc.h"

// The document as JSON: what it was understood as, in one string.
static void assert_yaml(const char *yaml, const char *json)
{
    struct doc *d = NULL;
    char *why = NULL;
    int error = doc_parse_yaml(text_of(yaml), &d, &why);
    if (error)
        fail_msg("`%s`: %d %s", yaml, error, why);
    BUFFER_CLEANUP b = {0};
    doc_write_json(d, false, &b);
    doc_free(d);
    assert_string_equal(b.data, json);
    assert_null(why);
}

static void assert_refused(struct text yaml, int expected, const char *why_has)
{
    struct doc *d = NULL;
    cleanup(cleanup_free) char *why = NULL;
    assert_int_equal(doc_parse_yaml(yaml, &d, &why), expected);
    assert_null(d);
    assert_non_null(why);
    if (!strstr(why, why_has))
        fail_msg("`%s` does not say `%s`", why, why_has);
    assert_int_equal(doc_parse_yaml(yaml, &d, NULL), expected);
}

static void a_butler_configuration_is_read(void **state)
{
    assert_yaml("# comment\n"
                "datastore:\n"
                "  cls: lsst.daf.butler.FileDatastore\n"
                "  root: <butlerRoot>\n"
                "  templates:\n"
                "    default: \"{run}/{datasetType}\"\n"
                "registry:\n"
                "  db: sqlite:///<butlerRoot>/gen3.sqlite3\n"
                "  managers: [a, 'b']\n",
                "{\"datastore\":{\"cls\":\"lsst.daf.butler.FileDatastore\","
                "\"root\":\"<butlerRoot>\",\"templates\":{\"default\":\"{run}/{datasetType}\"}},"
                "\"registry\":{\"db\":\"sqlite:///<butlerRoot>/gen3.sqlite3\","
                "\"managers\":[\"a\",\"b\"]}}");
}

static void nothing_is_null(void **state)
{
    assert_yaml("", "null");
    assert_yaml("# only a comment\n", "null");
    assert_yaml("---\n...\n", "null");
    assert_yaml("a:\nb: ~\nc: null\nd: NULL\n", "{\"a\":null,\"b\":null,\"c\":null,\"d\":null}");
}

static void truth_has_the_words_of_yaml_1_1(void **state)
{
    assert_yaml("[true, True, TRUE, yes, Yes, YES, on, On, ON]",
                "[true,true,true,true,true,true,true,true,true]");
    assert_yaml("[false, False, FALSE, no, No, NO, off, Off, OFF]",
                "[false,false,false,false,false,false,false,false,false]");
    assert_yaml("[y, n, tRUE, oN]", "[\"y\",\"n\",\"tRUE\",\"oN\"]");
}

static void whole_numbers_are_decimal_hexadecimal_octal_or_binary(void **state)
{
    assert_yaml("[0, -0, +1, -17, 1_000, 0x1F, -0xff, 017, 0b101, 00]",
                "[0,0,1,-17,1000,31,-255,15,5,0]");
    assert_yaml("[9223372036854775807, -9223372036854775808]",
                "[9223372036854775807,-9223372036854775808]");
}

static void a_whole_number_beyond_64_bits_is_a_real_with_its_digits_kept(void **state)
{
    assert_yaml("[9223372036854775808, -9223372036854775809, 123456789012345678901234567890]",
                "[9223372036854775808,-9223372036854775809,123456789012345678901234567890]");
    struct doc *d = NULL;
    assert_int_equal(doc_parse_yaml(TEXT("0x1ffffffffffffffff"), &d, NULL), 0);
    assert_int_equal(doc_kind(d), DOC_REAL);
    doc_free(d);
}

static void reals_need_a_point_and_a_sign_in_the_exponent(void **state)
{
    assert_yaml("[1.5, 1., .5, -1.5e+3, 1_0.5]", "[1.5,1.0,0.5,-1.5e+3,10.5]");
    assert_yaml("[1e5, 1.0e5, 1.2.3, +.5, ., 08, 0x, 0o17, '-']",
                "[\"1e5\",\"1.0e5\",\"1.2.3\",\"+.5\",\".\",\"08\",\"0x\",\"0o17\",\"-\"]");
    struct doc *d = NULL;
    assert_int_equal(doc_parse_yaml(TEXT("[.inf, -.Inf, .nan]"), &d, NULL), 0);
    assert_true(doc_real(doc_item(d, 0), 0) == INFINITY);
    assert_true(doc_real(doc_item(d, 1), 0) == -INFINITY);
    assert_true(isnan(doc_real(doc_item(d, 2), 0)));
    doc_free(d);
}

static void quoted_words_are_strings(void **state)
{
    assert_yaml("- '1'\n- \"true\"\n- '~'\n- ''\n- |\n 12\n",
                "[\"1\",\"true\",\"~\",\"\",\"12\\n\"]");
}

static void the_text_of_a_word_is_its_spelling(void **state)
{
    struct doc *d = NULL;
    assert_int_equal(doc_parse_yaml(TEXT("[0x1F, yes, 1_000, 2.50]"), &d, NULL), 0);
    static const char *const spellings[] = {"0x1F", "yes", "1_000", "2.50"};
    for (size_t i = 0; i < 4; i++)
        assert_true(text_equal(doc_text(doc_item(d, i), TEXT("")), text_of(spellings[i])));
    doc_free(d);
}

static void keys_are_spellings_and_the_last_of_two_counts(void **state)
{
    assert_yaml("{1: a, true: b, ~: c, 1: d}", "{\"1\":\"d\",\"true\":\"b\",\"~\":\"c\"}");
}

static void unknown_tags_are_ignored_and_those_of_the_core_are_kept(void **state)
{
    assert_yaml("[!include x.yaml, !!python/object 1, !!str 1, !!int '1', ! 1, !x {a: 1}]",
                "[\"x.yaml\",1,\"1\",1,\"1\",{\"a\":1}]");
}

static void a_tag_of_the_documents_own_stays_with_its_node(void **state)
{
    cleanup(cleanup_doc_free) struct doc *d = NULL;
    assert_int_equal(doc_parse_yaml(TEXT("{a: &x !include b.yaml, c: *x, d: !mine [1], e: !!str 5, f: plain, g: ! odd, h: !own {}}"), &d, NULL), 0);
    assert_string_equal(doc_tag(doc_get(d, "a")).data, "!include");
    assert_string_equal(doc_tag(doc_get(d, "c")).data, "!include");
    assert_string_equal(doc_tag(doc_get(d, "d")).data, "!mine");
    assert_string_equal(doc_tag(doc_get(d, "h")).data, "!own");
    for (const char *key = "efg"; *key; key++)
        assert_int_equal(doc_tag(doc_get(d, (char[]){*key, 0})).size_bytes, 0);
    assert_int_equal(doc_tag(NULL).size_bytes, 0);
}

static void an_alias_stands_for_a_copy_of_its_anchor(void **state)
{
    assert_yaml("{a: &x {b: [1, &y 'z']}, c: *x, *y : *y}",
                "{\"a\":{\"b\":[1,\"z\"]},\"c\":{\"b\":[1,\"z\"]},\"z\":\"z\"}");
    assert_yaml("[&x 1, *x, &x 2, *x]", "[1,1,2,2]");
    assert_yaml("[&x yes, *x, &y 1.5, *y]", "[true,true,1.5,1.5]");
}

static void an_anchor_outlives_the_value_that_took_its_place(void **state)
{
    assert_yaml("{a: &x [1], a: 2, b: *x}", "{\"a\":2,\"b\":[1]}");
    assert_yaml("{&k a: 1, b: *k}", "{\"a\":1,\"b\":\"a\"}");
}

static void an_alias_of_nothing_or_of_itself_is_refused(void **state)
{
    assert_refused(TEXT("a: *x\n"), -EINVAL, "line 1");
    assert_refused(TEXT("\n&x [*x]\n"), -EINVAL, "line 2: an alias within");
    assert_refused(TEXT("[&x 1, &x {a: *x}]\n"), -EINVAL, "an alias within");
}

static void aliases_that_multiply_are_refused(void **state)
{
    BUFFER_CLEANUP bomb = {0};
    buffer_append_string(&bomb, "a0: &a0 [x,x,x,x,x,x,x,x,x]\n");
    for (int i = 1; i < 10; i++) {
        buffer_format(&bomb, "a%d: &a%d [", i, i);
        for (int n = 0; n < 9; n++)
            buffer_format(&bomb, "%s*a%d", n ? "," : "", i - 1);
        buffer_append_string(&bomb, "]\n");
    }
    assert_refused(buffer_text(&bomb), -E2BIG, "too many values");
}

static void aliases_of_a_long_string_are_refused(void **state)
{
    BUFFER_CLEANUP bomb = {0};
    buffer_append_string(&bomb, "- &x '");
    for (int i = 0; i < 1 << 20; i++)
        buffer_append_byte(&bomb, 'x');
    buffer_append_string(&bomb, "'\n");
    for (int i = 0; i < 70; i++)
        buffer_append_string(&bomb, "- *x\n");
    assert_refused(buffer_text(&bomb), -E2BIG, "aliases repeat too much");
}

static void depth_is_bounded_to_64(void **state)
{
    BUFFER_CLEANUP b = {0};
    for (int i = 0; i < 64; i++)
        buffer_append_byte(&b, '[');
    for (int i = 0; i < 64; i++)
        buffer_append_byte(&b, ']');
    assert_yaml(b.data, b.data);
    buffer_clear(&b);
    for (int i = 0; i < 65; i++)
        buffer_append_byte(&b, '[');
    assert_refused(buffer_text(&b), -E2BIG, "too deep");
}

static void depth_is_bounded_through_aliases_too(void **state)
{
    BUFFER_CLEANUP b = {0};
    buffer_append_string(&b, "- &a0 x\n");
    for (int i = 1; i <= 63; i++)
        buffer_format(&b, "- &a%d [*a%d]\n", i, i - 1);
    struct doc *d = NULL;
    assert_int_equal(doc_parse_yaml(buffer_text(&b), &d, NULL), 0);
    doc_free(d);
    buffer_append_string(&b, "- [*a63]\n");
    assert_refused(buffer_text(&b), -E2BIG, "too deep");
}

static void directives_are_bounded_and_their_lines_cannot_hide(void **state)
{
    static const char *const breaks[] = {"\n", "\r", "\xc2\x85", "\xe2\x80\xa8", "\xe2\x80\xa9"};
    for (size_t n = 0; n < 5; n++) {
        BUFFER_CLEANUP b = {0};
        for (int i = 0; i <= 1000; i++)
            buffer_format(&b, "%%TAG !a%d! a%s", i, breaks[n]);
        buffer_append_string(&b, "--- a");
        assert_refused(buffer_text(&b), -E2BIG, "directives");
    }
    assert_yaml("%YAML 1.1\n%TAG !a! tag:a\n--- !a!b 1\n", "1");
}

static void only_utf8_is_read(void **state)
{
    assert_refused(TEXT("\xff\xfe" "a\0"), -EINVAL, "byte 0");
    assert_yaml("\xef\xbb\xbf" "a: 1", "{\"a\":1}");
}

static void what_is_not_yaml_is_refused_with_its_line(void **state)
{
    assert_refused(TEXT("a: 1\nb: [1\n"), -EINVAL, "line 3");
    assert_refused(TEXT("a: b: c\n"), -EINVAL, "line 1");
    assert_refused(TEXT("a\xff"), -EINVAL, "byte 1");
    assert_refused(TEXT("a: 1\n\tb: 2\n"), -EINVAL, "line 2");
    assert_refused(TEXT("\0"), -EINVAL, "");
}

static void a_second_document_and_a_key_that_is_no_scalar_are_refused(void **state)
{
    assert_refused(TEXT("a: 1\n---\nb: 2\n"), -EINVAL, "second document");
    assert_refused(TEXT("{[1]: 2}"), -EINVAL, "a key that is");
    assert_refused(TEXT("? {a: b}\n: 2"), -EINVAL, "a key that is");
}

static void escapes_may_bring_any_character(void **state)
{
    assert_yaml("\"\\0a\\x41\\u00e9\"", "\"\\u0000aA\xc3\xa9\"");
}

static void a_file_is_read_by_name(void **state)
{
    char path[] = "/tmp/butlerfs-yaml-XXXXXX";
    int fd = mkstemp(path);
    assert_int_equal(write(fd, "a: [1\n", 6), 6);
    struct doc *d = NULL;
    cleanup(cleanup_free) char *why = NULL;
    assert_int_equal(doc_read_yaml(path, &d, &why), -EINVAL);
    assert_non_null(strstr(why, path));
    assert_non_null(strstr(why, ": line 2"));
    assert_int_equal(pwrite(fd, "a: 12\n", 6, 0), 6);
    assert_int_equal(doc_read_yaml(path, &d, NULL), 0);
    assert_int_equal(doc_integer(doc_get(d, "a"), 0), 12);
    doc_free(d);
    assert_int_equal(ftruncate(fd, (64 << 20) + 1), 0);
    assert_int_equal(doc_read_yaml(path, &d, NULL), -E2BIG);
    close(fd);
    unlink(path);
}

static void a_file_that_cannot_be_read_says_why(void **state)
{
    struct doc *d = NULL;
    char *why = NULL;
    assert_int_equal(doc_read_yaml("/nonexistent/butler.yaml", &d, &why), -ENOENT);
    assert_string_equal(why, "/nonexistent/butler.yaml: No such file or directory");
    free(why);
    assert_int_equal(doc_read_yaml("/tmp", &d, &why), -EINVAL);
    assert_string_equal(why, "/tmp: not a regular file");
    free(why);
}

static void a_pipe_is_refused_without_waiting_for_it(void **state)
{
    char folder[] = "/tmp/butlerfs-yaml-XXXXXX";
    assert_non_null(mkdtemp(folder));
    char path[64];
    snprintf(path, sizeof(path), "%s/pipe", folder);
    assert_int_equal(mkfifo(path, 0600), 0);
    struct doc *d = NULL;
    assert_int_equal(doc_read_yaml(path, &d, NULL), -EINVAL);
    unlink(path);
    rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_butler_configuration_is_read),
        cmocka_unit_test(nothing_is_null),
        cmocka_unit_test(truth_has_the_words_of_yaml_1_1),
        cmocka_unit_test(whole_numbers_are_decimal_hexadecimal_octal_or_binary),
        cmocka_unit_test(a_whole_number_beyond_64_bits_is_a_real_with_its_digits_kept),
        cmocka_unit_test(reals_need_a_point_and_a_sign_in_the_exponent),
        cmocka_unit_test(quoted_words_are_strings),
        cmocka_unit_test(the_text_of_a_word_is_its_spelling),
        cmocka_unit_test(keys_are_spellings_and_the_last_of_two_counts),
        cmocka_unit_test(unknown_tags_are_ignored_and_those_of_the_core_are_kept),
        cmocka_unit_test(a_tag_of_the_documents_own_stays_with_its_node),
        cmocka_unit_test(an_alias_stands_for_a_copy_of_its_anchor),
        cmocka_unit_test(an_anchor_outlives_the_value_that_took_its_place),
        cmocka_unit_test(an_alias_of_nothing_or_of_itself_is_refused),
        cmocka_unit_test(aliases_that_multiply_are_refused),
        cmocka_unit_test(aliases_of_a_long_string_are_refused),
        cmocka_unit_test(depth_is_bounded_to_64),
        cmocka_unit_test(depth_is_bounded_through_aliases_too),
        cmocka_unit_test(directives_are_bounded_and_their_lines_cannot_hide),
        cmocka_unit_test(only_utf8_is_read),
        cmocka_unit_test(what_is_not_yaml_is_refused_with_its_line),
        cmocka_unit_test(a_second_document_and_a_key_that_is_no_scalar_are_refused),
        cmocka_unit_test(escapes_may_bring_any_character),
        cmocka_unit_test(a_file_is_read_by_name),
        cmocka_unit_test(a_file_that_cannot_be_read_says_why),
        cmocka_unit_test(a_pipe_is_refused_without_waiting_for_it),
    };
    return run_group(tests);
}
